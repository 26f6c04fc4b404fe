"""Bytes through the relay: what the upstream sends is what the client gets and what the spool holds."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import json
import random
import socket
import zlib
from collections.abc import Callable

import pytest
import zstandard

from capture import records
from capture.settings import Settings
from proxy.worker import Worker
from tests.proxy.scripting import (
    CHAT_ANSWER,
    Received,
    Reply,
    Script,
    Upstream,
    chunk,
    chunked_head,
    http_answer,
    kept,
    read_reply,
    talk,
    until,
)

KEY = "Authorization: Bearer sk-test\r\n"
CHAT = "POST /v1/chat/completions"
ASK = b'{"model": "m",  "messages": [{"role":"user","content":"h\xc3\xa9"}]}'
ASK_STREAM = b'{"model": "m", "stream": true, "messages": []}'
OURS = ("x-potstill-exchange-id", "x-potstill-upstream", "x-potstill-overhead-ms")


def event(text: str) -> bytes:
    return b"data: " + json.dumps({"choices": [{"index": 0, "delta": {"content": text}}]}, ensure_ascii=False).encode() + b"\n\n"


TEXT = "日本語 👩‍👩‍👧 é"
PLAIN = event(TEXT) + event("x") + b"data: [DONE]\n\n"
STREAMS: dict[str, list[bytes]] = {
    "one byte at a time": [PLAIN[at : at + 1] for at in range(len(PLAIN))],
    "many events in one chunk": [PLAIN * 3],
    "split inside a line end": [b"data: 1\r", b"\n\r", b"\ndata: 2\r\n\r\n"],
    "split inside the field name": [b"da", b"ta: 1\n", b"\n"],
    "carriage returns only": [b"data: 1\r\rdata: 2\r\r"],
    "mixed endings": [b"data: 1\n\r\ndata: 2\r\r"],
    "byte order mark": [b"\xef\xbb\xbfdata: 1\n\n"],
    "no space": [b"data:[DONE]\n\n"],
    "several data lines": [b"data: a\ndata: b\n\n"],
    "comments only": [b": ping\n\n", b": ping\n\n"],
    "no final blank line": [b"data: 1\n\ndata: 2"],
    "a line of 900 KB": [b"data: " + b"x" * 900_000 + b"\n\n"],
    "empty data": [b"data:\n\ndata: \n\n"],
    "id and retry": [b"id: 7\nretry: 100\ndata: 1\n\n"],
    "invalid UTF-8": [b"data: \xff\xfe\n\n"],
    "nothing": [],
    "random": [random.Random(7).randbytes(5_000)],
    "unknown events": [b"event: response.surprise\ndata: {}\n\n"],
    "error in band": [b'data: {"error":{"message":"no"}}\n\n'],
}


def stream_of(pieces: list[bytes]) -> Script:
    async def script(_received: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(chunked_head())
        for piece in pieces:
            writer.write(chunk(piece))
            await writer.drain()
            await asyncio.sleep(0)
        writer.write(b"0\r\n\r\n")

    return script


def whole(body: bytes, **arguments: object) -> Script:
    async def script(_received: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(http_answer(body, **arguments))  # type: ignore[arg-type]

    return script


async def test_an_answer_passes_byte_for_byte_and_is_kept(relay: Worker, upstream: Upstream, relay_config: Settings) -> None:
    upstream.script = whole(CHAT_ANSWER, headers={"X-RateLimit-Remaining": "9", "x-request-id": "req_1", "Set-Cookie": "a=1"})
    reply = await talk(relay.port, CHAT, KEY + "User-Agent: me/1\r\n", ASK)
    assert (reply.status, reply.body) == (200, CHAT_ANSWER)
    sent = upstream.received[0]
    assert sent.line == "POST /v1/chat/completions HTTP/1.1"
    assert sent.body == ASK
    assert sent.header("authorization") == "Bearer sk-test"
    assert sent.header("host") == f"127.0.0.1:{upstream.port}"
    theirs = {name.lower(): value for name, value in reply.headers if name.lower() not in (*OURS, "date")}
    assert theirs == {
        "content-type": "application/json",
        "content-length": str(len(CHAT_ANSWER)),
        "x-ratelimit-remaining": "9",
        "x-request-id": "req_1",
        "set-cookie": "a=1",
    }
    (exchange,) = kept(relay_config)
    assert exchange.order == [records.BEGIN, records.HEAD, records.PART, records.END]
    assert exchange.begin is not None
    assert exchange.end is not None
    assert exchange.begin.body == ASK
    assert exchange.body == CHAT_ANSWER
    assert exchange.end.request_sha256 == hashlib.sha256(ASK).hexdigest()
    assert exchange.end.response_sha256 == hashlib.sha256(CHAT_ANSWER).hexdigest()
    assert (exchange.end.state, exchange.end.status, exchange.end.upstream) == ("complete", 200, "openai")
    assert "authorization" not in exchange.begin.request_headers
    assert "sk-test" not in str(exchange)
    assert 0 < float(reply.header("x-potstill-overhead-ms")) < 1_000


@pytest.mark.faults
@pytest.mark.parametrize("name", STREAMS)
async def test_f13_a_stream_passes_byte_for_byte(name: str, relay: Worker, upstream: Upstream, relay_config: Settings) -> None:
    pieces = STREAMS[name]
    upstream.script = stream_of(pieces)
    direct = await talk(upstream.port, CHAT, KEY, ASK_STREAM)
    relayed = await talk(relay.port, CHAT, KEY, ASK_STREAM)
    assert relayed.is_whole
    assert relayed.body == direct.body == b"".join(pieces)
    (exchange,) = kept(relay_config)
    assert exchange.body == relayed.body
    assert exchange.end is not None
    assert exchange.end.response_sha256 == hashlib.sha256(relayed.body).hexdigest()
    assert relayed.header("x-accel-buffering") == "no"


@pytest.mark.faults
async def test_f13_two_hundred_random_streams_pass_byte_for_byte(relay: Worker, upstream: Upstream) -> None:
    generator = random.Random(11)
    alphabet = (b"data: ", b"\n", b"\r", b"\n\n", "北".encode(), b"\xf0\x9f", b"{}", b":", b"event: x", b"\x00")
    scripts: dict[bytes, list[bytes]] = {}

    async def script(received: Received, writer: asyncio.StreamWriter) -> None:
        await stream_of(scripts[received.body])(received, writer)

    upstream.script = script
    for number in range(200):
        pieces = [b"".join(generator.choices(alphabet, k=generator.randint(1, 9))) for _ in range(generator.randint(0, 8))]
        scripts[b'{"n": %d}' % number] = pieces

    async def one(body: bytes) -> None:
        reply = await talk(relay.port, CHAT, KEY, body)
        assert reply.is_whole
        assert reply.body == b"".join(scripts[body])

    bodies = list(scripts)
    for start in range(0, len(bodies), 20):
        await asyncio.gather(*(one(body) for body in bodies[start : start + 20]))


ENCODERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "zstd": zstandard.ZstdCompressor().compress,
    "br": lambda data: b"\x0b\x02\x80" + data,
}


@pytest.mark.parametrize("encoding", ENCODERS)
async def test_an_encoded_answer_keeps_its_bytes_and_its_label(encoding: str, relay: Worker, upstream: Upstream) -> None:
    body = ENCODERS[encoding](CHAT_ANSWER)
    upstream.script = whole(body, headers={"Content-Encoding": encoding})
    reply = await talk(relay.port, CHAT, KEY + f"Accept-Encoding: {encoding}\r\n", ASK)
    assert reply.body == body
    assert reply.header("content-encoding") == encoding


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
async def test_an_encoded_request_passes_untouched(encoding: str, relay: Worker, upstream: Upstream) -> None:
    body = ENCODERS[encoding](ASK)
    await talk(relay.port, CHAT, KEY + f"Content-Encoding: {encoding}\r\n", body)
    assert upstream.received[0].body == body
    assert upstream.received[0].header("content-encoding") == encoding


async def test_a_chunked_request_arrives_whole(relay: Worker, upstream: Upstream) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", relay.port)
    writer.write(f"{CHAT} HTTP/1.1\r\nHost: 127.0.0.1\r\n{KEY}Transfer-Encoding: chunked\r\n\r\n".encode())
    for at in range(0, len(ASK), 7):
        writer.write(chunk(ASK[at : at + 7]))
        await writer.drain()
    writer.write(b"0\r\n\r\n")
    assert (await read_reply(reader)).body == CHAT_ANSWER
    assert upstream.received[0].body == ASK
    writer.close()


@pytest.mark.faults
@pytest.mark.parametrize("status", ["429 Too Many Requests", "500 Oops", "529 Overloaded", "400 Bad Request"])
async def test_f12_an_upstreams_error_passes_verbatim_and_is_not_retried(
    status: str, relay: Worker, upstream: Upstream, relay_config: Settings
) -> None:
    body = b'{"error": {"message": "slow down"}}'
    upstream.script = whole(body, status=status, headers={"retry-after": "7"})
    reply = await talk(relay.port, CHAT, KEY, ASK)
    assert (reply.status, reply.body, reply.header("retry-after")) == (int(status[:3]), body, "7")
    assert len(upstream.received) == 1
    (exchange,) = kept(relay_config)
    assert exchange.end is not None
    assert (exchange.end.state, exchange.end.status) == ("complete", int(status[:3]))


async def test_a_redirect_is_relayed_and_not_followed(relay: Worker, upstream: Upstream) -> None:
    upstream.script = whole(b"", status="307 Temporary Redirect", headers={"Location": "http://169.254.169.254/"})
    reply = await talk(relay.port, CHAT, KEY, ASK)
    assert (reply.status, reply.header("location")) == (307, "http://169.254.169.254/")
    assert len(upstream.received) == 1


async def test_answers_without_a_body_end(relay: Worker, upstream: Upstream, relay_config: Settings) -> None:
    async def script(received: Received, writer: asyncio.StreamWriter) -> None:
        if received.line.startswith("HEAD"):
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n")
        elif received.line.startswith("DELETE"):
            writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        else:
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    upstream.script = script
    head = await talk(relay.port, "HEAD /v1/models", KEY)
    assert (head.status, head.header("content-length")) == (200, "99")
    assert (await talk(relay.port, "DELETE /v1/files/f", KEY)).status == 204
    assert (await talk(relay.port, "GET /v1/models", KEY)).body == b""
    assert [exchange.end.state for exchange in kept(relay_config) if exchange.end] == ["complete"] * 3
    assert upstream.received[2].line == "GET /v1/models HTTP/1.1"


async def test_several_requests_share_a_connection(relay: Worker, upstream: Upstream) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", relay.port)
    for _ in range(3):
        writer.write(f"{CHAT} HTTP/1.1\r\nHost: 127.0.0.1\r\n{KEY}Content-Length: {len(ASK)}\r\n\r\n".encode() + ASK)
        assert (await read_reply(reader)).body == CHAT_ANSWER
    writer.close()


async def test_an_old_client_without_chunks_gets_the_stream_until_the_connection_ends(relay: Worker, upstream: Upstream) -> None:
    upstream.script = stream_of([PLAIN])
    reply = await talk(relay.port, CHAT, KEY, ASK_STREAM, version="1.0")
    assert reply.header("transfer-encoding") == ""
    assert reply.body == PLAIN


async def test_a_client_that_waits_for_100_continue_is_told_to_go_on(relay: Worker, upstream: Upstream) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", relay.port)
    writer.write(
        f"{CHAT} HTTP/1.1\r\nHost: 127.0.0.1\r\n{KEY}Expect: 100-continue\r\nContent-Length: {len(ASK)}\r\n\r\n".encode()
    )
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100")
    writer.write(ASK)
    assert (await read_reply(reader)).body == CHAT_ANSWER
    assert upstream.received[0].header("expect") == ""
    writer.close()


async def test_each_piece_is_relayed_when_it_comes_and_kept_before(
    relay: Worker, upstream: Upstream, relay_config: Settings
) -> None:
    go_on = asyncio.Event()

    async def script(_received: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(chunked_head() + chunk(event("1")))
        await go_on.wait()
        writer.write(chunk(event("2")) + b"0\r\n\r\n")

    upstream.script = script
    reader, writer = await asyncio.open_connection("127.0.0.1", relay.port)
    writer.write(f"{CHAT} HTTP/1.1\r\nHost: 127.0.0.1\r\n{KEY}Content-Length: {len(ASK)}\r\n\r\n".encode() + ASK)
    await asyncio.wait_for(reader.readuntil(event("1")), 5)
    (exchange,) = kept(relay_config)
    assert exchange.body == event("1")
    assert exchange.end is None
    go_on.set()
    await asyncio.wait_for(reader.readuntil(b"0\r\n\r\n"), 5)
    writer.close()


async def test_the_question_is_kept_before_the_upstream_sees_it(
    relay: Worker, upstream: Upstream, relay_config: Settings
) -> None:
    seen: list[bytes] = []

    async def script(_received: Received, writer: asyncio.StreamWriter) -> None:
        seen.extend(exchange.begin.body for exchange in kept(relay_config) if exchange.begin is not None)
        writer.write(http_answer(CHAT_ANSWER))

    upstream.script = script
    await talk(relay.port, CHAT, KEY, ASK)
    assert seen == [ASK]


@pytest.mark.parametrize("kind", ["chunked", "late terminator", "length", "empty", "refused"])
async def test_the_end_is_kept_before_the_last_byte_leaves(kind: str, relay: Worker, upstream: Upstream) -> None:
    """Looks, at the moment of END, at what the client's socket holds: loopback delivers at once, so nothing hides."""
    answers = {"length": http_answer(CHAT_ANSWER), "empty": http_answer(b"")}

    async def script(_received: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(answers.get(kind, chunked_head() + chunk(event("1"))))
        if kind == "chunked":
            await asyncio.sleep(0.05)
            writer.write(chunk(event("2")) + b"0\r\n\r\n")
        if kind == "late terminator":
            await asyncio.sleep(0.05)
            writer.write(b"0\r\n\r\n")

    upstream.script = script
    seen: list[bytes] = []
    client = socket.create_connection(("127.0.0.1", relay.port))
    spool = relay._relay.spool
    end = spool.end

    answer = spool.answer

    def look() -> None:
        client.setblocking(False)
        try:
            seen.append(client.recv(65_536, socket.MSG_PEEK))
        except BlockingIOError:
            seen.append(b"")

    def watched_end(raw_id: bytes, record: records.End) -> bool:
        is_kept = end(raw_id, record)
        look()
        return is_kept

    def watched_answer(raw_id: bytes, head: records.Head, body: bytes, record: records.End) -> bool:
        is_kept = answer(raw_id, head, body, record)
        look()
        return is_kept

    spool.end = watched_end  # type: ignore[method-assign]
    spool.answer = watched_answer  # type: ignore[method-assign]
    key = "" if kind == "refused" else KEY
    client.sendall(f"{CHAT} HTTP/1.1\r\nHost: 127.0.0.1\r\n{key}Content-Length: {len(ASK)}\r\n\r\n".encode() + ASK)
    await until(lambda: seen)
    assert not seen[0].endswith((b"0\r\n\r\n", CHAT_ANSWER, b"}"))
    if kind not in ("chunked", "late terminator"):
        assert seen[0] == b""
    client.close()


@pytest.mark.faults
@pytest.mark.parametrize("at", [*range(0, 60, 7), len(PLAIN) - 1])
async def test_f11_a_stream_that_breaks_off_is_never_taken_for_whole(
    at: int, relay: Worker, upstream: Upstream, relay_config: Settings
) -> None:
    async def script(_received: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(chunked_head() + chunk(PLAIN)[:at])
        await writer.drain()
        writer.transport.close()

    upstream.script = script
    reply = await talk(relay.port, CHAT, KEY, ASK_STREAM)
    assert not reply.is_whole
    (exchange,) = kept(relay_config)
    assert exchange.end is not None
    assert (exchange.end.state, exchange.end.error_kind) == ("upstream_aborted", "upstream_aborted")
    assert exchange.body == reply.body
    assert b"[DONE]" not in reply.body or at > len(PLAIN) - 10


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/v1/chat/completions", b'data: {"error":{"message":"Upstream openai broke off'),
        ("/v1/messages", b'event: error\ndata: {"type":"error"'),
        ("/v1/responses", b"event: response.failed\n"),
    ],
)
async def test_a_break_between_events_is_explained_in_the_clients_words(
    path: str, words: bytes, relay: Worker, upstream: Upstream
) -> None:
    async def script(_received: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(chunked_head() + chunk(event("1")))
        await writer.drain()
        writer.transport.abort()

    upstream.script = script
    reply = await talk(relay.port, f"POST {path}", KEY, ASK_STREAM)
    assert not reply.is_whole
    assert reply.body.removeprefix(event("1")).startswith(words)


async def test_a_break_inside_an_event_or_an_encoded_stream_adds_nothing(relay: Worker, upstream: Upstream) -> None:
    half = event("1")[:-4]
    for head, data in ((chunked_head(), half), (chunked_head(extra="Content-Encoding: gzip\r\n"), gzip.compress(event("1")))):

        async def script(_received: Received, writer: asyncio.StreamWriter, head: bytes = head, data: bytes = data) -> None:
            writer.write(head + chunk(data))
            await writer.drain()
            writer.transport.abort()

        upstream.script = script
        reply: Reply = await talk(relay.port, CHAT, KEY, ASK_STREAM)
        assert not reply.is_whole
        assert reply.body == data


async def test_what_came_before_a_break_reaches_a_client_that_was_slow(relay: Worker, upstream: Upstream) -> None:
    async def script(_received: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(chunked_head() + chunk(event("1")))
        await asyncio.sleep(0.05)
        writer.write(chunk(event("2")))
        await writer.drain()
        writer.transport.close()

    upstream.script = script
    reply = await talk(relay.port, CHAT, KEY, ASK_STREAM)
    assert reply.body.startswith(event("1") + event("2"))
    assert not reply.is_whole


async def test_an_old_client_is_told_of_a_break_by_a_reset(relay: Worker, upstream: Upstream) -> None:
    async def script(_received: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(chunked_head() + chunk(event("1")))
        await writer.drain()
        await asyncio.sleep(0.05)
        writer.transport.abort()

    upstream.script = script
    assert not (await talk(relay.port, CHAT, KEY, ASK_STREAM, version="1.0")).is_whole


async def test_a_client_that_leaves_is_no_error_in_the_log(
    relay: Worker, upstream: Upstream, caplog: pytest.LogCaptureFixture
) -> None:
    async def script(_received: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(chunked_head())
        for _ in range(100):
            writer.write(chunk(bytes(60_000)))
            await writer.drain()

    upstream.script = script
    for _ in range(5):
        reader, writer = await asyncio.open_connection("127.0.0.1", relay.port)
        writer.write(f"{CHAT} HTTP/1.1\r\nHost: 127.0.0.1\r\n{KEY}Content-Length: {len(ASK)}\r\n\r\n".encode() + ASK)
        await reader.readexactly(100_000)
        writer.transport.abort()
    await until(lambda: relay.status()["in_flight"] == 0)
    assert [record.getMessage() for record in caplog.records if record.name.startswith(("aiohttp", "proxy"))] == []


async def test_a_short_body_is_not_taken_for_whole(relay: Worker, upstream: Upstream, relay_config: Settings) -> None:
    async def script(_received: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(http_answer(CHAT_ANSWER)[:-5])
        await writer.drain()
        writer.transport.close()

    upstream.script = script
    reply = await talk(relay.port, CHAT, KEY, ASK)
    assert not reply.is_whole
    assert reply.body == CHAT_ANSWER[:-5]
    (exchange,) = kept(relay_config)
    assert exchange.end is not None
    assert exchange.end.state == "upstream_aborted"


async def test_the_body_of_an_answer_to_head_and_a_switch_of_protocols_reach_nobody(relay: Worker, upstream: Upstream) -> None:
    async def script(received: Received, writer: asyncio.StreamWriter) -> None:
        is_head = received.line.startswith("HEAD")
        writer.write(http_answer(CHAT_ANSWER) if is_head else b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\nhello")

    upstream.script = script
    reader, writer = await asyncio.open_connection("127.0.0.1", relay.port)
    writer.write(f"HEAD /v1/models HTTP/1.1\r\nHost: 127.0.0.1\r\n{KEY}\r\n".encode())
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ")
    writer.write(f"GET /v1/models HTTP/1.1\r\nHost: 127.0.0.1\r\n{KEY}\r\n".encode())
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 502 ")
    writer.close()
