"""A ledger that is full: who holds nothing makes room, exactly, also with several processes; what is said when nobody does."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from capture import clock
from capture.database import open_database
from capture.errors import StoreError
from capture.spend import DAY_US
from proxy.keys.gate import FREE
from proxy.keys.ledger import SUBJECTS, Ledger, Wish
from proxy.keys.limits import CONCURRENT, DAY, Limits, first_day_of, month_of
from proxy.keys.settings import LimitSettings
from tests.proxy.keys.desk import desk
from tests.proxy.keys.test_ledger import DEADLINE_S, NOW, new_ledger, start

ONE_AT_A_TIME = Limits(concurrent=1)


def fill(ledger: Ledger, use: Callable[[str], object]) -> None:
    """Has as many subjects as there is room for use the ledger."""
    for number in range(SUBJECTS):
        use(f"key:old-{number}")


def pass_by(ledger: Ledger) -> Callable[[str], object]:
    """A request of a subject that is over, and after which it holds nothing."""

    def use(subject: str) -> None:
        wishes = [Wish(subject, ONE_AT_A_TIME)]
        assert ledger.take(wishes, 0, 0, NOW) is None
        ledger.finish(wishes)

    return use


def test_a_new_subject_takes_the_place_of_one_that_holds_nothing_and_those_that_hold_something_stay(tmp_path: Path) -> None:
    ledger, other = new_ledger(tmp_path), new_ledger(tmp_path)
    busy = [Wish("key:busy", ONE_AT_A_TIME)]
    budget = Limits(day_microusd=100)
    reserving, spent = [Wish("key:reserving", budget)], [Wish("key:spent", budget)]
    rated = [Wish("key:rated", Limits(requests_per_minute=1))]
    assert ledger.take(busy, 0, 0, NOW) is None
    assert ledger.take(reserving, 0, 70, NOW) is None
    ledger.finish(reserving)
    ledger.book("key:spent", 80, 80, NOW)
    assert ledger.take(rated, 0, 0, NOW) is None
    ledger.finish(rated)
    fill(ledger, pass_by(ledger))
    for number in range(100):
        new = [Wish(f"key:{number}", ONE_AT_A_TIME), Wish(f"task:{number}", ONE_AT_A_TIME)]
        worker, witness = (ledger, other) if number % 2 else (other, ledger)
        assert worker.take(new, 0, 0, NOW) is None
        for each in new:
            refused = witness.take([each], 0, 0, NOW)
            assert refused is not None, each
            assert refused.limit == CONCURRENT
        worker.finish(new)
    for worker in (other, ledger):
        refusals = [worker.take(wishes, 0, 40, NOW) for wishes in (busy, reserving, spent, rated)]
        assert all(refusals), refusals
        assert (worker.use("key:reserving", NOW).reserved, worker.use("key:spent", NOW).day_spent) == (70, 80)
    ledger.finish(busy)
    assert other.take(busy, 0, 0, NOW) is None
    assert ledger.take(rated, 0, 0, NOW + 60_000_000) is None
    for each in (ledger, other):
        each.close()


def test_a_correction_finds_its_subject_again_though_another_took_its_place(tmp_path: Path) -> None:
    ledger = new_ledger(tmp_path)
    wishes = [Wish("key:a", Limits(tokens_per_minute=600))]
    assert ledger.take(wishes, 10, 0, NOW) is None
    ledger.finish(wishes)
    later = NOW + 60_000_000
    fill(ledger, lambda subject: ledger.take([Wish(subject, ONE_AT_A_TIME)], 0, 0, later) if subject != "key:old-0" else None)
    assert ledger.take([Wish("key:b", ONE_AT_A_TIME)], 0, 0, later + 1) is None
    ledger.finish([Wish("key:b", ONE_AT_A_TIME)])
    ledger.settle(wishes, 10, 1_210, 0, later + 1)
    refusal = ledger.take(wishes, 1, 0, later + 1)
    assert refusal is not None
    assert refusal.wait_us == pytest.approx(60_100_000, abs=10)  # 600 tokens too many, and one, at 10 a second
    ledger.close()


def test_when_all_have_spent_something_the_advice_is_to_remove_files_and_the_next_month_makes_room(tmp_path: Path) -> None:
    ledger = new_ledger(tmp_path)
    fill(ledger, lambda subject: ledger.book(subject, 0, 1, NOW))
    new = [Wish("key:new", Limits(day_microusd=100))]
    with pytest.raises(StoreError) as full:
        ledger.take(new, 0, 1, NOW)
    assert "remove ledger-1 and slot-* from there" in full.value.next_step
    assert "leave all other files" in full.value.next_step
    ledger.book("key:new", 100, 100, NOW)
    assert ledger.use("key:new", NOW).day_spent == 0
    next_month = first_day_of(month_of(NOW) + 1) * DAY_US
    assert ledger.take(new, 0, 100, next_month) is None
    refusal = ledger.take([Wish("key:old-5", Limits(month_microusd=1))], 0, 2, next_month)
    assert refusal is not None
    ledger.book("key:new", 100, 100, next_month)
    refusal = ledger.take(new, 0, 1, next_month)
    assert refusal is not None
    assert refusal.limit == DAY
    ledger.close()


def _take_each(folder: str, seed: int, limits: Limits, pipe: Connection) -> None:
    """Takes of many subjects, mixed, until each is refused; tells how often it got something, then waits to be ended."""
    ledger = new_ledger(Path(folder))
    left = [f"key:new-{number}" for number in range(200)]
    pipe.recv()
    taken, dice = 0, random.Random(seed)
    while left:
        subject = dice.choice(left)
        wishes = [Wish(subject, limits)]
        if ledger.take(wishes, 0, 0, NOW) is None:
            taken += 1
            ledger.finish(wishes)
        else:
            left.remove(subject)
    pipe.send(taken)
    pipe.recv()


def test_several_processes_take_exactly_what_there_is_while_they_make_room(tmp_path: Path) -> None:
    ledger = new_ledger(tmp_path)
    fill(ledger, pass_by(ledger))
    workers = [start(tmp_path, 1, _take_each, seed, Limits(requests_per_minute=7))[0] for seed in range(3)]
    for _, pipe in workers:
        pipe.send("go")
    taken = []
    for _, pipe in workers:
        assert pipe.poll(DEADLINE_S)
        taken.append(pipe.recv())
    assert sum(taken) == 200 * 7
    for process, pipe in workers:
        pipe.send("end")
        process.join(DEADLINE_S)
        assert process.exitcode == 0
    ledger.close()


def test_requests_that_find_no_room_pass_are_counted_and_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    url = f"sqlite:///{tmp_path / 'potstill.db'}"
    open_database(url).close()
    with desk(tmp_path / "a", url, limits={"triage": LimitSettings(concurrent=1)}) as found:
        ledger = found.watcher.ledger
        assert ledger is not None
        fill(ledger, lambda subject: ledger.book(subject, 0, 1, clock.now_us()))
        with caplog.at_level(logging.ERROR):
            assert [found.ask("sk", task="triage") for _ in range(20)] == [FREE] * 20
        assert found.gate.status()["unlimited"] == 20
    assert len([each for each in caplog.records if each.levelno == logging.ERROR]) == 1
    assert "slot-*" in caplog.text
