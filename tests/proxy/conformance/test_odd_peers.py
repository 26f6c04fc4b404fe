"""Upstreams and clients that HTTP allows, or that do what it forbids: no answer is mixed with another, and none is lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.proxy.conformance import house as houses
from tests.proxy.conformance.dialects import chat
from tests.proxy.conformance.house import KEY, LONGEST_S, House, ask_of, compared, streaming, whole
from tests.proxy.conformance.sdks import CHAT
from tests.proxy.scripting import CHAT_ANSWER, Received, Script, chunk, chunked_head, http_answer, read_reply

pytestmark = [pytest.mark.conformance, pytest.mark.asyncio(loop_scope="session")]

ASK = b'{"model": "m-1",  "messages": [{"role":"user","content":"hi"}]}'
FORGED = http_answer(b'{"forged":true}')


def sends(*packets: bytes) -> Script:
    """An upstream that sends these packets, one after the other."""

    async def script(_received: Received, writer: asyncio.StreamWriter) -> None:
        for packet in packets:
            writer.write(packet)
            await writer.drain()
            await asyncio.sleep(0)

    return script


def each_byte(wire: bytes) -> list[bytes]:
    return [wire[at : at + 1] for at in range(len(wire))]


UNUSUAL: dict[str, tuple[Script, int, bytes]] = {
    "a head in single bytes": (sends(*each_byte(http_answer(CHAT_ANSWER))), 200, CHAT_ANSWER),
    "an interim 100": (sends(b"HTTP/1.1 100 Continue\r\n\r\n", http_answer(CHAT_ANSWER)), 200, CHAT_ANSWER),
    "early hints": (
        sends(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n" + http_answer(CHAT_ANSWER)),
        200,
        CHAT_ANSWER,
    ),
    "an offer to upgrade": (
        sends(http_answer(CHAT_ANSWER, headers={"Upgrade": "h2,h2c", "Connection": "Upgrade, keep-alive"})),
        200,
        CHAT_ANSWER,
    ),
    "no reason": (sends(http_answer(CHAT_ANSWER, status="200 ")), 200, CHAT_ANSWER),
    "a status that nobody knows": (sends(http_answer(CHAT_ANSWER, status="299 Odd")), 299, CHAT_ANSWER),
    "an empty chunked body": (sends(chunked_head(), b"0\r\n\r\n"), 200, b""),
    "a chunk size with zeros and capitals": (
        sends(chunked_head() + b"0000%X\r\n" % len(CHAT_ANSWER) + CHAT_ANSWER + b"\r\n0\r\n\r\n"),
        200,
        CHAT_ANSWER,
    ),
    "framing in single bytes": (sends(*each_byte(chunked_head() + chunk(b"ab") + b"0\r\nx: y\r\n\r\n")), 200, b"ab"),
    "a 204 with a length of nothing": (sends(http_answer(b"", status="204 No Content")), 204, b""),
    "a 304 with the length of what is not sent": (
        sends(b"HTTP/1.1 304 Not Modified\r\nContent-Length: 99\r\n\r\n"), 304, b"",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", UNUSUAL)
async def test_an_unusual_answer_passes_and_so_does_the_next(name: str, house: House) -> None:
    script, status, body = UNUSUAL[name]
    for _ in range(3):
        house.upstream.script = script
        reply = await house.ask(f"POST {CHAT}", KEY, ASK)
        assert (reply.status, reply.body, reply.is_whole) == (status, body, True)
        assert reply.header("link") == ""
        assert (await house.stored_of(reply)).exchange.status == status
        house.upstream.script = whole(CHAT_ANSWER)
        assert (await house.ask(f"POST {CHAT}", KEY, ASK)).body == CHAT_ANSWER


MIXED = {
    "two answers in one packet": sends(http_answer(CHAT_ANSWER) + FORGED),
    "a second answer afterwards": sends(http_answer(CHAT_ANSWER), FORGED),
    "a second answer after a stream": sends(chunked_head() + chunk(CHAT_ANSWER) + b"0\r\n\r\n" + FORGED),
    "bytes beyond the length": sends(http_answer(CHAT_ANSWER) + b"more"),
}


@pytest.mark.parametrize("name", MIXED)
async def test_what_nobody_asked_for_reaches_nobody(name: str, house: House) -> None:
    for _ in range(5):
        house.upstream.script = MIXED[name]
        reply = await house.ask(f"POST {CHAT}", KEY, ASK)
        assert (reply.status, reply.body) == (200, CHAT_ANSWER)
        assert (await house.stored_of(reply)).exchange.state == "complete"
        house.upstream.script = whole(b'{"mine":1}')
        assert (await house.ask("GET /v1/models", KEY)).body == b'{"mine":1}'


async def test_an_answer_without_a_body_that_brings_one_spoils_no_other(house: House) -> None:
    house.upstream.script = sends(b"HTTP/1.1 204 No Content\r\nContent-Length: 4\r\n\r\nabcd")
    reader, writer = await asyncio.open_connection("127.0.0.1", house.port)
    head = f"Host: 127.0.0.1\r\n{KEY}"
    async with asyncio.timeout(LONGEST_S):
        writer.write(f"DELETE /v1/files/f HTTP/1.1\r\n{head}\r\n".encode())
        first = await read_reply(reader)
    writer.close()
    assert first.status in (204, 502)
    house.upstream.script = whole(CHAT_ANSWER)
    assert (await house.ask(f"POST {CHAT}", KEY, ASK)).body == CHAT_ANSWER


@pytest.mark.parametrize("framing", ["Content-Length: 7\r\n", "Transfer-Encoding: chunked\r\n"], ids=["length", "chunked"])
async def test_a_head_alone_is_not_waited_upon_for_its_body(framing: str, house: House) -> None:
    house.upstream.script = sends(f"HTTP/1.1 200 OK\r\n{framing}\r\n".encode())
    for _ in range(3):
        assert (await house.ask("HEAD /v1/models", KEY)).status == 200


@asynccontextmanager
async def refusing_early(answer: bytes) -> AsyncIterator[int]:
    """An upstream that answers each head at once and never reads the body that follows on that connection."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        writer.write(answer)
        await is_over.wait()
        writer.transport.abort()

    is_over = asyncio.Event()
    server = await asyncio.start_server(serve, "127.0.0.1", 0, limit=2**12)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        is_over.set()
        server.close()


async def test_an_answer_before_the_whole_request_was_read_passes_and_its_connection_is_not_used_again(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    refusal = http_answer(b'{"error":{"message":"too large"}}', status="413 Content Too Large")
    async with refusing_early(refusal) as port:
        more = f'[upstreams.early]\nurl = "http://127.0.0.1:{port}/v1"\n'
        async with houses.house(tmp_path_factory.mktemp("early"), more) as own:
            for size in (30_000_000, 30_000_000, 30_000_000, 100):
                reply = await own.ask("POST /upstream/early/v1/chat/completions", KEY, bytes(size))
                assert (reply.status, reply.is_whole) == (413, True)
                assert reply.body == b'{"error":{"message":"too large"}}'


async def test_an_upstream_that_closes_without_saying_so_is_dialled_again(house: House) -> None:
    closed = asyncio.Event()

    async def script(_received: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(http_answer(CHAT_ANSWER))
        await writer.drain()
        writer.close()
        await writer.wait_closed()
        closed.set()

    house.upstream.script = script
    for _ in range(10):
        closed.clear()
        reply = await house.ask(f"POST {CHAT}", KEY, ASK)
        assert (reply.status, reply.body) == (200, CHAT_ANSWER)
        await asyncio.wait_for(closed.wait(), LONGEST_S)


async def test_requests_sent_without_waiting_are_answered_in_their_order(house: House) -> None:
    async def script(received: Received, writer: asyncio.StreamWriter) -> None:
        if received.body.endswith(b"0"):
            await streaming(chat(["a", "b"]))(received, writer)
        else:
            writer.write(http_answer(received.body * 1_000))

    house.upstream.script = script
    bodies = [b"request 0", b"request 1", b"", b"request 3", b"request 4" * 20_000, b"again 0"]
    reader, writer = await asyncio.open_connection("127.0.0.1", house.port, limit=2**28)
    heads = [f"POST {CHAT} HTTP/1.1\r\nHost: 127.0.0.1\r\n{KEY}Content-Length: {len(body)}\r\n\r\n".encode() for body in bodies]
    writer.write(b"".join(head + body for head, body in zip(heads, bodies, strict=True)))
    async with asyncio.timeout(LONGEST_S):
        replies = [await read_reply(reader) for _ in bodies]
    writer.close()
    streamed = b"".join(chat(["a", "b"]))
    assert [reply.body for reply in replies] == [streamed, *(body * 1_000 for body in bodies[1:-1]), streamed]
    assert [received.body for received in house.upstream.received] == bodies


async def test_a_request_in_single_bytes_arrives_whole(house: House) -> None:
    framings = (
        f"Content-Length: {len(ASK)}\r\n\r\n".encode() + ASK,
        b"Transfer-Encoding: chunked\r\n\r\n" + chunk(ASK) + b"0\r\n\r\n",
    )
    for rest in framings:
        reader, writer = await asyncio.open_connection("127.0.0.1", house.port)
        for at, byte in enumerate(f"POST {CHAT} HTTP/1.1\r\nHost: 127.0.0.1\r\n{KEY}".encode() + rest):
            writer.write(bytes([byte]))
            if at % 8 == 0:
                await asyncio.sleep(0)
        async with asyncio.timeout(LONGEST_S):
            assert (await read_reply(reader)).body == CHAT_ANSWER
        writer.close()
    assert [received.body for received in house.upstream.received] == [ASK, ASK]


async def test_a_large_body_arrives_whole_at_an_upstream_that_is_slow_to_read(house: House) -> None:
    body = b'{"model":"m-1","messages":[],"x":"' + b"0123456789" * 5_000_000 + b'"}'
    found = await compared(house, CHAT, whole(CHAT_ANSWER), body)
    assert (found.exchange.state, found.exchange.model_asked) == ("complete", "m-1")


@pytest.mark.parametrize("target", ["http://127.0.0.1/v1/chat/completions", "//v1/chat/completions", "/v1/v1/chat/completions"])
async def test_other_spellings_of_a_path_lead_to_the_same_place(target: str, house: House) -> None:
    reply = await house.ask(f"POST {target}", KEY, ask_of(CHAT))
    assert (reply.status, reply.body) == (200, CHAT_ANSWER)
    assert house.upstream.received[0].line == f"POST {CHAT} HTTP/1.1"
