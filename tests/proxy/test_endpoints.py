"""Every endpoint of OpenAI and Anthropic, under every style of base address: the same request reaches the upstream."""

from __future__ import annotations

import asyncio

import pytest

from capture.settings import Settings
from proxy.worker import Worker
from tests.proxy.scripting import Received, Upstream, chunk, chunked_head, http_answer, kept, talk

OPENAI = [
    ("POST", "/chat/completions", "openai"),
    ("GET", "/chat/completions/chatcmpl-1/messages?limit=2", "raw"),
    ("POST", "/completions", "openai"),
    ("POST", "/embeddings", "openai"),
    ("POST", "/responses", "openai"),
    ("GET", "/responses/resp_1?stream=true&starting_after=7", "raw"),
    ("POST", "/responses/resp_1/cancel", "raw"),
    ("DELETE", "/responses/resp_1", "raw"),
    ("GET", "/responses/resp_1/input_items", "raw"),
    ("GET", "/models", "raw"),
    ("GET", "/models/ft:gpt-5:org::a%2Fb", "raw"),
    ("POST", "/moderations", "raw"),
    ("POST", "/audio/speech", "raw"),
    ("POST", "/audio/transcriptions", "raw"),
    ("POST", "/images/generations", "raw"),
    ("POST", "/images/edits", "raw"),
    ("POST", "/files", "raw"),
    ("GET", "/files/file-1/content", "raw"),
    ("DELETE", "/files/file-1", "raw"),
    ("POST", "/uploads/upload_1/parts", "raw"),
    ("POST", "/batches", "raw"),
    ("POST", "/batches/batch_1/cancel", "raw"),
    ("POST", "/fine_tuning/jobs", "raw"),
    ("GET", "/fine_tuning/jobs/ftjob-1/events?after=x", "raw"),
    ("POST", "/vector_stores/vs_1/search", "raw"),
    ("POST", "/conversations", "raw"),
]
ANTHROPIC = [
    ("POST", "/messages", "anthropic"),
    ("POST", "/messages?beta=true", "anthropic"),
    ("POST", "/messages/count_tokens", "raw"),
    ("POST", "/messages/batches", "raw"),
    ("GET", "/messages/batches/msgbatch_1/results", "raw"),
    ("POST", "/messages/batches/msgbatch_1/cancel", "raw"),
    ("GET", "/models?limit=5", "raw"),
    ("GET", "/files/file_1/content", "raw"),
]
STYLES = ["/v1", "", "/v1/v1", "/task/triage/v1", "/task/triage"]
HEADERS = {
    "openai": "Authorization: Bearer sk-client\r\nContent-Type: application/json\r\n",
    "anthropic": "x-api-key: sk-client\r\nanthropic-version: 2023-06-01\r\nContent-Type: application/json\r\n",
}


@pytest.mark.parametrize("style", STYLES, ids=["v1", "bare", "v1v1", "task-v1", "task-bare"])
@pytest.mark.parametrize("family", ["openai", "anthropic"])
async def test_every_endpoint_is_relayed_and_kept(
    family: str, style: str, relay: Worker, upstream: Upstream, relay_config: Settings
) -> None:
    endpoints = OPENAI if family == "openai" else ANTHROPIC
    for method, path, _ in endpoints:
        body = b'{"model":"m" }' if method == "POST" else b""
        reply = await talk(relay.port, f"{method} {style}{path}", HEADERS[family], body)
        assert (reply.status, reply.header("x-potstill-upstream")) == (200, family), path
        sent = upstream.received[-1]
        assert (sent.line, sent.body) == (f"{method} /v1{path} HTTP/1.1", body)
    exchanges = kept(relay_config)
    shown = []
    for exchange in exchanges:
        assert exchange.begin is not None and exchange.end is not None and exchange.end.state == "complete"
        assert exchange.begin.task == ("triage" if "triage" in style else "")
        query = f"?{exchange.begin.query}" if exchange.begin.query else ""
        shown.append((exchange.begin.method, exchange.begin.path.removeprefix("/v1") + query, exchange.begin.protocol))
    assert shown == endpoints


@pytest.mark.parametrize(
    "path", ["/v1/audio/speech", "/v1/responses/resp_1?stream=true", "/v1/files/file-1/content", "/v1/messages"]
)
async def test_what_streams_is_relayed_in_pieces_byte_for_byte(
    path: str, relay: Worker, upstream: Upstream, relay_config: Settings
) -> None:
    pieces = [b"ID3\x00\xff", b"event: x\n", b"\r\n\xf0\x9f", b"\x98\x80data: {}\n\n"]

    async def script(_received: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(chunked_head("audio/mpeg") + b"".join(chunk(piece) for piece in pieces) + b"0\r\n\r\n")

    upstream.script = script
    reply = await talk(relay.port, f"POST {path}", HEADERS["openai"], b"{}")
    assert (reply.body, reply.header("content-type")) == (b"".join(pieces), "audio/mpeg")
    assert kept(relay_config)[0].body == b"".join(pieces)


async def test_a_form_with_a_file_reaches_the_upstream_as_it_is(
    relay: Worker, upstream: Upstream, relay_config: Settings
) -> None:
    form = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\nRIFF\x00\xff\r\n--b--\r\n'
    headers = "Authorization: Bearer sk-client\r\nContent-Type: multipart/form-data; boundary=b\r\n"

    async def script(_received: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(http_answer(b'{"text":"hi"}'))

    upstream.script = script
    assert (await talk(relay.port, "POST /v1/audio/transcriptions", headers, form)).body == b'{"text":"hi"}'
    assert upstream.received[0].body == form
    assert upstream.received[0].header("content-type") == "multipart/form-data; boundary=b"
    begin = kept(relay_config)[0].begin
    assert begin is not None
    assert begin.body == form


async def test_anything_under_a_named_upstream_is_passed_through(
    relay: Worker, upstream: Upstream, relay_config: Settings
) -> None:
    reply = await talk(relay.port, "PROPFIND /upstream/openai/some/Where%20else?x=%2F&y", HEADERS["openai"], b"<x/>")
    assert reply.status == 200
    assert (upstream.received[0].line, upstream.received[0].body) == ("PROPFIND /some/Where%20else?x=%2F&y HTTP/1.1", b"<x/>")
    assert kept(relay_config)[0].body == reply.body
