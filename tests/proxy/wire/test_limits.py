"""How patient a server is, and what is left of clients that leave, stall or dribble: nothing."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

import pytest

from proxy.wire.call import Call
from proxy.wire.limits import Limits
from tests.proxy.scripting import until
from tests.proxy.wire.serving import LONGEST_S, Client, Serving, answer, client, passed, request, serving

LARGE = bytes(30_000_000)
"""More than sockets hold."""
HALF_HEAD = request("/", "X-More: 1\r\n")[:-4]
HALF_BODY = request(body=b"x" * 1_000)[:-500]
HALF_CHUNKS = request("/", "Transfer-Encoding: chunked\r\n") + b"5\r\nabc"


@pytest.mark.parametrize(
    ("sent", "limits", "kind"),
    [
        (HALF_HEAD, Limits(body_bytes=2**20, head_s=0.2), b"head_timeout"),
        (HALF_BODY, Limits(body_bytes=2**20, body_idle_s=0.2), b"body_timeout"),
        (HALF_CHUNKS, Limits(body_bytes=2**20, body_idle_s=0.2), b"body_timeout"),
        (HALF_BODY, Limits(body_bytes=2**20, body_total_s=0.2), b"body_timeout"),
    ],
    ids=["a head", "a counted body", "chunks", "a body in all"],
)
async def test_who_sends_half_a_request_is_told_what_was_waited_for(sent: bytes, limits: Limits, kind: bytes) -> None:
    async with serving(limits=limits) as found:
        async with client(found.port) as one:
            reply = await one.ask(sent)
            assert (reply.status, reply.body, reply.header("connection")) == (408, kind, "close")
            assert await one.rest() == b""
        await until(lambda: found.is_empty)


@pytest.mark.parametrize(
    ("start", "limits", "kind"),
    [
        (request("/", "X: ")[:-4], Limits(body_bytes=2**20, head_s=0.5), b"head_timeout"),
        (request("/", "Content-Length: 100000\r\n"), Limits(body_bytes=2**20, body_total_s=0.5), b"body_timeout"),
    ],
    ids=["a head", "a body"],
)
async def test_a_byte_now_and_then_does_not_hold_a_connection_open(start: bytes, limits: Limits, kind: bytes) -> None:
    async with serving(limits=limits) as found, client(found.port) as one:
        one.writer.write(start)

        async def dribble() -> None:
            while True:
                one.writer.write(b"x")
                await asyncio.sleep(0.02)

        dribbling = asyncio.ensure_future(dribble())
        assert (await one.reply()).body == kind
        dribbling.cancel()


async def test_a_body_that_moves_may_take_longer_than_its_longest_pause() -> None:
    async with serving(limits=Limits(body_bytes=2**20, body_idle_s=1.0)) as found, client(found.port) as one:
        one.writer.write(request("/", "Content-Length: 8\r\n"))
        for _ in range(8):
            await passed(0.2)
            one.writer.write(b"x")
        assert (await one.reply()).body == b"x" * 8


async def test_a_connection_rests_between_requests_only_so_long() -> None:
    async with serving(limits=Limits(body_bytes=2**20, keepalive_s=0.3)) as found, client(found.port) as one:
        assert (await one.ask(request(body=b"a"))).body == b"a"
        assert await one.rest() == b""
        await until(lambda: found.is_empty)


async def test_who_never_sends_anything_is_closed_too() -> None:
    async with serving(limits=Limits(body_bytes=2**20, keepalive_s=0.3)) as found, client(found.port) as one:
        assert await one.rest() == b""


async def test_while_an_answer_is_being_made_no_limit_of_the_clients_runs() -> None:
    async def serve(call: Call) -> None:
        await passed(1.0)
        answer(call, b"late")

    limits = Limits(body_bytes=2**20, head_s=0.1, body_idle_s=0.1, body_total_s=0.1, keepalive_s=0.1, stall_s=0.1)
    async with serving(serve, limits) as found, client(found.port) as one:
        assert (await one.ask(request(body=b"a"))).body == b"late"


# --- those who do not read


async def pouring(call: Call) -> None:
    """Writes for as long as the client reads."""
    may_write = asyncio.Event()
    may_write.set()
    call.on_pause, call.on_resume = may_write.clear, may_write.set
    call.start(200, "OK", b"", has_length=False)
    while True:
        await may_write.wait()
        call.write(bytes(50_000))
        await asyncio.sleep(0)


async def test_a_slow_reader_pauses_its_answer_and_is_served_on_when_it_has_caught_up() -> None:
    async with serving(pouring) as found, client(found.port, limit=2**12) as one:
        transport = one.writer.transport
        transport.pause_reading()  # type: ignore[attr-defined]
        one.writer.write(request())
        (call,) = await _calls(found)
        for _ in range(2):
            seen = -1
            while call.sent_bytes != seen:  # what the sockets take, they take in several goes
                seen = call.sent_bytes
                await passed(0.3)
            assert sum(each.unsent for each in found.server.connections) < 2**19
            transport.resume_reading()  # type: ignore[attr-defined]
            async with asyncio.timeout(LONGEST_S):
                while call.sent_bytes == seen:
                    await one.reader.readexactly(2**12)
            transport.pause_reading()  # type: ignore[attr-defined]
    await until(lambda: found.is_empty)


async def _calls(found: Serving) -> list[Call]:
    await until(lambda: found.calls)
    return found.calls


async def _whole(call: Call) -> None:
    answer(call, LARGE)


async def _whole_and_wait(call: Call) -> None:
    call.start(200, "OK", b"", has_length=False)
    call.write(LARGE)
    await asyncio.Event().wait()


@pytest.mark.parametrize("serve", [_whole, _whole_and_wait, pouring], ids=["an answer that is over", "a stream", "a fast stream"])
@pytest.mark.parametrize("headers", ["", "Connection: close\r\n"], ids=["stays", "last"])
async def test_who_takes_nothing_of_an_answer_is_cut(serve: Callable[[Call], Awaitable[None]], headers: str) -> None:
    limits = Limits(body_bytes=2**20, stall_s=0.5, keepalive_s=0.1)
    async with serving(serve, limits) as found, client(found.port, limit=2**12) as one:
        one.writer.transport.pause_reading()  # type: ignore[attr-defined]
        one.writer.write(request("/", headers))
        await _calls(found)
        await until(lambda: found.is_empty, 20)


async def test_who_says_that_nothing_more_comes_and_does_not_read_is_cut_too() -> None:
    async with serving(_whole, Limits(body_bytes=2**20, stall_s=0.5)) as found, client(found.port, limit=2**12) as one:
        one.writer.transport.pause_reading()  # type: ignore[attr-defined]
        one.writer.write(request())
        await _calls(found)
        await until(lambda: not found.server.tasks)
        one.writer.write_eof()
        await until(lambda: found.is_empty, 20)


async def test_who_leaves_the_last_little_of_an_answer_unread_is_cut_too() -> None:
    """Less than what pauses an answer, so that nothing else would notice."""

    async def serve(call: Call) -> None:
        (connection,) = found.server.connections
        call.start(200, "OK", b"", has_length=False)
        while not connection.unsent:
            call.write(bytes(20_000))
            await asyncio.sleep(0)
        call.finish()

    limits = Limits(body_bytes=2**20, stall_s=0.5, keepalive_s=0.1)
    async with serving(serve, limits) as found, client(found.port, limit=2**12) as one:
        one.writer.transport.pause_reading()  # type: ignore[attr-defined]
        one.writer.write(request())
        await _calls(found)
        await until(lambda: found.is_empty, 20)


async def test_who_reads_slowly_but_reads_is_not_cut() -> None:
    limits = Limits(body_bytes=2**20, stall_s=1.0, keepalive_s=0.2)
    async with serving(_whole, limits) as found, client(found.port, limit=2**14) as one:
        one.writer.write(request())
        await _calls(found)
        (connection,) = found.server.connections
        head = await one.reader.readuntil(b"\r\n\r\n")
        assert b"Content-Length: 30000000" in head
        taken = 0
        for _ in range(6):
            before = connection.unsent
            async with asyncio.timeout(LONGEST_S):
                while connection.unsent == before > 0:
                    taken += len(await one.reader.read(2**14))
            await passed(0.3)
        async with asyncio.timeout(LONGEST_S):
            await one.reader.readexactly(len(LARGE) - taken)


# --- leaving, at every stage


async def _hang(_call: Call) -> None:
    await asyncio.Event().wait()


async def _stream(call: Call) -> None:
    call.start(200, "OK", b"", has_length=False)
    call.write(b"first")
    await asyncio.Event().wait()


async def _refuse_slowly(call: Call) -> None:
    answer(call, b"")
    await asyncio.Event().wait()


STAGES: dict[str, tuple[bytes, Callable[[Call], Awaitable[None]] | None]] = {
    "nothing sent": (b"", None),
    "in the request line": (b"POST /v1", None),
    "in a header": (HALF_HEAD, None),
    "before the body": (request("/", "Content-Length: 9999\r\n"), None),
    "in the body": (HALF_BODY, None),
    "in a chunk": (HALF_CHUNKS, None),
    "while its answer is made": (request(body=b"abc"), _hang),
    "in an answer": (request(body=b"abc"), _stream),
    "with another request waiting": (request(body=b"abc") + request(body=b"def"), _hang),
    "with half of another": (request(body=b"abc") + HALF_BODY, _hang),
    "while it is refused": (b"no HTTP\r\n\r\n", _refuse_slowly),
    "after an answer": (request(body=b"abc"), None),
    "after a refusal": (b"no HTTP\r\n\r\n", None),
    "with an offer to upgrade": (request("/", "Connection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 9\r\n"), None),
}


@pytest.mark.parametrize("is_reset", [False, True], ids=["closed", "reset"])
@pytest.mark.parametrize("stage", STAGES)
async def test_nothing_is_left_of_a_client_that_leaves(stage: str, is_reset: bool) -> None:
    sent, serve = STAGES[stage]
    async with serving(serve) as found:
        before = len(asyncio.all_tasks())
        async with client(found.port) as one:
            one.writer.write(sent)
            await _seen(found, one, stage)
            if is_reset:
                one.writer.transport.abort()
        await until(lambda: found.is_empty)
        await until(lambda: len(asyncio.all_tasks()) == before)


async def _seen(found: Serving, one: Client, stage: str) -> None:
    await until(lambda: found.server.connections)
    if found.budget.limit and ("body" in stage or "answer" in stage or "request waiting" in stage or "refus" in stage):
        await until(lambda: found.budget.held or found.calls)
    if stage.startswith("after"):
        await one.reply()
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(asyncio.Event().wait(), 0.05)


# --- the end


async def test_draining_answers_what_was_begun_and_closes_each_connection_after_it() -> None:
    may_end = asyncio.Event()

    async def serve(call: Call) -> None:
        if call.raw_path == "/slow":
            await may_end.wait()
        answer(call, call.body)

    async with serving(serve) as found, client(found.port) as one, client(found.port) as two, client(found.port) as three:
        assert (await two.ask(request(body=b"before"))).header("connection") == ""
        one.writer.write(request("/slow", body=b"begun"))
        three.writer.write(HALF_BODY)
        await until(lambda: len(found.calls) == 2 and found.budget.held == 1_005)
        found.server.drain()
        for connection, data, body in (
            (two, request(body=b"on an open one"), b"on an open one"),
            (three, b"x" * 500, b"x" * 1_000),
        ):
            reply = await connection.ask(data)
            assert (reply.body, reply.header("connection")) == (body, "close")
            assert await connection.rest() == b""
        may_end.set()
        assert (await one.reply()).body == b"begun"


async def test_closing_leaves_no_connection_open() -> None:
    async with serving(_hang) as found, client(found.port) as one, client(found.port) as two:
        one.writer.write(request())
        two.writer.write(HALF_HEAD)
        await until(lambda: found.calls and len(found.server.connections) == 2)
        found.server.close()
        assert (await one.rest(), await two.rest()) == (b"", b"")
        await until(lambda: found.is_empty)
