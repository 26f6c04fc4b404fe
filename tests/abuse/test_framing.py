"""Requests that two servers may read differently, or that no server should read: refused before any upstream hears of them."""

from __future__ import annotations

import asyncio

import pytest

from proxy.worker import Worker
from tests.abuse.wire import ASK, CHAT, HOST, KEY, request, send
from tests.proxy.scripting import CHAT_ANSWER, Upstream, http_answer, talk

pytestmark = pytest.mark.abuse

HIDDEN = b"POST /v1/embeddings HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer sk-other\r\nContent-Length: 2\r\n\r\n{}"
"""What a smuggler wants to be read as a request of its own."""


def head(*lines: str, target: str = "/v1/chat/completions", host: str = HOST) -> bytes:
    said = "".join(line + "\r\n" for line in lines)
    return f"POST {target} HTTP/1.1\r\n{host}{KEY}{said}\r\n".encode("latin-1")


CHUNKED = b"5\r\n{    \r\n1\r\n}\r\n0\r\n\r\n"
LENGTH = f"Content-Length: {len(ASK)}"

AMBIGUOUS = {
    "length and chunks": head("Content-Length: 5", "Transfer-Encoding: chunked") + b"0\r\n\r\n" + HIDDEN,
    "chunks and length": head("Transfer-Encoding: chunked", f"Content-Length: {len(HIDDEN) + 5}") + b"0\r\n\r\n" + HIDDEN,
    "two lengths that differ": head("Content-Length: 2", f"Content-Length: {len(HIDDEN) + 2}") + b"{}" + HIDDEN,
    "two lengths that agree": head(LENGTH, LENGTH) + ASK,
    "a list of lengths": head("Content-Length: 2, 2") + b"{}",
    "a length with a plus": head("Content-Length: +2") + b"{}",
    "a negative length": head("Content-Length: -2") + b"{}",
    "a hexadecimal length": head("Content-Length: 0x2") + b"{}",
    "a length with an underscore": head("Content-Length: 1_0") + b"{        }",
    "an empty length": head("Content-Length:") + b"{}",
    "a length beyond 64 bits": head("Content-Length: 18446744073709551618") + b"{}",
    "chunked twice": head("Transfer-Encoding: chunked, chunked") + CHUNKED,
    "chunked and then not": head("Transfer-Encoding: chunked, identity") + CHUNKED,
    "chunked in two headers": head("Transfer-Encoding: chunked", "Transfer-Encoding: identity") + CHUNKED,
    "an unknown coding": head("Transfer-Encoding: xchunked") + CHUNKED,
    "a coding with a control character": head("Transfer-Encoding: \x0bchunked") + CHUNKED,
    "a blank before the colon": head("Transfer-Encoding : chunked") + CHUNKED,
    "a header folded over two lines": head("X-Folded: one", " Transfer-Encoding: chunked", LENGTH) + ASK,
    "a folded coding": head("Transfer-Encoding:", " chunked", LENGTH) + ASK,
    "two hosts": head("Host: evil.example", LENGTH) + ASK,
    "no host": head(LENGTH, host="") + ASK,
    "a line without a colon": head("Just words", LENGTH) + ASK,
    "a header without a name": head(": value", LENGTH) + ASK,
    "a blank in a header's name": head("X Y: z", LENGTH) + ASK,
    "a bare carriage return in a value": head("X-Note: a\rX-Evil: b", LENGTH) + ASK,
    "a null in a value": head("X-Note: a\x00b", LENGTH) + ASK,
    "a null in a name": head("X\x00Note: a", LENGTH) + ASK,
    "a null in the target": head(LENGTH, target="/v1/chat\x00/completions") + ASK,
    "a blank in the target": head(LENGTH, target="/v1/chat completions") + ASK,
    "a tab in the target": head(LENGTH, target="/v1/chat\tcompletions") + ASK,
    "a chunk size with a plus": head("Transfer-Encoding: chunked") + b"+2\r\n{}\r\n0\r\n\r\n",
    "a chunk size with 0x": head("Transfer-Encoding: chunked") + b"0x2\r\n{}\r\n0\r\n\r\n",
    "a chunk size beyond 64 bits": head("Transfer-Encoding: chunked") + b"10000000000000002\r\n{}\r\n0\r\n\r\n",
    "a chunk that is longer than it says": head("Transfer-Encoding: chunked") + b"1\r\n{}\r\n0\r\n\r\n" + HIDDEN,
    "no HTTP version": b"POST /v1/chat/completions\r\n" + HOST.encode() + KEY.encode() + b"\r\n",
    "a version that does not exist": head(LENGTH).replace(b"HTTP/1.1", b"HTTP/9.9") + ASK,
    "the preface of HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "TLS on a plain port": bytes.fromhex("16030100a5010000a10303") + bytes(160) + b"\r\n\r\n",
    "no HTTP at all": b"\xff\xfe\x00\x01garbage\r\n\r\n",
}


@pytest.mark.parametrize("case", AMBIGUOUS)
async def test_a15_what_could_be_read_in_two_ways_is_refused_and_the_connection_closed(
    case: str, relay: Worker, upstream: Upstream
) -> None:
    replies = await send(relay.port, AMBIGUOUS[case])
    assert [reply.status for reply in replies if reply.status not in (400, 501, 505)] == []
    assert len(replies) <= 1
    if "no HTTP" not in case and "TLS" not in case:
        assert len(replies) == 1, "it is told why"
    assert upstream.received == []
    assert (await talk(relay.port, CHAT, KEY, ASK)).body == CHAT_ANSWER, "others are served"


async def test_a15_lines_that_end_without_a_carriage_return_hide_no_second_request(relay: Worker, upstream: Upstream) -> None:
    bare = head("X-Note: a", "Content-Length: 2").replace(b"X-Note: a\r\n", b"X-Note: a\n") + b"{}" + HIDDEN
    replies = await send(relay.port, bare.replace(b"sk-other\r\n", b"sk-other\r\nConnection: close\r\n"))
    assert replies
    if replies[0].status == 400:
        assert upstream.received == []
        return
    assert len(replies) == 2, "a recipient may take a bare line feed for the end of a line, and then reads both"
    assert [received.body for received in upstream.received] == [b"{}", b"{}"]


async def test_a15_a_refused_request_leaves_nothing_on_the_connection_to_the_upstream(relay: Worker, upstream: Upstream) -> None:
    for data in (AMBIGUOUS["length and chunks"], AMBIGUOUS["a chunk that is longer than it says"]):
        await send(relay.port, data)
    for _ in range(3):
        assert (await talk(relay.port, CHAT, KEY, ASK)).body == CHAT_ANSWER
    assert [(received.line, received.body) for received in upstream.received] == [(f"{CHAT} HTTP/1.1", ASK)] * 3
    assert not any("sk-other" in received.header("authorization") for received in upstream.received)


@pytest.mark.parametrize("name", ["Content-Length", "Transfer-Encoding", "Connection", "Host"])
async def test_a15_no_header_named_by_connection_changes_how_the_upstream_reads_us(
    name: str, relay: Worker, upstream: Upstream
) -> None:
    (reply,) = await send(relay.port, request(CHAT, f"{KEY}Connection: {name}\r\n", ASK))
    assert reply.status in (200, 400)
    for received in upstream.received:
        assert received.body == ASK
        assert received.header("host") == f"127.0.0.1:{upstream.port}"


CRLF = {
    "a task in the path": request("POST /task/a%0d%0aX-Evil:%20b/v1/chat/completions", KEY, ASK),
    "the path": request("POST /v1/chat%0d%0aX-Evil:%20b/completions", KEY, ASK),
    "an upstream in the path": request("POST /upstream/openai%0d%0aX-Evil:b/v1/chat/completions", KEY, ASK),
    "a bare carriage return in a key": request(CHAT, "Authorization: Bearer sk\rX-Evil: b\r\n", ASK),
    "a null in a tag": request(CHAT, f"{KEY}x-potstill-tag-a: b\x00c\r\n", ASK),
}


@pytest.mark.parametrize("case", CRLF)
async def test_a14_line_ends_in_names_and_values_are_refused(case: str, relay: Worker, upstream: Upstream) -> None:
    (reply,) = await send(relay.port, CRLF[case])
    assert reply.status in (400, 404)
    assert reply.header("x-evil") == ""
    assert upstream.received == []


@pytest.mark.parametrize("where", ["query", "model", "metadata"])
async def test_a14_line_ends_inside_data_stay_data(where: str, relay: Worker, upstream: Upstream) -> None:
    line, body, headers = CHAT, ASK, KEY
    if where == "query":
        line += "?a=b%0d%0aX-Evil:%20c"
    elif where == "model":
        body = b'{"model": "m\\r\\nX-Evil: b", "messages": []}'
    else:
        headers += 'x-litellm-spend-logs-metadata: {"team": "a\\r\\nX-Evil: b"}\r\n'
    (reply,) = await send(relay.port, request(line, headers, body))
    assert reply.status == 200
    assert reply.header("x-evil") == ""
    (received,) = upstream.received
    assert received.header("x-evil") == ""
    assert received.body == body
    assert received.line.split(" ")[1] == line.split(" ")[1], "not decoded on its way"


async def test_a14_an_upstream_cannot_write_headers_of_ours_for_the_client(relay: Worker, upstream: Upstream) -> None:
    async def script(_received: object, writer: asyncio.StreamWriter) -> None:
        writer.write(http_answer(b"{}", headers={"x-potstill-exchange-id": "ex_forged", "X-Potstill-Variant": "candidate"}))

    upstream.script = script  # type: ignore[assignment]
    (reply,) = await send(relay.port, request(CHAT, KEY, ASK))
    assert [value for name, value in reply.headers if name.lower() == "x-potstill-exchange-id"] != ["ex_forged"]
    assert len([name for name, _ in reply.headers if name.lower() == "x-potstill-exchange-id"]) == 1
    assert reply.header("x-potstill-variant") == ""


LARGE = {
    "a thousand headers": request(CHAT, KEY + "".join(f"X-{n}: v\r\n" for n in range(1_000)), ASK),
    "one header of 100 KB": request(CHAT, f"{KEY}X-Long: {'v' * 100_000}\r\n", ASK),
    "a name of 100 KB": request(CHAT, f"{KEY}{'X' * 100_000}: v\r\n", ASK),
    "a target of 100 KB": request(f"{CHAT}?{'q' * 100_000}", KEY, ASK),
    "a method of 100 KB": request(f"{'P' * 100_000} /v1/chat/completions", KEY, ASK),
    "headers of 2 MB together": request(CHAT, KEY + f"X-Part: {'v' * 8_000}\r\n" * 250, ASK),
    "headers without an end": f"{CHAT} HTTP/1.1\r\n{HOST}".encode() + b"X-More: v\r\n" * 200_000,
    "a first line without an end": b"POST /" + b"v" * 2_000_000,
}


@pytest.mark.parametrize("case", LARGE)
async def test_a38_more_headers_than_anybody_needs_are_refused_and_cost_nobody_else(
    case: str, relay: Worker, upstream: Upstream
) -> None:
    replies = await send(relay.port, LARGE[case])
    assert all(reply.status in (400, 414, 431) for reply in replies)
    assert len(replies) <= 1
    assert upstream.received == []
    assert (await talk(relay.port, CHAT, KEY, ASK)).body == CHAT_ANSWER, "others are served"


@pytest.mark.parametrize("method", ["CONNECT 127.0.0.1:22", "CONNECT evil.example:443", "TRACE /v1/models", "OPTIONS *", "GET *"])
async def test_a10_methods_that_are_no_request_to_an_upstream_open_no_way_out(
    method: str, relay: Worker, upstream: Upstream
) -> None:
    (reply,) = await send(relay.port, request(method, f"{KEY}Cookie: a=b\r\n"))
    assert reply.status in (400, 403, 404, 405, 501)
    assert upstream.received == []
