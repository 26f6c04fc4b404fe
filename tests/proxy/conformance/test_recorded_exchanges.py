"""Real exchanges of real providers, sent once more through a running house: no byte changes, and the store reads them right."""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
from collections import defaultdict
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from capture.assemble import assemble, output_text, state_of
from capture.derive import shortened
from tests.proxy.conformance import house as houses
from tests.proxy.conformance.house import KEY, House, Stored
from tests.proxy.conformance.recorded import SUFFIXES, Recorded, read_recorded
from tests.proxy.scripting import Received, Reply, chunk

pytestmark = [pytest.mark.conformance, pytest.mark.asyncio(loop_scope="session")]

AT_ONCE = 12
OTHER = "others"
RAW = "raw"
_STREAMS = ("text/event-stream", "application/vnd.amazon.eventstream", "application/x-ndjson")
_WITHOUT_BODY = (204, 304)


@dataclass(frozen=True)
class Replay:
    """The house with an upstream for each place of the recordings, and the recordings by the end of their path."""

    house: House
    names: dict[tuple[str, str], str]
    groups: dict[str, list[Recorded]]


@pytest.fixture(scope="module")
def recorded() -> dict[str, list[Recorded]]:
    groups: dict[str, list[Recorded]] = defaultdict(list)
    for item in read_recorded():
        groups[item.suffix or OTHER].append(item)
    return groups


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def replay(recorded: dict[str, list[Recorded]], tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Replay]:
    known = [item for suffix in SUFFIXES for item in recorded[suffix]]
    places = sorted({_place(item) for item in known})
    names = {place: f"place-{number}" for number, place in enumerate(places)}
    sections = [_section(RAW, "", "openai")]
    sections += [_section(name, root, protocol) for (root, protocol), name in names.items()]
    folder: Path = tmp_path_factory.mktemp("replay")
    async with houses.house(folder, "".join(sections)) as found:
        yield Replay(found, names, recorded)


def _place(item: Recorded) -> tuple[str, str]:
    """What stands before the known end of its path, and whose API it is."""
    return item.path.removesuffix(item.suffix), SUFFIXES[item.suffix]


def _section(name: str, root: str, protocol: str) -> str:
    return f'[upstreams.{name}]\nurl = "http://127.0.0.1:{{port}}{root}"\nprotocol = "{protocol}"\n'


def wire_of(item: Recorded, generator: random.Random) -> list[bytes]:
    """The packets of the answer: a stream in chunks that were cut anywhere, all else with its length."""
    head = [f"HTTP/1.1 {item.status} Recorded", f"Content-Type: {item.content_type}"]
    if item.encoding:
        head.append(f"Content-Encoding: {item.encoding}")
    body = item.response
    if item.status in _WITHOUT_BODY:
        return ["\r\n".join([*head, "", ""]).encode()]
    if not item.content_type.startswith(_STREAMS):
        return ["\r\n".join([*head, f"Content-Length: {len(body)}", "", ""]).encode() + body]
    places = sorted(generator.randrange(len(body) + 1) for _ in range(12))
    pieces = [body[start:end] for start, end in zip([0, *places], [*places, len(body)], strict=True) if start < end]
    return ["\r\n".join([*head, "Transfer-Encoding: chunked", "", ""]).encode(), *map(chunk, pieces), b"0\r\n\r\n"]


def targets(item: Recorded, names: dict[tuple[str, str], str]) -> tuple[str, str]:
    """What the client asks for, and what the upstream must be asked for."""
    query = f"?{item.query}" if item.query else ""
    if not item.suffix:
        return f"/upstream/{RAW}{item.path}{query}", item.path + query
    root, _ = place = _place(item)
    return f"/upstream/{names[place]}/v1{item.suffix}{query}", (root or "/v1") + item.suffix + query


async def replayed(replay: Replay, items: list[Recorded]) -> list[tuple[Recorded, Reply, Received, Stored]]:
    """Each item with what the client got, what the upstream got and what was stored."""
    generator = random.Random("recorded")
    wires = [wire_of(item, generator) for item in items]
    arrived: dict[int, Received] = {}

    async def script(received: Received, writer: asyncio.StreamWriter) -> None:
        number = int(received.header("x-number"))
        arrived[number] = received
        for packet in wires[number]:
            writer.write(packet)
            await writer.drain()
            await asyncio.sleep(0)

    replay.house.upstream.script = script
    turns = asyncio.Semaphore(AT_ONCE)

    async def one(number: int, item: Recorded) -> tuple[Recorded, Reply, Received, Stored]:
        async with turns:
            line = f"{item.method} {targets(item, replay.names)[0]}"
            reply = await replay.house.ask(line, KEY + f"x-number: {number}\r\n", item.request)
        return item, reply, arrived[number], await replay.house.stored(reply.header("x-potstill-exchange-id"))

    return list(await asyncio.gather(*(one(number, item) for number, item in enumerate(items))))


def check_bytes(replay: Replay, item: Recorded, reply: Reply, received: Received, stored: Stored) -> None:
    """Nothing was changed on the way, and the store knows both bodies by their hashes."""
    expected = b"" if item.status in _WITHOUT_BODY else item.response
    assert reply.is_whole, item.name
    assert (reply.status, reply.body) == (item.status, expected), item.name
    assert reply.header("content-encoding") == item.encoding
    assert received.line == f"{item.method} {targets(item, replay.names)[1]} HTTP/1.1"
    assert received.body == item.request, item.name
    assert stored.content.request_sha256 == hashlib.sha256(item.request).hexdigest()
    assert stored.content.response_sha256 == hashlib.sha256(expected).hexdigest()
    if not stored.exchange.redactions:
        assert stored.content.request_body == item.request, item.name
        assert stored.content.response_body == expected, item.name


@pytest.mark.parametrize("suffix", SUFFIXES)
async def test_recorded_exchanges_pass_and_are_read_right(suffix: str, replay: Replay) -> None:
    items = replay.groups[suffix]
    assert len(items) > 30
    states = defaultdict[str, int](int)
    for item, reply, received, stored in await replayed(replay, items):
        check_bytes(replay, item, reply, received, stored)
        exchange = stored.exchange
        asked = json.loads(item.request)
        is_stream = asked.get("stream") is True
        read = assemble(SUFFIXES[suffix], suffix, is_stream, item.request, item.response, item.encoding, item.status)
        assert (exchange.protocol, exchange.status) == (SUFFIXES[suffix], item.status)
        assert (exchange.model_asked, exchange.is_stream) == (str(asked.get("model") or ""), is_stream), item.name
        assert (exchange.state, exchange.finish_reason) == (state_of("complete", item.status, read), read.finish_reason), (
            item.name
        )
        usage = (read.usage.tokens_in, read.usage.tokens_out, read.usage.source)
        if not exchange.redactions:
            assert (exchange.tokens_in, exchange.tokens_out, exchange.usage_source) == usage, item.name
            assert exchange.output_text == shortened(output_text(read.conversation.answer)), item.name
        if item.status < 300:
            states[exchange.state] += 1
    assert states["complete"] > 0.95 * sum(states.values())


async def test_what_is_not_understood_passes_all_the_same(replay: Replay) -> None:
    items = replay.groups[OTHER][::3]  # the relay reads none of it: hundreds show as much as thousands
    assert len(items) > 400
    for item, reply, received, stored in await replayed(replay, items):
        check_bytes(replay, item, reply, received, stored)
        assert stored.exchange.state == "complete", item.name
