"""The upstream's side of a connection: what came, whole or broken, and whether it may be asked again."""

from __future__ import annotations

import asyncio
import gc
import itertools
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import uvloop
from hypothesis import given
from hypothesis import strategies as st

from proxy.wire.pool import Origin, Pool
from proxy.wire.reply import BrokenError, Reply, SilentError
from proxy.wire.upstream import Patience
from tests.proxy.scripting import chunk, chunked_head, http_answer, until
from tests.proxy.wire.serving import LONGEST_S, Peer, Talk, answering, passed, peer, read_one

PATIENT = Patience(LONGEST_S, LONGEST_S)
GET = b"GET / HTTP/1.1\r\nHost: up\r\n\r\n"
BODY = b'{"is": "whole"}'
WHOLE = http_answer(BODY)
STREAM = chunked_head() + chunk(BODY[:7]) + chunk(BODY[7:]) + b"0\r\n\r\n"
ENDLESS = b"HTTP/1.1 200 OK\r\n\r\n" + BODY


@asynccontextmanager
async def pooled(keepalive_s: float = LONGEST_S) -> AsyncIterator[Pool]:
    """A pool that is closed at the end."""
    pool = Pool(keepalive_s)
    try:
        yield pool
    finally:
        pool.close()


async def begin(pool: Pool, upstream: Peer, head: bytes = GET, body: bytes = b"", patience: Patience = PATIENT) -> Reply:
    """Asks; the answer's head may still be missing."""
    origin = Origin("127.0.0.1", upstream.address) if isinstance(upstream.address, int) else Origin("", 0, path=upstream.address)
    connection = await pool.take(origin, LONGEST_S)
    return connection.ask(head.split(b" ")[0].decode(), head, body, patience)


async def whole(reply: Reply) -> bytes:
    """The answer's whole body; BrokenError or SilentError."""
    pieces: list[bytes] = []
    async with asyncio.timeout(LONGEST_S):
        await reply.arrived
        last = await reply.pour(pieces.append)
    return b"".join(pieces) + last


async def ask(pool: Pool, upstream: Peer, head: bytes = GET) -> bytes:
    """One question and its answer's body."""
    return await whole(await begin(pool, upstream, head))


# --- asked again, or not

AGAIN = {
    "a counted answer": (WHOLE,),
    "a stream": (STREAM,),
    "a stream in single bytes": tuple(STREAM[at : at + 1] for at in range(len(STREAM))),
    "an answer without a body": (b"HTTP/1.1 204 No Content\r\n\r\n",),
    "an old upstream that wants to stay": (
        f"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: {len(BODY)}\r\n\r\n".encode() + BODY,
    ),
    "after interim answers": (b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early\r\nLink: a\r\n\r\n" + WHOLE),
    "with trailers": (STREAM[:-2] + b"X-Sum: 1\r\n\r\n",),
}


@pytest.mark.parametrize("name", AGAIN)
async def test_a_connection_is_asked_again_after_a_whole_answer(name: str) -> None:
    async with peer(answering(*AGAIN[name])) as upstream, pooled() as pool:
        for _ in range(5):
            assert await ask(pool, upstream) == (b"" if "without" in name else BODY)
        assert upstream.opened == 1


ONCE: dict[str, tuple[bytes, bytes]] = {
    "the upstream says so": (GET, http_answer(BODY, headers={"Connection": "close"})),
    "an old upstream": (GET, f"HTTP/1.0 200 OK\r\nContent-Length: {len(BODY)}\r\n\r\n".encode() + BODY),
    "the answer to a HEAD": (GET.replace(b"GET", b"HEAD"), WHOLE[: -len(BODY)]),
    "a second answer in the same packet": (GET, WHOLE + http_answer(b"forged", status="500 Forged")),
    "half of a second answer": (GET, STREAM + b"HTTP/1.1 2"),
    "bytes beyond": (GET, WHOLE + b"more"),
    "a body where none may be": (GET, b"HTTP/1.1 204 No Content\r\nContent-Length: 4\r\n\r\nbody"),
}


@pytest.mark.parametrize("name", ONCE)
async def test_a_connection_is_not_asked_again_after(name: str) -> None:
    head, data = ONCE[name]
    async with peer(answering(data)) as upstream, pooled() as pool:
        for count in range(1, 4):
            reply = await begin(pool, upstream, head)
            assert await whole(reply) == (b"" if "HEAD" in name or "none" in name else BODY)
            assert reply.status == (204 if "none" in name else 200)
            assert upstream.opened == count
        await until(lambda: upstream.ended == 3)


async def test_an_answer_may_end_with_its_connection_which_is_then_gone() -> None:
    async with peer(answering(ENDLESS, closes=True)) as upstream, pooled() as pool:
        for _ in range(3):
            assert await ask(pool, upstream) == BODY
        assert upstream.opened == 3


async def test_who_gives_up_an_answer_takes_its_connection_along() -> None:
    async with peer(answering(chunked_head() + chunk(BODY))) as upstream, pooled() as pool:
        reply = await begin(pool, upstream)
        assert await reply.first() == BODY
        reply.close()
        await until(lambda: upstream.ended == 1)
        waiting = await begin(pool, upstream)
        waiting.close()
        await until(lambda: upstream.ended == 2)


async def test_a_connection_with_something_unsent_is_not_asked_again() -> None:
    """An upstream that refuses before it has read all would take the next request for the rest of this one."""
    may_close = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        writer.write(http_answer(b"too large", status="413 Content Too Large"))
        await may_close.wait()

    body = bytes(30_000_000)
    head = b"POST / HTTP/1.1\r\nHost: up\r\nContent-Length: %d\r\n\r\n" % len(body)
    async with peer(talk) as upstream, pooled() as pool:
        for count in range(1, 4):
            reply = await begin(pool, upstream, head, body)
            assert (await whole(reply), reply.status) == (b"too large", 413)
            assert upstream.opened == count
        may_close.set()


# --- broken, and never whole


def cut(data: bytes, at: int, *, is_reset: bool) -> Talk:
    """Sends the first `at` bytes and then closes, or resets."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_one(reader)
        writer.write(data[:at])
        await writer.drain()
        if is_reset:
            await asyncio.sleep(0)
            writer.transport.abort()

    return talk


@pytest.mark.parametrize("is_reset", [False, True], ids=["closed", "reset"])
@pytest.mark.parametrize("data", [WHOLE, STREAM], ids=["a counted answer", "a stream"])
async def test_an_answer_that_is_cut_at_any_byte_is_broken(data: bytes, is_reset: bool) -> None:
    async with pooled() as pool:
        for at in range(len(data)):
            async with peer(cut(data, at, is_reset=is_reset)) as upstream:
                with pytest.raises(BrokenError):
                    await ask(pool, upstream)
        async with peer(cut(data, len(data), is_reset=False)) as upstream:
            assert await ask(pool, upstream) == BODY


async def test_an_answer_without_framing_is_broken_by_a_reset_and_by_our_own_end() -> None:
    may_reset = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_one(reader)
        writer.write(ENDLESS)
        await may_reset.wait()
        reset(writer)

    async with peer(talk) as upstream:
        async with pooled() as pool:
            broken = await begin(pool, upstream)
            assert await broken.first() == BODY
        with pytest.raises(BrokenError, match="the relay closed the connection"):
            await whole(broken)
        async with pooled() as pool:
            broken = await begin(pool, upstream)
            assert await broken.first() == BODY
            may_reset.set()
            with pytest.raises(BrokenError):
                await whole(broken)


def reset(writer: asyncio.StreamWriter) -> None:
    """Ends a connection by a TCP reset."""
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


NO_HTTP = {
    "words": b"hello\r\n",
    "a chunk size that is none": chunked_head() + b"zz\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    "both framings": b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
    "a switch of protocols": b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\nPRI",
    "a head without an end": b"HTTP/1.1 200 OK\r\n" + b"X-More: v\r\n" * 40_000,
    "interim answers without an end": b"HTTP/1.1 102 Processing\r\n\r\n" * 20_000,
}


@pytest.mark.parametrize("name", NO_HTTP)
async def test_what_is_no_answer_is_broken_and_its_connection_closed(name: str) -> None:
    async with peer(answering(NO_HTTP[name])) as upstream, pooled() as pool:
        with pytest.raises(BrokenError):
            await ask(pool, upstream)
        await until(lambda: upstream.ended == 1)


@given(cuts=st.lists(st.integers(1, len(STREAM) - 1), max_size=6), data=st.sampled_from([WHOLE, STREAM]))
def test_an_answer_is_the_same_wherever_its_bytes_are_cut(cuts: list[int], data: bytes) -> None:
    edges = [0, *sorted({min(at, len(data)) for at in cuts}), len(data)]

    async def talk() -> None:
        got: list[bytes] = []
        async with peer(answering(*(data[a:b] for a, b in itertools.pairwise(edges)))) as upstream, pooled() as pool:
            got.append(await ask(pool, upstream))
            got.append(await ask(pool, upstream))
            assert upstream.opened == 1
        assert got == [BODY, BODY]

    uvloop.run(talk())


# --- patience


@pytest.mark.parametrize(
    ("sent", "patience", "why"),
    [
        (b"", Patience(0.2, 60), "sent nothing for 0.2 s"),
        (b"HTTP/1.1 200 OK\r\nX-Half", Patience(0.2, 60), "sent nothing for 0.2 s"),
        (chunked_head(), Patience(60, 0.2), "sent nothing for 0.2 s"),
        (chunked_head() + chunk(b"abc"), Patience(60, 0.2), "sent nothing for 0.2 s"),
        (chunked_head() + chunk(b"abc"), Patience(60, 60, 0.2), r"was not done after 0.2 s"),
        (b"", Patience(60, 60, 0.2), r"was not done after 0.2 s"),
    ],
)
async def test_an_upstream_that_is_silent_for_too_long_is_given_up(sent: bytes, patience: Patience, why: str) -> None:
    async with peer(answering(sent)) as upstream, pooled() as pool:
        with pytest.raises(SilentError, match=why):
            await whole(await begin(pool, upstream, patience=patience))
        await until(lambda: upstream.ended == 1)


async def test_an_upstream_that_moves_is_not_silent_however_long_it_takes() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_one(reader)
        for at in range(len(STREAM)):
            writer.write(STREAM[at : at + 1])
            await passed(0.02)

    async with peer(talk) as upstream, pooled() as pool:
        assert await whole(await begin(pool, upstream, patience=Patience(1.0, 1.0))) == BODY


async def test_nothing_is_read_while_nobody_takes_and_that_is_not_the_upstreams_silence() -> None:
    sent = 0

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await read_one(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 40000000\r\n\r\n")
        for _ in range(400):
            writer.write(bytes(100_000))
            await writer.drain()
            sent += 100_000
        await reader.read()

    async with peer(talk) as upstream, pooled() as pool:
        reply = await begin(pool, upstream, patience=Patience(0.3, 0.3))
        await reply.arrived
        await passed(1.0)
        assert reply.held_bytes < 2**20
        assert sent < 40_000_000, "the upstream is held up too"
        assert len(await whole(reply)) == 40_000_000
        reply = await begin(pool, upstream, patience=Patience(0.3, 60))
        reply.close()


# --- nothing is left


async def test_ten_thousand_requests_leave_nothing_behind() -> None:
    async with peer(answering(STREAM)) as upstream, pooled() as pool:

        async def some(count: int) -> int:
            for _ in range(count):
                assert await ask(pool, upstream) == BODY
            gc.collect()
            return len(gc.get_objects())

        before = await some(1_000)
        after = await some(9_000)
        assert after - before < 500, "a single object that stays of each request would make thousands"
        assert upstream.opened == 1
