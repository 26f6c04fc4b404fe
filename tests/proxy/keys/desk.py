"""What tests of the gate share: requests as a worker reads them, and a gate on a store of its own."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from multidict import CIMultiDict

from capture import ids
from capture.settings import Settings, load_settings
from proxy.failures import Failure
from proxy.keys.gate import Gate, Grant
from proxy.keys.ledger import Ledger
from proxy.keys.settings import KeysSettings, LimitSettings
from proxy.keys.watch import KeyWatcher
from proxy.reading import Asked, read_request
from proxy.settings import RelaySettings, read_upstreams
from proxy.wire.limits import Problem

PEPPER = b"p" * 32
BODY = b'{"model":"gpt-4o","max_tokens":10,"messages":[]}'


@dataclass
class Given:
    """A request as it came off the wire."""

    raw_path: str = "/v1/chat/completions"
    headers: CIMultiDict[str] = field(default_factory=CIMultiDict)
    body: bytes = BODY
    method: str = "POST"
    problem: Problem | None = None


def upstreams(folder: Path) -> Settings:
    """Settings with a key of ours for openai and the client's for anthropic."""
    path = folder / "potstill.toml"
    path.write_text(
        '[upstreams.openai]\nurl = "http://127.0.0.1:9/v1"\nkey = "env:NOWHERE"\n'
        '[upstreams.anthropic]\nurl = "http://127.0.0.1:9"\nprotocol = "anthropic"\n'
    )
    return load_settings(path, environ={})


@dataclass
class Desk:
    """A gate with its watcher and all that they stand on."""

    gate: Gate
    watcher: KeyWatcher
    settings: Settings
    folder: Path

    def ask(self, key: str = "", *, raw_id: bytes = b"", header: str = "Authorization", **changes: object) -> Grant | Failure:
        """What the gate says to a request with `key`."""
        return self.gate.admit(self.asked(key, header, **changes), raw_id or ids.new_raw_id())

    def asked(self, key: str = "", header: str = "Authorization", task: str = "", **changes: object) -> Asked:
        """A request with `key`, as a worker reads it."""
        given = Given(**changes)  # type: ignore[arg-type]
        if key:
            given.headers[header] = f"Bearer {key}" if header == "Authorization" else key
        if task:
            given.headers["x-potstill-task"] = task
        return read_request(given, RelaySettings(), read_upstreams(self.settings))


@contextmanager
def desk(
    folder: Path,
    database_url: str,
    settings: KeysSettings | None = None,
    limits: dict[str, LimitSettings] | None = None,
    *,
    is_awaited: bool = True,
) -> Iterator[Desk]:
    """A gate on the store at `database_url`, with the pepper of these tests."""
    folder.mkdir(exist_ok=True)
    pepper = folder / "pepper"
    if not pepper.exists():
        pepper.touch(mode=0o600)
        pepper.write_bytes(PEPPER)
    keys = settings or KeysSettings()
    watcher = KeyWatcher(
        database_url,
        pepper,
        folder / "known.json",
        open_ledger=lambda: Ledger(folder / "ledger", ids.new_raw_id()),
        interval_s=0.02,
    )
    gate = Gate(keys, limits or {}, watcher)
    watcher.start()
    try:
        if is_awaited:
            assert watcher.wait_until_read(30)
        yield Desk(gate, watcher, upstreams(folder), folder)
    finally:
        watcher.close()


def until(condition: Callable[[], object], timeout_s: float = 30.0) -> None:
    """Waits until `condition` holds; fails when it does not in time."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def failed(outcome: Grant | Failure) -> tuple[int, str]:
    """Status and kind of a refusal; (0, '') for a grant."""
    return (outcome.status, outcome.kind) if isinstance(outcome, Failure) else (0, "")
