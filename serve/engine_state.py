"""The engine as everybody else sees it: engine/engine.json, written whole by its supervisor.

The supervisor holds a lock on engine/lock while it lives, so a state left behind by one that was killed is recognised.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from capture import clock
from capture.errors import EngineError

STARTING, READY, FAILED, STOPPED = "starting", "ready", "failed", "stopped"


@dataclass(frozen=True, slots=True)
class EngineState:
    """What the engine is doing since `since_us`. `pid` is 0 when no process of it runs; `message` says why it failed."""

    state: str
    pid: int
    url: str
    base_model: str
    since_us: int
    message: str


def write_state(folder: Path, state: EngineState) -> None:
    """Replaces engine.json in `folder` in one step."""
    body = asdict(state)
    body["since"] = clock.iso(state.since_us)
    part = folder / f"engine.json.{os.getpid()}"
    part.write_text(json.dumps(body, indent=1) + "\n", "utf-8")
    part.chmod(0o600)
    part.replace(folder / "engine.json")


def read_state(data_folder: Path) -> EngineState | None:
    """The state in `data_folder`; None when no engine was ever started. A supervisor that is gone counts as stopped."""
    folder = data_folder / "engine"
    try:
        body = json.loads((folder / "engine.json").read_text("utf-8"))
    except FileNotFoundError:
        return None
    body.pop("since", None)
    state = EngineState(**body)
    if state.state in (STARTING, READY) and not is_supervised(folder):
        return EngineState(STOPPED, 0, state.url, state.base_model, state.since_us, "Its supervisor ended without a word.")
    return state


def is_supervised(folder: Path) -> bool:
    """True while a supervisor holds the lock in `folder`."""
    try:
        with (folder / "lock").open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


@contextmanager
def hold_lock(folder: Path) -> Iterator[None]:
    """Makes this process the one supervisor of `folder`; EngineError when there is one already."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (folder / "lock").open("a+") as file:
        deadline = time.monotonic() + 1.0
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:  # a reader asks for a moment whether it is held
                if time.monotonic() > deadline:
                    file.seek(0)
                    raise EngineError(
                        f"The engine is already supervised by process {file.read().strip() or 'unknown'}.",
                        "Use that one, or stop it first.",
                    ) from error
                time.sleep(0.02)
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def output_path(data_folder: Path) -> Path:
    """Where the engine's own output goes."""
    return data_folder / "engine" / "output.txt"


def last_lines(path: Path, count: int = 15) -> str:
    """The last `count` lines of the engine's output, without colours; the line that tells most comes first.

    vLLM ends with a long stack and 'See root cause above'; the cause is the last error before that.
    """
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - 65_536))
            text = file.read().decode("utf-8", "replace")
    except FileNotFoundError:
        return ""
    lines = [line.rstrip() for line in re.sub(r"\x1b\[[0-9;]*m", "", text).splitlines() if line.strip()]
    causes = [line for line in lines if re.search(r"(Error|Exception)\b.*: ", line) and "root cause" not in line]
    head = [causes[-1]] if causes and causes[-1] not in lines[-count:] else []
    return "\n".join([*head, *lines[-count:]])
