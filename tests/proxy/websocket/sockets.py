"""What the tests of WebSockets share: an independent client, an independent upstream, and what the spool says of both."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from capture.settings import Settings
from capture.transcript import Said, read_transcript
from proxy.worker import Worker
from tests.proxy.scripting import Kept, kept, until

KEY = "sk-websocket-test-key-0123456789"
AUTHORIZED = {"Authorization": f"Bearer {KEY}"}
REALTIME = "/v1/realtime?model=gpt-realtime"
HANDSHAKE = (
    "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
)
Script = Callable[[ServerConnection], Awaitable[None]]


async def echo(socket: ServerConnection) -> None:
    """Says everything back."""
    async for message in socket:
        await socket.send(message)


@dataclass
class Upstream:
    """A WebSocket server that does what `script` says, and `refusal` instead of a handshake when there is one."""

    script: Script = echo
    refusal: Response | None = None
    requests: list[Request] = field(default_factory=list)
    sockets: list[ServerConnection] = field(default_factory=list)
    port: int = 0

    def answer(self, socket: ServerConnection, request: Request) -> Response | None:
        self.requests.append(request)
        self.sockets.append(socket)
        return self.refusal

    async def serve(self, socket: ServerConnection) -> None:
        await self.script(socket)


def reach(relay: Worker, target: str = REALTIME, headers: dict[str, str] | None = None, **options: Any) -> connect:
    """A client's connection to `target` of the relay."""
    return connect(
        f"ws://127.0.0.1:{relay.port}{target}",
        additional_headers=AUTHORIZED if headers is None else headers,
        compression=options.pop("compression", None),
        proxy=None,
        close_timeout=1,
        max_size=2**26,
        **options,
    )


async def ended(settings: Settings) -> tuple[Kept, list[Said]]:
    """The one exchange in the spool once it has ended, and what was said in it."""
    await until(lambda: [each for each in kept(settings) if each.end is not None])
    (exchange,) = kept(settings)
    return exchange, list(read_transcript(exchange.body))


async def closing(socket: ClientConnection) -> tuple[int, str]:
    """The code and reason that the client is closed with."""
    async with asyncio.timeout(10):
        with pytest.raises(ConnectionClosed):
            while True:
                await socket.recv()
    return socket.close_code or 0, socket.close_reason or ""


async def handshaken(relay: Worker) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A raw client behind its handshake."""
    reader, writer = await asyncio.open_connection("127.0.0.1", relay.port)
    writer.write(f"GET {REALTIME} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {KEY}\r\n{HANDSHAKE}\r\n".encode())
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
    assert head.startswith(b"HTTP/1.1 101 ")
    return reader, writer


def frame(opcode: int, data: bytes) -> bytes:
    """A short masked frame; the mask is zero."""
    return struct.pack("!BB", 0x80 | opcode, 0x80 | len(data)) + bytes(4) + data
