from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from train.scores import exact_match, wilson


def test_wilson_gives_the_published_interval() -> None:
    # Newcombe 1998, Statistics in Medicine 17:857, table I: 81 of 263 and 15 of 148, score method.
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson(15, 148) == pytest.approx((0.0624, 0.1605), abs=5e-5)
    assert wilson(0, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)


@given(st.integers(1, 5_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_a_wilson_interval_holds_its_share_and_stays_within_0_and_1(trial: tuple[int, int]) -> None:
    hits, n = trial
    low, high = wilson(hits, n)
    assert 0 <= low <= hits / n <= high <= 1
    assert low < high
    mirrored = wilson(n - hits, n)
    assert mirrored == pytest.approx((1 - high, 1 - low), abs=1e-12)


@pytest.mark.parametrize(("hits", "n"), [(0, 0), (3, 2), (-1, 5)])
def test_an_impossible_count_has_no_interval(hits: int, n: int) -> None:
    with pytest.raises(ValueError, match="hits of"):
        wilson(hits, n)


def test_only_white_space_around_an_answer_is_forgiven() -> None:
    assert exact_match('{"queue": "a"}\n', ' {"queue": "a"}')
    assert not exact_match('{"queue":"a"}', '{"queue": "a"}')
    assert not exact_match('{"queue": "A"}', '{"queue": "a"}')
    assert not exact_match("", '{"queue": "a"}')
