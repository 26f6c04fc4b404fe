"""The ledger: what a plain model of it says, also with several processes on it, and with one that is killed."""

from __future__ import annotations

import multiprocessing
import os
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capture import ids
from capture.spend import DAY_US
from proxy.keys.ledger import SLOTS, Ledger, Wish
from proxy.keys.limits import CONCURRENT, DAY, HELD, MONTH, Limits, first_day_of, month_of

NOW = 1_795_348_800_000_000
DEADLINE_S = 60.0


def new_ledger(folder: Path) -> Ledger:
    return Ledger(folder, ids.new_raw_id())


@contextmanager
def ledgers(count: int) -> Iterator[list[Ledger]]:
    with tempfile.TemporaryDirectory() as folder:
        found = [new_ledger(Path(folder)) for _ in range(count)]
        try:
            yield found
        finally:
            for each in found:
                each.close()


class Model:
    """What the ledger promises for concurrency and a budget of one day, as plainly as it can be said."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.in_flight = self.reserved = self.spent = self.booked = 0

    def take(self, microusd: int) -> bool:
        used = self.spent + self.booked + self.reserved + microusd
        is_over = bool(self.limits.day_microusd) and used > self.limits.day_microusd
        if is_over or (self.limits.concurrent and self.in_flight >= self.limits.concurrent):
            return False
        self.in_flight += 1
        self.reserved += microusd if self.limits.has_budget else 0
        return True


ACTIONS = st.lists(
    st.tuples(
        st.sampled_from(("take", "take", "take", "finish", "settle", "write_off", "book")), st.integers(0, 400), st.integers(0, 2)
    ),
    max_size=60,
)


@given(concurrent=st.integers(0, 4), budget=st.integers(0, 1500), actions=ACTIONS)
def test_it_does_what_a_plain_model_does_whichever_worker_acts(
    concurrent: int, budget: int, actions: list[tuple[str, int, int]]
) -> None:
    limits = Limits(concurrent=concurrent, day_microusd=budget)
    with ledgers(3) as workers:
        wishes = [(Wish("key:a", limits),) for each in workers]
        model, running, owed = Model(limits), [], []
        for action, amount, who in actions:
            worker, wish = workers[who], wishes[who]
            if action == "take":
                refusal = worker.take(wish, 0, amount, NOW)
                assert (refusal is None) == model.take(amount), (action, amount)
                if refusal is None:
                    running.append((who, amount))
            elif action == "finish" and running:
                who, amount = running.pop(0)
                workers[who].finish(wishes[who])
                model.in_flight -= 1
                owed.append((who, amount))
            elif action in ("settle", "write_off") and owed:
                who, amount = owed.pop(0)
                if action == "settle":
                    workers[who].settle(wishes[who], 0, 0, amount, NOW)
                else:
                    workers[who].write_off(wishes[who], amount, NOW)
                if limits.has_budget:
                    model.reserved -= amount
                    model.booked += amount if action == "write_off" else 0
            elif action == "book":
                worker.book(wish[0].subject, amount, amount, NOW)
                model.spent = max(model.spent, amount)
            use = worker.use(wish[0].subject, NOW)
            assert (use.in_flight, use.reserved, use.day_spent) == (model.in_flight, model.reserved, model.spent + model.booked)


def test_either_all_subjects_grant_a_request_or_none_is_charged() -> None:
    with ledgers(1) as (ledger,):
        key = Wish("key:a", Limits(requests_per_minute=5))
        task = Wish("task:t", Limits(concurrent=1))
        assert ledger.take([key, task], 0, 0, NOW) is None
        for _ in range(20):
            refusal = ledger.take([key, task], 0, 0, NOW)
            assert refusal is not None
            assert (refusal.place, refusal.limit) == (1, CONCURRENT)
        ledger.finish([key, task])
        taken = [ledger.take([key], 0, 0, NOW) for _ in range(5)]
        assert [refusal is None for refusal in taken] == [True, True, True, True, False]


def test_tokens_are_corrected_to_what_was_used() -> None:
    with ledgers(1) as (ledger,):
        wishes = [Wish("key:a", Limits(tokens_per_minute=600))]
        assert ledger.take(wishes, 500, 0, NOW) is None
        assert ledger.take(wishes, 200, 0, NOW) is not None
        ledger.settle(wishes, 500, 100, 0, NOW)
        assert ledger.take(wishes, 200, 0, NOW) is None
        ledger.settle(wishes, 200, 1400, 0, NOW)
        refusal = ledger.take(wishes, 1, 0, NOW)
        assert refusal is not None
        assert refusal.wait_us == pytest.approx(90_100_000, abs=10)  # 900 tokens too many, and one, at 10 a second


def test_a_budget_begins_anew_with_its_period_and_says_when_that_is() -> None:
    with ledgers(1) as (ledger,):
        key = "key:a"
        day, month = [Wish(key, Limits(day_microusd=100))], [Wish(key, Limits(month_microusd=150))]
        ledger.book(key, 100, 150, NOW)
        refused = ledger.take(day, 0, 1, NOW), ledger.take(month, 0, 1, NOW)
        assert [each and each.limit for each in refused] == [DAY, MONTH]
        assert ledger.take([Wish(key, Limits(day_microusd=300))], 0, 150, NOW) is None
        held = ledger.take([Wish(key, Limits(day_microusd=300))], 0, 150, NOW)
        assert held is not None
        assert (held.limit, held.wait_us) == (HELD, 2_000_000)  # the first may turn out to cost less
        ledger.settle([Wish(key, Limits(day_microusd=300))], 0, 0, 150, NOW)
        next_month = first_day_of(month_of(NOW) + 1) * DAY_US
        assert [each and NOW + each.wait_us for each in refused] == [NOW - NOW % DAY_US + DAY_US, next_month]
        assert ledger.take(day, 0, 1, NOW + DAY_US) is None
        assert ledger.take(month, 0, 1, NOW + DAY_US) is not None
        assert ledger.take(month, 0, 1, next_month) is None


def test_an_older_look_at_the_store_changes_nothing() -> None:
    with ledgers(1) as (ledger,):
        key = "key:a"
        ledger.book(key, 70, 90, NOW)
        ledger.book(key, 60, 80, NOW)
        assert (ledger.use(key, NOW).day_spent, ledger.use(key, NOW).month_spent) == (70, 90)


def test_what_the_ledger_knows_outlives_its_workers(tmp_path: Path) -> None:
    first = new_ledger(tmp_path)
    first.book("key:a", 70, 90, NOW)
    first.close()
    second = new_ledger(tmp_path)
    assert second.use("key:a", NOW).day_spent == 70
    second.close()


def test_a_worker_too_many_for_the_slots_takes_that_of_a_dead_one(tmp_path: Path) -> None:
    for _ in range(SLOTS):
        dead = new_ledger(tmp_path)
        dead.take([Wish("key:a", Limits(concurrent=SLOTS, day_microusd=10**6))], 0, 10, NOW)
        dead.close()
    last = new_ledger(tmp_path)
    use = last.use("key:a", NOW)
    assert (use.in_flight, use.reserved) == (SLOTS - 1, 10 * (SLOTS - 1))
    last.close()


def _take_all(folder: str, microusd: int, pipe: Connection) -> None:
    """For each name and limits that it is sent: takes until it is refused for good, and tells how often it got something."""
    while (sent := pipe.recv()) is not None:
        name, limits = sent
        ledger = new_ledger(Path(folder) / name)
        wishes = [Wish("key:a", limits)]
        pipe.send("ready")
        pipe.recv()
        taken = 0
        while (refusal := ledger.take(wishes, 0, microusd, NOW)) is None or refusal.limit == CONCURRENT:
            taken += refusal is None
            if refusal is None and limits.concurrent:
                use = ledger.use(wishes[0].subject, NOW)
                assert 0 < use.in_flight <= limits.concurrent
                ledger.finish(wishes)
        pipe.send(taken)
        pipe.recv()
        ledger.close()


def start(
    folder: Path, count: int, work: Callable[..., None], *arguments: object
) -> list[tuple[multiprocessing.Process, Connection]]:
    context = multiprocessing.get_context("spawn")
    started = []
    for _ in range(count):
        ours, theirs = context.Pipe()
        process = context.Process(target=work, args=(str(folder), *arguments, theirs), daemon=True)
        process.start()
        started.append((process, ours))
    return started  # type: ignore[return-value]


def test_several_processes_together_take_exactly_what_there_is(tmp_path: Path) -> None:
    workers = start(tmp_path, 3, _take_all, 7)
    for number, limits in enumerate(
        (Limits(day_microusd=10_000), Limits(requests_per_minute=1_428), Limits(concurrent=2, day_microusd=10_000))
    ):
        (tmp_path / str(number)).mkdir()
        for _, pipe in workers:
            pipe.send((str(number), limits))
        assert [told(pipe) for _, pipe in workers] == ["ready"] * 3
        for _, pipe in workers:
            pipe.send("go")
        assert sum(told(pipe) for _, pipe in workers) == 1_428, limits  # 10,000 / 7
        for _, pipe in workers:
            pipe.send("end")
    for process, pipe in workers:
        pipe.send(None)
        process.join(DEADLINE_S)
        assert process.exitcode == 0


def told(pipe: Connection) -> Any:
    """What a process tells next."""
    assert pipe.poll(DEADLINE_S)
    return pipe.recv()


def _hold(folder: str, pipe: Connection) -> None:
    ledger = Ledger(Path(folder), bytes(range(16)))
    wishes = [Wish("key:a", Limits(concurrent=9, day_microusd=1_000))]
    for _ in range(3):
        assert ledger.take(wishes, 0, 50, NOW) is None
    pipe.send("held")
    time.sleep(DEADLINE_S)


def test_what_a_killed_worker_held_comes_back_its_money_once_its_spool_is_stored(tmp_path: Path) -> None:
    [(process, pipe)] = start(tmp_path, 1, _hold)
    assert pipe.poll(DEADLINE_S)
    with_ledger = new_ledger(tmp_path)
    key = "key:a"
    assert with_ledger.sweep(lambda holder: True) == 0  # it lives
    assert with_ledger.use(key, NOW).in_flight == 3
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join(DEADLINE_S)
    asked = []
    assert with_ledger.sweep(lambda holder: bool(asked.append(holder))) == 1
    assert asked == [bytes(range(16))]
    assert (with_ledger.use(key, NOW).in_flight, with_ledger.use(key, NOW).reserved) == (0, 150)
    assert with_ledger.sweep(lambda holder: True) == 0
    assert with_ledger.use(key, NOW).reserved == 0
    with_ledger.close()
