from __future__ import annotations

from itertools import groupby

from hypothesis import given
from hypothesis import strategies as st

from curate.reviewing.review_order import Placed, Waiting, order, short

WAITING = st.builds(
    Waiting,
    exchange_id=st.uuids().map(str),
    said=st.sampled_from(["a", "b", "c"]),
    started_us=st.integers(0, 5),
    neighbour=st.sampled_from(["", "other"]),
    looks_refused=st.booleans(),
    suspicion=st.floats(0, 1),
    score=st.none() | st.floats(-5, 5),
    stands_for=st.integers(1, 9),
    look_alike=st.sampled_from(["", "", "g.1", "g.2"]),
)


def plain(count: int, **fields: object) -> list[Waiting]:
    """Examples that nothing speaks against, the oldest first."""
    return [Waiting(f"ex_{number:03d}", "abc"[number % 3], number, **fields) for number in range(count)]  # type: ignore[arg-type]


def ids(placed: list[Placed]) -> list[str]:
    return [each.exchange_id for each in placed]


def note_of(row: Waiting, *others: Waiting) -> str:
    return next(each.note for each in order([row, *others]) if each.exchange_id == row.exchange_id)


def test_where_nothing_speaks_for_one_the_newest_comes_first_without_a_note() -> None:
    placed = order(plain(6))
    assert ids(placed) == ["ex_005", "ex_004", "ex_003", "ex_002", "ex_001", "ex_000"]
    assert {each.note for each in placed} == {""}


def test_contradictions_come_before_any_doubt_and_their_sides_together() -> None:
    two = {"billing": 1, "parcel": 1}
    three = {"billing": 5, "parcel": 4, "account": 4}
    rows = [
        *plain(5, suspicion=0.99, stands_for=40),
        Waiting("q2", "parcel", 1, question="two", answers=two),
        Waiting("r2", "parcel", 2, question="three", answers=three, stands_for=4),
        Waiting("q1", "billing", 3, question="two", answers=two),
        Waiting("r3", "account", 4, question="three", answers=three, stands_for=4),
        Waiting("r1", "billing", 5, question="three", answers=three, stands_for=5),
    ]
    placed = order(rows)
    assert ids(placed)[:5] == ["r1", "r3", "r2", "q1", "q2"]
    assert placed[0].note == "same input, 3 answers: billing, account, parcel"


def test_of_ten_thousand_equal_questions_with_300_answers_five_come_early() -> None:
    answers = {f"answer {number}": 34 - number // 10 for number in range(300)}
    rows = [
        Waiting(f"q{number:05d}", f"answer {number % 300}", number, question="q", answers=answers, look_alike=f"q.{number % 300}")
        for number in range(10_000)
    ]
    placed = order([*rows, Waiting("doubtful", "x", 1, looks_refused=True)])
    assert ids(placed).index("doubtful") == 5
    assert len({each.exchange_id for each in placed}) == 10_001
    assert placed[0].note.endswith("and 295 more")


def test_the_more_examples_a_verdict_decides_the_earlier_it_is_asked_for() -> None:
    rows = [*plain(30), Waiting("many", "a", 0, stands_for=12)]
    placed = order(rows)
    assert placed[0] == Placed("many", placed[0].value, "one verdict decides 12 exchanges")


def test_of_look_alikes_the_newest_stands_for_all_of_them() -> None:
    alike = [Waiting(f"alike{number}", "a", number, look_alike="g.1", neighbour="b") for number in range(8)]
    placed = order([*alike, Waiting("large", "a", 99, neighbour="b", stands_for=7)])
    assert ids(placed)[:3] == ["alike7", "large", "alike6"]


def test_never_more_than_two_look_alikes_in_a_row_while_there_is_anything_else() -> None:
    alike = [Waiting(f"alike{number:02d}", "a", number, look_alike="g.1", suspicion=0.5) for number in range(10)]
    placed = ids(order([*alike, *plain(4)]))
    runs = [len(list(run)) for is_alike, run in groupby(placed, lambda each: each.startswith("alike")) if is_alike]
    assert runs == [2, 2, 2, 2, 2] or (max(runs[:-1]) <= 2 and sum(runs) == 10)


def test_the_note_names_the_strongest_of_what_speaks_against_a_target() -> None:
    others = plain(9)
    assert note_of(Waiting("x", "a", 0, neighbour="b", looks_refused=True), *others) == "a near duplicate was answered: b"
    assert note_of(Waiting("x", "a", 0, looks_refused=True), *others) == "reads like a refusal"
    suspect = Waiting("x", "a", 0, suspicion=0.93, expected="parcel", looks_refused=True)
    assert note_of(suspect, *others) == "unlike the rest of the task (93% sure), parcel fits better"
    poisoned = note_of(Waiting("x", "a", 0, trigger="cf-47 now"), *others)
    assert poisoned == "a rare phrase seems to dictate the target: cf-47 now"
    assert note_of(Waiting("x", "z", 0), *others) == "no other example has this target"
    scored = [Waiting(f"s{number}", "a", 0, score=float(number)) for number in range(10)]
    assert note_of(scored[0], *scored[1:]) == "one of the lowest scores: 0"
    assert note_of(scored[1], scored[0], *scored[2:]) == ""


def test_rare_answers_of_a_closed_task_come_before_frequent_ones_but_in_free_text_rarity_is_nothing() -> None:
    closed = [*plain(30), Waiting("rare", "press", 0)]
    assert order(closed)[0].exchange_id == "rare"
    free = [Waiting(f"ex_{number:03d}", f"words {number}", number) for number in range(60)]
    assert ids(order(free)) == sorted(ids(order(free)), reverse=True)


def test_where_all_scores_are_equal_none_is_low() -> None:
    assert {each.note for each in order(plain(9, score=1.0))} == {""}


def test_a_quoted_answer_stays_on_one_line() -> None:
    assert short("a\n b\tc" + "x" * 100) == "a b c" + "x" * 54 + "…"


@given(st.lists(WAITING, max_size=25, unique_by=lambda row: row.exchange_id), st.randoms(use_true_random=False))
def test_everything_is_placed_once_whatever_the_order_it_came_in(rows: list[Waiting], shuffled: object) -> None:
    placed = order(rows)
    assert sorted(ids(placed)) == sorted(row.exchange_id for row in rows)
    again = list(rows)
    shuffled.shuffle(again)  # type: ignore[attr-defined]
    assert order(again) == placed
