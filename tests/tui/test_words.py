"""Numbers in few cells: always with a unit, unknown never as zero."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tui import words


@pytest.mark.parametrize(
    ("us", "expected"),
    [
        (None, "-"),
        (0, "0ms"),
        (412_000, "412ms"),
        (999_600, "1.0s"),
        (1_240_000, "1.2s"),
        (12_400_000, "12s"),
        (320_000_000, "5m20"),
    ],
)
def test_durations(us: int | None, expected: str) -> None:
    assert words.duration(us) == expected


@given(st.integers(0, 99 * 60_000_000))
def test_a_duration_fits_five_cells(us: int) -> None:
    assert len(words.duration(us)) <= 5


@pytest.mark.parametrize(
    ("number", "expected"), [(None, "-"), (0, "0"), (842, "842"), (2_140, "2.1k"), (18_204, "18k"), (1_240_000, "1.2M")]
)
def test_counts(number: int | None, expected: str) -> None:
    assert words.count(number) == expected


@given(st.integers(0, 900_000_000))
def test_a_count_fits_six_cells(number: int) -> None:
    assert len(words.count(number)) <= 6


@pytest.mark.parametrize(
    ("microusd", "expected"),
    [(None, "-"), (0, "$0"), (36, "$.00004"), (1_100, "$.0011"), (1_180_000, "$1.18"), (83_100_000, "$83.10")],
)
def test_money_that_is_unknown_is_never_zero(microusd: int | None, expected: str) -> None:
    assert words.money(microusd) == expected


@pytest.mark.parametrize(("bp", "expected"), [(0, "0%"), (250, "2.5%"), (3_000, "30%"), (10_000, "100%")])
def test_shares(bp: int, expected: str) -> None:
    assert words.share(bp) == expected


@pytest.mark.parametrize(
    ("seconds", "expected"), [(-5, "0 s ago"), (5, "5 s ago"), (240, "4 min ago"), (7_200, "2 h ago"), (200_000, "2 d ago")]
)
def test_how_long_ago(seconds: int, expected: str) -> None:
    assert words.ago(0, seconds * 1_000_000) == expected
