"""C01-C20: whatever the bytes of a stream look like and however they are cut, they pass, and are read for what they say."""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Callable

import pytest

from tests.proxy.conformance.dialects import DONE, FAMILIES, chat
from tests.proxy.conformance.house import KEY, LONGEST_S, House, ask_of, compared, streaming, whole
from tests.proxy.conformance.sdks import CHAT, MESSAGES, RESPONSES, Sdks
from tests.proxy.scripting import Received, chunk, chunked_head

pytestmark = [pytest.mark.conformance, pytest.mark.asyncio(loop_scope="session")]

TEXTS = ["日本語 한국어 ", "👩‍👩‍👧 ", "é́ naïve"]
SAID = "".join(TEXTS)
NAMES = {CHAT: "chat", MESSAGES: "messages", RESPONSES: "responses"}


def each_byte(events: list[bytes]) -> list[bytes]:
    joined = b"".join(events)
    return [joined[at : at + 1] for at in range(len(joined))]


def split_after(mark: bytes, old: bytes = b"", new: bytes = b"") -> Callable[[list[bytes]], list[bytes]]:
    """Cuts the stream after each `mark`; `old` is replaced by `new` before."""

    def cut(events: list[bytes]) -> list[bytes]:
        joined = b"".join(events)
        return re.split(b"(?<=" + re.escape(mark) + b")", joined.replace(old, new) if old else joined)

    return cut


def mixed_endings(events: list[bytes]) -> list[bytes]:
    endings = [b"\n", b"\r\n", b"\r"]
    return [event.replace(b"\n", endings[number % 3]) for number, event in enumerate(events)]


def several_data_lines(events: list[bytes]) -> list[bytes]:
    return [event.replace(b'{"', b'{\ndata: "', 1) for event in events]


def between(filler: bytes) -> Callable[[list[bytes]], list[bytes]]:
    return lambda events: [piece for event in events for piece in (filler, event)]


FRAMINGS: dict[str, Callable[[list[bytes]], list[bytes]]] = {
    "C01 one byte at a time": each_byte,
    "C02 split inside a line end": split_after(b"\r", b"\n", b"\r\n"),
    "C03 split inside the field name": split_after(b"da"),
    "C04 many events in one chunk": lambda events: [b"".join(events)],
    "C05 carriage returns only": lambda events: [event.replace(b"\n", b"\r") for event in events],
    "C06 mixed endings": mixed_endings,
    "C07 byte order mark": lambda events: [b"\xef\xbb\xbf" + events[0], *events[1:]],
    "C08 no space after the colon": lambda events: [event.replace(b"data: ", b"data:") for event in events],
    "C09 several data lines": several_data_lines,
    "C11 no final blank line": lambda events: [*events[:-1], events[-1].rstrip(b"\n")],
    "C14 empty data lines": between(b"data:\n\ndata: \n\n"),
    "C15 id and retry lines": between(b"id: 7\nretry: 100\n"),
}


@pytest.mark.parametrize("path", FAMILIES, ids=NAMES.get)
@pytest.mark.parametrize("framing", FRAMINGS.values(), ids=FRAMINGS)
async def test_a_stream_passes_and_is_understood_however_it_is_framed(
    framing: Callable[[list[bytes]], list[bytes]], path: str, house: House, direct: Sdks, relayed: Sdks
) -> None:
    found = await compared(house, path, streaming(framing(FAMILIES[path](TEXTS))), ask_of(path))
    assert (found.exchange.state, found.exchange.error_kind) == ("complete", "")
    assert found.answer == SAID
    assert await relayed.said(path) == await direct.said(path)


@pytest.mark.parametrize("path", FAMILIES, ids=NAMES.get)
async def test_C10_a_stream_of_comments_alone_is_no_answer(path: str, house: House, direct: Sdks, relayed: Sdks) -> None:
    found = await compared(house, path, streaming([b": ping\n\n"] * 3), ask_of(path))
    assert found.exchange.state == "truncated"
    assert found.exchange.output_text == ""
    assert await relayed.said(path) == await direct.said(path)


@pytest.mark.parametrize(
    ("size", "path"),
    [
        pytest.param(900_000, CHAT, id="C12 a line of 900 KB-chat"),
        pytest.param(900_000, MESSAGES, id="C12 a line of 900 KB-messages"),
        pytest.param(900_000, RESPONSES, id="C12 a line of 900 KB-responses"),
        pytest.param(20_000_000, CHAT, id="C13 an event of 20 MB"),
    ],
)
async def test_a_long_event_passes(size: int, path: str, house: House, direct: Sdks, relayed: Sdks) -> None:
    text = "iVBORw0K" * (size // 8)
    found = await compared(house, path, streaming([b"".join(FAMILIES[path]([text]))]), ask_of(path))
    assert found.exchange.state == "complete"
    assert found.answer == text
    assert await relayed.said(path) == await direct.said(path)


async def test_C16_an_invalid_byte_passes_and_is_flagged(house: House) -> None:
    events = [event.replace("é́".encode(), b"\xff") for event in chat(TEXTS)]
    found = await compared(house, CHAT, streaming(events), ask_of(CHAT))
    assert found.content.response_body.count(b"\xff") == 1
    assert found.exchange.state == "complete"
    assert found.exchange.error_kind == "parse_error"


@pytest.mark.parametrize("path", FAMILIES, ids=NAMES.get)
@pytest.mark.parametrize("script", [streaming([]), whole(b"", Content_Type="text/event-stream")], ids=["chunked", "length"])
async def test_C17_an_empty_200_passes_and_is_no_answer(script: object, path: str, house: House) -> None:
    found = await compared(house, path, script, ask_of(path))  # type: ignore[arg-type]
    assert found.exchange.state == "truncated"


@pytest.mark.parametrize("seed", range(6))
async def test_C18_random_bytes_pass_and_are_no_answer(seed: int, house: House) -> None:
    generator = random.Random(seed)
    pieces = [generator.randbytes(generator.randint(1, 3_000)) for _ in range(8)]
    found = await compared(house, list(FAMILIES)[seed % 3], streaming(pieces), ask_of(CHAT))
    assert found.exchange.state != "complete"


async def test_C19_chunk_extensions_and_trailers_change_no_byte_of_the_body(house: House) -> None:
    async def script(_received: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(chunked_head(extra="Trailer: x-checksum\r\n"))
        for event in chat(TEXTS):
            writer.write(f'{len(event):x};name="a;b";flag\r\n'.encode() + event + b"\r\n")
            await writer.drain()
        writer.write(b"0;last\r\nx-checksum: 7\r\n\r\n")

    house.upstream.script = script
    reply = await house.ask(f"POST {CHAT}", KEY, ask_of(CHAT))
    assert reply.is_whole
    assert reply.body == b"".join(chat(TEXTS))
    assert (await house.stored_of(reply)).answer == SAID
    again = await house.ask(f"POST {CHAT}", KEY, ask_of(CHAT))
    assert again.body == reply.body, "a trailer must not be taken for the next answer's head"


class InStep:
    """An upstream that sends the next event only when the client has read the one before: nothing may be held back."""

    def __init__(self, events: list[bytes]) -> None:
        self.events = events
        self._may_send = asyncio.Semaphore(0)

    def go_on(self) -> None:
        """Lets the upstream send one more event."""
        self._may_send.release()

    async def script(self, _received: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(chunked_head())
        for event in self.events:
            await self._may_send.acquire()
            writer.write(chunk(event))
            await writer.drain()
        writer.write(b"0\r\n\r\n")


@pytest.mark.parametrize("front", ["relay", "nginx"])
@pytest.mark.parametrize("path", FAMILIES, ids=NAMES.get)
async def test_C20_every_event_arrives_before_the_next_is_sent(
    path: str, front: str, house: House, request: pytest.FixtureRequest
) -> None:
    port = house.port if front == "relay" else request.getfixturevalue("nginx_port")
    steps = InStep(FAMILIES[path]([f"{number} 北 " for number in range(60)]))
    house.upstream.script = steps.script
    body = ask_of(path)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{KEY}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    async with asyncio.timeout(LONGEST_S):
        for event in steps.events:
            steps.go_on()
            assert (await reader.readuntil(event)).endswith(event)
        assert (await reader.readuntil(b"0\r\n\r\n")).strip() == b"0"
    writer.close()


@pytest.mark.parametrize("path", FAMILIES, ids=NAMES.get)
async def test_C20_the_sdks_see_every_event_before_the_next_is_sent(path: str, house: House, relayed: Sdks) -> None:
    steps = InStep(FAMILIES[path]([f"{number} " for number in range(20)]))
    house.upstream.script = steps.script
    seen = 0
    async with asyncio.timeout(LONGEST_S):
        steps.go_on()
        async for _event in relayed.stream(path):
            seen += 1
            steps.go_on()
    assert seen == len([event for event in steps.events if event != DONE])
