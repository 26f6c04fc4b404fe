"""Who waits for the store is asked about a few at a time, oldest first; all are settled in the end, the lost hinder nobody."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from capture import clock, ids
from capture.database import open_database
from proxy.keys.ledger import Wish
from proxy.keys.limits import Limits
from proxy.keys.settings import LimitSettings
from proxy.keys.settle import FEW, MOST_AT_ONCE, Owed, Rounds
from tests.proxy.keys.desk import desk, until
from tests.proxy.keys.test_gate import store


def ask(rounds: Rounds, waiting: list[int], stored: set[int]) -> list[int]:
    """One round: whom the store is asked about; those that it has wait no longer."""
    asked = rounds.next(len(waiting))
    about = waiting[asked]
    if about:
        left = [each for each in about if each not in stored]
        waiting[asked] = left
        rounds.heard(len(about) - len(left))
    return about


def test_the_oldest_are_asked_about_first_and_a_store_far_behind_is_asked_seldom() -> None:
    rounds, waiting = Rounds(), list(range(50_000))
    asked = [ask(rounds, waiting, set()) for _ in range(200)]
    assert asked[0] == list(range(MOST_AT_ONCE))
    assert max(map(len, asked)) == MOST_AT_ONCE
    assert sum(map(bool, asked)) < 20
    until_heard = 0
    while not ask(rounds, waiting, set(range(50_000))):
        until_heard += 1
    assert until_heard <= 15
    assert ask(rounds, waiting, set(range(50_000))) == list(range(MOST_AT_ONCE))


def test_few_are_asked_about_in_every_round() -> None:
    rounds, waiting = Rounds(), list(range(FEW))
    assert [ask(rounds, waiting, set()) for _ in range(20)] == [waiting] * 20


@given(count=st.integers(0, 9_000), lost=st.sets(st.integers(0, 9_000), max_size=40), first_lost=st.integers(0, 5_000))
def test_all_that_the_store_has_are_settled_however_many_are_lost(count: int, lost: set[int], first_lost: int) -> None:
    rounds, waiting = Rounds(), list(range(count))
    lost |= set(range(first_lost))
    stored = set(range(count)) - lost
    for _ in range(16 * (count // MOST_AT_ONCE + 2) * (count // MOST_AT_ONCE + 2)):
        ask(rounds, waiting, stored)
    assert waiting == sorted(lost & set(range(count)))


def test_a_worker_with_much_to_settle_settles_all_of_it(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'potstill.db'}"
    database = open_database(url)
    with desk(tmp_path / "a", url, limits={"triage": LimitSettings(usd_per_day=100)}) as found:
        until(lambda: found.watcher.ledger)
        ledger = found.watcher.ledger
        assert ledger is not None
        wishes = (Wish("task:triage", Limits(day_microusd=100_000_000)),)
        raw_ids = [ids.new_raw_id() for _ in range(2 * MOST_AT_ONCE + 7)]
        for raw_id in raw_ids:
            assert ledger.take(wishes, 0, 10, clock.now_us()) is None
            ledger.finish(wishes)
            found.watcher.owe(Owed(raw_id, wishes, 0, 10, clock.now_us()))
        for raw_id in (raw_ids[0], raw_ids[MOST_AT_ONCE], raw_ids[-1]):
            store(database, raw_id, task="triage")
        until(lambda: found.watcher.unsettled == len(raw_ids) - 3)
        assert ledger.use("task:triage", clock.now_us()).reserved == 10 * (len(raw_ids) - 3)
    database.close()
