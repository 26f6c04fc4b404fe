"""What ends a WebSocket reaches both sides and the spool: closes, losses, limits, and an upstream cut at any byte."""

from __future__ import annotations

import asyncio
import base64
import json
import struct
from hashlib import sha1
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from capture import feed
from capture.database import open_database
from capture.filters import parse_filter
from capture.settings import Settings
from capture.transcript import CLIENT, CLOSE, SERVER, TEXT, Said
from proxy.worker import Worker, start_worker
from tests.capture.planting import drain
from tests.proxy.scripting import relay_settings, until
from tests.proxy.websocket.sockets import (
    AUTHORIZED,
    REALTIME,
    Upstream,
    closing,
    ended,
    frame,
    handshaken,
    reach,
)


@pytest.mark.parametrize(("code", "reason"), [(1000, ""), (1001, "going"), (3000, "né"), (4999, "x" * 123)])
@pytest.mark.parametrize("who", ["client", "upstream"])
async def test_a_close_reaches_the_other_side_with_its_code(
    who: str, code: int, reason: str, relay: Worker, upstream: Upstream, relay_config: Settings
) -> None:
    async def script(socket: ServerConnection) -> None:
        if who == "upstream":
            await socket.close(code, reason)
        await socket.wait_closed()

    upstream.script = script
    async with reach(relay) as socket:
        if who == "client":
            await socket.close(code, reason)
        assert await closing(socket) == (code, reason)
    await until(lambda: upstream.sockets[0].close_code is not None)
    assert (upstream.sockets[0].close_code, upstream.sockets[0].close_reason) == (code, reason)
    exchange, said = await ended(relay_config)
    assert exchange.end is not None
    assert exchange.end.state == "complete"
    closes = [(each.side, json.loads(each.data)) for each in said if each.kind == CLOSE]
    assert (CLIENT if who == "client" else SERVER, {"code": code, "reason": reason}) in closes


async def test_what_the_upstream_says_after_the_clients_close_still_arrives(relay: Worker, upstream: Upstream) -> None:
    """A raw client, since real ones stop listening."""

    async def script(socket: ServerConnection) -> None:
        await socket.send("first")
        with pytest.raises(ConnectionClosed):
            await socket.recv()

    upstream.script = script
    reader, writer = await handshaken(relay)
    assert await reader.readexactly(7) == b"\x81\x05first"
    writer.write(frame(0x8, struct.pack("!H", 1000)))
    assert await asyncio.wait_for(reader.readexactly(4), 5) == b"\x88\x02\x03\xe8"
    assert await asyncio.wait_for(reader.read(), 5) == b""
    writer.close()


async def test_pings_pass_both_ways(relay: Worker, upstream: Upstream) -> None:
    ponged = asyncio.Event()

    async def script(socket: ServerConnection) -> None:
        await (await socket.ping(b"from above"))
        ponged.set()
        await socket.wait_closed()

    upstream.script = script
    async with asyncio.timeout(10), reach(relay) as socket:
        await (await socket.ping(b"from below"))
        await ponged.wait()


async def test_when_the_upstream_breaks_off_the_client_is_told_and_nothing_that_came_is_lost(
    relay: Worker, upstream: Upstream, relay_config: Settings
) -> None:
    async def script(socket: ServerConnection) -> None:
        await socket.recv()
        for number in range(100):
            await socket.send(f"piece {number}")
        socket.transport.abort()

    upstream.script = script
    got: list[str | bytes] = []
    async with asyncio.timeout(10), reach(relay) as socket:
        await socket.send("go")
        with pytest.raises(ConnectionClosed):
            while True:
                got.append(await socket.recv())
    assert (socket.close_code, socket.close_reason) == (1014, "the upstream broke off")
    exchange, said = await ended(relay_config)
    assert [each.data.decode() for each in said if each.side == SERVER] == got
    assert exchange.end is not None
    assert (exchange.end.state, exchange.end.error_kind) == ("upstream_aborted", "upstream_aborted")


async def test_when_the_client_breaks_off_the_upstream_is_told(relay: Worker, upstream: Upstream, relay_config: Settings) -> None:
    socket = await reach(relay)
    await socket.send("hi")
    assert await socket.recv() == "hi"
    socket.transport.abort()
    await until(lambda: upstream.sockets[0].close_code is not None)
    assert upstream.sockets[0].close_code == 1001
    exchange, _ = await ended(relay_config)
    assert exchange.end is not None
    assert exchange.end.state == "client_closed"


async def test_a_client_that_closes_and_hangs_up_at_once_has_closed(
    relay: Worker, upstream: Upstream, relay_config: Settings
) -> None:
    got: list[str | bytes] = []

    async def script(socket: ServerConnection) -> None:
        with pytest.raises(ConnectionClosed):
            while True:
                got.append(await socket.recv())

    upstream.script = script
    _, writer = await handshaken(relay)
    writer.write(frame(0x1, b"last words") + frame(0x8, struct.pack("!H", 4000)))
    await writer.drain()
    writer.close()
    exchange, _ = await ended(relay_config)
    assert got == ["last words"]
    assert upstream.sockets[0].close_code == 4000
    assert exchange.end is not None
    assert exchange.end.state == "complete"


@pytest.mark.parametrize("who", ["client", "upstream"])
async def test_a_message_beyond_the_limit_closes_both_sides(who: str, tmp_path: Path, upstream: Upstream) -> None:
    settings = relay_settings(tmp_path, f"http://127.0.0.1:{upstream.port}", websocket_message_mib=1)
    large = "x" * (2**20 + 1)

    async def script(socket: ServerConnection) -> None:
        if who == "upstream":
            await socket.send(large)
        await socket.wait_closed()

    upstream.script = script
    worker = await start_worker(settings)
    try:
        async with reach(worker) as socket:
            if who == "client":
                await socket.send(large)
            code, _ = await closing(socket)
            assert code == 1009
        exchange, said = await ended(settings)
    finally:
        await worker.drain(0.0)
    assert exchange.end is not None
    assert exchange.end.error_kind == "message_too_big"
    assert "websocket_message_mib" in exchange.end.error_message
    assert exchange.end.state == ("client_closed" if who == "client" else "upstream_aborted")
    assert [each for each in said if each.kind == TEXT] == []


async def test_a_websocket_at_rest_for_too_long_is_closed_on_both_sides(tmp_path: Path, upstream: Upstream) -> None:
    settings = relay_settings(tmp_path, f"http://127.0.0.1:{upstream.port}", websocket_idle_s=0.3)
    worker = await start_worker(settings)
    try:
        async with reach(worker, ping_interval=None) as socket:
            assert await closing(socket) == (1001, "idle for too long")
        exchange, _ = await ended(settings)
        await until(lambda: upstream.sockets[0].close_code == 1001)
    finally:
        await worker.drain(0.0)
    assert exchange.end is not None
    assert (exchange.end.state, exchange.end.error_kind) == ("timeout", "idle_timeout")


async def test_a_client_that_does_not_read_slows_the_upstream_down(
    relay: Worker, upstream: Upstream, relay_config: Settings
) -> None:
    sent = 0
    stood_still = asyncio.Event()

    async def script(socket: ServerConnection) -> None:
        nonlocal sent
        with pytest.raises(ConnectionClosed):
            while True:
                try:
                    async with asyncio.timeout(1.0):
                        await socket.send(b"x" * 2**18)
                except TimeoutError:
                    stood_still.set()
                    await socket.wait_closed()
                sent += 2**18

    upstream.script = script
    reader, writer = await handshaken(relay)
    assert isinstance(reader, asyncio.StreamReader)
    await asyncio.wait_for(stood_still.wait(), 30)
    assert sent < 64 * 2**20
    writer.transport.abort()
    await ended(relay_config)


async def test_a_worker_that_stops_tells_both_sides(upstream: Upstream, relay_config: Settings) -> None:
    worker = await start_worker(relay_config)
    async with reach(worker) as socket:
        await socket.send("hi")
        assert await socket.recv() == "hi"
        draining = asyncio.ensure_future(worker.drain(0.0))
        assert await closing(socket) == (1012, "the relay stops")
        assert await draining == 1
    await until(lambda: upstream.sockets[0].close_code == 1012)
    exchange, _ = await ended(relay_config)
    assert exchange.end is not None
    assert (exchange.end.state, exchange.end.error_kind) == ("interrupted", "relay_stopped")


async def test_many_messages_both_ways_at_once_keep_their_order(
    relay: Worker, upstream: Upstream, relay_config: Settings
) -> None:
    down = [f"down {number} " + "x" * (number * 37 % 3_000) for number in range(500)]
    up = [f"up {number} " + "y" * (number * 53 % 3_000) for number in range(500)]
    arrived: list[str | bytes] = []

    async def script(socket: ServerConnection) -> None:
        async def listen() -> None:
            arrived.extend([await socket.recv() for _ in up])

        listening = asyncio.ensure_future(listen())
        for text in down:
            await socket.send(text)
        await listening
        await socket.close()

    upstream.script = script
    async with asyncio.timeout(60), reach(relay) as socket:

        async def speak() -> None:
            for text in up:
                await socket.send(text)

        speaking = asyncio.ensure_future(speak())
        assert [await socket.recv() for _ in down] == down
        await speaking
        assert await closing(socket) == (1000, "")
    assert arrived == up
    _, said = await ended(relay_config)
    assert [each.data.decode() for each in said if each.side == CLIENT and each.kind == TEXT] == up
    assert [each.data.decode() for each in said if each.side == SERVER and each.kind == TEXT] == down


@pytest.mark.parametrize(
    ("data", "code", "kind"),
    [
        (b"\x83\x80\0\0\0\0", 1002, "bad_websocket"),
        (b"\xf1\x80\0\0\0\0", 1002, "bad_websocket"),
        (b"\x80\x80\0\0\0\0", 1002, "bad_websocket"),
        (b"\x81\xff\0\0\0\x10\0\0\0\0\0\0\0\0", 1009, "message_too_big"),
    ],
    ids=["opcode", "reserved bits", "continuation of nothing", "64 GiB"],
)
async def test_frames_that_break_the_protocol_close_both_sides(
    data: bytes, code: int, kind: str, relay: Worker, upstream: Upstream, relay_config: Settings
) -> None:
    reader, writer = await handshaken(relay)
    writer.write(data)
    assert await asyncio.wait_for(reader.readexactly(4), 5) == struct.pack("!BBH", 0x88, 2, code)
    exchange, _ = await ended(relay_config)
    await until(lambda: upstream.sockets[0].close_code is not None)
    assert exchange.end is not None
    assert (exchange.end.state, exchange.end.error_kind) == ("client_closed", kind)
    writer.close()


async def test_text_that_is_no_utf8_passes_as_it_is_and_is_for_the_upstream_to_refuse(
    relay: Worker, upstream: Upstream, relay_config: Settings
) -> None:
    reader, writer = await handshaken(relay)
    writer.write(frame(0x1, b"\xff\xfe"))
    assert (await asyncio.wait_for(reader.readexactly(4), 5))[2:] == struct.pack("!H", 1007)
    _, said = await ended(relay_config)
    assert said[0] == Said(CLIENT, TEXT, b"\xff\xfe")
    writer.close()


async def test_a_session_that_is_cut_at_any_byte_is_never_stored_as_complete(tmp_path: Path) -> None:
    item = {"id": "o1", "type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Good day."}]}
    events: list[dict[str, Any]] = [
        {"type": "session.created", "session": {"model": "gpt-realtime"}},
        {"type": "response.created", "response": {"id": "r1", "status": "in_progress", "output": []}},
        {"type": "response.output_text.delta", "response_id": "r1", "item_id": "o1", "delta": "Good day."},
        {"type": "response.done", "response": {"id": "r1", "status": "completed", "output": [item]}},
    ]
    texts = [json.dumps(event).encode() for event in events]
    whole = b"".join(b"\x81\x7e" + struct.pack("!H", len(text)) + text for text in texts) + b"\x88\x02\x03\xe8"
    cuts = [*range(0, len(whole), 5), *range(len(whole) - 4, len(whole) + 1)]

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        lines = dict(line.split(": ", 1) for line in head.decode().split("\r\n")[1:-2])
        given = {name.lower(): value for name, value in lines.items()}
        accept = base64.b64encode(sha1(given["sec-websocket-key"].encode() + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n")
        writer.write(b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n" + whole[: int(given["x-cut"])])
        await writer.drain()
        writer.close()

    async def client(port: int, cut: int) -> None:
        headers = {**AUTHORIZED, "X-Cut": str(cut), "x-potstill-tag-cut": str(cut)}
        async with connect(
            f"ws://127.0.0.1:{port}{REALTIME}", additional_headers=headers, proxy=None, compression=None
        ) as socket:
            with pytest.raises(ConnectionClosed):
                while True:
                    await socket.recv()
            assert socket.close_code == (1000 if cut == len(whole) else 1014)

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    settings = relay_settings(tmp_path, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    worker = await start_worker(settings)
    for start in range(0, len(cuts), 10):
        await asyncio.gather(*(client(worker.port, cut) for cut in cuts[start : start + 10]))
    await worker.drain(5.0)
    server.close()
    database = open_database(settings.database_url)
    try:
        drain(database, settings.data_folder / "spool")
        stored = {int(each.tags["cut"]): each.state for each in feed.page(database, parse_filter(""), limit=1_000)}
    finally:
        database.close()
    assert stored == {cut: "complete" if cut == len(whole) else "upstream_aborted" for cut in cuts}
