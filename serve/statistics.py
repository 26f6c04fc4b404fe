"""The few statistics of an experiment, as pure functions. Shares are between 0 and 1, intervals are (low, high).

Every interval is a 95 % interval for one look at a finished window. It is no licence to stop at the first look that
pleases: for a decision while traffic runs a sequential test is needed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.random import Generator
    from numpy.typing import NDArray

Z95 = 1.959963984540054
_NEGLIGIBLE = 1e-18
Interval = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Rate:
    """A share with its 95 % interval. `effective_n` is `n` made smaller for values that come in units.

    `value` None means that nothing was observed.
    """

    value: float | None
    n: int
    units: int
    low: float
    high: float
    effective_n: float


def wilson(successes: float, n: float, z: float = Z95) -> Interval:
    """Score interval of a proportion (Wilson 1927); (0, 1) without observations."""
    if n == 0:
        return 0.0, 1.0
    p, z2 = successes / n, z * z
    middle = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = z / (1 + z2 / n) * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n))
    return (0.0 if p == 0 else max(0.0, middle - half)), (1.0 if p == 1 else min(1.0, middle + half))


def newcombe(successes: float, n: float, successes0: float, n0: float, z: float = Z95) -> Interval:
    """Interval of p - p0 for two independent proportions (Newcombe 1998, method 10); (-1, 1) without observations."""
    if n == 0 or n0 == 0:
        return -1.0, 1.0
    p, p0 = successes / n, successes0 / n0
    low, high = wilson(successes, n, z)
    low0, high0 = wilson(successes0, n0, z)
    difference = p - p0
    return difference - math.hypot(p - low, high0 - p0), difference + math.hypot(high - p, p0 - low0)


def cluster_rate(values: Mapping[str, Sequence[float]]) -> Rate:
    """The mean of values in [0, 1] that come in units, with Wilson's interval at the effective sample size.

    The design effect is the linearised variance of the ratio over that of independent values, at least 1 (Kish 1965; Dean
    and Pagano 2015 for Wilson's interval). Unlike a bootstrap it stays honest when no failure was seen at all.
    """
    units = [one for one in values.values() if len(one)]
    n, count = sum(map(len, units)), len(units)
    if n == 0:
        return Rate(None, 0, 0, 0.0, 1.0, 0.0)
    p = sum(map(sum, units)) / n
    effect = 1.0
    if count > 1 and 0 < p < 1:
        variance = sum((sum(one) - p * len(one)) ** 2 for one in units) * count / (count - 1) / n**2
        effect = max(1.0, variance / (p * (1 - p) / n))
    low, high = wilson(p * n / effect, n / effect)
    return Rate(p, n, count, low, high, n / effect)


def rate_difference(rate: Rate, rate0: Rate) -> Interval | None:
    """Newcombe's interval of rate - rate0 at their effective sample sizes; None when either was not observed."""
    if rate.value is None or rate0.value is None:
        return None
    return newcombe(rate.value * rate.effective_n, rate.effective_n, rate0.value * rate0.effective_n, rate0.effective_n)


def share_z(groups: Sequence[tuple[int, int, float]]) -> float:
    """How many standard errors the candidates of (candidates, n, share) groups lie from what their shares promise."""
    variance = sum(n * share * (1 - share) for _, n, share in groups)
    beyond = sum(candidates - n * share for candidates, n, share in groups)
    if variance == 0:
        return math.copysign(math.inf, beyond) if abs(beyond) > 1e-9 else 0.0
    return beyond / math.sqrt(variance)


def sample_ratio_p(groups: Sequence[tuple[int, int, float]]) -> float:
    """Exact two-sided p-value for groups of (candidates, n, share), each with a share of its own.

    Units that came in under different shares are independent, so their count of candidates is a sum of binomials, and the
    p-value is the mass of all counts no likelier than the one seen. Fabijan et al. (2019) warn at p < 0.001.
    """
    if any(not 0 < share < 1 and candidates != n * share for candidates, n, share in groups):
        return 0.0
    mixed = [group for group in groups if group[1] > 0 and 0 < group[2] < 1]
    if not mixed:
        return 1.0
    import numpy as np

    mass, start = np.ones(1), 0
    for _, n, share in mixed:
        one = np.exp(_log_binomial(n, share))
        kept = np.flatnonzero(one > _NEGLIGIBLE)
        mass, start = np.convolve(mass, one[kept[0] : kept[-1] + 1]), start + int(kept[0])
    place = sum(candidates for candidates, _, _ in mixed) - start
    if not 0 <= place < len(mass):
        return 0.0
    return float(min(1.0, mass[mass <= mass[place] * (1 + 1e-7)].sum()))


def quantile(values: Sequence[float], q: float) -> float | None:
    """Linear-interpolated quantile; None without values."""
    if not values:
        return None
    ordered = sorted(values)
    place = (len(ordered) - 1) * q
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


def cluster_difference(
    candidate: Mapping[str, Sequence[float]],
    baseline: Mapping[str, Sequence[float]],
    q: float | None = None,
    *,
    repeats: int = 1_000,
    seed: int = 0,
) -> Interval | None:
    """Percentile-bootstrap interval of the candidate's mean (or quantile `q`) less the baseline's, drawing whole units.

    Values of one unit belong together, so units are drawn and not values (cluster bootstrap, Davison and Hinkley 1997, 3.8).
    None when either side has fewer than two units with values: one unit says nothing about how units differ.
    """
    import numpy as np

    sides = [[one for one in side.values() if len(one)] for side in (candidate, baseline)]
    if min(len(side) for side in sides) < 2:
        return None
    random = np.random.default_rng(seed)
    drawn = [_redraw(side, q, repeats, random) for side in sides]
    low, high = np.quantile(drawn[0] - drawn[1], [0.025, 0.975])
    return float(low), float(high)


def _redraw(units: list[Sequence[float]], q: float | None, repeats: int, random: Generator) -> NDArray[Any]:
    import numpy as np

    sizes = np.array([len(unit) for unit in units])
    values = np.concatenate([np.asarray(unit, dtype=float) for unit in units])
    owners = np.repeat(np.arange(len(units)), sizes)
    order = np.argsort(values, kind="stable")
    values, owners = values[order], owners[order]
    results = np.empty(repeats)
    for number in range(repeats):
        times = np.bincount(random.integers(0, len(units), len(units)), minlength=len(units))
        weights = times[owners]
        if q is None:
            results[number] = np.dot(weights, values) / weights.sum()
        else:
            below = np.cumsum(weights)
            results[number] = values[np.searchsorted(below, q * below[-1])]
    return results


def _log_binomial(n: int, share: float) -> NDArray[Any]:
    import numpy as np

    log_factorial = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, n + 1)))])
    k = np.arange(n + 1)
    result: NDArray[Any] = (
        log_factorial[n] - log_factorial[k] - log_factorial[n - k] + k * math.log(share) + (n - k) * math.log1p(-share)
    )
    return result
