"""An upstream that costs next to nothing: fixed bytes over a bare asyncio protocol. The bearer key chooses the answer.

python -m benchmarks.upstream PORT
"""

from __future__ import annotations

import asyncio
import itertools
import signal
import sys
from typing import cast

import uvloop

from benchmarks.payloads import (
    BURST,
    BURST_EVENTS,
    PACE_S,
    PACED,
    PACED_EVENTS,
    answer_template,
    chunk,
    event_templates,
    numbered,
)

_COMMON = (
    b"HTTP/1.1 200 OK\r\ndate: Mon, 01 Sep 2025 10:00:00 GMT\r\nx-request-id: req_0123456789abcdef\r\nopenai-processing-ms: 7\r\n"
)
_JSON = answer_template()
_JSON_HEAD = _COMMON + b"content-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(_JSON)
_SSE_HEAD = _COMMON + b"content-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"
_LAST_CHUNK = b"0\r\n\r\n"
_BURST = b"".join(map(chunk, event_templates(BURST_EVENTS)))
_PACED = [chunk(event) for event in event_templates(PACED_EVENTS)]


class Upstream(asyncio.Protocol):
    """One connection, one request at a time."""

    _numbers = itertools.count(1)

    def __init__(self) -> None:
        self._got = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keeps the transport to answer on."""
        self._transport = cast(asyncio.Transport, transport)
        self._loop = asyncio.get_running_loop()

    def data_received(self, data: bytes) -> None:
        """Answers as soon as a request is whole."""
        got = self._got = self._got + data
        split = got.find(b"\r\n\r\n")
        if split < 0:
            return
        head = got[:split].lower()
        _, _, after = head.partition(b"content-length:")
        if len(got) < split + 4 + int(after.split(b"\r\n", 1)[0]):
            return
        self._got = b""
        number = next(self._numbers)
        if b"sk-bench-" + PACED.encode() in head:
            self._transport.write(_SSE_HEAD)
            self._pace(number, 0, self._loop.time())
        elif b"sk-bench-" + BURST.encode() in head:
            self._transport.write(_SSE_HEAD + numbered(_BURST, number) + _LAST_CHUNK)
        else:
            self._transport.write(_JSON_HEAD + numbered(_JSON, number))

    def _pace(self, number: int, index: int, started: float) -> None:
        if self._transport.is_closing():
            return
        piece = numbered(_PACED[index], number)
        if index + 1 == len(_PACED):
            self._transport.write(piece + _LAST_CHUNK)
            return
        self._transport.write(piece)
        self._loop.call_at(started + PACE_S * (index + 1), self._pace, number, index + 1, started)


async def serve(port: int) -> None:
    """Answers on `port` until SIGTERM."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    server = await loop.create_server(Upstream, "127.0.0.1", port, backlog=1024)
    await stop.wait()
    server.close()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(int(sys.argv[1])))
