"""What people thought of either variant: feedback as rates and means by variant, with the interval of their difference.

Feedback counts for the variant that its exchange was assigned, also where the teacher stepped in for the candidate. Whether
more of it is better only the app knows, so the words are higher and lower.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from capture.exchange import BASELINE, CANDIDATE
from capture.feedback import Score
from capture.feedback_forms import BOOLEAN
from serve.statistics import Interval, Rate, cluster_difference, cluster_rate, rate_difference

HIGHER, LOWER, SAME, UNSURE = "higher", "lower", "same", "unsure"


@dataclass(frozen=True, slots=True)
class Opinion:
    """The feedback of one name on one variant: how many scores, on how many units, and their mean (None without any)."""

    n: int
    units: int
    mean: float | None


@dataclass(frozen=True, slots=True)
class OpinionDifference:
    """One name of feedback on both variants. The mean of a boolean is the share that is true.

    `value` is candidate less baseline with its 95 % interval by unit, `word` is higher, lower, same or unsure.
    """

    name: str
    kind: str
    baseline: Opinion
    candidate: Opinion
    value: float | None
    low: float | None
    high: float | None
    word: str


def compare_opinions(
    scores: Sequence[Score], *, same_rate: float, same_relative: float, seed: int = 0
) -> tuple[OpinionDifference, ...]:
    """Each name in `scores`, in order of name. Shares that differ by less than `same_rate` count as the same, and so do means
    that differ by less than the part `same_relative` of the baseline's. Scores of exchanges without a unit are left out.
    """
    groups: dict[tuple[str, str], list[Score]] = defaultdict(list)
    for score in scores:
        if score.unit:
            groups[score.name, score.kind].append(score)
    return tuple(
        _difference(name, kind, group, same_rate if kind == BOOLEAN else None, same_relative, seed)
        for (name, kind), group in sorted(groups.items())
    )


def _difference(
    name: str, kind: str, group: Sequence[Score], same_rate: float | None, same_relative: float, seed: int
) -> OpinionDifference:
    values0, values = _by_unit(group, BASELINE), _by_unit(group, CANDIDATE)
    baseline, candidate = _opinion(values0), _opinion(values)
    if baseline.mean is None or candidate.mean is None:
        return OpinionDifference(name, kind, baseline, candidate, None, None, None, UNSURE)
    interval: Interval | None
    if same_rate is None:
        interval, margin = cluster_difference(values, values0, seed=seed), same_relative * abs(baseline.mean)
    else:
        interval, margin = rate_difference(_rate(values), _rate(values0)), same_rate
    low, high = interval or (None, None)
    value = candidate.mean - baseline.mean
    return OpinionDifference(name, kind, baseline, candidate, value, low, high, _word(interval, margin))


def _rate(values: Mapping[str, Sequence[float]]) -> Rate:
    """The share that is true. Where all agree nothing shows how alike a unit's own are, so each unit counts as one."""
    rate = cluster_rate(values)
    return replace(rate, effective_n=min(rate.effective_n, float(rate.units))) if rate.value in (0.0, 1.0) else rate


def _by_unit(group: Sequence[Score], variant: str) -> dict[str, list[float]]:
    units: dict[str, list[float]] = defaultdict(list)
    for score in group:
        if score.variant == variant:
            units[score.unit].append(score.value)
    return units


def _opinion(values: Mapping[str, Sequence[float]]) -> Opinion:
    n = sum(map(len, values.values()))
    return Opinion(n, len(values), sum(map(sum, values.values())) / n if n else None)


def _word(interval: Interval | None, margin: float) -> str:
    if interval is None:
        return UNSURE
    low, high = interval
    if -margin <= low and high <= margin:
        return SAME
    if low <= 0 <= high:
        return UNSURE
    return HIGHER if low > 0 else LOWER
