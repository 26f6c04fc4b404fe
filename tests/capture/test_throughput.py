from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capture.pricing import PriceTable
from capture.throughput import LEAST_SPANS, MOST_SPANS, BusySpan, StudentThroughput, busy_us

SECOND = 1_000_000
SPANS = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 20), st.integers(0, 99)), max_size=30)


def span(start_s: float, length_s: float, tokens: int) -> BusySpan:
    return BusySpan(int((start_s + length_s) * SECOND), int(start_s * SECOND), tokens)


@given(SPANS)
def test_a_second_counts_once_however_many_are_answered_in_it(drawn: list[tuple[int, int, int]]) -> None:
    seconds = {second for start, length, _ in drawn for second in range(start, start + length)}
    assert busy_us(span(*values) for values in drawn) == len(seconds) * SECOND


def test_one_after_another_and_all_at_once() -> None:
    in_turn = StudentThroughput().including(span(number, 1, 50) for number in range(40))
    at_once = StudentThroughput().including(span(0, 1, 50) for _ in range(40))
    assert in_turn.tokens_per_second == pytest.approx(50)
    assert at_once.tokens_per_second == pytest.approx(2000)


def test_idle_time_is_not_counted() -> None:
    rare = StudentThroughput().including(span(number * 3600, 1, 50) for number in range(40))
    assert rare.tokens_per_second == pytest.approx(50)


@pytest.mark.parametrize(
    "spans",
    [
        [],
        [span(number, 1, 50) for number in range(LEAST_SPANS - 1)],
        [span(number / 1000, 0.001, 50) for number in range(100)],
        [span(number, 1, 0) for number in range(100)],
    ],
    ids=["nothing", "too few", "too short", "no tokens"],
)
def test_too_little_is_no_measurement(spans: list[BusySpan]) -> None:
    assert StudentThroughput().including(spans).tokens_per_second is None


@given(st.permutations(range(40)), st.integers(1, 39))
def test_batches_and_their_order_make_no_difference(order: list[int], cut: int) -> None:
    spans = [span(number / 2, 1, number) for number in order]
    once = StudentThroughput().including(spans)
    assert StudentThroughput().including(spans[:cut]).including(spans[cut:]) == once


def test_the_latest_exchanges_stand_for_the_machine() -> None:
    slow = StudentThroughput().including(span(number, 1, 10) for number in range(MOST_SPANS))
    fast = slow.including(span(MOST_SPANS + number, 1, 100) for number in range(MOST_SPANS))
    assert len(fast.spans) == MOST_SPANS
    assert fast.tokens_per_second == pytest.approx(100)


def test_the_costs_of_all_exchanges_come_to_the_busy_hours() -> None:
    spans = [span(number * 0.7, 1.5, 1000 + number) for number in range(200)]
    measured = StudentThroughput().including(spans)
    prices = PriceTable({}, student_usd_per_hour=3.6)
    costs = [prices.student_cost_microusd(1_500_000, span.tokens_out, measured.tokens_per_second) or 0 for span in spans]
    assert sum(costs) == pytest.approx(busy_us(spans) / SECOND * 1000, rel=0.01)
    bounds = [prices.student_cost_microusd(1_500_000) or 0 for _ in spans]
    assert sum(bounds) > sum(costs)
