"""Too much of everything: bombs, floods, slow clients. What goes beyond a limit costs little, and others are served."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import resource
import struct
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import brotli
import pytest
import zstandard

from tests.abuse.house import house_in
from tests.abuse.wire import ASK, CHAT, HOST, KEY, PATIENCE_S, send
from tests.faults.relay_process import MIB, RelayProcess, relay_process
from tests.proxy.scripting import (
    CHAT_ANSWER,
    Received,
    Upstream,
    chunk,
    chunked_head,
    http_answer,
    kept,
    read_reply,
    relay_settings,
    relaying,
    talk,
    until,
)

pytestmark = pytest.mark.abuse

BOMB_MIB = 512
HEAD = f"{CHAT} HTTP/1.1\r\n{HOST}{KEY}".encode()


def bomb(encoding: str) -> bytes:
    """A short body that unpacks to `BOMB_MIB`."""
    piece, count = bytes(MIB), BOMB_MIB
    if encoding == "gzip":
        packer, sum = zlib.compressobj(9, wbits=-15), 0
        first, same = (packer.compress(piece) + packer.flush(zlib.Z_FULL_FLUSH) for _ in range(2))  # same: may be repeated
        for _ in range(count):
            sum = zlib.crc32(piece, sum)
        ends = struct.pack("<II", sum, count * MIB % 2**32)
        return b"\x1f\x8b\x08" + bytes(6) + b"\xff" + first + same * (count - 1) + packer.flush() + ends
    if encoding == "br":
        found = brotli.Compressor(quality=1)
        return b"".join([*(found.process(piece) for _ in range(count)), found.finish()])
    if encoding == "zstd":
        return zstandard.ZstdCompressor().compress(piece) * count
    return gzip.compress(bomb("gzip"))


@asynccontextmanager
async def nobody_else_suffers(relay: RelayProcess) -> AsyncIterator[None]:
    """All the while somebody else asks, and is answered each time."""
    failed: list[object] = []

    async def ask() -> None:
        while True:
            async with asyncio.timeout(PATIENCE_S):
                reply = await talk(relay.port, "POST /v1/embeddings", KEY, b'{"model":"other"}')
            if reply.status != 200:
                failed.append(reply)
            await asyncio.sleep(0.02)

    asking = asyncio.ensure_future(ask())
    try:
        yield
        assert not asking.done() or asking.exception() is None, asking
    finally:
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
    assert failed == []


async def test_a32_a_bomb_in_either_direction_passes_packed_and_is_kept_cut(tmp_path: Path, upstream: Upstream) -> None:
    bombs = {encoding: bomb(encoding) for encoding in ("gzip", "br", "zstd", "gzip, gzip")}
    assert all(len(packed) < 2 * MIB for packed in bombs.values())

    async def script(received: Received, writer: asyncio.StreamWriter) -> None:
        encoding = received.header("accept-encoding")
        writer.write(http_answer(bombs[encoding], headers={"Content-Encoding": encoding}))

    upstream.script = script
    async with house_in(tmp_path, upstream.url) as house:
        for count, (encoding, packed) in enumerate(bombs.items(), 1):
            headers = f"{KEY}Content-Encoding: {encoding}\r\nAccept-Encoding: {encoding}\r\nContent-Type: application/json\r\n"
            reply = await talk(house.port, CHAT, headers, packed)
            assert (reply.status, reply.body, reply.header("content-encoding")) == (200, packed, encoding)
            assert upstream.received[-1].body == packed
            exchanges = await house.stored(count)
            status = await house.status()
            assert status["writer"]["restarts"] == 0, encoding
            assert peak_mib(status["workers"][0]["pid"]) < 200, encoding
            assert peak_mib(status["writer"]["pid"]) < 700, (
                f"{encoding}: a body is unpacked to 64 MiB at most, and a few times held"
            )
    assert all(exchange.state for exchange in exchanges)


def peak_mib(pid: int) -> float:
    """The most memory that a process ever held."""
    text = Path(f"/proc/{pid}/status").read_text()
    (line,) = (line for line in text.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


async def test_a33_twenty_bodies_of_50_mb_at_once_are_held_within_the_budget(tmp_path: Path, upstream: Upstream) -> None:
    budget_mib, each = 128, 50 * 10**6
    release = asyncio.Event()
    block = bytes(10**6)

    async def script(received: Received, writer: asyncio.StreamWriter) -> None:
        received.body = b""
        if "embeddings" not in received.line:
            await release.wait()
        writer.write(http_answer(CHAT_ANSWER))

    async def post(port: int) -> int:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
            with contextlib.suppress(ConnectionError):  # a refusal may come before all is sent
                for _ in range(each // len(block)):
                    writer.write(chunk(block))
                    await writer.drain()
                writer.write(b"0\r\n\r\n")
            return (await read_reply(reader)).status
        finally:
            writer.transport.abort()

    upstream.script = script
    async with relay_process(tmp_path, upstream.url, max_held_mib=budget_mib) as relay:
        before = relay.memory_mib()
        async with nobody_else_suffers(relay):
            posts = [asyncio.ensure_future(post(relay.port)) for _ in range(20)]
            await until(lambda: sum(each.done() for each in posts) >= 18, 4 * PATIENCE_S)
            release.set()
            statuses = [await each for each in posts]
        peak = relay.peak_mib() - before
    print(f"A33: {statuses.count(503)} of 20 refused, +{peak:.0f} MiB at most")
    assert set(statuses) <= {200, 503}
    assert 18 <= statuses.count(503) <= 20
    assert peak < 3 * budget_mib + 60


async def send_until_closed(port: int, start: bytes, piece: bytes, count: int) -> tuple[bytes, int]:
    """Sends `start` and then `piece` up to `count` times; what came back, and how many pieces the other side took."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    answered = asyncio.ensure_future(reader.read())
    sent = 0
    try:
        async with asyncio.timeout(4 * PATIENCE_S):
            with contextlib.suppress(ConnectionError):
                writer.write(start)
                while sent < count and not answered.done():
                    writer.write(piece)
                    await writer.drain()
                    sent += 1
            if sent == count:
                await asyncio.wait({answered}, timeout=1)
        return (answered.result() if answered.done() and not answered.exception() else b""), sent
    finally:
        answered.cancel()
        writer.transport.abort()


ENDLESS: dict[str, tuple[bytes, bytes]] = {
    "a header": (HEAD + b"X-Long: ", b"v" * 65_536),
    "a header's name": (HEAD, b"X" * 65_536),
    "a target": (b"POST /v1/", b"v" * 65_536),
    "headers": (HEAD, b"X-More: v\r\n" * 6_000),
    "a chunk size": (HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"0" * 65_536),
    "a chunk extension": (HEAD + b"Transfer-Encoding: chunked\r\n\r\n1;x=", b"v" * 65_536),
    "a trailer": (HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\nX-Trailer: ", b"v" * 65_536),
    "trailers": (HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", b"X-Trailer: v\r\n" * 5_000),
    "empty lines": (b"", b"\r\n" * 32_768),
}


async def test_a38_what_never_ends_takes_no_memory(tmp_path: Path, upstream: Upstream) -> None:
    async with relay_process(tmp_path, upstream.url) as relay:
        assert (await talk(relay.port, CHAT, KEY, ASK)).status == 200
        before = relay.memory_mib()
        async with nobody_else_suffers(relay):
            for case, (start, piece) in ENDLESS.items():
                await send_until_closed(relay.port, start, piece, 64 * MIB // len(piece))
                more = relay.peak_mib() - before
                assert more < 24, f"{more:.0f} MiB after 64 MiB of {case}"


async def test_a37_a_body_in_tiny_chunks_takes_little_more_than_its_bytes(tmp_path: Path, upstream: Upstream) -> None:
    tiny = b"2\r\n  \r\n" * 8_192
    async with relay_process(tmp_path, upstream.url) as relay:
        assert (await talk(relay.port, CHAT, KEY, ASK)).status == 200
        before = relay.memory_mib()
        async with nobody_else_suffers(relay):
            await send_until_closed(relay.port, HEAD + b"Transfer-Encoding: chunked\r\n\r\n", tiny, 512)
        more = relay.peak_mib() - before
    assert more < 60, f"{more:.0f} MiB for a body of 8 MiB"


async def test_a37_requests_sent_in_one_go_take_no_more_memory_than_their_bytes_explain(
    tmp_path: Path, upstream: Upstream
) -> None:
    release = asyncio.Event()

    async def script(received: Received, writer: asyncio.StreamWriter) -> None:
        if "embeddings" not in received.line:
            await release.wait()
        writer.write(http_answer(b"{}"))

    upstream.script = script
    one = f"GET /v1/models HTTP/1.1\r\n{HOST}{KEY}\r\n".encode()
    writers = []
    async with relay_process(tmp_path, upstream.url) as relay:
        assert (await talk(relay.port, "POST /v1/embeddings", KEY, ASK)).status == 200
        before = relay.memory_mib()
        async with nobody_else_suffers(relay):
            for _ in range(30):
                _, writer = await asyncio.open_connection("127.0.0.1", relay.port)
                writer.write(one * 4_000)
                writers.append(writer)
            await until(lambda: len([each for each in upstream.received if "models" in each.line]) >= 30, PATIENCE_S)
            for _ in range(50):
                assert (await talk(relay.port, "POST /v1/embeddings", KEY, ASK)).status == 200
            more = relay.peak_mib() - before
            release.set()
            for writer in writers:
                writer.transport.abort()
    assert more < 100, f"{more:.0f} MiB for 30 connections with {len(one) * 4_000 / MIB:.1f} MiB each"


async def test_a37_a_thousand_upgrades_in_one_go_are_passed_over(tmp_path: Path, upstream: Upstream) -> None:
    one = f"GET /v1/models HTTP/1.1\r\n{HOST}{KEY}Connection: Upgrade\r\nUpgrade: h2c\r\n\r\n".encode()
    last = f"GET /v1/models HTTP/1.1\r\n{HOST}{KEY}Connection: close\r\n\r\n".encode()
    async with relay_process(tmp_path, upstream.url) as relay:
        async with nobody_else_suffers(relay):
            replies = await send(relay.port, one * 1_000 + last)
        assert all(reply.status in (200, 400, 429, 503) for reply in replies)
        assert replies[0].body == CHAT_ANSWER
        if len(replies) < 1_001:
            assert replies[-1].status != 200, "what is not served is refused, not dropped in silence"
    assert "RecursionError" not in (tmp_path / "relay.log").read_text("utf-8", "replace")


SLOW: dict[str, tuple[bytes, bytes]] = {
    "nothing at all": (b"", b""),
    "its first line": (b"", b"P"),
    "its headers": (f"{CHAT} HTTP/1.1\r\n{HOST}".encode(), b"X-Slow: 1\r\n"),
    "one header": (f"{CHAT} HTTP/1.1\r\n{HOST}X-Slow: ".encode(), b"v"),
    "its body": (HEAD + b"Content-Length: 100000\r\n\r\n", b" "),
    "its chunks": (HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
    "one chunk's size": (HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"0"),
    "its trailers": (HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", b"X-Slow: 1\r\n"),
    "the rest of its body": (HEAD + b"Content-Length: 100000\r\n\r\n{", b""),
}
IMPATIENT = {"head_timeout_s": 1, "body_idle_s": 1, "body_total_s": 2, "client_keepalive_s": 1}


async def test_a34_who_sends_a_byte_now_and_then_is_closed_by_a_limit(tmp_path: Path, upstream: Upstream) -> None:
    async def told(case: str) -> bytes:
        start, drop = SLOW[case]
        reader, writer = await asyncio.open_connection("127.0.0.1", worker.port)
        writer.write(start)
        answered = asyncio.ensure_future(reader.read())
        async with asyncio.timeout(PATIENCE_S):
            while not answered.done():
                if drop and not writer.is_closing():
                    writer.write(drop)
                await asyncio.sleep(0.2)
        writer.close()
        return b"" if answered.exception() else answered.result()

    relay_settings(tmp_path, upstream.url, **IMPATIENT)
    async with relaying(tmp_path) as worker:
        for case, answer in zip(SLOW, await asyncio.gather(*map(told, SLOW)), strict=True):
            assert not answer or answer.startswith((b"HTTP/1.1 408", b"HTTP/1.1 400")), case
        assert upstream.received == []
        assert (await talk(worker.port, CHAT, KEY, ASK)).body == CHAT_ANSWER


async def test_a34_who_never_reads_is_closed_and_lets_go_of_his_upstream(tmp_path: Path, upstream: Upstream) -> None:
    async def flood(_received: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(chunked_head())
        while True:
            writer.write(chunk(bytes(65_536)))
            await writer.drain()

    upstream.script = flood
    settings = relay_settings(tmp_path, upstream.url, client_stall_s=1)
    async with relaying(tmp_path) as worker:
        _, writer = await asyncio.open_connection("127.0.0.1", worker.port, limit=2**10)
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        writer.write(HEAD + f"Content-Length: {len(ASK)}\r\n\r\n".encode() + ASK)
        await asyncio.wait_for(upstream.closed.wait(), PATIENCE_S)
        writer.transport.abort()
        await until(lambda: [each.end for each in kept(settings) if each.end], PATIENCE_S)
    (exchange,) = kept(settings)
    assert exchange.end is not None
    assert exchange.end.state == "client_closed"


async def test_a35_ten_thousand_connections_that_have_asked_and_rest_leave_the_relay_serving(
    tmp_path: Path, upstream: Upstream
) -> None:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    count = min(10_000, soft - 1_000)
    ask = f"GET /v1/models HTTP/1.1\r\n{HOST}{KEY}\r\n".encode()
    writers: list[asyncio.StreamWriter] = []

    async def connect(number: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", relay.port)
        writers.append(writer)
        if number % 10 == 0:
            writer.write(ask)
            assert (await read_reply(reader)).status == 200

    async with relay_process(tmp_path, upstream.url, client_keepalive_s=600) as relay:
        try:
            before = relay.memory_mib()
            for start in range(0, count, 100):
                await asyncio.gather(*(connect(number) for number in range(start, min(start + 100, count))))
            for _ in range(20):
                assert (await talk(relay.port, CHAT, KEY, ASK)).body == CHAT_ANSWER
            more = relay.memory_mib() - before
            assert not any(writer.is_closing() for writer in writers)
        finally:
            for writer in writers:
                writer.transport.abort()
    print(f"A35: {count} resting connections: +{more:.0f} MiB")
    assert more < 160


async def test_a36_a_million_tiny_events_pass_and_memory_stays_flat(tmp_path: Path, upstream: Upstream) -> None:
    events, at_once = 1_000_000, 1_000
    block = chunk(b"data: x\n\n") * at_once

    async def script(_received: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(chunked_head())
        for _ in range(events // at_once):
            writer.write(block)
            await writer.drain()
        writer.write(b"0\r\n\r\n")

    async with relay_process(tmp_path, upstream.url) as relay:
        assert (await talk(relay.port, CHAT, KEY, ASK)).status == 200
        upstream.script = script
        before = relay.memory_mib()
        reader, writer = await asyncio.open_connection("127.0.0.1", relay.port)
        writer.write(HEAD + f"Content-Length: {len(ASK)}\r\nConnection: close\r\n\r\n".encode() + ASK)
        seen, size = 0, 0
        async with asyncio.timeout(8 * PATIENCE_S):
            while data := await reader.read(2**20):
                seen += data.count(b"x\n")
                size += len(data)
        more = relay.peak_mib() - before
        writer.close()
    assert seen >= events * 0.99, "some of them are split between two reads"
    assert size >= events * 9
    bodies = [len(exchange.body) for exchange in kept(relay.settings)]
    assert bodies[-1] == events * 9
    assert more < 60


MULTIPART: dict[str, tuple[str, bytes]] = {
    "no boundary": ("multipart/form-data", b"--x\r\n\r\n--x--"),
    "an empty boundary": ("multipart/form-data; boundary=", b"--\r\n\r\n----"),
    "a long boundary": (f"multipart/form-data; boundary={'b' * 4_000}", b"--" + b"b" * 4_000),
    "a boundary with line ends": ('multipart/form-data; boundary="a%0d%0ab"', b"--a\r\nb--"),
    "two boundaries": ("multipart/form-data; boundary=a; boundary=b", b"--a\r\n\r\n--b--"),
    "almost the boundary, a million times": ("multipart/form-data; boundary=aaaa", b"\r\n--aaa" * 1_000_000),
    "line ends only": ("multipart/form-data; boundary=a", b"\r\n" * 2_000_000),
    "a part without an end": ("multipart/form-data; boundary=a", b"--a\r\nContent-Disposition: form-data; name=" + b"n" * 10**6),
    "nested parts": ("multipart/form-data; boundary=a", b"--a\r\nContent-Type: multipart/mixed; boundary=a\r\n\r\n" * 10_000),
}


@pytest.mark.parametrize("path", ["/v1/audio/transcriptions", "/v1/chat/completions"])
async def test_a37_multipart_tricks_pass_unread_and_are_stored(path: str, tmp_path: Path, upstream: Upstream) -> None:
    async with house_in(tmp_path, upstream.url) as house:
        for kind, body in MULTIPART.values():
            reply = await talk(house.port, f"POST {path}", f"{KEY}Content-Type: {kind}\r\n", body)
            assert (reply.status, reply.body) == (200, CHAT_ANSWER)
            assert upstream.received[-1].body == body
        exchanges = await house.stored(len(MULTIPART))
        status = await house.status()
    assert {exchange.state for exchange in exchanges} == {"complete"}
    assert status["writer"]["restarts"] == 0
