"""A load of chat requests over bare keep-alive connections: all at once, or one by one at a steady rate."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator, Mapping
from time import perf_counter_ns
from typing import cast

from benchmarks.payloads import JSON, request_bytes

_ANSWER_S = 60.0


class Connection(asyncio.Protocol):
    """One keep-alive connection. `ask` sends a request and waits for the whole answer; RuntimeError for any but a good one."""

    def __init__(self) -> None:
        self._got = bytearray()
        self._is_stream = False
        self._whole: asyncio.Future[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keeps the transport to ask on."""
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, error: Exception | None) -> None:
        """Fails the request under way."""
        if self._whole is not None and not self._whole.done():
            self._whole.set_exception(RuntimeError(f"connection lost after {len(self._got)} bytes: {error}"))

    def data_received(self, data: bytes) -> None:
        """Notices the end of the answer."""
        self._got += data
        if self._whole is not None and not self._whole.done() and self._is_whole():
            self._whole.set_result(None)

    async def ask(self, request: bytes, *, is_stream: bool) -> bytes:
        """The whole answer, head and body, as it came."""
        self._got.clear()
        self._is_stream = is_stream
        self._whole = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        await self._whole
        got = bytes(self._got)
        if not got.startswith(b"HTTP/1.1 200") or (is_stream and b"data: [DONE]\n\n" not in got[-64:]):
            raise RuntimeError(f"not the answer of the upstream: {got[:300]!r}")
        return got

    def close(self) -> None:
        """Ends the connection."""
        self._transport.close()

    def _is_whole(self) -> bool:
        if self._is_stream and self._got.startswith(b"HTTP/1.1 200"):
            return self._got.endswith(b"0\r\n\r\n")
        split = self._got.find(b"\r\n\r\n")
        if split < 0:
            return False
        _, _, after = bytes(self._got[:split]).lower().partition(b"content-length:")
        return len(self._got) >= split + 4 + int(after.split(b"\r\n", 1)[0] or 0)


async def connect(port: int) -> Connection:
    """A fresh connection to `port` of this machine."""
    loop = asyncio.get_running_loop()
    _, connection = await loop.create_connection(Connection, "127.0.0.1", port)
    return connection


async def saturate(port: int, scenario: str, count: int, connections: int) -> None:
    """Sends `count` requests over `connections` connections, each asking again as soon as it was answered."""
    numbers = iter(range(count))
    async with asyncio.timeout(_ANSWER_S * 5):
        opened = [await connect(port) for _ in range(min(connections, count))]
        try:
            await asyncio.gather(*(_ask_on(connection, port, scenario, numbers) for connection in opened))
        finally:
            for connection in opened:
                connection.close()


async def latencies(ports: Mapping[str, int], scenario: str, count: int, gap_s: float) -> dict[str, list[float]]:
    """Milliseconds until the whole answer, `count` for each name; one request every `gap_s`, the names taking turns."""
    opened = {name: await connect(port) for name, port in ports.items()}
    found: dict[str, list[float]] = {name: [] for name in ports}
    loop = asyncio.get_running_loop()
    due = loop.time()
    try:
        for number, name in itertools.product(range(count), ports):
            request = request_bytes(ports[name], scenario, number)
            due = max(due + gap_s, loop.time())
            await asyncio.sleep(due - loop.time())
            before = perf_counter_ns()
            async with asyncio.timeout(_ANSWER_S):
                await opened[name].ask(request, is_stream=scenario != JSON)
            found[name].append((perf_counter_ns() - before) / 1e6)
    finally:
        for connection in opened.values():
            connection.close()
    return found


async def _ask_on(connection: Connection, port: int, scenario: str, numbers: Iterator[int]) -> None:
    for number in numbers:
        await connection.ask(request_bytes(port, scenario, number), is_stream=scenario != JSON)
