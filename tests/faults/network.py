"""A TCP proxy that misbehaves on demand, in a thread of its own, between a program and its PostgreSQL."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from contextlib import suppress
from types import TracebackType
from typing import Any
from urllib.parse import parse_qs, urlsplit

_MOMENT_S = 0.02


class FaultyNetwork:
    """Listens on `port` of the loopback address and passes bytes both ways to the Unix socket `target`, until told otherwise."""

    def __init__(self, target: str) -> None:
        self.port = 0
        self.connections = 0
        """Connections taken so far."""
        self._target = target
        self._loop = asyncio.new_event_loop()
        self._writers: set[asyncio.StreamWriter] = set()
        self._passes = asyncio.Event()
        self._server: asyncio.Server | None = None
        self._thread = threading.Thread(target=self._loop.run_forever, name="faulty-network")

    def __enter__(self) -> FaultyNetwork:
        self._thread.start()
        self.heal()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.refuse()
        self._do(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def heal(self) -> None:
        """Takes connections and passes bytes."""
        self._do(self._listen())

    def refuse(self) -> None:
        """Cuts every connection and refuses new ones, as when the server is down."""
        self._do(self._close())

    def swallow(self) -> None:
        """Half open: connections stay and new ones are taken, but no byte comes through."""
        self._loop.call_soon_threadsafe(self._passes.clear)

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def _listen(self) -> None:
        self._passes.set()
        if self._server is None:
            self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
            self.port = self._server.sockets[0].getsockname()[1]

    async def _close(self) -> None:
        if self._server is not None:
            for each in self._server.sockets:
                self._loop.remove_reader(each.fileno())
            await asyncio.sleep(_MOMENT_S)  # asyncio forgets to close a connection that it took just before its server closed
            self._server.close()
            self._server = None
        for writer in list(self._writers):
            writer.transport.abort()

    async def _end(self) -> None:
        while tasks := asyncio.all_tasks() - {asyncio.current_task()}:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(_MOMENT_S)  # a closed transport lets go of its socket in a later turn of the loop

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.add(writer)
        try:
            their_reader, their_writer = await asyncio.open_unix_connection(self._target)
            self._writers.add(their_writer)
            try:
                await asyncio.gather(self._pass(reader, their_writer), self._pass(their_reader, writer))
            finally:
                self._writers.discard(their_writer)
                their_writer.transport.abort()
        finally:
            self._writers.discard(writer)
            writer.transport.abort()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(65_536):
                await self._passes.wait()
                writer.write(data)
                await writer.drain()
        writer.close()  # passes the end on


def socket_of(url: str) -> str:
    """The Unix socket of the PostgreSQL at SQLAlchemy address `url`."""
    (folder,) = parse_qs(urlsplit(url).query)["host"]
    return f"{folder}/.s.PGSQL.5432"


def through(network: FaultyNetwork, url: str) -> str:
    """The address of the same database by way of `network`."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.username or 'postgres'}@127.0.0.1:{network.port}{parts.path}"
