"""An answer while it arrives: its head first, no byte lost or twice, and whoever waits is told how it ends."""

from __future__ import annotations

import asyncio
import weakref

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.wire.reply import BrokenError, Reply


class Tap:
    """A source that counts what it is told."""

    def __init__(self) -> None:
        self.is_open = True
        self.given_up = 0

    def pause(self) -> None:
        self.is_open = False

    def resume(self) -> None:
        self.is_open = True

    def give_up(self) -> None:
        self.given_up += 1


def fresh() -> tuple[Reply, Tap]:
    """An answer of which nothing has come yet."""
    tap = Tap()
    return Reply(tap, asyncio.get_running_loop()), tap


@given(pieces=st.lists(st.binary(min_size=1, max_size=9), max_size=8), early=st.integers(0, 8), last=st.binary(max_size=9))
def test_no_byte_is_lost_or_twice_whenever_somebody_begins_to_take_them(pieces: list[bytes], early: int, last: bytes) -> None:
    async def run() -> list[bytes]:
        reply, tap = fresh()
        for piece in pieces[:early]:
            reply.add(piece)
        got: list[bytes] = []
        pouring = asyncio.ensure_future(reply.pour(got.append))
        await asyncio.sleep(0)
        for piece in pieces[early:]:
            reply.add(piece)
        reply.finish(last)
        got.append(await pouring)
        reply.close()
        assert (reply.is_whole, reply.error, tap.given_up) == (True, None, 0)
        return got

    assert b"".join(asyncio.run(run())) == b"".join(pieces) + last


async def test_what_came_whole_before_anybody_took_it_is_the_last_piece() -> None:
    reply, _ = fresh()
    reply.add(b"one ")
    reply.finish(b"two")
    got: list[bytes] = []
    assert (await reply.pour(got.append), got) == (b"one two", [])


async def test_what_came_before_a_break_is_given_out_before_it_is_told() -> None:
    reply, tap = fresh()
    reply.add(b"half")
    reply.fail(BrokenError("cut"))
    got: list[bytes] = []
    with pytest.raises(BrokenError, match="cut"):
        await reply.pour(got.append)
    assert (got, reply.is_whole, tap.given_up) == ([b"half"], False, 1)
    with pytest.raises(BrokenError):
        await reply.arrived


async def test_the_first_bytes_stay_and_a_break_before_them_is_told() -> None:
    reply, _ = fresh()
    waiting = asyncio.ensure_future(reply.first())
    await asyncio.sleep(0)
    reply.add(b"first")
    assert (await waiting, await reply.first(), reply.take()) == (b"first", b"first", b"first")
    empty, _ = fresh()
    empty.finish(b"")
    assert await empty.first() == b""
    broken, _ = fresh()
    waiting = asyncio.ensure_future(broken.first())
    await asyncio.sleep(0)
    broken.fail(BrokenError("cut"))
    with pytest.raises(BrokenError, match="cut"):
        await waiting


async def test_what_nobody_takes_is_held_up_to_a_bound_and_read_on_when_it_is_taken() -> None:
    reply, tap = fresh()
    count = 0
    while tap.is_open:
        reply.add(bytes(10_000))
        count += 1
        assert count < 100
    assert reply.held_bytes == count * 10_000
    assert len(reply.take()) == count * 10_000
    assert tap.is_open


async def test_an_error_of_who_takes_ends_the_answer_and_is_his() -> None:
    def refuse(_data: bytes) -> None:
        raise OSError("disk full")

    for is_early in (True, False):
        reply, tap = fresh()
        if is_early:
            reply.add(b"early")
        pouring = asyncio.ensure_future(reply.pour(refuse))
        await asyncio.sleep(0)
        if not is_early:
            reply.add(b"late")
        with pytest.raises(OSError, match="disk full"):
            await pouring
        reply.close()
        assert tap.given_up == 1


async def test_an_answer_that_nobody_wants_is_given_up_once_and_a_whole_one_never() -> None:
    reply, tap = fresh()
    reply.close()
    reply.close()
    reply.pause()
    assert (tap.given_up, tap.is_open) == (1, True)
    whole, tap = fresh()
    whole.finish(b"all")
    whole.close()
    assert tap.given_up == 0


async def test_headers_keep_their_order_their_case_and_their_bytes() -> None:
    reply, _ = fresh()
    reply.pairs = [(b"Set-Cookie", b"a=1"), (b"set-cookie", b"b=\xff"), (b"X-Ume", "ä".encode())]
    assert list(reply.headers.items()) == [("Set-Cookie", "a=1"), ("set-cookie", "b=\udcff"), ("X-Ume", "ä")]
    assert reply.headers.getall("set-cookie") == ["a=1", "b=\udcff"]


async def test_a_poured_answer_forgets_who_took_it_so_that_no_circle_waits_for_the_collector() -> None:
    class Taker:
        def take(self, data: bytes) -> None:
            pass

    taker = Taker()
    gone = weakref.ref(taker)
    reply, _ = fresh()
    pouring = asyncio.ensure_future(reply.pour(taker.take))
    await asyncio.sleep(0)
    reply.finish(b"all")
    assert await pouring == b"all"
    del taker, pouring
    assert gone() is None
