"""What the tests of the wire share: a server on a real socket, and upstreams told what to do connection by connection."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from proxy.budget import Budget
from proxy.wire.call import Call
from proxy.wire.limits import Limits
from proxy.wire.server import Server
from tests.proxy.scripting import Reply, read_reply, until

HOST = "Host: relay\r\n"
LONGEST_S = 30.0


def request(
    target: str = "/", headers: str = "", body: bytes = b"", *, method: str = "POST", version: str = "1.1", host: str = HOST
) -> bytes:
    """One request as bytes; with Content-Length when it has a body."""
    length = f"Content-Length: {len(body)}\r\n" if body else ""
    return f"{method} {target} HTTP/{version}\r\n{host}{headers}{length}\r\n".encode("latin-1") + body


def answer(call: Call, body: bytes, status: int = 200) -> None:
    """Writes a whole answer, a refusal when the call has a problem."""
    if call.problem is not None:
        status, body = call.problem.status, call.problem.kind.encode()
    call.start(status, "Told", f"Content-Length: {len(body)}\r\n".encode(), has_length=True)
    call.finish(body)


@dataclass
class Serving:
    """A server, what it was asked, and what it holds."""

    server: Server
    budget: Budget
    port: int
    calls: list[Call] = field(default_factory=list)
    faults: list[dict[str, Any]] = field(default_factory=list)
    """What the event loop was told of, and should not have been."""

    @property
    def is_empty(self) -> bool:
        """True when no connection, no task and no byte is left."""
        return not (self.server.connections or self.server.tasks or self.budget.held)


class NoSocket(asyncio.Protocol):
    """Where WebSockets would go: takes what it gets."""

    def __init__(self) -> None:
        self.received = b""

    def data_received(self, data: bytes) -> None:
        self.received += data


@asynccontextmanager
async def serving(
    serve: Callable[[Call], Awaitable[None]] | None = None,
    limits: Limits | None = None,
    *,
    budget: int = 2**30,
    upgrade: Callable[[], asyncio.Protocol] = NoSocket,
) -> AsyncIterator[Serving]:
    """A server that echoes a request's body, or does what `serve` says; at the end nothing is left of it."""
    loop = asyncio.get_running_loop()
    found: Serving

    async def keep(call: Call) -> None:
        found.calls.append(call)
        if serve is None:
            answer(call, call.body)
        else:
            await serve(call)

    held = Budget(budget)
    given = limits or Limits(body_bytes=2**26)
    server = Server(keep, lambda: given, held, upgrade)
    listening = await loop.create_server(server, "127.0.0.1", 0)
    found = Serving(server, held, listening.sockets[0].getsockname()[1])
    loop.set_exception_handler(lambda _, context: found.faults.append(context))
    try:
        yield found
    finally:
        listening.close()
        server.close()
        loop.set_exception_handler(None)
    assert found.faults == []


@dataclass
class Client:
    """One connection of a client."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def ask(self, data: bytes) -> Reply:
        """Sends `data` and reads one answer."""
        self.writer.write(data)
        return await self.reply()

    async def reply(self, *, has_body: bool = True) -> Reply:
        """The next answer."""
        return await asyncio.wait_for(read_reply(self.reader, has_body=has_body), LONGEST_S)

    async def rest(self) -> bytes:
        """What comes until the connection ends, by a reset too."""
        found = b""
        with contextlib.suppress(ConnectionError):
            while data := await asyncio.wait_for(self.reader.read(2**16), LONGEST_S):
                found += data
        return found


async def passed(seconds: float) -> None:
    """Returns when so much time has gone by on the clock that limits are measured with."""
    loop = asyncio.get_running_loop()
    over = loop.time() + seconds
    await until(lambda: loop.time() >= over, seconds + LONGEST_S)


@asynccontextmanager
async def client(port: int, limit: int = 2**26) -> AsyncIterator[Client]:
    """A connection to `port`, closed at the end."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=limit)
    try:
        yield Client(reader, writer)
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Peer:
    """An upstream that counts its connections and serves each by `talk`."""

    talk: Talk
    address: str | int = 0
    opened: int = 0
    ended: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        self.opened += 1
        try:
            await self.talk(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError, RuntimeError):
            pass  # the relay has closed; uvloop says the last for a closed transport
        finally:
            self.ended += 1
            writer.close()


async def read_one(reader: asyncio.StreamReader) -> bytes:
    """The head of the next request; its body is read and thrown away."""
    head = await reader.readuntil(b"\r\n\r\n")
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            await reader.readexactly(int(line.split(b":")[1]))
    return head


def answering(*packets: bytes, closes: bool = False) -> Talk:
    """Answers every request with these packets, and maybe closes."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await read_one(reader)
            for packet in packets:
                writer.write(packet)
                await writer.drain()
                await asyncio.sleep(0)
            if closes:
                return

    return talk


@asynccontextmanager
async def peer(talk: Talk, *, path: str = "", tls: ssl.SSLContext | None = None) -> AsyncIterator[Peer]:
    """An upstream on a free port, or at the unix socket `path`."""
    found = Peer(talk)
    if path:
        server = await asyncio.start_unix_server(found.serve, path, ssl=tls)
        found.address = path
    else:
        server = await asyncio.start_server(found.serve, "127.0.0.1", 0, ssl=tls, limit=2**20)
        found.address = server.sockets[0].getsockname()[1]
    try:
        yield found
    finally:
        server.close()


def resolving(monkeypatch: pytest.MonkeyPatch, address: str, when: asyncio.Event | None = None, *more: str) -> None:
    """From now on the running loop finds every name at these addresses; not before `when` is set, if it is given."""

    async def resolve(host: str, port: int, **_named: object) -> list[tuple[object, ...]]:
        if host in (address, *more):  # the loop looks up addresses too, when it connects
            return [_found(host, port)]
        if when is not None:
            await when.wait()
        return [_found(each, port) for each in (address, *more)]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolve)


def _found(address: str, port: int) -> tuple[object, ...]:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    place = (address, port, 0, 0) if ":" in address else (address, port)
    return family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", place
