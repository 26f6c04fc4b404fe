"""Buckets let through what a plain list of moments lets through, and say exactly how long to wait."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capture.spend import DAY_US
from proxy.keys.limits import (
    MINUTE_US,
    Limits,
    first_day_of,
    full_again,
    limits_of,
    month_of,
    seconds,
    shared_by,
    until_next_day_us,
    until_next_month_us,
    wait_us,
)
from proxy.keys.settings import LimitSettings

STEPS = st.lists(st.integers(0, 40_000_000), min_size=1, max_size=60)
NOON_US = int(datetime(2026, 11, 22, 12, tzinfo=UTC).timestamp() * 1_000_000)


@given(per_minute=st.integers(1, 20), steps=STEPS)
def test_a_bucket_holds_so_many_and_refills_evenly(per_minute: int, steps: list[int]) -> None:
    """Against a bucket of fractions, filled step by step."""
    now, full_us, level = NOON_US, 0, float(per_minute)
    for step in steps:
        now += step
        level = min(float(per_minute), level + step * per_minute / MINUTE_US)
        is_admitted = not wait_us(full_us, per_minute, 1, now)
        if abs(level - 1) > 1e-3:
            assert is_admitted == (level >= 1)
        if is_admitted:
            full_us = full_again(full_us, per_minute, 1, now)
            level = max(0.0, level - 1)


@given(per_minute=st.integers(1, 1000), amount=st.integers(1, 3000), taken=st.lists(st.integers(1, 500), max_size=10))
def test_who_waits_as_long_as_told_gets_through_and_not_a_moment_before(per_minute: int, amount: int, taken: list[int]) -> None:
    full_us = 0
    for each in taken:
        full_us = full_again(full_us, per_minute, each, NOON_US)
    wait = wait_us(full_us, per_minute, amount, NOON_US)
    assert wait_us(full_us, per_minute, amount, NOON_US + wait) == 0
    assert wait == 0 or wait_us(full_us, per_minute, amount, NOON_US + wait - 1) > 0


@given(st.integers(0, 4_102_444_800_000_000))
def test_days_and_months_end_when_the_calendar_says(now_us: int) -> None:
    moment = datetime.fromtimestamp(now_us // 1_000_000, UTC)
    first = datetime(moment.year + moment.month // 12, moment.month % 12 + 1, 1, tzinfo=UTC)
    assert now_us + until_next_month_us(now_us) == int(first.timestamp()) * 1_000_000
    assert (now_us + until_next_day_us(now_us)) % DAY_US == 0
    assert first_day_of(month_of(now_us)) <= now_us // DAY_US < first_day_of(month_of(now_us) + 1)


def test_a_host_of_several_allows_its_part_and_never_nothing() -> None:
    assert shared_by(Limits(90, 0, 2, 5, 6), 3) == Limits(30, 0, 1, 5, 6)


def test_retry_after_is_whole_seconds_and_never_too_few() -> None:
    assert [seconds(wait) for wait in (1, 999_999, 1_000_000, 1_000_001)] == [1, 1, 1, 2]


@pytest.mark.parametrize("name", ["usd_per_day", "usd_per_month"])
def test_a_budget_of_a_task_too_small_to_count_is_refused_as_it_would_be_none(name: str) -> None:
    with pytest.raises(ValueError, match=rf"{name} is 1e-07, less than the least budget"):
        LimitSettings(**{name: 0.0000001})
    assert limits_of(LimitSettings(**{name: 0.000001})).has_budget
