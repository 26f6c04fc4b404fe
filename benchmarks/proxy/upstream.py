"""An upstream that costs next to nothing: fixed bytes over a bare asyncio protocol. The bearer key chooses the answer.

    python -m benchmarks.proxy.upstream PORT TLS_PORT CERTIFICATE KEY

GET anything: when clients left before the end of a stream since the last such question,
on the clock of `time.monotonic_ns`, which all processes of a machine share.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import signal
import ssl
import sys
import time
from hashlib import sha256
from pathlib import Path
from typing import ClassVar, cast

import uvloop

from benchmarks.payloads import answer_template, chunk, event_templates, numbered
from benchmarks.proxy.traffic import BODY, BURST, EVENTS, FIRST_S, PACE_S

_COMMON = (
    b"HTTP/1.1 200 OK\r\ndate: Mon, 01 Sep 2025 10:00:00 GMT\r\nx-request-id: req_0123456789abcdef\r\nopenai-processing-ms: 7\r\n"
)
_PLAIN = b"content-type: application/json\r\ncontent-length: %d\r\n\r\n"
_JSON = answer_template()
_JSON_HEAD = _COMMON + _PLAIN % len(_JSON)
_SSE_HEAD = _COMMON + b"content-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"
_LAST_CHUNK = b"0\r\n\r\n"
_BURST = b"".join(map(chunk, event_templates(EVENTS[BURST])))
_PACED = {name.encode(): (pace_s, [chunk(event) for event in event_templates(EVENTS[name])]) for name, pace_s in PACE_S.items()}
_KEY = b"bearer sk-bench-"
_BACKLOG = 4_096


class Upstream(asyncio.Protocol):
    """One connection, one request at a time."""

    numbers: ClassVar = itertools.count(1)
    lost_ns: ClassVar[list[int]] = []

    def __init__(self) -> None:
        self._got = b""
        self._missing = 0
        self._is_chunked = self._is_question = False
        self._scenario = b""
        self._digest = sha256()
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keeps the transport to answer on."""
        self._transport = cast(asyncio.Transport, transport)
        self._loop = asyncio.get_running_loop()

    def connection_lost(self, error: Exception | None) -> None:
        """Remembers when a client left in the middle of a stream."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self.lost_ns.append(time.monotonic_ns())

    def data_received(self, data: bytes) -> None:
        """Answers as soon as a request is whole."""
        if not self._missing:
            self._got += data
            split = self._got.find(b"\r\n\r\n")
            if split < 0:
                return
            data = self._got[split + 4 :]
            self._begin(self._got[: split + 2].lower())
            self._got = b""
        if self._scenario == BODY.encode():
            self._digest.update(data)
        if self._is_chunked:
            self._got = (self._got + data)[-len(_LAST_CHUNK) :]
            if self._got != _LAST_CHUNK:
                return
            self._got, self._missing = b"", 0
        else:
            self._missing -= len(data)
        if self._missing <= 0:
            self._missing = 0
            self._answer()

    def _begin(self, head: bytes) -> None:
        self._is_question = head.startswith(b"get ")
        _, _, after = head.partition(_KEY)
        self._scenario = after[: after.find(b"\r\n")]
        _, _, after = head.partition(b"\r\ncontent-length:")
        self._is_chunked = not after and b"\r\ntransfer-encoding: chunked" in head
        self._missing = 1 if self._is_chunked else int(after[: after.find(b"\r\n")] or 0)

    def _answer(self) -> None:
        write = self._transport.write
        if self._is_question:
            found = json.dumps({"lost_ns": self.lost_ns}).encode()
            self.lost_ns.clear()
            write(_COMMON + _PLAIN % len(found) + found)
            return
        number = next(self.numbers)
        if self._scenario in _PACED:
            self._timer = self._loop.call_later(FIRST_S, self._pace, number, 0, self._loop.time() + FIRST_S)
        elif self._scenario == BURST.encode():
            write(_SSE_HEAD + numbered(_BURST, number) + _LAST_CHUNK)
        elif self._scenario == BODY.encode():
            found = json.dumps({**json.loads(_JSON), "sha256": self._digest.hexdigest()}).encode()
            self._digest = sha256()
            write(_COMMON + _PLAIN % len(found) + found)
        else:
            write(_JSON_HEAD + numbered(_JSON, number))

    def _pace(self, number: int, index: int, started: float) -> None:
        pace_s, events = _PACED[self._scenario]
        piece = numbered(events[index], number)
        if index == 0:
            piece = _SSE_HEAD + piece
        if index + 1 == len(events):
            self._timer = None
            self._transport.write(piece + _LAST_CHUNK)
            return
        self._transport.write(piece)
        self._timer = self._loop.call_at(started + pace_s * (index + 1), self._pace, number, index + 1, started)


async def serve(port: int, tls_port: int, certificate: Path, key: Path) -> None:
    """Answers on both ports until SIGTERM."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificate, key)
    servers = [
        await loop.create_server(Upstream, "127.0.0.1", tls_port, backlog=_BACKLOG, ssl=tls),
        await loop.create_server(Upstream, "127.0.0.1", port, backlog=_BACKLOG),
    ]
    await stop.wait()
    for server in servers:
        server.close()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]), Path(sys.argv[4])))
