"""The statistics against closed forms, SciPy, and simulation of what they promise."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from serve.statistics import (
    cluster_difference,
    cluster_rate,
    newcombe,
    quantile,
    rate_difference,
    sample_ratio_p,
    share_z,
    wilson,
)


@given(st.integers(1, 5_000), st.data())
def test_wilson_is_scipys_wilson(n: int, data: st.DataObject) -> None:
    successes = data.draw(st.integers(0, n))
    expected = stats.binomtest(successes, n).proportion_ci(0.95, method="wilson")
    assert wilson(successes, n) == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_newcombe_gives_the_published_example() -> None:
    # Newcombe 1998, table II, 56/70 against 48/80: 0.0524 to 0.3339 by method 10.
    assert newcombe(56, 70, 48, 80) == pytest.approx((0.0524, 0.3339), abs=5e-5)


@given(st.integers(1, 300), st.integers(1, 300), st.data())
def test_newcombe_holds_the_difference_and_turns_with_its_sides(n: int, n0: int, data: st.DataObject) -> None:
    successes, successes0 = data.draw(st.integers(0, n)), data.draw(st.integers(0, n0))
    low, high = newcombe(successes, n, successes0, n0)
    assert low <= successes / n - successes0 / n0 <= high
    assert newcombe(successes0, n0, successes, n) == pytest.approx((-high, -low))


def test_nothing_observed_says_nothing() -> None:
    assert wilson(0, 0) == (0.0, 1.0)
    assert newcombe(0, 0, 1, 1) == (-1.0, 1.0)
    assert cluster_rate({}).value is None
    assert rate_difference(cluster_rate({}), cluster_rate({"a": [1.0]})) is None
    assert quantile([], 0.5) is None
    assert cluster_difference({"a": [1.0]}, {"b": [1.0], "c": [2.0]}) is None


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=60), st.floats(0, 1))
def test_quantile_is_numpys(values: list[float], q: float) -> None:
    assert quantile(values, q) == pytest.approx(float(np.quantile(values, q)), rel=1e-9, abs=1e-6)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 2_000), st.floats(0.01, 0.99), st.data())
def test_the_sample_ratio_of_one_share_is_the_exact_binomial_test(n: int, share: float, data: st.DataObject) -> None:
    candidates = data.draw(st.integers(0, n))
    expected = stats.binomtest(candidates, n, share).pvalue
    assert sample_ratio_p([(candidates, n, share)]) == pytest.approx(expected, rel=1e-5, abs=1e-12)


def test_the_sample_ratio_of_a_ramp_is_the_sum_of_binomials() -> None:
    groups = [(3, 40, 0.05), (20, 60, 0.25), (26, 50, 0.5)]
    mass = np.ones(1)
    for _, n, share in groups:
        mass = np.convolve(mass, stats.binom.pmf(np.arange(n + 1), n, share))
    assert sample_ratio_p(groups) == pytest.approx(mass[mass <= mass[49] * (1 + 1e-7)].sum())


def test_the_sample_ratio_of_many_units_is_quick_and_finds_a_lost_fifth() -> None:
    assert sample_ratio_p([(30_100, 100_000, 0.3), (50_000, 100_000, 0.5)]) > 0.3
    assert sample_ratio_p([(320, 4_000, 0.1)]) < 0.001


def test_a_share_of_nothing_or_everything_allows_no_exception() -> None:
    assert sample_ratio_p([(10, 10, 1.0)]) == 1.0
    assert sample_ratio_p([(9, 10, 1.0)]) == 0.0
    assert sample_ratio_p([]) == 1.0


def test_the_sample_ratio_alarm_is_rare_when_the_division_is_sound() -> None:
    random = np.random.default_rng(1)
    alarms = sum(sample_ratio_p([(int(random.binomial(400, 0.3)), 400, 0.3)]) < 0.05 for _ in range(1_000))
    assert alarms <= 50 + 3 * math.sqrt(1_000 * 0.05 * 0.95)


def test_share_z_counts_standard_errors() -> None:
    assert share_z([(30, 100, 0.3)]) == pytest.approx(0.0)
    assert share_z([(40, 100, 0.3)]) == pytest.approx(10 / math.sqrt(21))
    assert share_z([(10, 100, 0.1), (50, 100, 0.5)]) == pytest.approx(0.0)
    assert share_z([(9, 10, 1.0)]) == -math.inf
    assert share_z([]) == 0.0


def test_units_of_one_value_give_wilsons_interval_and_units_of_equal_values_count_once() -> None:
    singles = {str(number): [float(number < 80)] for number in range(100)}
    rate = cluster_rate(singles)
    assert (rate.value, rate.n, rate.units) == (0.8, 100, 100)
    assert (rate.low, rate.high) == pytest.approx(wilson(80, 100), abs=0.002)
    tens = {str(number): [float(number < 80)] * 10 for number in range(100)}
    assert cluster_rate(tens).effective_n == pytest.approx(100, rel=0.02)


def test_a_rate_without_failures_is_still_uncertain() -> None:
    rate = cluster_rate({str(number): [1.0] * 3 for number in range(20)})
    assert (rate.low, rate.high) == pytest.approx((wilson(60, 60)[0], 1.0))


def _traffic(random: np.random.Generator, units: int, p: float, spread: float) -> dict[str, list[float]]:
    rates = random.beta(p * spread, (1 - p) * spread, units)
    return {str(number): list(random.binomial(1, rate, 20).astype(float)) for number, rate in enumerate(rates)}


def test_rate_differences_cover_the_truth_where_requests_of_a_unit_are_alike() -> None:
    random = np.random.default_rng(2)
    covered = naive = 0
    for _ in range(400):
        one, other = _traffic(random, 60, 0.8, 3.0), _traffic(random, 120, 0.8, 3.0)
        low, high = rate_difference(cluster_rate(one), cluster_rate(other)) or (0.0, 0.0)
        covered += low <= 0 <= high
        sums = [(sum(map(sum, side.values())), 20 * len(side)) for side in (one, other)]
        low, high = newcombe(*sums[0], *sums[1])
        naive += low <= 0 <= high
    assert covered >= 400 * 0.95 - 3 * math.sqrt(400 * 0.95 * 0.05)
    assert naive < 400 * 0.80  # the harness is sharp enough to tell a request-level analysis from ours


@pytest.mark.parametrize("q", [None, 0.5])
def test_the_cluster_bootstrap_covers_the_truth(q: float | None) -> None:
    random = np.random.default_rng(3)

    def side(units: int, shift: float) -> dict[str, list[float]]:
        middles = random.normal(100 + shift, 20, units)
        return {str(number): list(random.normal(middle, 5, 8)) for number, middle in enumerate(middles)}

    covered = 0
    for seed in range(200):
        low, high = cluster_difference(side(50, 10.0), side(80, 0.0), q, repeats=200, seed=seed) or (0.0, 0.0)
        covered += low <= 10 <= high
    assert covered >= 200 * 0.93 - 3 * math.sqrt(200 * 0.93 * 0.07)


def test_the_cluster_bootstrap_is_fixed_by_its_seed() -> None:
    one = {str(number): [number * 1.0, number + 1.0] for number in range(20)}
    other = {str(number): [number * 1.0 + 3.0] for number in range(20)}
    assert cluster_difference(one, other, 0.95, seed=5) == cluster_difference(one, other, 0.95, seed=5)
    assert cluster_difference(one, other, 0.95, seed=5) != cluster_difference(one, other, 0.95, seed=6)
