"""Feedback by variant: the unit counts, and without enough of it nothing is claimed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capture.feedback import Score
from serve.opinions import HIGHER, LOWER, SAME, UNSURE, Opinion, OpinionDifference, compare_opinions


def compared(scores: list[Score]) -> dict[str, OpinionDifference]:
    found = compare_opinions(scores, same_rate=0.02, same_relative=0.05)
    assert [each.name for each in found] == sorted(each.name for each in found)
    return {each.name: each for each in found}


def side(name: str, variant: str, values: list[float], kind: str = "boolean", each: int = 1) -> list[Score]:
    """Scores of as many units as there are values, `each` of them per unit."""
    return [Score(name, kind, value, variant, f"{variant}{unit}") for unit, value in enumerate(values) for _ in range(each)]


def test_a_clear_difference_is_told_with_its_interval() -> None:
    found = compared(side("solved", "baseline", [0.0, 1.0] * 100) + side("solved", "candidate", [1.0] * 190 + [0.0] * 10))
    solved = found["solved"]
    assert (solved.baseline, solved.candidate) == (Opinion(200, 200, 0.5), Opinion(200, 200, 0.95))
    assert solved.value == pytest.approx(0.45)
    assert solved.low is not None
    assert solved.high is not None
    assert 0.3 < solved.low < 0.45 < solved.high < 0.6
    assert solved.word == HIGHER


def test_numbers_are_compared_by_their_means() -> None:
    low, high = [1.0, 2.0, 3.0] * 40, [2.0, 3.0, 4.0] * 40
    found = compared(side("score", "baseline", high, "float") + side("score", "candidate", low, "float"))
    assert (found["score"].value, found["score"].word) == (-1.0, LOWER)
    assert compared(side("s", "baseline", [5.0] * 9, "float") + side("s", "candidate", [5.0] * 9, "float"))["s"].word == SAME


def test_many_scores_of_few_units_prove_nothing() -> None:
    few = side("solved", "baseline", [0.0, 1.0], each=500) + side("solved", "candidate", [1.0, 1.0], each=500)
    assert compared(few)["solved"].word == UNSURE
    alone = side("score", "baseline", [1.0], "float", 50) + side("score", "candidate", [9.0], "float", 50)
    assert compared(alone)["score"].word == UNSURE


def test_one_side_alone_and_scores_without_a_unit_are_no_comparison() -> None:
    found = compared([*side("solved", "candidate", [1.0] * 30), Score("other", "boolean", 1.0, "baseline", "")])
    assert list(found) == ["solved"]
    assert (found["solved"].baseline, found["solved"].value, found["solved"].word) == (Opinion(0, 0, None), None, UNSURE)


@given(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from(("baseline", "candidate")), st.integers(0, 5), st.booleans())))
def test_all_that_has_a_unit_is_counted_once(told: list[tuple[str, str, int, bool]]) -> None:
    scores = [Score(name, "boolean", float(value), variant, f"u{unit}") for name, variant, unit, value in told]
    found = compared(scores)
    assert sum(each.baseline.n + each.candidate.n for each in found.values()) == len(scores)
    for each in found.values():
        if each.low is not None and each.high is not None and each.value is not None:
            assert -1 <= each.low <= each.value <= each.high <= 1
