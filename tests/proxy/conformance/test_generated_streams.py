"""A thousand generated streams: through the relay a client gets what it gets directly, byte for byte, and so does the store."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import random
import zlib

import pytest

from tests.proxy.conformance.dialects import FAMILIES
from tests.proxy.conformance.house import KEY, LONGEST_S, House, ask_of, theirs
from tests.proxy.scripting import Received, Reply, chunk, talk

pytestmark = [pytest.mark.conformance, pytest.mark.asyncio(loop_scope="session")]

COUNT = 1_000
BATCH = 50
AT_ONCE = 10
WORDS = ["a", " ", "\n", "日本", "👩‍👩‍👧", "e\u0301", '"', "\\", "{}", "data: x", "[DONE]", "\u2028", "\r\n", "x" * 400]
ENDINGS = [b"\n", b"\r\n", b"\r"]
FILLERS = [b": ping\n\n", b"data:\n\n", b"event: ping\ndata: {}\n\n", b"id: 7\n", b"retry: 10\n", b"\n", b"surprise\n\n"]
GARBAGE = [b"data: ", b"\n", b"\r", b"\n\n", "北".encode(), b"\xf0\x9f", b"\xff", b"{}", b":", b"event: x", b"\x00", b'{"error":']
REASONS = ["OK", "", "Fine by me"]


def body_of(generator: random.Random, path: str) -> bytes:
    """A stream of this family in some framing, or nothing of the kind."""
    if generator.random() < 0.15:
        return b"".join(generator.choices(GARBAGE, k=generator.randint(0, 60)))
    texts = ["".join(generator.choices(WORDS, k=generator.randint(0, 5))) for _ in range(generator.randint(0, 8))]
    events = FAMILIES[path](texts)
    if generator.random() < 0.3:
        events = [piece for event in events for piece in (generator.choice(FILLERS), event)]
    if generator.random() < 0.2:
        generator.shuffle(events)
    if generator.random() < 0.2:
        del events[generator.randrange(len(events)) :]
    body = b"".join(events).replace(b"\n", generator.choice(ENDINGS))
    return b"\xef\xbb\xbf" + body if generator.random() < 0.05 else body


def pieces_of(generator: random.Random, body: bytes) -> list[bytes]:
    """`body` in pieces: one, a few at random places, or each byte."""
    if len(body) < 400 and generator.random() < 0.1:
        return [body[at : at + 1] for at in range(len(body))]
    places = sorted(generator.randrange(len(body) + 1) for _ in range(generator.choice([0, 1, 3, 9, 30])))
    return [body[start:end] for start, end in zip([0, *places], [*places, len(body)], strict=True) if start < end]


def wire_of(generator: random.Random, path: str) -> list[bytes]:
    """The packets of a whole HTTP answer."""
    body = body_of(generator, path)
    head = {"Content-Type": generator.choice(["text/event-stream", "text/event-stream; charset=utf-8", "application/json"])}
    if generator.random() < 0.15:
        packed, name = generator.choice([(gzip.compress(body, mtime=0), "gzip"), (zlib.compress(body), "deflate")])
        body, head["Content-Encoding"] = packed, name
    pieces = pieces_of(generator, body)
    head["X-Request-Id"] = f"req_{generator.randrange(10**9)}"
    framing = generator.choice(["chunked", "chunked", "chunked", "length"])
    if framing == "length":
        head["Content-Length"] = str(len(body))
    else:
        head["Transfer-Encoding"] = "chunked"
        pieces = [*map(chunk, pieces), b"0\r\n\r\n"]
    first = f"HTTP/1.1 200 {generator.choice(REASONS)}\r\n" + "".join(f"{name}: {value}\r\n" for name, value in head.items())
    packets = [first.encode() + b"\r\n", *pieces]
    return packets if generator.random() < 0.7 else [b"".join(packets)]


@pytest.mark.parametrize("batch", range(COUNT // BATCH))
async def test_generated_streams_are_the_same_directly_and_relayed(batch: int, house: House) -> None:
    generator = random.Random(f"streams {batch}")
    paths = [generator.choice(list(FAMILIES)) for _ in range(BATCH)]
    wires = [wire_of(generator, path) for path in paths]

    async def script(received: Received, writer: asyncio.StreamWriter) -> None:
        for packet in wires[int(received.header("x-number"))]:
            writer.write(packet)
            await writer.drain()
            await asyncio.sleep(0)

    house.upstream.script = script
    turns = asyncio.Semaphore(AT_ONCE)

    async def one(number: int) -> tuple[Reply, Reply]:
        line, headers, body = f"POST {paths[number]}", KEY + f"x-number: {number}\r\n", ask_of(paths[number])
        async with turns, asyncio.timeout(LONGEST_S):
            return await talk(house.upstream.port, line, headers, body), await house.ask(line, headers, body)

    for direct, relayed in await asyncio.gather(*(one(number) for number in range(BATCH))):
        assert direct.is_whole
        assert relayed.is_whole
        assert (relayed.status, relayed.body) == (direct.status, direct.body)
        assert theirs(relayed.headers) == theirs(direct.headers)
        stored = await house.stored(relayed.header("x-potstill-exchange-id"))
        assert stored.content.response_sha256 == hashlib.sha256(direct.body).hexdigest()
        assert stored.content.response_body == direct.body
