"""What clients and upstreams do to the relay: huge, slow, many, cut; it goes on, and its memory stays within bounds."""

from __future__ import annotations

import asyncio
import hashlib
import signal
import socket
import struct
import time
from pathlib import Path

import pytest

from capture.settings import Settings
from proxy.worker import Worker
from tests.faults.relay_process import ASK, CHAT, KEY, MIB, RelayProcess, relay_process
from tests.proxy.scripting import (
    Received,
    Upstream,
    chunk,
    chunked_head,
    http_answer,
    kept,
    relay_settings,
    relaying,
    talk,
    until,
)

STREAMS = 50


@pytest.mark.faults
async def test_f01_a_relay_takes_requests_at_once_beside_the_large_spool_of_a_dead_one(
    tmp_path: Path, upstream: Upstream
) -> None:
    left = tmp_path / "data" / "spool" / "sp_01m8000000000000000000000a"
    left.mkdir(parents=True)
    for number in range(1, 65):
        with (left / f"{number:010d}.seg").open("wb") as file:
            file.truncate(16 * MIB)
    began = time.monotonic()
    async with relay_process(tmp_path, upstream.url) as relay:
        started_s = time.monotonic() - began
        assert (await talk(relay.port, CHAT, KEY, ASK)).status == 200
        assert relay.peak_mib() < 400
    print(f"F1: ready after {started_s:.2f} s beside 1 GiB of spool")
    assert started_s < 30


@pytest.mark.faults
async def test_f10_a_client_that_leaves_takes_the_upstream_with_it(
    relay: Worker, upstream: Upstream, relay_config: Settings
) -> None:
    async def silent(_received: Received, _writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(60)

    async def started(_received: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(chunked_head() + chunk(b"data: 1\n\n"))
        await asyncio.sleep(60)

    for script in (silent, started):
        upstream.script = script
        upstream.received.clear()
        upstream.closed.clear()
        _, writer = await asyncio.open_connection("127.0.0.1", relay.port)
        writer.write(f"{CHAT} HTTP/1.1\r\nHost: 127.0.0.1\r\n{KEY}Content-Length: {len(ASK)}\r\n\r\n".encode() + ASK)
        await until(lambda: upstream.received)
        if script is started:
            await until(lambda: kept(relay_config)[-1].body)
        writer.transport.abort()
        await asyncio.wait_for(upstream.closed.wait(), 0.5)
    await until(lambda: all(exchange.end is not None for exchange in kept(relay_config)))
    assert [exchange.end.state for exchange in kept(relay_config) if exchange.end] == ["client_closed"] * 2
    assert [exchange.body for exchange in kept(relay_config)] == [b"", b"data: 1\n\n"], "what had come is kept"


@pytest.mark.faults
@pytest.mark.parametrize("size", [0, 7, 500])
async def test_f11_a_reset_by_the_upstream_in_a_stream_is_told_and_never_stored_as_success(
    size: int, relay: Worker, upstream: Upstream, relay_config: Settings
) -> None:
    events = b'data: {"choices":[]}\n\n' * 50

    async def script(_received: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(chunked_head() + chunk(events)[:size])
        await writer.drain()
        await asyncio.sleep(0.02)
        found = writer.get_extra_info("socket")
        found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()

    upstream.script = script
    reply = await talk(relay.port, CHAT, KEY, ASK)
    assert not reply.is_whole
    assert b"[DONE]" not in reply.body
    (exchange,) = kept(relay_config)
    assert exchange.end is not None
    assert exchange.end.state == "upstream_aborted"
    assert exchange.body == reply.body


@pytest.mark.faults
@pytest.mark.parametrize("when", ["before the head", "in the stream"])
async def test_f12_a_silent_upstream_is_a_timeout(when: str, tmp_path: Path, upstream: Upstream) -> None:
    async def script(_received: Received, writer: asyncio.StreamWriter) -> None:
        if when == "in the stream":
            writer.write(chunked_head() + chunk(b"data: 1\n\n"))
        await asyncio.sleep(60)

    upstream.script = script
    settings = relay_settings(tmp_path, upstream.url, idle_timeout_s=0.2)
    async with relaying(tmp_path) as worker:
        reply = await talk(worker.port, CHAT, KEY, ASK)
    assert b"sent nothing for 0.2 s" in reply.body
    if when == "before the head":
        assert reply.status == 504
    else:
        assert not reply.is_whole
    (exchange,) = kept(settings)
    assert exchange.end is not None
    assert (exchange.end.state, exchange.end.error_kind) == ("timeout", "upstream_timeout")


@pytest.mark.faults
async def test_f14_fifty_megabytes_pass_both_ways_and_memory_stays_within_bounds(tmp_path: Path, upstream: Upstream) -> None:
    question = b'{"model":"m","messages":[{"role":"user","content":"' + b"q" * (50 * MIB) + b'"}]}'
    piece = b"a" * MIB

    async def script(_received: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(f"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {50 * MIB}\r\n\r\n".encode())
        for _ in range(50):
            writer.write(piece)
            await writer.drain()

    async with relay_process(tmp_path, upstream.url) as relay:
        assert (await talk(relay.port, CHAT, KEY, ASK)).status == 200
        before = relay.memory_mib()
        reply = await talk(relay.port, CHAT, KEY, question)
        assert reply.status == 200
        up_mib = relay.peak_mib() - before
        assert hashlib.sha256(upstream.received[1].body).digest() == hashlib.sha256(question).digest()
        upstream.script = script
        settled, peak = relay.memory_mib(), relay.peak_mib()
        reply = await talk(relay.port, CHAT, KEY, ASK)
        assert reply.body == piece * 50
        down_mib = max(0.0, relay.peak_mib() - max(settled, peak))
    print(f"F14: 50 MiB up: +{up_mib:.0f} MiB, down: +{down_mib:.0f} MiB above the peak before")
    assert up_mib < 2.2 * 50 + 20
    assert down_mib < 30
    bodies = sorted((exchange.body for exchange in kept(relay.settings)), key=len)
    assert bodies[-1] == piece * 50


@pytest.mark.faults
async def test_f15_ten_thousand_idle_connections_leave_the_relay_serving(tmp_path: Path, upstream: Upstream) -> None:
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    count = min(10_000, soft - 1_000)
    async with relay_process(tmp_path, upstream.url) as relay:
        assert (await talk(relay.port, CHAT, KEY, ASK)).status == 200
        before = relay.memory_mib()
        idle = await asyncio.to_thread(_connect, relay.port, count)
        try:
            began = time.monotonic()
            for _ in range(20):
                assert (await talk(relay.port, CHAT, KEY, ASK)).is_whole
            took_s = time.monotonic() - began
            more_mib = relay.memory_mib() - before
        finally:
            for each in idle:
                each.close()
    print(f"F15: {count} idle connections: +{more_mib:.0f} MiB, {took_s * 50:.1f} ms a request beside them")
    assert more_mib < 160
    assert took_s < 20


def _connect(port: int, count: int) -> list[socket.socket]:
    return [socket.create_connection(("127.0.0.1", port), timeout=30) for _ in range(count)]


@pytest.mark.faults
@pytest.mark.parametrize("dribble", [True, False], ids=["a header line now and then", "nothing at all"])
async def test_f16_a_client_that_never_finishes_its_headers_is_closed(dribble: bool, tmp_path: Path, upstream: Upstream) -> None:
    relay_settings(tmp_path, upstream.url, head_timeout_s=0.5, client_keepalive_s=0.5)
    async with relaying(tmp_path) as relay:
        reader, writer = await asyncio.open_connection("127.0.0.1", relay.port)
        if dribble:
            writer.write(f"{CHAT} HTTP/1.1\r\n".encode())
        closed = asyncio.ensure_future(reader.read())
        deadline = time.monotonic() + 20
        while not closed.done():
            assert time.monotonic() < deadline, "it is still open"
            if dribble and not writer.is_closing():
                writer.write(b"X-Slow: 1\r\n")
            await asyncio.sleep(0.1)
        writer.close()
        assert (await talk(relay.port, CHAT, KEY, ASK)).status == 200


@pytest.mark.faults
async def test_f17_a_body_that_stands_still_is_refused(tmp_path: Path, upstream: Upstream) -> None:
    relay_settings(tmp_path, upstream.url, body_idle_s=0.2)
    async with relaying(tmp_path) as worker:
        reply = await talk(worker.port, CHAT, KEY + "Content-Length: 99\r\n")
    assert reply.status == 408
    assert upstream.received == []


@pytest.mark.faults
async def test_f18_a_client_that_reads_slowly_slows_the_upstream(relay: Worker, upstream: Upstream) -> None:
    sent = 0

    async def flood(_received: Received, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(chunked_head())
        while True:
            writer.write(chunk(bytes(65_536)))
            await writer.drain()
            sent += 65_536

    upstream.script = flood
    client = socket.create_connection(("127.0.0.1", relay.port))
    client.sendall(f"{CHAT} HTTP/1.1\r\nHost: 127.0.0.1\r\n{KEY}Content-Length: {len(ASK)}\r\n\r\n".encode() + ASK)
    previous = -1
    while sent != previous:
        previous = sent
        await asyncio.sleep(0.2)
    assert 0 < sent < 32 * 2**20
    client.close()
    await asyncio.wait_for(upstream.closed.wait(), 2)


class _Gate:
    """An upstream that sends one event to each request, and the rest when `opened` is set."""

    def __init__(self) -> None:
        self.opened = asyncio.Event()

    async def __call__(self, _received: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(chunked_head() + chunk(b"data: 1\n\n"))
        await self.opened.wait()
        writer.write(chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n")


async def _open_streams(relay: RelayProcess, upstream: Upstream) -> list[asyncio.Future[object]]:
    streams = [asyncio.ensure_future(talk(relay.port, CHAT, KEY, ASK)) for _ in range(STREAMS)]
    await until(lambda: len(kept(relay.settings)) == STREAMS and all(each.body for each in kept(relay.settings)), 30)
    assert len(upstream.received) == STREAMS
    return streams  # type: ignore[return-value]


@pytest.mark.faults
async def test_f21_sigterm_lets_fifty_streams_finish_and_keeps_them_whole(tmp_path: Path, upstream: Upstream) -> None:
    gate = _Gate()
    upstream.script = gate
    async with relay_process(tmp_path, upstream.url, drain_timeout_s=60) as relay:
        streams = await _open_streams(relay, upstream)
        relay.process.send_signal(signal.SIGTERM)
        await _refuses(relay.port)
        gate.opened.set()
        replies = await asyncio.gather(*streams)
        assert all(reply.is_whole and reply.body.endswith(b"[DONE]\n\n") for reply in replies)  # type: ignore[attr-defined]
        assert await relay.wait() == 0
    ends = [exchange.end.state for exchange in kept(relay.settings) if exchange.end is not None]
    assert ends == ["complete"] * STREAMS


async def _refuses(port: int) -> None:
    async with asyncio.timeout(20):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except ConnectionError:
                return
            writer.close()
            await asyncio.sleep(0.02)


@pytest.mark.faults
@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGKILL], ids=["sigterm", "sigkill"])
async def test_f22_a_second_signal_in_the_drain_cuts_the_streams_and_loses_nothing(
    second: signal.Signals, tmp_path: Path, upstream: Upstream
) -> None:
    upstream.script = _Gate()
    async with relay_process(tmp_path, upstream.url, drain_timeout_s=60) as relay:
        streams = await _open_streams(relay, upstream)
        relay.process.send_signal(signal.SIGTERM)
        await _refuses(relay.port)
        relay.process.send_signal(second)
        replies = await asyncio.gather(*streams)
        assert await relay.wait() == (0 if second == signal.SIGTERM else -signal.SIGKILL)
    assert not any(reply.is_whole for reply in replies)  # type: ignore[attr-defined]
    exchanges = kept(relay.settings)
    assert len(exchanges) == STREAMS
    assert {exchange.end.state if exchange.end else "open" for exchange in exchanges} == {
        "interrupted" if second == signal.SIGTERM else "open"
    }
    received = sorted(reply.body for reply in replies)  # type: ignore[attr-defined]
    for body, exchange in zip(received, sorted(exchanges, key=lambda exchange: exchange.body), strict=True):
        assert exchange.body.startswith(body)


@pytest.mark.faults
async def test_f27_beyond_the_budget_requests_are_refused_and_memory_stays_within_bounds(
    tmp_path: Path, upstream: Upstream
) -> None:
    budget_mib, body, parallel = 64, b'{"model":"m"}' + b" " * (8 * MIB), 24
    release = asyncio.Event()

    async def script(_received: Received, writer: asyncio.StreamWriter) -> None:
        await release.wait()
        writer.write(http_answer(b"{}"))

    async with relay_process(tmp_path, upstream.url, max_held_mib=budget_mib) as relay:
        before = relay.memory_mib()
        upstream.script = script
        replies = [asyncio.ensure_future(talk(relay.port, CHAT, KEY, body)) for _ in range(parallel)]
        refused = await _first(replies, parallel - budget_mib // 9)
        release.set()
        statuses = [reply.status for reply in await asyncio.gather(*replies)]
        peak = relay.peak_mib()
        assert (await talk(relay.port, CHAT, KEY, body)).status == 200, "the budget comes back"
    print(f"F27: {parallel} x 8 MiB at once, budget {budget_mib} MiB: {refused} refused, +{peak - before:.0f} MiB at most")
    assert set(statuses) == {200, 503}
    assert statuses.count(200) == budget_mib // 9
    assert peak - before < 3 * budget_mib + 40


async def _first(replies: list[asyncio.Future[object]], count: int) -> int:
    """Waits until `count` of them are there."""
    async with asyncio.timeout(60):
        while sum(reply.done() for reply in replies) < count:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    return count


@pytest.mark.faults
@pytest.mark.parametrize("kind", ["big", "deep"])
async def test_f28_a_huge_body_holds_up_nobody_else_for_long(kind: str, tmp_path: Path, upstream: Upstream) -> None:
    inside = b'{"role":"user","content":"hello"},' * 1_500_000 if kind == "big" else b"[" * 200_000 + b"]" * 200_000 + b","
    body = b'{"messages":[' + inside[:-1] + b'],"model":"m"}'
    waits: list[float] = []
    async with relay_process(tmp_path, upstream.url) as relay:
        assert (await talk(relay.port, CHAT, KEY, ASK)).status == 200
        huge = asyncio.ensure_future(asyncio.to_thread(_ask, relay.port, body))
        while not huge.done():
            began = time.monotonic()
            assert (await talk(relay.port, CHAT, KEY, ASK)).status == 200
            waits.append(time.monotonic() - began)
        assert await huge == 200
    print(f"F28: {len(body) / MIB:.0f} MiB of {kind} JSON: others waited {max(waits) * 1000:.0f} ms at most, n={len(waits)}")
    assert max(waits) < 5


def _ask(port: int, body: bytes) -> int:
    """Asks from a thread, so that the sending of a big body is nobody else's wait."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as client:
        head = f"{CHAT} HTTP/1.1\r\nHost: 127.0.0.1\r\n{KEY}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        client.sendall(head.encode() + body)
        return int(client.recv(4_096).split(b" ", 2)[1])
