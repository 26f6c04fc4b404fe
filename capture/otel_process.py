"""Sends traces to a collector until it is told to stop: python -m capture.otel_process [--config potstill.toml]

Nobody waits for it. While the store or the collector is away it tries again, after 1 to 60 seconds, and goes on where it was.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from capture import logs
from capture.database import open_database
from capture.errors import PotstillError, SettingsError
from capture.logs import LogSettings
from capture.otel_send import Collector, Patience, address_of, headers_of
from capture.otel_settings import OtelSettings
from capture.settings import Settings, load_settings
from capture.status_pipe import StatusPipe
from capture.traces import TraceSender

_POLL_S = 1.0
_SHORTEST_S, _LONGEST_S = 1.0, 60.0
_log = logging.getLogger("capture.otel_process")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs until SIGTERM or SIGINT and returns 0; 1 when it could not start."""
    parser = argparse.ArgumentParser(prog="python -m capture.otel_process", description="Sends exchanges as traces.")
    parser.add_argument("--config", type=Path, help="potstill.toml; default: $POTSTILL_CONFIG, then ./potstill.toml")
    parser.add_argument("--status-fd", type=int, default=None, help="pipe to the supervisor")
    options = parser.parse_args(arguments)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    try:
        settings = load_settings(options.config)
        logs.set_up(settings.section("logs", LogSettings), logging.WARNING)
        logging.getLogger("httpx").setLevel(logging.WARNING)
        _run(settings, stop, None if options.status_fd is None else StatusPipe(options.status_fd))
    except PotstillError as error:
        _log.error("%s", error)
        return 1
    except BrokenPipeError:
        return 0  # the supervisor is gone
    return 0


def _run(settings: Settings, stop: threading.Event, pipe: StatusPipe | None) -> None:
    otel = settings.section("otel", OtelSettings)
    if not otel.endpoint:
        raise SettingsError("There is no collector to send to.", "Set endpoint in [otel] of potstill.toml.")
    owner = f"{socket.gethostname()}:{settings.data_folder}"  # the same after a restart, which then need not wait for its turn
    with Collector(address_of(otel.endpoint, os.environ), headers_of(os.environ), Patience(tries=1)) as collector:
        wait_s = _SHORTEST_S
        while not stop.is_set():
            try:
                with closing(open_database(settings.database_url)) as database:
                    sender = TraceSender(database, otel, collector, owner)
                    while not stop.is_set():
                        wait_s = _send(sender, stop, pipe, wait_s)
            except PotstillError as error:
                _log.warning("%s Trying again in %.0f s.", error, wait_s)
                _tell(pipe, None, error.what)
                stop.wait(wait_s)
                wait_s = min(_LONGEST_S, wait_s * 2)


def _send(sender: TraceSender, stop: threading.Event, pipe: StatusPipe | None, wait_s: float) -> float:
    """One look at the store; how long to wait when the next one fails."""
    try:
        sender.send_new(stop.is_set)
    except PotstillError as error:
        _log.warning("%s Trying again in %.0f s.", error, wait_s)
        _tell(pipe, sender, error.what)
        stop.wait(wait_s)
        return min(_LONGEST_S, wait_s * 2)
    _tell(pipe, sender, "")
    stop.wait(_POLL_S)
    return _SHORTEST_S


def _tell(pipe: StatusPipe | None, sender: TraceSender | None, problem: str) -> None:
    if pipe is None:
        return
    told = {"spans_sent": sender.sent, "spans_refused": sender.refused, "spans_waiting": sender.waiting} if sender else {}
    pipe.tell({"pid": os.getpid(), "problem": problem, **told})


if __name__ == "__main__":
    sys.exit(main())
