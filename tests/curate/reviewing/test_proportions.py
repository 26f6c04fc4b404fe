from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.reviewing.proportions import count_interval, share_interval

DRAWS = st.integers(1, 40).flatmap(lambda population: st.tuples(st.just(population), st.integers(1, population)))


def chance(found: int, drawn: int, count: int, population: int) -> float:
    """How likely a draw finds exactly so many."""
    return math.comb(count, found) * math.comb(population - count, drawn - found) / math.comb(population, drawn)


@pytest.mark.parametrize(
    ("found", "drawn", "low", "high"),
    [(0, 10, 0.0, 0.3085), (3, 100, 0.0062, 0.0852), (17, 40, 0.2704, 0.5911), (8, 8, 0.6306, 1.0)],
)
def test_the_interval_of_a_share_is_that_of_the_tables_of_clopper_and_pearson(
    found: int, drawn: int, low: float, high: float
) -> None:
    assert share_interval(found, drawn) == pytest.approx((low, high), abs=5e-5)


def test_without_a_draw_nothing_is_known() -> None:
    assert share_interval(0, 0) == (0.0, 1.0)
    assert count_interval(0, 0, 12) == (0, 12)


@settings(deadline=None, max_examples=60)
@given(DRAWS)
def test_whatever_the_truth_is_19_of_20_draws_have_it_in_their_interval(sizes: tuple[int, int]) -> None:
    population, drawn = sizes
    found = range(drawn + 1)
    intervals = {number: count_interval(number, drawn, population) for number in found if number <= population}
    for truth in range(population + 1):
        covered = sum(chance(n, drawn, truth, population) for n in found if intervals[n][0] <= truth <= intervals[n][1])
        assert covered >= 0.95 - 1e-9


@settings(deadline=None, max_examples=60)
@given(DRAWS, st.data())
def test_no_bound_could_be_narrower(sizes: tuple[int, int], data: st.DataObject) -> None:
    population, drawn = sizes
    found = data.draw(st.integers(0, drawn))
    low, high = count_interval(found, drawn, population)
    assert found <= low <= high <= population - (drawn - found)
    if low > found:
        assert sum(chance(n, drawn, low - 1, population) for n in range(found, drawn + 1)) <= 0.025 + 1e-9
    if high < population - (drawn - found):
        assert sum(chance(n, drawn, high + 1, population) for n in range(found + 1)) <= 0.025 + 1e-9


def test_a_sample_of_everything_leaves_nothing_open_and_a_large_population_much() -> None:
    assert count_interval(3, 50, 50) == (3, 3)
    low, high = count_interval(3, 100, 1_000_000)
    assert (low / 1e6, high / 1e6) == pytest.approx(share_interval(3, 100), abs=2e-5)


@pytest.mark.parametrize("draw", [(3, 2, 9), (-1, 2, 9), (1, 10, 9)])
def test_what_is_no_draw_is_refused(draw: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="draw"):
        count_interval(*draw)
