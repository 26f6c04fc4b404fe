"""How far reviewers agree beyond chance, on the examples that several of them judged.

Each person's latest standing verdict on an example counts: accept, edit or reject; a skip is no opinion. Opinions that only
settled a dispute are left out: such examples were chosen because people differed on them.

Two people: Cohen's kappa (1960). More, with gaps: Krippendorff's alpha for nominal data (2004). Intervals: percentile
bootstrap over examples (Efron 1979), with a fixed seed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from capture.database import Database
from curate.likeness.wording import normalise
from curate.reviewing.proportions import share_interval
from curate.reviewing.review import ACCEPT, EDIT, REJECT, SKIP, Review, all_reviews, by_example, settle, standing

CATEGORIES = (ACCEPT, EDIT, REJECT)
KAPPA, ALPHA = "Cohen's kappa", "Krippendorff's alpha"
_RESAMPLES = 2_000
_SEED = 20_260_101
_LEAST = 10
_MOST_UNDEFINED = 0.05

Counts = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Coefficient:
    """A figure of agreement beyond chance (1 is perfect, 0 is chance) with its 95 % interval.

    What is undefined is None, and `reason` says why.
    """

    name: str
    value: float | None
    low: float | None = None
    high: float | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class PairAgreement:
    """Two reviewers: on how many of the `shared` examples they gave the same verdict, and their kappa.

    `percent` has an exact 95 % interval and is None without a shared example. Of `both_edited` examples `same_edits` got
    targets of equal wording.
    """

    first: str
    second: str
    shared: int
    same: int
    percent: float | None
    percent_low: float
    percent_high: float
    both_edited: int
    same_edits: int
    kappa: Coefficient


@dataclass(frozen=True, slots=True)
class Agreement:
    """Agreement on one task. `examples_shared` were judged by two or more people; `left_out` opinions only settled a dispute.

    `percent` is the share of pairs of opinions on one example that are equal, each example weighing the same.
    """

    task: str
    reviewers: tuple[str, ...]
    examples: int
    examples_shared: int
    left_out: int
    percent: float | None
    overall: Coefficient
    pairs: tuple[PairAgreement, ...]


def agreement(database: Database, task: str) -> Agreement:
    """How far the reviewers of `task` agree."""
    return agree(task, all_reviews(database, task))


def agree(task: str, reviews: Sequence[Review]) -> Agreement:
    """As `agreement`, of all rows of a task's reviews, oldest first."""
    left_out = 0
    held: list[dict[str, Review]] = []
    for verdicts in by_example(standing(reviews)).values():
        opinions, settling = _first_opinions(verdicts)
        left_out += settling
        if opinions:
            held.append(opinions)
    reviewers = tuple(sorted({reviewer for opinions in held for reviewer in opinions}))
    shared = [opinions for opinions in held if len(opinions) > 1]
    pairs = tuple(_pair(first, second, shared) for first, second in combinations(reviewers, 2))
    if len(reviewers) == 2:
        overall = pairs[0].kappa
    else:
        overall = _alpha([_counted(opinions) for opinions in shared])
    percent = sum(map(_alike, shared)) / len(shared) if shared else None
    return Agreement(task, reviewers, len(held), len(shared), left_out, percent, overall, pairs)


def _first_opinions(verdicts: Sequence[Review]) -> tuple[dict[str, Review], int]:
    """The latest opinion of each person on one example, and how many more were given to settle a dispute."""
    held: dict[str, Review] = {}
    settled: set[str] = set()
    for place, verdict in enumerate(verdicts):
        is_late = place > 0 and verdict.reviewer not in held and settle(verdicts[:place]) is None
        if is_late or verdict.reviewer in settled:
            settled.add(verdict.reviewer)
        else:
            held[verdict.reviewer] = verdict
    spoken = {reviewer: verdict for reviewer, verdict in held.items() if verdict.verdict != SKIP}
    return spoken, len(settled)


def _counted(opinions: Mapping[str, Review]) -> tuple[int, ...]:
    counts = Counter(one.verdict for one in opinions.values())
    return tuple(counts[category] for category in CATEGORIES)


def _alike(opinions: Mapping[str, Review]) -> float:
    given = [one.verdict for one in opinions.values()]
    n = len(given)
    return sum(count * (count - 1) for count in Counter(given).values()) / (n * (n - 1))


def _pair(first: str, second: str, shared: Sequence[Mapping[str, Review]]) -> PairAgreement:
    both = [(opinions[first], opinions[second]) for opinions in shared if first in opinions and second in opinions]
    table = Counter((CATEGORIES.index(one.verdict), CATEGORIES.index(other.verdict)) for one, other in both)
    same = sum(count for (row, column), count in table.items() if row == column)
    edits = [(one.target, other.target) for one, other in both if one.verdict == other.verdict == EDIT]
    low, high = share_interval(same, len(both))
    return PairAgreement(
        first, second, len(both), same, same / len(both) if both else None, low, high, len(edits),
        sum(normalise(one) == normalise(other) for one, other in edits), _kappa(table),
    )  # fmt: skip


def _kappa(table: Mapping[tuple[int, int], int]) -> Coefficient:
    cells = sorted(table)
    rows = np.array([[cell[0] == category for category in range(len(CATEGORIES))] for cell in cells], dtype=np.float64)
    columns = np.array([[cell[1] == category for category in range(len(CATEGORIES))] for cell in cells], dtype=np.float64)
    is_same = np.array([row == column for row, column in cells], dtype=np.float64)

    def statistic(counts: Counts) -> Counts:
        n = counts.sum(axis=1)
        observed = counts @ is_same / n
        chance = ((counts @ rows) * (counts @ columns)).sum(axis=1) / n**2
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(chance < 1, (observed - chance) / (1 - chance), np.nan)

    return _with_interval(KAPPA, [table[cell] for cell in cells], statistic, bool(cells) and bool(is_same.all()))


def _alpha(shared: Sequence[tuple[int, ...]]) -> Coefficient:
    """Krippendorff's alpha of examples, each given by how often each category was chosen."""
    kinds = sorted(Counter(shared))
    units = np.array(kinds, dtype=np.float64).reshape(len(kinds), len(CATEGORIES))
    opinions = units.sum(axis=1)
    differing = (opinions**2 - (units**2).sum(axis=1)) / np.maximum(opinions - 1, 1)

    def statistic(counts: Counts) -> Counts:
        n = counts @ opinions
        observed = counts @ differing / n
        expected = (n**2 - ((counts @ units) ** 2).sum(axis=1)) / (n * np.maximum(n - 1, 1))
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(expected > 0, 1 - observed / expected, np.nan)

    frequency = Counter(shared)
    return _with_interval(ALPHA, [frequency[kind] for kind in kinds], statistic, bool(kinds) and not differing.any())


def _with_interval(name: str, seen: Sequence[int], statistic: Callable[[Counts], Counts], is_unanimous: bool) -> Coefficient:
    """`statistic` of the kinds of examples `seen`, so many of each; drawing examples anew means drawing their kinds anew."""
    n = sum(seen)
    if not n:
        return Coefficient(name, None, reason="no example was judged by two people; try --second-opinion")
    value = float(statistic(np.array([seen], dtype=np.float64))[0])
    if np.isnan(value):
        return Coefficient(
            name, None, reason=f"all verdicts on the {n} shared examples are the same, so chance explains them too"
        )
    if n < _LEAST:
        return Coefficient(name, value, reason=f"{n} shared examples are too few for an interval ({_LEAST} are needed)")
    if is_unanimous:
        return Coefficient(
            name, value, reason="nobody differed, so drawing anew shows no spread; see the interval of the percentage"
        )
    draws = np.random.default_rng(_SEED).multinomial(n, np.array(seen) / n, size=_RESAMPLES).astype(np.float64)
    values = statistic(draws)
    defined = values[~np.isnan(values)]
    if len(defined) < (1 - _MOST_UNDEFINED) * _RESAMPLES:
        return Coefficient(name, value, reason="verdicts other than the most frequent are too rare for an interval")
    low, high = np.quantile(defined, (0.025, 0.975))
    return Coefficient(name, value, float(low), float(high))
