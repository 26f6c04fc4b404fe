"""Makes a worker's gate from the configuration."""

from __future__ import annotations

from capture import ids
from capture.pricing import PriceSettings
from capture.settings import Settings
from proxy.keys.gate import Gate
from proxy.keys.ledger import Ledger
from proxy.keys.pepper import pepper_path
from proxy.keys.settings import KeysSettings, read_limits
from proxy.keys.watch import KeyWatcher

_FOLDER = "keys"


def open_gate(settings: Settings, spool_id: str) -> tuple[Gate, KeyWatcher]:
    """The gate of the worker whose spool is `spool_id`, and the watcher behind it, which runs already; SettingsError.

    An unreachable store is no error. Limits are shared by all workers with the same data folder.
    """
    keys, limits = settings.section("keys", KeysSettings), read_limits(settings)
    folder = settings.data_folder / _FOLDER
    watcher = KeyWatcher(
        settings.database_url,
        pepper_path(settings),
        folder / "known.json",
        open_ledger=lambda: Ledger(folder, ids.parse_id(spool_id)),
        spool_root=settings.data_folder / "spool",
        prices=settings.section("prices", PriceSettings),
    )
    gate = Gate(keys, limits, watcher)
    watcher.start()
    return gate, watcher
