"""The process that translates: serves one Unix socket until a signal ends it.

    python -m proxy.translation.process [--config potstill.toml] [--socket PATH] [--status-fd FD]

SIGTERM and SIGINT drain: open answers may finish for `drain_timeout_s`. SIGHUP reads the upstreams again; a configuration
that is wrong changes nothing and is said on standard error. The socket belongs to this user alone (0600).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import uvloop
from aiohttp import web

from capture import logs
from capture.errors import PotstillError, SettingsError
from capture.logs import LogSettings
from capture.settings import Settings, load_settings
from capture.status_pipe import StatusPipe
from proxy.settings import RelaySettings, translation_socket
from proxy.translation.service import Service, read_providers

_BACKLOG = 1024
_MARGIN_BYTES = 2**20  # the relay may have made a body a little longer
_LONGEST_HEADER = 2**15
_THREADS = 64
"""litellm prepares requests, and asks some rare providers, in threads."""
_LOG = logging.getLogger("proxy.translation")


async def serve(
    settings: Settings, config: Path | None, path: Path, stop: asyncio.Event, on_ready: Callable[[], None] = lambda: None
) -> None:
    """Serves the socket at `path` until `stop`, then drains. SettingsError, or OSError when nothing can listen there.

    `config` is read again at SIGHUP; `on_ready` is called once requests and signals are taken.
    """
    relay = settings.section("relay", RelaySettings)
    service = Service(read_providers(settings))
    app = service.application(relay.max_body_bytes + _MARGIN_BYTES)
    runner = web.AppRunner(
        app,
        handler_cancellation=True,
        access_log=None,
        keepalive_timeout=4 * relay.keepalive_s,  # longer than the relay keeps its side, so that it is the relay that closes
        shutdown_timeout=relay.drain_timeout_s,
        max_field_size=_LONGEST_HEADER,
        max_line_size=_LONGEST_HEADER,
    )

    def reload() -> None:
        try:
            service.providers = read_providers(load_settings(config))
        except PotstillError as error:
            _LOG.warning("The configuration is not taken: %s", error)

    loop = asyncio.get_running_loop()
    loop.set_default_executor(ThreadPoolExecutor(_THREADS, "litellm"))
    loop.add_signal_handler(signal.SIGHUP, reload)
    await runner.setup()
    listener = _listen(path)
    own = path.stat().st_ino
    try:
        await web.SockSite(runner, listener, backlog=_BACKLOG).start()
        on_ready()
        await stop.wait()
    finally:
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_ino == own:
                path.unlink()
        await runner.cleanup()


def _listen(path: Path) -> socket.socket:
    """A listening socket at `path` that nobody else may open; one that is left over there is replaced in one step."""
    _make_folder(path.parent)
    fresh = path.with_name(f".{os.getpid()}")
    found = socket.socket(socket.AF_UNIX)
    try:
        fresh.unlink(missing_ok=True)
        found.bind(str(fresh))
        fresh.chmod(0o600)
        found.listen(_BACKLOG)
        found.setblocking(False)
        fresh.rename(path)
    except OSError:
        found.close()
        raise
    return found


def _make_folder(folder: Path) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = folder.lstat()
    if folder.is_symlink() or found.st_uid != os.getuid() or found.st_mode & 0o022:
        raise SettingsError(f"{folder} belongs to somebody else, or others may write in it.", "Remove it; it is made anew.")


async def _run(settings: Settings, config: Path | None, path: Path, status_fd: int | None) -> None:
    pipe = StatusPipe(status_fd) if status_fd is not None else None

    def tell() -> None:
        if pipe is not None:
            with contextlib.suppress(BrokenPipeError):  # the supervisor is gone, and the leash ends us
                pipe.tell({"pid": os.getpid()})

    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await serve(settings, config, path, stop, tell)


def main(arguments: Sequence[str] | None = None) -> int:
    """The process; 1 with the reason on standard error when it cannot start."""
    parser = argparse.ArgumentParser(prog="python -m proxy.translation.process", description="Translates between protocols.")
    parser.add_argument("--config", type=Path, default=None, help="potstill.toml")
    parser.add_argument("--socket", type=Path, default=None, help="where to listen, if not where the relay looks for it")
    parser.add_argument("--status-fd", type=int, default=None, help="pipe to the supervisor")
    options = parser.parse_args(arguments)
    os.umask(0o077)
    try:
        settings = load_settings(options.config)
        logs.set_up(settings.section("logs", LogSettings), logging.WARNING)
        path = options.socket or translation_socket(settings)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_run(settings, options.config, path, options.status_fd))
    except (PotstillError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
