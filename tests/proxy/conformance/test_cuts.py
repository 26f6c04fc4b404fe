"""C68: an answer that is cut, at whatever byte and however, is never stored as complete, nor does a client take it for whole."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections.abc import Iterator

import pytest

from tests.proxy.conformance.dialects import FAMILIES, delta, ended, numbered, response, started
from tests.proxy.conformance.house import KEY, House, ask_of
from tests.proxy.conformance.sdks import CHAT, MESSAGES, RESPONSES, Sdks
from tests.proxy.scripting import CHAT_ANSWER, Received, Reply, Script, chunk, chunked_head, http_answer

pytestmark = [pytest.mark.conformance, pytest.mark.asyncio(loop_scope="session")]

AT_ONCE = 16
NAMES = {CHAT: "chat", MESSAGES: "messages", RESPONSES: "responses"}
SHORT: dict[str, list[bytes]] = {
    CHAT: [delta(content="北"), delta(0, "stop"), b"data: [DONE]\n\n"],
    MESSAGES: [started(), *ended()],
    RESPONSES: numbered(
        [
            ("response.created", {"response": {"id": "r", "status": "in_progress"}}),
            ("response.completed", {"response": {"id": "r", "status": "completed", "output": []}}),
        ]
    ),
}
"""Short streams of each family: every byte of them is a place to cut."""

EMBEDDING = b'{"object":"list","data":[{"object":"embedding","index":0,"embedding":[0.5]}],"usage":{"prompt_tokens":1}}'
WHOLE: dict[str, bytes] = {
    "/v1/chat/completions": CHAT_ANSWER,
    "/v1/embeddings": EMBEDDING,
    "/v1/audio/transcriptions": b'{"text":"hello"}',
    "/v1/messages": b'{"type":"message","role":"assistant","content":[{"type":"text","text":"a"}],"stop_reason":"end_turn"}',
    "/v1/responses": json.dumps(response("completed")).encode(),
}


def cut(wire: bytes, at: int, *, is_reset: bool) -> Script:
    """Sends the first `at` bytes of an answer, then closes or resets the connection."""

    async def script(_received: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(wire[:at])
        await writer.drain()
        if is_reset:
            found: socket.socket = writer.get_extra_info("socket")
            found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.close()

    return script


async def asked_at_every(house: House, path: str, wire: bytes, request: bytes, *, is_reset: bool) -> list[tuple[int, Reply]]:
    """The replies to `wire` cut at each byte, as far as there was a reply."""
    ends = range(len(wire))

    async def by_number(received: Received, writer: asyncio.StreamWriter) -> None:
        await cut(wire, int(received.header("x-cut")), is_reset=is_reset)(received, writer)

    house.upstream.script = by_number
    turns = asyncio.Semaphore(AT_ONCE)

    async def one(at: int) -> tuple[int, Reply]:
        async with turns:
            return at, await house.ask(f"POST {path}", KEY + f"x-cut: {at}\r\n", request)

    return list(await asyncio.gather(*(one(at) for at in ends)))


async def check(house: House, found: list[tuple[int, Reply]], wire: bytes) -> None:
    """No reply was taken for whole by client or store; each that began is stored with what of it arrived."""
    body_at = wire.index(b"\r\n\r\n") + 4
    for at, reply in found:
        assert not reply.is_whole or reply.status == 502, at
        assert at >= body_at or reply.status == 502, at
        stored = await house.stored_of(reply)
        assert stored.exchange.state != "complete", at
        assert stored.exchange.is_success is False


@pytest.mark.parametrize("is_reset", [False, True], ids=["closed", "reset"])
@pytest.mark.parametrize("path", SHORT, ids=NAMES.get)
async def test_C68_a_stream_cut_at_any_byte_is_never_complete(path: str, is_reset: bool, house: House) -> None:
    wire = chunked_head() + b"".join(chunk(event) for event in SHORT[path]) + b"0\r\n\r\n"
    found = await asked_at_every(house, path, wire, ask_of(path), is_reset=is_reset)
    await check(house, found, wire)


@pytest.mark.parametrize("path", WHOLE)
async def test_C68_a_whole_answer_cut_at_any_byte_is_never_complete(path: str, house: House) -> None:
    wire = http_answer(WHOLE[path])
    found = await asked_at_every(house, path, wire, b'{"model":"m-1"}', is_reset=False)
    await check(house, found, wire)


@pytest.mark.parametrize("path", SHORT, ids=NAMES.get)
async def test_C68_a_stream_without_any_framing_is_complete_only_with_its_last_event(path: str, house: House) -> None:
    """Its end is the connection's end, so only the events tell."""
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
    wire = head + b"".join(SHORT[path])
    last = {CHAT: b'"finish_reason":"stop"}]}', MESSAGES: b'{"type":"message_stop"}', RESPONSES: b'"output":[]}}'}[path]
    is_over = wire.index(last) + len(last)
    for at, reply in await asked_at_every(house, path, wire, ask_of(path), is_reset=False):
        stored = await house.stored_of(reply)
        assert stored.exchange.state != "complete" or at >= is_over, at
    house.upstream.script = cut(wire, len(wire), is_reset=False)
    assert (await house.stored_of(await house.ask(f"POST {path}", KEY, ask_of(path)))).exchange.state == "complete"


def places() -> Iterator[tuple[str, int]]:
    """Cuts between events and inside them, for each family."""
    for path, events in FAMILIES.items():
        size = len(b"".join(events(["a", "b"])))
        yield from ((path, at) for at in (0, size // 3, size // 2, len(events(["a", "b"])[0]), size - 1))


@pytest.mark.parametrize(("path", "at"), [pytest.param(path, at, id=f"{NAMES[path]}-{at}") for path, at in places()])
async def test_C68_the_sdks_are_told_of_a_cut(path: str, at: int, house: House, relayed: Sdks) -> None:
    house.upstream.script = cut(chunked_head() + chunk(b"".join(FAMILIES[path](["a", "b"])))[: at + 5], 10**6, is_reset=False)
    events, error = await relayed.said(path)
    assert error or not _is_over(path, events)


def _is_over(path: str, events: list[str]) -> bool:
    marks = {CHAT: '"finish_reason":"stop"', MESSAGES: '"message_stop"', RESPONSES: '"response.completed"'}
    return any(marks[path] in event for event in events)
