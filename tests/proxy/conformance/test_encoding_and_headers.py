"""C58-C66: encodings, headers and framing: what belongs to the ends passes unchanged, what belongs to a hop stays there."""

from __future__ import annotations

import asyncio
import gzip
import json
import zlib
from collections.abc import Callable, Iterator
from hashlib import sha256

import brotli
import pytest
import zstandard

from tests.proxy.conformance.dialects import chat
from tests.proxy.conformance.house import KEY, LONGEST_S, House, ask_of, compared, streaming, whole
from tests.proxy.conformance.sdks import ASKED, CHAT, Sdks
from tests.proxy.scripting import CHAT_ANSWER, Received, Reply, chunk, chunked_head, read_reply, talk

pytestmark = [pytest.mark.conformance, pytest.mark.asyncio(loop_scope="session")]

TEXTS = ["日本語 ", "👩‍👩‍👧"]
ASK = b'{"model": "m-1",  "messages": [{"role":"user","content":"h\xc3\xa9"}]}'
PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "br": brotli.compress,
    "deflate": zlib.compress,
    "zstd": zstandard.ZstdCompressor().compress,
    "identity": bytes,
}
MIB = 2**20


@pytest.mark.parametrize("encoding", PACKERS)
@pytest.mark.parametrize("is_stream", [False, True], ids=["whole", "stream"])
async def test_C58_an_encoded_answer_keeps_its_bytes_and_its_label_and_is_understood(
    is_stream: bool, encoding: str, house: House, direct: Sdks, relayed: Sdks
) -> None:
    packed = PACKERS[encoding](b"".join(chat(TEXTS)) if is_stream else CHAT_ANSWER)
    pieces = [packed[:7], packed[7:8], packed[8:]]
    head = chunked_head("text/event-stream" if is_stream else "application/json", f"Content-Encoding: {encoding}\r\n")
    found = await compared(
        house, CHAT, streaming(pieces, head), ask_of(CHAT) if is_stream else ASK, KEY + f"Accept-Encoding: {encoding}\r\n"
    )
    assert house.upstream.received[-1].header("accept-encoding") == encoding
    assert found.content.response_headers["content-encoding"] == encoding
    assert found.exchange.state == "complete"
    assert found.answer == ("".join(TEXTS) if is_stream else "billing")
    if is_stream:
        assert await relayed.said(CHAT) == await direct.said(CHAT)


async def test_C58_an_upstream_is_offered_no_encoding_that_the_store_cannot_undo(house: House) -> None:
    headers = KEY + "Accept-Encoding: compress, dcb, gzip;q=0.5, br\r\n"
    assert (await house.ask(f"POST {CHAT}", headers, ASK)).status == 200
    assert house.upstream.received[0].header("accept-encoding") == "gzip;q=0.5, br"


def flushed() -> Iterator[bytes]:
    """The events of a chat, each flushed out of the compressor by itself."""
    packer = zlib.compressobj(wbits=31)
    for number in range(40):
        yield packer.compress(chat([f"{number} 北 "])[1]) + packer.flush(zlib.Z_SYNC_FLUSH)
    yield packer.compress(chat([])[-1]) + packer.flush(zlib.Z_FINISH)


@pytest.mark.parametrize("front", ["relay", "nginx"])
async def test_C59_an_encoded_stream_is_not_held_back(front: str, house: House, request: pytest.FixtureRequest) -> None:
    port = house.port if front == "relay" else request.getfixturevalue("nginx_port")
    may_send = asyncio.Semaphore(0)

    async def script(_received: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(chunked_head(extra="Content-Encoding: gzip\r\n"))
        for piece in flushed():
            await may_send.acquire()
            writer.write(chunk(piece))
            await writer.drain()
        writer.write(b"0\r\n\r\n")

    house.upstream.script = script
    body = ask_of(CHAT)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    lines = f"POST {CHAT} HTTP/1.1\r\nHost: 127.0.0.1\r\n{KEY}Accept-Encoding: gzip\r\nContent-Length: {len(body)}\r\n\r\n"
    writer.write(lines.encode() + body)
    async with asyncio.timeout(LONGEST_S):
        for piece in flushed():
            may_send.release()
            await reader.readuntil(piece)
    writer.close()


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
async def test_C60_an_encoded_request_passes_untouched_and_is_understood(encoding: str, house: House) -> None:
    headers = KEY + f"Content-Encoding: {encoding}\r\n"
    found = await compared(house, CHAT, whole(CHAT_ANSWER), PACKERS[encoding](ASK), headers)
    assert house.upstream.received[-1].header("content-encoding") == encoding
    assert [message.text for message in found.conversation.asked] == ["hé"]


def bomb() -> bytes:
    """A small body that stands for 192 MiB of JSON."""
    packer = zlib.compressobj(9, wbits=31)
    filler = b" " * MIB
    parts = [packer.compress(ASK[:1]), *(packer.compress(filler) for _ in range(192)), packer.compress(ASK[1:]), packer.flush()]
    return b"".join(parts)


@pytest.mark.parametrize("side", ["request", "response"])
async def test_C60_a_bomb_passes_and_the_store_goes_on(side: str, house: House) -> None:
    """What a body hides beyond the limit cannot be searched for secrets: the store may leave it out, and must say so."""
    packed = bomb()
    assert len(packed) < MIB
    request, answer = (packed, CHAT_ANSWER) if side == "request" else (ASK, packed)
    house.upstream.script = whole(answer, **({} if side == "request" else {"Content_Encoding": "gzip"}))
    encodings = "Content-Encoding: gzip\r\n" if side == "request" else "Accept-Encoding: gzip\r\n"
    reply = await house.ask(f"POST {CHAT}", KEY + encodings, request)
    assert (reply.status, reply.body) == (200, answer)
    assert house.upstream.received[0].body == request
    found = await house.stored(reply.header("x-potstill-exchange-id"))
    assert found.content.request_sha256 == sha256(request).hexdigest()
    assert found.content.response_sha256 == sha256(answer).hexdigest()
    assert found.exchange.error_kind == "parse_error" or found.exchange.state == "truncated"
    assert (await compared(house, CHAT, whole(CHAT_ANSWER), ASK)).answer == "billing"


OF_THE_HOP = {
    "Connection": "keep-alive, X-Foo",
    "X-Foo": "1",
    "Keep-Alive": "timeout=5",
    "Proxy-Connection": "keep-alive",
    "Proxy-Authorization": "Basic eDp5",
    "Proxy-Authenticate": "Basic",
    "TE": "trailers",
    "Trailer": "x-sum",
}
OF_THE_ENDS = {
    "OpenAI-Organization": "org-1",
    "OpenAI-Beta": "assistants=v2",
    "X-Request-Id": "req_1",
    "X-RateLimit-Remaining-Tokens": "9",
    "anthropic-ratelimit-requests-remaining": "3",
    "Idempotency-Key": "k-1",
    "X-Stainless-Lang": "python",
    "retry-after-ms": "20",
    "X-Custom": "café".encode().decode("latin-1"),
}


def lines(*headers: dict[str, str]) -> str:
    return "".join(f"{name}: {value}\r\n" for each in headers for name, value in each.items())


async def test_C61_headers_of_the_hop_stay_there_both_ways(house: House) -> None:
    async def script(_received: Received, writer: asyncio.StreamWriter) -> None:
        given = lines(OF_THE_HOP, OF_THE_ENDS, {"Upgrade": "h2c", "x-potstill-variant": "candidate"})
        writer.write(f"HTTP/1.1 200 OK\r\n{given}Content-Length: 2\r\n\r\n{{}}".encode("latin-1"))

    house.upstream.script = script
    forwarded = {"X-Forwarded-For": "10.0.0.1", "Forwarded": "for=10.0.0.1", "Via": "1.1 x", "x-potstill-task": "t-1"}
    asked = lines(OF_THE_HOP, OF_THE_ENDS, forwarded).encode("latin-1").decode()
    reply = await house.ask(f"POST {CHAT}", KEY + asked, ASK)
    assert (reply.status, reply.body) == (200, b"{}")
    for headers in (house.upstream.received[0].headers, reply.headers):
        found = {name.lower(): value for name, value in headers}
        assert sorted(set(found) & {name.lower() for name in OF_THE_HOP} - {"connection"}) == []
        assert "x-foo" not in found.get("connection", "").lower()
        assert {name: found.get(name.lower()) for name in OF_THE_ENDS} == OF_THE_ENDS
    sent = {name.lower() for name, _ in house.upstream.received[0].headers}
    assert sorted(sent & {"x-forwarded-for", "forwarded", "via", "x-potstill-task"}) == []
    assert reply.header("upgrade") == reply.header("x-potstill-variant") == ""


async def test_C61_an_offer_of_another_protocol_is_passed_over(house: House) -> None:
    offer = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n"
    reply = await house.ask(f"POST {CHAT}", KEY + offer, ASK)
    assert (reply.status, reply.body) == (200, CHAT_ANSWER)
    sent = house.upstream.received[0]
    assert sent.body == ASK
    assert sent.header("upgrade") == sent.header("http2-settings") == ""


async def test_C62_an_answer_with_both_framings_is_passed_on_with_one_or_refused(house: House) -> None:
    async def script(_received: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(chunked_head("application/json", "Content-Length: 7\r\n") + chunk(CHAT_ANSWER) + b"0\r\n\r\n")

    house.upstream.script = script
    reply = await house.ask(f"POST {CHAT}", KEY, ASK)
    assert not (reply.header("content-length") and reply.header("transfer-encoding"))
    assert reply.is_whole
    assert (reply.status, reply.body) == (200, CHAT_ANSWER) or (reply.status == 502 and "error" in json.loads(reply.body))


TWO_LENGTHS = f"Content-Length: {len(ASK)}\r\nContent-Length: {len(ASK) + 1}\r\n"


@pytest.mark.parametrize(
    "framing",
    [
        f"Content-Length: {len(ASK)}\r\nTransfer-Encoding: chunked\r\n",
        f"Transfer-Encoding: chunked\r\nContent-Length: {len(ASK)}\r\n",
        TWO_LENGTHS,
        "Content-Length: +5\r\n",
        "Transfer-Encoding: chunked, identity\r\n",
    ],
    ids=["length and chunked", "chunked and length", "two lengths", "signed length", "chunked is not last"],
)
async def test_C62_a_request_with_two_framings_is_refused_and_reaches_nobody(framing: str, house: House) -> None:
    smuggled = b"0\r\n\r\nGET /v1/models HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer x\r\n\r\n"
    reader, writer = await asyncio.open_connection("127.0.0.1", house.port)
    writer.write(f"POST {CHAT} HTTP/1.1\r\nHost: 127.0.0.1\r\n{KEY}{framing}\r\n".encode() + smuggled)
    async with asyncio.timeout(LONGEST_S):
        told = await reader.read()
    assert told.startswith((b"HTTP/1.1 400 ", b"HTTP/1.0 400 "))
    assert told.count(b"HTTP/1.") == 1
    assert house.upstream.received == []
    writer.close()


@pytest.mark.parametrize("is_chunked", [False, True], ids=["length", "chunked"])
async def test_C62_a_request_goes_up_with_one_framing(is_chunked: bool, house: House) -> None:
    body = chunk(ASK[:9]) + chunk(ASK[9:]) + b"0\r\n\r\n" if is_chunked else ASK
    framing = "Transfer-Encoding: chunked\r\n" if is_chunked else f"Content-Length: {len(ASK)}\r\n"
    reader, writer = await asyncio.open_connection("127.0.0.1", house.port)
    writer.write(f"POST {CHAT} HTTP/1.1\r\nHost: 127.0.0.1\r\n{KEY}{framing}\r\n".encode() + body)
    async with asyncio.timeout(LONGEST_S):
        assert (await read_reply(reader)).body == CHAT_ANSWER
    sent = house.upstream.received[0]
    assert sent.body == ASK
    assert len([name for name, _ in sent.headers if name.lower() in ("content-length", "transfer-encoding")]) == 1
    writer.close()


async def without_body(received: Received, writer: asyncio.StreamWriter) -> None:
    answers = {
        "HEAD": b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\nETag: a\r\n\r\n",
        "OPTIONS": b"HTTP/1.1 204 No Content\r\nAllow: GET, POST\r\n\r\n",
        "DELETE": b"HTTP/1.1 204 No Content\r\n\r\n",
        "GET": b'HTTP/1.1 304 Not Modified\r\nETag: "a"\r\n\r\n',
        "PUT": b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    }
    writer.write(answers.get(received.line.split()[0], b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"))


@pytest.mark.parametrize(
    ("method", "status", "told"),
    [("HEAD", 200, "etag"), ("OPTIONS", 204, "allow"), ("DELETE", 204, ""), ("GET", 304, "etag"), ("PUT", 200, "")],
)
async def test_C63_an_answer_without_a_body_ends_and_leaves_the_connection_usable(
    method: str, status: int, told: str, house: House
) -> None:
    house.upstream.script = without_body
    reader, writer = await asyncio.open_connection("127.0.0.1", house.port)
    request = f"Host: 127.0.0.1\r\n{KEY}\r\n"
    async with asyncio.timeout(LONGEST_S):
        writer.write(f"{method} /v1/files/f HTTP/1.1\r\n{request}".encode())
        first: Reply = await read_reply(reader, has_body=method != "HEAD")
        writer.write(f"POST {CHAT} HTTP/1.1\r\nContent-Length: 2\r\n{request}{{}}".encode())
        second = await read_reply(reader)
    writer.close()
    assert (first.status, first.body) == (status, b"")
    assert not told or first.header(told)
    if method == "HEAD":
        assert first.header("content-length") == "99"
    if status == 204:
        assert first.header("content-length") == first.header("transfer-encoding") == ""
    assert (second.status, second.body) == (200, b"{}")
    assert (await house.stored_of(first)).exchange.state == "complete"


async def test_C64_a_client_that_waits_is_told_to_go_on_and_the_upstream_hears_nothing_of_it(house: House) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", house.port)
    head = f"POST {CHAT} HTTP/1.1\r\nHost: 127.0.0.1\r\n{KEY}Expect: 100-continue\r\nContent-Length: {len(ASK)}\r\n\r\n"
    async with asyncio.timeout(LONGEST_S):
        for _ in range(2):
            writer.write(head.encode())
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100 ")
            writer.write(ASK)
            assert (await read_reply(reader)).body == CHAT_ANSWER
    assert [each.header("expect") for each in house.upstream.received] == ["", ""]
    writer.close()


async def test_C64_a_client_that_does_not_wait_is_answered_too(house: House) -> None:
    async with asyncio.timeout(LONGEST_S):
        reader, writer = await asyncio.open_connection("127.0.0.1", house.port)
        head = f"POST {CHAT} HTTP/1.1\r\nHost: 127.0.0.1\r\n{KEY}Expect: 100-continue\r\nContent-Length: {len(ASK)}\r\n\r\n"
        writer.write(head.encode() + ASK)
        told = await reader.readuntil(CHAT_ANSWER)
    assert told.count(b"HTTP/1.1 200 ") == 1
    writer.close()


async def test_C64_a_body_that_would_be_refused_is_not_sent_for(house: House) -> None:
    reply = await house.ask(f"POST {CHAT}", KEY + "Expect: 100-continue\r\nContent-Length: 9000000000\r\n")
    assert reply.status == 413
    assert house.upstream.received == []


@pytest.mark.parametrize("is_stream", [False, True], ids=["whole", "stream"])
async def test_C65_an_old_client_is_answered_without_chunks(is_stream: bool, house: House) -> None:
    house.upstream.script = streaming(chat(TEXTS)) if is_stream else whole(CHAT_ANSWER)
    reply = await house.ask(f"POST {CHAT}", KEY, ask_of(CHAT) if is_stream else ASK, version="1.0")
    assert reply.header("transfer-encoding") == ""
    assert reply.body == (b"".join(chat(TEXTS)) if is_stream else CHAT_ANSWER)
    assert house.upstream.received[0].line.endswith(" HTTP/1.1")
    assert (await house.stored_of(reply)).exchange.state == "complete"


async def test_C65_an_old_client_without_a_host_is_answered(house: House) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", house.port)
    writer.write(f"POST {CHAT} HTTP/1.0\r\n{KEY}Content-Length: {len(ASK)}\r\n\r\n".encode() + ASK)
    async with asyncio.timeout(LONGEST_S):
        assert (await reader.read()).endswith(CHAT_ANSWER)
    writer.close()


async def test_C66_cookies_pass_in_their_order_and_are_kept_for_nobody(house: House, relayed: Sdks) -> None:
    async def script(_received: Received, writer: asyncio.StreamWriter) -> None:
        cookies = "Set-Cookie: a=1; Path=/\r\nSet-Cookie: __cf_bm=x; HttpOnly\r\nset-cookie: a=2\r\n"
        writer.write(f"HTTP/1.1 200 OK\r\n{cookies}Content-Length: {len(CHAT_ANSWER)}\r\n\r\n".encode() + CHAT_ANSWER)

    house.upstream.script = script
    direct = await talk(house.upstream.port, f"POST {CHAT}", KEY, ASK)
    reply = await house.ask(f"POST {CHAT}", KEY + "Cookie: mine=1\r\n", ASK)
    got, expected = ([value for name, value in each.headers if name.lower() == "set-cookie"] for each in (reply, direct))
    assert got == expected == ["a=1; Path=/", "__cf_bm=x; HttpOnly", "a=2"]
    assert house.upstream.received[-1].header("cookie") == "mine=1"
    await house.ask(f"POST {CHAT}", KEY, ASK)
    assert house.upstream.received[-1].header("cookie") == ""
    raw = await relayed.openai.chat.completions.with_raw_response.create(model="m-1", messages=ASKED)
    assert raw.headers.get_list("set-cookie") == expected
    found = await house.stored_of(reply)
    assert "set-cookie" not in found.content.response_headers
    assert "cookie" not in found.content.request_headers
