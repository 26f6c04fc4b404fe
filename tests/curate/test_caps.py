from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from curate.caps import over_cap, over_session_cap, unit_cap
from proxy.tickets import make_tickets

COUNTS = st.lists(st.integers(1, 40), max_size=150)


def units_of(counts: list[int], without: int = 0) -> list[str]:
    return [f"u{unit}" for unit, count in enumerate(counts) for _ in range(count)] + [""] * without


def kept_of(units: list[str], share: float = 0.01) -> Counter[str]:
    gone = set(over_cap(units, range(len(units)), share))
    return Counter(unit for row, unit in enumerate(units) if row not in gone)


@given(COUNTS, st.integers(0, 50), st.sampled_from([0.01, 0.02, 0.05, 0.2, 0.5, 1.0]))
def test_no_unit_gives_more_than_its_share_of_what_is_kept(counts: list[int], without: int, share: float) -> None:
    kept = kept_of(units_of(counts, without), share)
    assert kept[""] == without
    assert set(kept) - {""} == {f"u{unit}" for unit in range(len(counts))}
    if len(counts) * share >= 1:
        assert all(count <= share * kept.total() + 1e-9 for unit, count in kept.items() if unit)


@given(COUNTS.filter(lambda counts: len(counts) >= 20), st.integers(0, 50))
def test_the_cap_is_the_largest_that_holds(counts: list[int], without: int) -> None:
    cap = unit_cap(Counter(units_of(counts, without)), 0.05)
    for higher in range(cap + 1, max(counts) + 1):
        remaining = without + sum(min(count, higher) for count in counts)
        assert higher > 0.05 * remaining


@given(COUNTS, st.sampled_from([0.01, 0.05, 0.2]))
def test_what_was_capped_once_is_not_capped_again(counts: list[int], share: float) -> None:
    kept = kept_of(units_of(counts), share)
    if len(counts) * share >= 1:
        assert not over_cap(list(kept.elements()), range(kept.total()), share)


def test_one_noisy_user_gives_one_percent_and_nobody_else_loses_anything() -> None:
    kept = kept_of(units_of([5_000] + [20] * 400))
    assert kept["u0"] == 80
    assert kept.total() == 8_080


def test_with_few_units_the_noisy_one_gives_twice_a_fair_share() -> None:
    assert kept_of(units_of([900] + [10] * 10))["u0"] == 182
    assert kept_of(units_of([900, 100])).total() == 1_000
    assert kept_of(units_of([12] * 9)).total() == 108
    assert kept_of(units_of([1])).total() == 1


def test_a_task_without_units_is_not_capped() -> None:
    assert over_cap([""] * 500, range(500), 0.01) == []


def test_the_best_rows_of_a_noisy_unit_stay() -> None:
    units = ["noisy"] * 5 + [f"u{number}" for number in range(9)]
    assert over_cap(units, [4, 2, *range(5, 14), 0, 1, 3], 0.2) == [0, 1, 3]


def test_realistic_users_lose_less_than_a_tenth() -> None:
    tickets = make_tickets(11, 3_000)
    kept = kept_of([ticket.user for ticket in tickets])
    assert kept.total() > 0.9 * 3_000


def test_of_a_conversation_the_last_turn_stays_first_then_what_is_spread_over_it() -> None:
    def staying(count: int, most: int) -> list[int]:
        gone = over_session_cap(["s"] * count, range(count), range(count), most)
        return [row for row in range(count) if row not in gone]

    assert staying(9, 1) == [8]
    assert staying(9, 2) == [0, 8]
    assert staying(9, 3) == [0, 4, 8]
    assert staying(2, 3) == [0, 1]
    assert staying(9, 0) == list(range(9))


def test_what_eval_holds_stays_before_other_turns() -> None:
    assert over_session_cap(["s"] * 5, range(5), range(5), 2, standing={1}) == [0, 2, 3]
    assert over_session_cap(["s"] * 5, range(5), range(5), 1, standing={1}) == [0, 2, 3, 4]


@given(st.lists(st.tuples(st.sampled_from(["", "a", "b", "c"]), st.integers(0, 9)), max_size=60), st.integers(1, 8))
def test_no_session_gives_more_than_its_cap_and_none_less_than_it_can(rows: list[tuple[str, int]], most: int) -> None:
    sessions, times = [session for session, _ in rows], [time for _, time in rows]
    gone = set(over_session_cap(sessions, times, range(len(rows)), most))
    before, after = Counter(sessions), Counter(session for row, session in enumerate(sessions) if row not in gone)
    assert after[""] == before[""]
    assert all(after[session] == min(most, count) for session, count in before.items() if session)
