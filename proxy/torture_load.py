"""The load of a torture: a provider whose answers follow from the request's number, and clients that keep a ledger.

Both speak HTTP over bare sockets, so that every byte received is known, also of an answer that is cut.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from hashlib import sha256
from itertools import count

from proxy.torture_ledger import Entry, Ledger

_LIMIT = 2**22
_EVENT_S = 0.002
_PAUSE_S = 0.12
_PATIENCE_S = 60.0
_NUMBER = re.compile(rb'\{"metadata": \{"number": "(\d{1,18})"\}')


@dataclass(frozen=True, slots=True)
class Answer:
    """What the provider says to one request: the pieces of the body, and whether they come as a stream of events."""

    pieces: tuple[bytes, ...]
    is_stream: bool


def answer_to(number: int) -> Answer:
    """The answer to request `number`, always the same: every third a stream of some 30 ms, the others whole."""
    generator = random.Random(number)
    if number % 3 == 0:
        words = [f"{number}-{at}-{'x' * generator.randint(0, 60)} " for at in range(generator.randint(2, 25))]
        deltas = [{"index": 0, "delta": {"content": word}} for word in words]
        choices = [*deltas, {"index": 0, "delta": {}, "finish_reason": "stop"}]
        events = [json.dumps({"id": "c", "object": "chat.completion.chunk", "choices": [choice]}) for choice in choices]
        return Answer((*(f"data: {event}\n\n".encode() for event in events), b"data: [DONE]\n\n"), True)
    message = {"role": "assistant", "content": f"{number} " + "y" * generator.choice((10, 1_000, 20_000))}
    body = {"id": "c", "object": "chat.completion", "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
    return Answer((json.dumps(body).encode(),), False)


def request_body(number: int) -> bytes:
    """Request `number`, a chat of 0.2 to 3 KB; every fiftieth has 300 KB."""
    size = 300_000 if number % 50 == 49 else random.Random(-number).choice((10, 300, 3_000))
    messages = [{"role": "user", "content": f"Request {number}. " + "z" * size}]
    body = {"model": "torture-1", "stream": answer_to(number).is_stream, "messages": messages}
    return json.dumps({"metadata": {"number": str(number)}, **body}).encode()


def number_of(body: bytes) -> int | None:
    """The number of the request whose body begins like this; None when it is none of ours."""
    found = _NUMBER.match(body)
    return int(found[1]) if found else None


async def start_provider() -> asyncio.Server:
    """A provider on a free port of the loopback address; closing the server ends it."""
    return await asyncio.start_server(_provide, "127.0.0.1", 0, limit=_LIMIT)


async def _provide(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            head = _read_head(await reader.readuntil(b"\r\n\r\n"))
            number = number_of(await reader.readexactly(int(head["content-length"])))
            await _answer(answer_to(number or 0), writer)
    except (OSError, asyncio.IncompleteReadError, RuntimeError):
        pass  # the relay hung up, or was killed; a RuntimeError is uvloop's word for a closed transport
    finally:
        writer.close()


async def _answer(answer: Answer, writer: asyncio.StreamWriter) -> None:
    if answer.is_stream:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        for piece in answer.pieces:
            writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
            await asyncio.sleep(_EVENT_S)
        writer.write(b"0\r\n\r\n")
    else:
        (body,) = answer.pieces
        middle = len(body) // 2
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body))
        writer.write(body[:middle])
        await asyncio.sleep(_EVENT_S)
        writer.write(body[middle:])
    await writer.drain()


def _read_head(head: bytes) -> dict[str, str]:
    lines = head.decode("latin-1").rstrip("\r\n").split("\r\n")
    return {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}


@dataclass(frozen=True, slots=True)
class Load:
    """Clients that ask one request after the other at `port`, each tagged with `task`, until `stop` is set.

    A number is never asked twice, whatever became of it.
    """

    port: int
    task: str
    ledger: Ledger
    stop: asyncio.Event
    numbers: count[int]

    async def run(self, seed: int) -> None:
        """One client; a connection that fails is what it expects."""
        generator = random.Random(seed)
        while not self.stop.is_set():
            try:
                async with asyncio.timeout(_PATIENCE_S):
                    await self._ask(next(self.numbers))
            except (OSError, asyncio.IncompleteReadError, ValueError):
                await asyncio.sleep(0.02)
            await asyncio.sleep(generator.uniform(0, _PAUSE_S))

    async def _ask(self, number: int) -> None:
        body = request_body(number)
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, limit=_LIMIT)
        try:
            entry = self.ledger.ask(number, body)
            head = f"Host: 127.0.0.1\r\nAuthorization: Bearer torture\r\nX-Potstill-Task: {self.task}\r\n"
            writer.write(f"POST /v1/chat/completions HTTP/1.1\r\n{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
            answered = await reader.readuntil(b"\r\n\r\n")
            await self._receive(entry, answered, reader)
        finally:
            writer.close()

    async def _receive(self, entry: Entry, answered: bytes, reader: asyncio.StreamReader) -> None:
        """Reads the body; whatever came of it is in the ledger when this returns or raises."""
        head, got, size, is_whole = _read_head(answered), sha256(), 0, False
        try:
            async for piece in _pieces(head, reader):
                got.update(piece)
                size += len(piece)
            is_whole = True
        finally:
            status, exchange_id = int(answered.split(b" ", 2)[1]), head.get("x-potstill-exchange-id", "")
            over = replace(entry, exchange_id=exchange_id, status=status, size=size, sha256=got.hexdigest(), is_whole=is_whole)
            if exchange_id:
                self.ledger.over(over)


async def _pieces(head: dict[str, str], reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    """The bytes of a body as they come; ends after the last one, raises where the answer is cut."""
    if "transfer-encoding" not in head:
        async for piece in _exactly(int(head["content-length"]), reader):
            yield piece
        return
    while size := int(await reader.readuntil(b"\r\n"), 16):
        async for piece in _exactly(size, reader):
            yield piece
        await reader.readexactly(2)
    await reader.readexactly(2)


async def _exactly(size: int, reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    while size:
        piece = await reader.read(size)
        if not piece:
            raise ConnectionError("the answer is cut")
        size -= len(piece)
        yield piece
