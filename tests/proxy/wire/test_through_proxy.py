"""Upstreams behind an HTTP proxy: how long they may take, and that whatever goes wrong reaches who asks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from multidict import CIMultiDict

from capture.settings import load_settings
from proxy.wire.reply import BrokenError, ConnectFailedError
from proxy.wire.through_proxy import ProxiedUpstream
from proxy.wire.upstream import Patience
from proxy.worker import Worker, start_worker
from tests.proxy.scripting import Received, Upstream, chunk, chunked_head, free_port, read_reply, talk

CHAT = "POST /v1/chat/completions"
KEY = "Authorization: Bearer sk-client\r\nContent-Type: application/json\r\n"
ASK = b'{"model":"gpt-5","messages":[]}'

Start = Callable[..., Awaitable[Worker]]


@pytest.fixture
async def start(tmp_path: Path, upstream: Upstream) -> AsyncIterator[Start]:
    """Starts a relay before an upstream with these lines, for which `upstream` is the proxy."""
    workers: list[Worker] = []

    async def begin(lines: str = "") -> Worker:
        far = f'[upstreams.far]\nurl = "http://far.example/v1"\nproxy = "{upstream.url}"\n{lines}\n'
        path = tmp_path / "potstill.toml"
        engine = f'[engine]\nurl = "http://127.0.0.1:{free_port()}"\n'
        path.write_text(f"[relay]\nport = 0\nadmin_port = 0\n{engine}{far}", "utf-8")
        workers.append(await start_worker(load_settings(path, environ={})))
        return workers[-1]

    yield begin
    for worker in workers:
        await worker.drain(0.0)


async def test_an_upstream_behind_an_http_proxy_has_its_own_time_until_its_answer_begins(
    start: Start, upstream: Upstream
) -> None:
    limits = "idle_timeout_s = 600\nfirst_byte_timeout_s = 0.3"
    worker = await start(limits)

    async def never(_received: Received, _writer: asyncio.StreamWriter) -> None:
        await asyncio.Event().wait()

    upstream.script = never
    reply = await asyncio.wait_for(talk(worker.port, CHAT, KEY, ASK), 30)
    assert (reply.status, b'"upstream_timeout"' in reply.body) == (504, True)


async def test_an_answer_through_an_http_proxy_may_pause_for_longer_than_its_beginning(start: Start, upstream: Upstream) -> None:
    limits = "idle_timeout_s = 600\nfirst_byte_timeout_s = 0.5"
    worker = await start(limits)

    async def slow(_received: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(chunked_head() + chunk(b"data: 1\n\n"))
        await asyncio.sleep(1.0)  # what is tested is that twice the time for the head passes
        writer.write(chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n")

    upstream.script = slow
    reply = await asyncio.wait_for(talk(worker.port, CHAT, KEY, ASK), 30)
    assert reply.is_whole
    assert reply.body == b"data: 1\n\ndata: [DONE]\n\n"


async def test_a_header_that_cannot_pass_an_http_proxy_is_refused_and_never_changed(start: Start, upstream: Upstream) -> None:
    worker = await start("circuit_failures = 1")
    reader, writer = await asyncio.open_connection("127.0.0.1", worker.port)
    head = f"{CHAT} HTTP/1.1\r\nHost: 127.0.0.1\r\n{KEY}Content-Length: {len(ASK)}\r\n".encode()
    writer.write(head + b"X-Name: caf\xe9\r\n\r\n" + ASK)
    reply = await asyncio.wait_for(read_reply(reader), 30)
    writer.close()
    assert reply.status == 400
    assert b"Header X-Name is not UTF-8, and cannot pass the HTTP proxy. Send it as UTF-8" in reply.body
    assert worker.status()["circuits"] == {"far": False}
    assert upstream.received == []
    assert (await talk(worker.port, CHAT, KEY, ASK)).status == 200


async def test_what_is_asked_through_an_http_proxy_after_its_end_fails_and_does_not_hang(upstream: Upstream) -> None:
    through = ProxiedUpstream(upstream.url, None, 60.0)
    await through.close()
    closed = through.ask("POST", "http://far.example/v1/x", CIMultiDict(), b"{}", Patience(60, 60), 60)
    with pytest.raises(ConnectFailedError, match="closed its connections"):
        await asyncio.wait_for(closed.arrived, 30)


async def test_a_request_that_nobody_can_write_fails_and_does_not_hang(
    upstream: Upstream, caplog: pytest.LogCaptureFixture
) -> None:
    through = ProxiedUpstream(upstream.url, None, 60.0)
    odd = through.ask("BAD METHOD", "http://far.example/v1/x", CIMultiDict(), b"{}", Patience(60, 60), 60)
    with pytest.raises(BrokenError, match="ValueError"):
        await asyncio.wait_for(odd.arrived, 30)
    assert [record.getMessage() for record in caplog.records] == ["asking through an HTTP proxy failed by a ValueError"]
    await through.close()
