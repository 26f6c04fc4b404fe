"""A relay process: start, drain, cut, a taken port, and what it does not load."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from capture.errors import PortTakenError
from capture.settings import Settings
from proxy.listen import claim_port, listen
from proxy.worker import Worker, start_worker
from tests.proxy.scripting import (
    CHAT_ANSWER,
    Received,
    Upstream,
    chunk,
    chunked_head,
    free_port,
    http_answer,
    kept,
    read_reply,
    relay_settings,
    talk,
    until,
)

KEY = "Authorization: Bearer sk-test\r\n"
CHAT = "POST /v1/chat/completions"
ASK = b'{"model": "m"}'
RAW = f"{CHAT} HTTP/1.1\r\nHost: 127.0.0.1\r\n{KEY}Content-Length: {len(ASK)}\r\n\r\n".encode() + ASK


async def test_draining_lets_open_streams_finish_and_takes_nothing_new(relay_config: Settings, upstream: Upstream) -> None:
    go_on = asyncio.Event()

    async def script(_received: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(chunked_head() + chunk(b"data: 1\n\n"))
        await go_on.wait()
        writer.write(chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n")

    upstream.script = script
    worker = await start_worker(relay_config)
    open_stream = asyncio.ensure_future(talk(worker.port, CHAT, KEY, ASK))
    await until(lambda: upstream.received)
    draining = asyncio.ensure_future(worker.drain(10.0))
    await until(lambda: worker.status()["is_draining"])
    with pytest.raises(ConnectionError):
        await talk(worker.port, CHAT, KEY, ASK)
    assert not draining.done()
    go_on.set()
    reply = await open_stream
    assert reply.is_whole
    assert reply.body.endswith(b"[DONE]\n\n")
    assert await draining == 0


async def test_a_request_on_a_kept_connection_is_still_answered_while_draining(
    relay_config: Settings, upstream: Upstream
) -> None:
    go_on = asyncio.Event()

    async def script(received: Received, writer: asyncio.StreamWriter) -> None:
        if b"slow" in received.body:
            await go_on.wait()
        writer.write(http_answer(CHAT_ANSWER))

    upstream.script = script
    worker = await start_worker(relay_config)
    reader, writer = await asyncio.open_connection("127.0.0.1", worker.port)
    writer.write(RAW)
    assert (await read_reply(reader)).is_whole
    slow = asyncio.ensure_future(talk(worker.port, CHAT, KEY, b'{"model": "slow"}'))
    await until(lambda: len(upstream.received) == 2)
    draining = asyncio.ensure_future(worker.drain(10.0))
    await until(lambda: worker.status()["is_draining"])
    writer.write(RAW)
    reply = await read_reply(reader)
    assert reply.is_whole
    assert reply.header("connection") == "close"
    go_on.set()
    assert (await slow).is_whole
    await draining
    writer.close()


async def test_what_does_not_finish_in_time_is_cut_with_an_explanation(relay_config: Settings, upstream: Upstream) -> None:
    async def script(_received: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(chunked_head() + chunk(b"data: 1\n\n"))
        await asyncio.sleep(60)

    upstream.script = script
    worker = await start_worker(relay_config)
    open_stream = asyncio.ensure_future(talk(worker.port, CHAT, KEY, ASK))
    await until(lambda: kept(relay_config) and kept(relay_config)[0].body)
    assert await worker.drain(0.1) == 1
    reply = await open_stream
    assert not reply.is_whole
    assert b"Potstill was stopped before the answer was whole" in reply.body
    (exchange,) = kept(relay_config)
    assert exchange.end is not None
    assert (exchange.end.state, exchange.end.error_kind) == ("interrupted", "relay_stopped")
    assert exchange.body == reply.body


def test_a_taken_port_is_named_with_what_to_set() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(PortTakenError, match=f"Port {port} of 127.0.0.1 is taken") as caught:
            claim_port("127.0.0.1", port, "port")
        assert "POTSTILL_RELAY__PORT" in caught.value.next_step


def test_a_claimed_port_is_shared_by_workers_and_taken_for_another_relay() -> None:
    with claim_port("127.0.0.1", 0, "port") as claim:
        port = claim.getsockname()[1]
        with listen("127.0.0.1", port, "port"), listen("127.0.0.1", port, "port"), pytest.raises(PortTakenError):
            claim_port("127.0.0.1", port, "port")


def start_process(settings: Settings) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "proxy.worker", "--config", str(settings.path)], stderr=subprocess.PIPE, cwd=settings.folder
    )


async def test_the_process_relays_and_ends_with_0_on_sigterm(tmp_path: Path, upstream: Upstream) -> None:
    port = free_port()
    settings = relay_settings(tmp_path, upstream.url, port=port)
    process = start_process(settings)
    try:
        await wait_for_port(port)
        assert (await talk(port, CHAT, KEY, ASK)).body == CHAT_ANSWER
        second = start_process(settings)
        _, errors = await asyncio.to_thread(second.communicate)
        assert second.returncode == 1
        assert f"Port {port} of 127.0.0.1 is taken".encode() in errors
        process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(process.wait, 10) == 0
    finally:
        if process.poll() is None:
            process.kill()
        assert process.stderr is not None
        process.stderr.close()
        process.wait()
    states = [exchange.end.state for exchange in kept(settings) if exchange.end is not None]
    assert states == ["complete"]


async def test_a_bad_request_does_not_put_its_headers_into_the_log(tmp_path: Path, upstream: Upstream) -> None:
    port = free_port()
    settings = relay_settings(tmp_path, upstream.url, port=port)
    process = start_process(settings)
    try:
        await wait_for_port(port)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer sk-secret" + b"x" * 40_000 + b"\r\n\r\n")
        assert b" 400 " in await reader.readline()
        writer.close()
    finally:
        process.send_signal(signal.SIGTERM)
        _, errors = await asyncio.to_thread(process.communicate)
    assert b"sk-secret" not in errors
    assert b"Traceback" not in errors


async def wait_for_port(port: int) -> None:
    """Until somebody listens on `port`."""
    async with asyncio.timeout(20):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except ConnectionError:
                await asyncio.sleep(0.02)
                continue
            writer.close()
            return


def test_the_worker_loads_no_heavy_library() -> None:
    code = "import sys, proxy.worker; print(*sorted({name.split('.')[0] for name in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=dict(os.environ))
    loaded = set(done.stdout.split())
    assert "aiohttp" in loaded
    assert loaded & {"torch", "litellm", "textual", "sklearn", "transformers", "sqlmodel", "numpy", "vllm"} == set()


async def test_the_worker_starts_with_its_flags_read(relay: Worker) -> None:
    assert relay.status()["flag_error"] == ""
    assert relay.status()["is_flags_stale"] is False


async def test_who_has_no_answer_yet_when_the_relay_stops_is_told_so(relay_config: Settings, upstream: Upstream) -> None:
    async def say_nothing(_received: Received, _writer: asyncio.StreamWriter) -> None:
        await asyncio.Event().wait()

    upstream.script = say_nothing
    worker = await start_worker(relay_config)
    asking = asyncio.ensure_future(talk(worker.port, CHAT, KEY, ASK))
    await until(lambda: upstream.received)
    assert await worker.drain(0.0) == 1
    reply = await asking
    assert (reply.status, reply.is_whole) == (503, True)
    assert b"relay_stopped" in reply.body
    (exchange,) = kept(relay_config)
    assert exchange.end is not None
    assert (exchange.end.state, exchange.end.error_kind) == ("interrupted", "relay_stopped")
