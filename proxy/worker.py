"""One relay process: listens, relays, appends to its own spool, and nothing else.

    python -m proxy.worker [--config potstill.toml]

SIGTERM and SIGINT drain: no new connection, open exchanges may finish for `drain_timeout_s`, the rest is cut with an
error event; a second signal cuts at once.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import logging
import os
import signal
import socket
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import uvloop
from aiohttp import web

from capture import clock, logs
from capture.capture_settings import CaptureSettings
from capture.errors import PotstillError
from capture.logs import LogSettings
from capture.reserve import quota
from capture.settings import Settings, load_settings
from capture.spool import MIB, SpoolWriter
from capture.status_pipe import StatusPipe
from proxy.listen import claim_port, listen
from proxy.pipeline import serve_exchange
from proxy.relay import Relay
from proxy.settings import RelaySettings, read_upstreams
from proxy.warming import keep_warm
from proxy.wire.server import Server
from serve.flag_watch import FlagWatcher

_STORE_WAIT_S = 2.0
_FLUSH_S = 2.0
_CUT_S = 8.0
_STATUS_S = 0.5
_POLL_S = 0.05
_SWITCH_S = 0.0005
"""How long a request may wait for a thread in the background, such as the one that polls the flags; Python's own is 5 ms."""
_LONGEST_LINE = 2**16
"""For aiohttp, which gets what has passed our own, tighter limits."""
_log = logging.getLogger(__name__)


class Worker:
    """A relay that listens. Made by `start_worker`; `drain` ends it."""

    def __init__(
        self, relay: Relay, server: Server, sockets: web.Server, listener: asyncio.Server, flags: FlagWatcher, port: int
    ) -> None:
        self.port = port
        self._relay = relay
        self._server = server
        self._sockets = sockets
        self._listener = listener
        self._flags = flags
        self._reloads = 0
        self._warming = asyncio.ensure_future(keep_warm(relay))

    def status(self) -> dict[str, object]:
        """What the admin listener shows of this process."""
        relay = self._relay
        return {
            "pid": os.getpid(),
            "spool": relay.spool.spool_id,
            "requests": relay.requests,
            "in_flight": len(self._server.tasks),
            "connections": len(self._server.connections),
            "fallbacks": relay.fallbacks,
            "dropped": relay.spool.dropped,
            "sync_failures": relay.spool.sync_failures,
            "unsure": relay.spool.unsure,
            "sync_us": relay.spool.sync_us,
            "held_bytes": relay.budget.held,
            "reloads": self._reloads,
            "is_draining": relay.is_draining,
            "is_breaker_open": relay.engine.breaker.is_open,
            "circuits": relay.standing.circuits(),
            "flag_revision": self._flags.current.revision,
            "is_flags_stale": self._flags.is_stale,
            "flag_error": self._flags.last_error,
            "keys": relay.gate.status(),
            "cache_hits": relay.cache.hits if relay.cache is not None else 0,
            "cache_bytes": relay.cache.held if relay.cache is not None else 0,
            "counters": relay.counters.snapshot(),
        }

    def reload(self, settings: Settings) -> None:
        """Serves what comes from now on by `settings`; SettingsError, and then nothing has changed."""
        self._relay.reload(settings)
        self._reloads += 1
        self._server.forget_heads()

    @property
    def drain_timeout_s(self) -> float:
        """How long open exchanges may finish, by the present configuration."""
        return self._relay.config.relay.drain_timeout_s

    async def drain(self, timeout_s: float, cut: asyncio.Event | None = None) -> int:
        """Takes nothing new, lets open exchanges finish for `timeout_s` or until `cut`; the number that had to be cut."""
        relay, tasks = self._relay, self._server.tasks
        relay.is_draining = True
        self._listener.close()
        self._server.drain()
        deadline = clock.monotonic_ns() + int(timeout_s * 1e9)
        while tasks and not (cut is not None and cut.is_set()) and clock.monotonic_ns() < deadline:
            await asyncio.wait(tasks, timeout=_POLL_S)
        remaining = list(tasks)
        relay.is_stopping = True
        for task in remaining:
            task.cancel()
        if remaining:
            await asyncio.wait(remaining, timeout=_CUT_S)
        await self._close()
        return len(remaining)

    async def _close(self) -> None:
        deadline = clock.monotonic_ns() + int(_FLUSH_S * 1e9)
        while self._server.has_unsent and clock.monotonic_ns() < deadline:  # noqa: ASYNC110 - transports tell nobody
            await asyncio.sleep(0.01)
        self._warming.cancel()
        self._server.close()
        await self._sockets.shutdown(1.0)
        await self._relay.close()
        self._flags.close()
        self._relay.spool.close()


async def start_worker(settings: Settings, port: int | None = None) -> Worker:
    """Starts relaying on `port`, which the caller has claimed; None claims the port of the settings.

    PortTakenError, SettingsError, SpoolError. An unreachable store is no error: the relay starts without flags.
    """
    relay_settings = settings.section("relay", RelaySettings)
    read_upstreams(settings)
    capture = settings.section("capture", CaptureSettings)
    listener = _listener(relay_settings, port)
    spool = SpoolWriter(
        settings.data_folder / "spool",
        sync_interval_s=capture.sync_interval_ms / 1000,
        max_bytes=quota(settings.data_folder, capture.spool_max_mib * MIB, relay_settings.workers),
    )
    flags = FlagWatcher(settings.database_url)
    relay = Relay(settings, spool, lambda: flags.current)
    until_read = (flags.wait_until_read, relay.key_watcher.wait_until_read)
    await asyncio.gather(*(asyncio.to_thread(wait, _STORE_WAIT_S) for wait in until_read))

    async def serve_socket(request: web.BaseRequest) -> web.StreamResponse:
        from proxy.websocket import relay_websocket

        task = asyncio.current_task()
        assert task is not None
        server.tasks.add(task)
        try:
            return await relay_websocket(relay, request)
        finally:
            server.tasks.discard(task)

    sockets = web.Server(
        serve_socket,
        handler_cancellation=True,
        access_log=None,
        auto_decompress=False,
        max_line_size=_LONGEST_LINE,
        max_field_size=_LONGEST_LINE,
    )
    server = Server(partial(serve_exchange, relay), lambda: relay.config.limits, relay.budget, sockets)
    port = listener.getsockname()[1]
    listening = await asyncio.get_running_loop().create_server(server, sock=listener, backlog=1024)
    return Worker(relay, server, sockets, listening, flags, port)


def _listener(settings: RelaySettings, port: int | None) -> socket.socket:
    if port is not None:
        return listen(settings.host, port, "port")
    with claim_port(settings.host, settings.port, "port") as claim:
        return listen(settings.host, claim.getsockname()[1], "port")


async def _run(settings: Settings, config: Path | None, port: int | None, status_fd: int | None) -> None:
    stop, cut = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def on_signal() -> None:
        (cut if stop.is_set() else stop).set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    worker = await start_worker(settings, port)
    loop.add_signal_handler(signal.SIGHUP, lambda: _reload(worker, config))
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 50, 100)
    sys.setswitchinterval(_SWITCH_S)
    pipe = StatusPipe(status_fd) if status_fd is not None else None
    reporting = asyncio.ensure_future(_report(worker, pipe, stop)) if pipe is not None else None
    await stop.wait()
    await worker.drain(worker.drain_timeout_s, cut)
    if reporting is not None and pipe is not None:
        reporting.cancel()
        with contextlib.suppress(BrokenPipeError):  # the supervisor is gone, and nobody wants to know
            pipe.tell(worker.status())


def _reload(worker: Worker, config: Path | None) -> None:
    """Reads the configuration again; one that cannot be used changes nothing."""
    try:
        worker.reload(load_settings(config))
    except PotstillError as error:
        _log.error("the configuration stays as it was: %s", error)
    else:
        _log.warning("the configuration was read again")


async def _report(worker: Worker, pipe: StatusPipe, stop: asyncio.Event) -> None:
    """Tells the supervisor how we are, a line at a time; when nobody listens any more the supervisor is gone: drain."""
    try:
        while True:
            pipe.tell(worker.status())
            await asyncio.sleep(_STATUS_S)
    except BrokenPipeError:
        stop.set()


class _WithoutHeaders(logging.Filter):
    """Keeps what aiohttp says of a bad request, without the piece of the request, which may be part of a key."""

    def filter(self, record: logging.LogRecord) -> bool:
        if record.exc_info and record.exc_info[0] is not None:
            record.msg, record.args = f"{record.getMessage()}: {record.exc_info[0].__name__}", ()
            record.exc_info = record.exc_text = None
        return True


def main(arguments: Sequence[str] | None = None) -> int:
    """The process; 1 with the reason on standard error when it cannot start."""
    parser = argparse.ArgumentParser(prog="python -m proxy.worker", description="One relay process.")
    parser.add_argument("--config", type=Path, default=None, help="potstill.toml")
    parser.add_argument("--port", type=int, default=None, help="port that the parent process has claimed")
    parser.add_argument("--status-fd", type=int, default=None, help="pipe to the supervisor")
    options = parser.parse_args(arguments)
    logging.getLogger("aiohttp.server").addFilter(_WithoutHeaders())
    os.umask(0o077)
    try:
        settings = load_settings(options.config)
        logs.set_up(settings.section("logs", LogSettings), logging.WARNING)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_run(settings, options.config, options.port, options.status_fd))
    except PotstillError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
