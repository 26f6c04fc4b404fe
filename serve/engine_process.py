"""Supervises `vllm serve`: starts it, loads the ready releases, restarts it when it dies, ends it without orphans.

    python -m serve.engine_process [--config potstill.toml] [--die-with-parent]

What it does stands in engine/engine.json of the data folder, what the engine says in engine/output.txt. An engine that
never came up is an error with the end of its output; one that did is restarted with growing pauses.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from capture import clock, logs
from capture.database import Database, open_database
from capture.errors import EngineError, PotstillError
from capture.logs import LogSettings
from capture.settings import Settings, load_settings
from serve.engine import BASE, EngineClient
from serve.engine_child import EngineChild
from serve.engine_start import EngineStart, plan_start
from serve.engine_state import FAILED, READY, STARTING, STOPPED, EngineState, hold_lock, last_lines, output_path, write_state
from serve.reconcile import Reconciled, reconcile
from serve.settings import EngineSettings

_POLL_S = 0.25
_HEALTH_S = 5.0
_RECONCILE_S = 30.0
_UNHEALTHY_S = 30.0
_LONGEST_PAUSE_S = 60.0
_STEADY_S = 60.0
"""An engine that served this long starts over with the shortest pause."""
_OUTPUT_BYTES = 16 * 1024 * 1024


@dataclass(slots=True)
class _Supervisor:
    settings: Settings
    engine: EngineSettings
    folder: Path
    stop: threading.Event
    base_model: str = ""
    database: Database | None = None
    state: EngineState = field(init=False)

    def say(self, state: str, pid: int = 0, message: str = "") -> None:
        self.state = EngineState(state, pid, self.engine.address, self.base_model, clock.now_us(), message)
        write_state(self.folder, self.state)


def supervise(settings: Settings, stop: threading.Event) -> None:
    """Keeps the engine of `settings` running until `stop` is set.

    EngineError or PortTakenError when it does not come up the first time; the state file says the same.
    """
    engine = settings.section("engine", EngineSettings)
    folder = settings.data_folder / "engine"
    with hold_lock(folder):
        supervisor = _Supervisor(settings, engine, folder, stop, engine.base_model)
        try:
            supervisor.say(STARTING)
            start = plan_start(engine, settings.folder, os.environ)
            supervisor.base_model = start.base_model
            _keep_running(supervisor, start)
        except PotstillError as error:
            supervisor.say(FAILED, 0, str(error))
            raise
        finally:
            if supervisor.database is not None:
                supervisor.database.close()
        supervisor.say(STOPPED)


def _keep_running(supervisor: _Supervisor, start: EngineStart) -> None:
    output = output_path(supervisor.settings.data_folder)
    output.write_bytes(b"")
    has_served, pause_s = False, 1.0
    while not supervisor.stop.is_set():
        if output.stat().st_size > _OUTPUT_BYTES:
            output.write_bytes(b"")
        child = EngineChild(start, output)
        served_s = 0.0
        try:
            reason = _bring_up(supervisor, child, output)
            if not reason and not supervisor.stop.is_set():
                has_served, since_ns = True, clock.monotonic_ns()
                reason = _watch(supervisor, child)
                served_s = (clock.monotonic_ns() - since_ns) / 1e9
        finally:
            child.end()
        if supervisor.stop.is_set():
            return
        if not has_served:
            raise EngineError(f"The engine does not start: {reason}\n{last_lines(output)}\n", f"The whole output is in {output}.")
        pause_s = 1.0 if served_s > _STEADY_S else pause_s
        supervisor.say(STARTING, 0, f"{reason} Started again after {pause_s:.0f} s.")
        supervisor.stop.wait(pause_s)
        pause_s = min(_LONGEST_PAUSE_S, pause_s * 2)


def _bring_up(supervisor: _Supervisor, child: EngineChild, output: Path) -> str:
    """Waits until the engine serves and knows the releases; gives the reason when it does not, else ''."""
    supervisor.say(STARTING, child.pid, supervisor.state.message)
    deadline_ns = clock.monotonic_ns() + int(supervisor.engine.startup_timeout_s * 1e9)
    with EngineClient(supervisor.engine.address) as client:
        while not client.health():
            if child.status is not None:
                return f"it ended with status {child.status}."
            if clock.monotonic_ns() > deadline_ns:
                return f"it is not ready after {supervisor.engine.startup_timeout_s:.0f} s."
            if supervisor.stop.wait(_POLL_S):
                return ""
        try:
            client.warm_up(BASE)
        except PotstillError as error:
            return error.what
        supervisor.say(READY, child.pid, _bring_in_line(supervisor, client))
    return ""


def _watch(supervisor: _Supervisor, child: EngineChild) -> str:
    """Returns when the engine died or stopped answering (why), or when it should stop ('')."""
    healthy_ns = asked_ns = lined_ns = clock.monotonic_ns()
    with EngineClient(supervisor.engine.address) as client:
        while not supervisor.stop.wait(_POLL_S):
            now_ns = clock.monotonic_ns()
            if child.status is not None:
                return f"The engine died with status {child.status}."
            if now_ns - asked_ns > _HEALTH_S * 1e9:
                asked_ns = now_ns
                healthy_ns = now_ns if client.health() else healthy_ns
            if now_ns - healthy_ns > _UNHEALTHY_S * 1e9:
                return f"The engine did not answer for {_UNHEALTHY_S:.0f} s."
            if now_ns - lined_ns > _RECONCILE_S * 1e9 and healthy_ns == asked_ns:
                lined_ns = now_ns
                message = _bring_in_line(supervisor, client)
                if message != supervisor.state.message:
                    supervisor.say(READY, child.pid, message)
    return ""


def _bring_in_line(supervisor: _Supervisor, client: EngineClient) -> str:
    """Loads the ready releases; what could not be done is said and tried again later, and the engine serves meanwhile."""
    try:
        if supervisor.database is None:
            supervisor.database = open_database(supervisor.settings.database_url)
        result: Reconciled = reconcile(supervisor.database, client, supervisor.engine)
    except PotstillError as error:
        return f"Releases could not be loaded: {error.what}"
    return f"Not loaded: {'; '.join(result.refused)}" if result.refused else ""


def main(arguments: Sequence[str] | None = None) -> int:
    """The process: SIGTERM and SIGINT end it; 1 with the reason on standard error when the engine does not start."""
    parser = argparse.ArgumentParser(prog="python -m serve.engine_process", description="Starts and supervises the engine.")
    parser.add_argument("--config", type=Path, default=None, help="potstill.toml")
    parser.add_argument("--die-with-parent", action="store_true", help="stop when the process that started this one is gone")
    options = parser.parse_args(arguments)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: stop.set())
    if options.die_with_parent:
        threading.Thread(target=_stop_with_parent, args=(os.getppid(), stop), daemon=True).start()
    try:
        settings = load_settings(options.config)
        logs.set_up(settings.section("logs", LogSettings), logging.WARNING)
        supervise(settings, stop)
    except PotstillError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


def _stop_with_parent(parent: int, stop: threading.Event) -> None:
    while not stop.wait(0.5):
        if os.getppid() != parent:
            stop.set()


if __name__ == "__main__":
    sys.exit(main())
