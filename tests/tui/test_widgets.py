"""Widgets that are pure functions of their values."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tui.actions import SCREENS
from tui.widgets.header import header_line
from tui.widgets.interval_bar import interval_bar
from tui.widgets.share_slider import slider, staged_line


def test_the_slider_says_the_numbers_and_draws_the_share() -> None:
    assert slider("gpt-5-mini", "triage#1", 2_500, 60) == " baseline gpt-5-mini 75% [==============|====] 25% triage#1"


@pytest.mark.parametrize("share_bp", [0, 1, 5_000, 9_999, 10_000])
def test_the_slider_keeps_its_width_at_every_share(share_bp: int) -> None:
    assert len(slider("teacher", "triage#1", share_bp, 80)) == 79


def test_a_staged_share_is_said_not_to_be_live() -> None:
    assert "not live yet: 25% -> 40%" in staged_line(2_500, 4_000, 80)
    assert "not live" not in staged_line(2_500, 2_500, 80)


def test_an_interval_that_touches_zero_is_drawn_over_it() -> None:
    assert interval_bar(0.2, -0.2, 0.6, 1.0, 21) == "--------|=0=o===|----"


def test_an_end_beyond_the_axis_is_drawn_as_an_arrow() -> None:
    assert interval_bar(0.5, 0.2, 3.0, 1.0, 11) == "-----0|=o=>"[:11].replace("0|=o", "0|-o", 0)


@given(st.floats(-5, 5), st.floats(-5, 5), st.floats(-5, 5), st.floats(0, 3), st.integers(7, 80))
def test_an_interval_bar_fills_exactly_its_cells(a: float, b: float, c: float, limit: float, cells: int) -> None:
    low, value, high = sorted((a, b, c))
    assert len(interval_bar(value, low, high, limit, cells)) == cells


@pytest.mark.parametrize("width", [40, 60, 80, 200])
@pytest.mark.parametrize("screen", SCREENS)
def test_the_header_fits_and_brackets_the_screen_in_front(screen: str, width: int) -> None:
    line = header_line(screen, 12_345, width)
    assert len(line) <= width
    assert f"{SCREENS.index(screen) + 1} {screen.title()}" in line
    assert line.count("[") == 1
