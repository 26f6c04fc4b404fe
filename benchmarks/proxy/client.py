"""A client over bare keep-alive connections: asks, and tells when the first byte of the answer's body came and when the last."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from time import perf_counter_ns
from typing import cast

_LAST_CHUNK = b"0\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Answered:
    """A whole answer and milliseconds from the request to its first byte and to its end."""

    status: int
    body: bytes
    first_ms: float
    whole_ms: float


class Client(asyncio.Protocol):
    """One connection that asks one thing at a time."""

    def __init__(self) -> None:
        self.is_lost = False
        """True once the other side, or `close`, has ended the connection."""
        self._got = bytearray()
        self._split, self._length = -1, -1
        self._sent_ns = self._first_ns = 0
        self._first: asyncio.Future[None] | None = None
        self._whole: asyncio.Future[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keeps the transport to ask on."""
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, error: Exception | None) -> None:
        """Fails the request under way."""
        self.is_lost = True
        for future in (self._first, self._whole):
            if future is not None and not future.done():
                future.set_exception(ConnectionError(f"connection lost after {len(self._got)} bytes: {error}"))

    def data_received(self, data: bytes) -> None:
        """Notices the first byte of the body, and the last."""
        self._got += data
        if self._split < 0:
            self._read_head()
            if self._split < 0:
                return
        if not self._first_ns and len(self._got) > self._split:
            self._first_ns = perf_counter_ns()
            if self._first is not None and not self._first.done():
                self._first.set_result(None)
        whole = self._got.endswith(_LAST_CHUNK) if self._length < 0 else len(self._got) >= self._split + self._length
        if whole and self._whole is not None and not self._whole.done():
            self._whole.set_result(None)

    async def ask(self, request: bytes) -> Answered:
        """The whole answer; ConnectionError."""
        self._send(request)
        assert self._whole is not None
        await self._whole
        whole_ms = (perf_counter_ns() - self._sent_ns) / 1e6
        status = int(self._got[9:12])
        return Answered(status, bytes(self._got[self._split :]), (self._first_ns - self._sent_ns) / 1e6, whole_ms)

    async def begin(self, request: bytes) -> None:
        """Asks and returns at the first byte of the body; ConnectionError."""
        self._send(request)
        assert self._first is not None
        await self._first

    def close(self) -> None:
        """Ends the connection, whatever is under way."""
        for future in (self._first, self._whole):
            if future is not None:
                future.cancel()
        self._transport.abort()

    def _send(self, request: bytes) -> None:
        loop = asyncio.get_running_loop()
        self._got.clear()
        self._split = self._length = -1
        self._first_ns, self._first, self._whole = 0, loop.create_future(), loop.create_future()
        self._sent_ns = perf_counter_ns()
        self._transport.write(request)

    def _read_head(self) -> None:
        split = self._got.find(b"\r\n\r\n")
        if split >= 0:
            _, _, length = bytes(self._got[: split + 2]).lower().partition(b"\r\ncontent-length:")
            self._split = split + 4
            self._length = int(length[: length.find(b"\r\n")]) if length else -1


async def connect(port: int) -> Client:
    """A fresh connection to `port` of this machine."""
    _, client = await asyncio.get_running_loop().create_connection(Client, "127.0.0.1", port)
    return client
