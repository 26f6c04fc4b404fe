"""Brings the engine to what the store says: every ready release is loaded. An engine forgets its adapters when it restarts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from capture.database import Database
from capture.errors import GateError, PotstillError, UpstreamError
from serve.engine import EngineClient
from serve.release_store import READY, list_releases
from serve.settings import EngineSettings
from train.adapters import Adapter, get_adapter


@dataclass(frozen=True, slots=True)
class Reconciled:
    """Names that were loaded just now, and why others could not be."""

    loaded: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()


def reconcile(database: Database, client: EngineClient, settings: EngineSettings) -> Reconciled:
    """Loads and warms up every ready release that the engine does not serve yet.

    One that cannot be loaded keeps no other from being loaded. UpstreamError when the engine does not answer.
    """
    served = {model.name: model for model in client.models()}
    base = next((model.root for model in served.values() if not model.parent), "")
    loaded, refused = [], []
    for release in reversed(list_releases(database)):
        if release.state != READY or release.engine_model in served:
            continue
        try:
            adapter = get_adapter(database, release.adapter_id)
            load_adapter(client, settings, release.engine_model, adapter, base)
        except UpstreamError:
            raise
        except PotstillError as error:
            refused.append(f"{release.engine_model}: {error.what}")
        else:
            loaded.append(release.engine_model)
    return Reconciled(tuple(loaded), tuple(refused))


def load_adapter(client: EngineClient, settings: EngineSettings, name: str, adapter: Adapter, base: str = "") -> None:
    """Loads `adapter` under `name` and warms it up; GateError when it was trained on another base model than `base`.

    `base` '' asks the engine. An engine elsewhere may keep the same model in another folder, so there it is not compared.
    """
    base = base or next((model.root for model in client.models() if not model.parent), "")
    if not settings.is_external and not is_same_base(adapter.base_model, base):
        raise GateError(
            f"Adapter {adapter.id} was trained on {adapter.base_model}, but the engine serves {base}.",
            f"Set [engine] base_model to {adapter.base_model} and start the engine again.",
        )
    client.load(name, adapter.folder, settings.max_lora_rank)
    client.warm_up(name)


def is_same_base(one: str, other: str) -> bool:
    """True when both name the same base model: equal names, or the same folder."""
    if one == other:
        return True
    return Path(one).is_dir() and Path(other).is_dir() and Path(one).samefile(other)
