"""Turns at an upstream that takes only so many requests at a time."""

from __future__ import annotations

import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.slots import Slots
from tests.proxy.scripting import until


async def test_as_many_as_the_limit_are_let_in_and_the_next_waits_for_its_turn() -> None:
    slots = Slots()
    assert await slots.take(2, 10, 60.0)
    assert await slots.take(2, 10, 60.0)
    third = asyncio.ensure_future(slots.take(2, 10, 60.0))
    fourth = asyncio.ensure_future(slots.take(2, 10, 60.0))
    await until(lambda: slots.waiting == 2)
    slots.give_back()
    assert await third
    assert not fourth.done(), "first come, first served"
    slots.give_back()
    assert await fourth
    assert slots.taken == 2


async def test_when_the_queue_is_full_nobody_more_waits() -> None:
    slots = Slots()
    assert await slots.take(1, 1, 60.0)
    waiting = asyncio.ensure_future(slots.take(1, 1, 60.0))
    await until(lambda: slots.waiting == 1)
    assert not await slots.take(1, 1, 60.0)
    assert not await slots.take(1, 0, 60.0)
    slots.give_back()
    assert await waiting


async def test_who_waited_too_long_goes_away_without_a_turn() -> None:
    slots = Slots()
    assert await slots.take(1, 5, 60.0)
    assert not await slots.take(1, 5, 0.01)
    assert slots.waiting == 0
    slots.give_back()
    assert slots.taken == 0


async def test_a_client_that_goes_away_while_waiting_takes_no_slot_with_it() -> None:
    slots = Slots()
    assert await slots.take(1, 5, 60.0)
    gone = asyncio.ensure_future(slots.take(1, 5, 60.0))
    late = asyncio.ensure_future(slots.take(1, 5, 60.0))
    await until(lambda: slots.waiting == 2)
    gone.cancel()
    slots.give_back()  # before the one that was cancelled could leave the queue
    assert await late
    slots.give_back()
    assert (slots.taken, slots.waiting) == (0, 0)


async def test_a_turn_that_comes_as_its_waiter_goes_away_passes_to_the_next() -> None:
    slots = Slots()
    assert await slots.take(1, 5, 60.0)
    first = asyncio.ensure_future(slots.take(1, 5, 60.0))
    second = asyncio.ensure_future(slots.take(1, 5, 60.0))
    await until(lambda: slots.waiting == 2)
    slots.give_back()
    first.cancel()
    assert await second
    slots.give_back()
    assert slots.taken == 0


async def test_without_a_limit_all_are_let_in() -> None:
    slots = Slots()
    assert all([await slots.take(0, 0, 0.0) for _ in range(100)])
    for _ in range(100):
        slots.give_back()
    assert slots.taken == 0


async def test_a_lower_limit_holds_for_those_who_wait_already() -> None:
    slots = Slots()
    assert await slots.take(2, 5, 60.0)
    assert await slots.take(2, 5, 60.0)
    waiting = asyncio.ensure_future(slots.take(1, 5, 60.0))
    await until(lambda: slots.waiting == 1)
    slots.give_back()
    await asyncio.sleep(0)
    assert not waiting.done()
    slots.give_back()
    assert await waiting


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.sampled_from(["take", "give", "cancel"]), st.integers(0, 9)), max_size=40))
def test_slots_are_never_lost_and_never_more_than_the_limit(steps: list[tuple[str, int]]) -> None:
    async def play() -> None:
        slots = Slots()
        waiting: list[asyncio.Future[bool]] = []
        holding = 0
        for what, which in steps:
            if what == "take":
                waiting.append(asyncio.ensure_future(slots.take(3, 4, 60.0)))
            elif what == "cancel" and waiting:
                waiting[which % len(waiting)].cancel()
            elif what == "give" and holding:
                slots.give_back()
                holding -= 1
            if which % 2:  # else the next step happens before anybody could react
                for _ in range(4):
                    await asyncio.sleep(0)
                holding += sum(1 for each in waiting if each.done() and not each.cancelled() and each.result())
                waiting = [each for each in waiting if not each.done()]
                assert slots.taken == holding <= 3
                assert holding == 3 or not waiting
        for each in waiting:
            each.cancel()
        ended = await asyncio.gather(*waiting, return_exceptions=True)
        for _ in range(holding + sum(1 for each in ended if each is True)):
            slots.give_back()
        assert (slots.taken, slots.waiting) == (0, 0)

    asyncio.run(play())
