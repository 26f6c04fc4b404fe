"""The comparison of candidate and baseline in an experiment: pure values for every screen and command that shows it.

A candidate that failed before its first byte, so that the teacher answered, counts as failed; the client's own view is
`answered`. The unit of analysis is the sticky unit: requests of one user are not independent.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from capture.database import Database
from capture.exchange import BASELINE, CANDIDATE
from capture.feedback import Score, scores
from serve.opinions import OpinionDifference, compare_opinions
from serve.release_store import get_release
from serve.statistics import Interval, Rate, cluster_difference, cluster_rate, quantile, rate_difference, sample_ratio_p, share_z
from serve.window import Experiment, Seen, divided, last_experiment, read_window, sticky_violations, teacher_answers

BETTER, WORSE, SAME, UNSURE = "better", "worse", "same", "unsure"
SAME_RATE = 0.02
"""Rates that differ by less count as the same: two points."""
SAME_RELATIVE = 0.05
"""Latencies and costs that differ by less than this part of the baseline's count as the same."""
SAMPLE_RATIO_ALARM = 0.001
_LARGEST_Z = 999.0


@dataclass(frozen=True, slots=True)
class VariantResult:
    """One row of the A/B table. Times are milliseconds, cost is micro-dollars per 1,000 exchanges; None is unknown.

    `success` counts what the variant itself answered, `answered` what the client got, `fallbacks` those where the teacher
    stepped in. `exact_match` of the candidate is its agreement with an answer of the teacher to the same input; that of the
    baseline is the teacher's agreement with itself on repeated inputs, the ceiling.
    """

    variant: str
    n: int
    units: int
    answered: int
    fallbacks: int
    success: Rate
    exact_match: Rate
    latency_p50_ms: float | None
    latency_p95_ms: float | None
    first_byte_p50_ms: float | None
    cost_per_1000_microusd: int | None
    cost_known: int


@dataclass(frozen=True, slots=True)
class Difference:
    """Candidate less baseline with its 95 % interval, and a word for it: better, worse, same or unsure.

    `metric` is success, exact_match (shares), latency_p50_ms, latency_p95_ms (milliseconds) or cost_per_1000_microusd.
    """

    metric: str
    value: float | None
    low: float | None
    high: float | None
    word: str


@dataclass(frozen=True, slots=True)
class Comparison:
    """What an experiment shows. Shares are basis points; `ended_us` is 0 while it runs.

    `share_expected_bp` weighs the shares by the units that came in under each; `share_seen_bp` is what those units got, and
    `share_z` their distance in standard errors, at most 999. `sample_ratio_p` below 0.001 means that the division itself is
    broken, and nothing else here should be believed. `without_unit` exchanges had no sticky unit and are left out.
    `opinions` is what people thought of either, empty without feedback.
    """

    task: str
    release_id: str
    release_name: str
    engine_model: str
    unit: str
    started_us: int
    ended_us: int
    baseline: VariantResult
    candidate: VariantResult
    differences: tuple[Difference, ...]
    share_set_bp: int
    share_expected_bp: int
    share_seen_bp: int
    share_z: float
    sample_ratio_p: float
    sticky_violations: int
    units: int
    without_unit: int
    opinions: tuple[OpinionDifference, ...] = ()

    @property
    def is_running(self) -> bool:
        """True while the experiment's last share is in force."""
        return self.ended_us == 0

    @property
    def is_sound(self) -> bool:
        """False when units were not divided as the shares say, or changed sides."""
        return self.sample_ratio_p >= SAMPLE_RATIO_ALARM and self.sticky_violations == 0


def compare(database: Database, task: str, *, seed: int = 0) -> Comparison:
    """Candidate against baseline in the running experiment of `task`, else in its last one.

    NotFoundError when no release ever got a share. `seed` fixes the bootstrap.
    """
    experiment = last_experiment(database, task)
    window = read_window(database, experiment)
    teacher = teacher_answers(database, task, {seen.input_hash for seen in window if seen.input_hash})
    told = scores(database, task, sorted(experiment.shares))
    name = get_release(database, task, experiment.release_id).name
    return compare_window(experiment, window, teacher, name, told, seed=seed)


def compare_window(
    experiment: Experiment,
    window: Sequence[Seen],
    teacher: Mapping[str, Sequence[str]],
    release_name: str,
    told: Sequence[Score] = (),
    *,
    seed: int = 0,
) -> Comparison:
    """As `compare`, from values alone."""
    sides = {variant: [seen for seen in window if seen.unit and seen.variant == variant] for variant in (BASELINE, CANDIDATE)}
    baseline, candidate = (_row(variant, side, teacher) for variant, side in sides.items())
    groups = divided(experiment, window)
    units = sum(n for _, n, _ in groups)
    return Comparison(
        experiment.task, experiment.release_id, release_name, experiment.engine_model, experiment.unit,
        experiment.started_us, experiment.ended_us, baseline, candidate,
        _differences(baseline, candidate, sides[BASELINE], sides[CANDIDATE], seed),
        experiment.share_bp,
        round(sum(n * share for _, n, share in groups) / units * 10_000) if units else experiment.share_bp,
        round(sum(candidates for candidates, _, _ in groups) / units * 10_000) if units else 0,
        max(-_LARGEST_Z, min(_LARGEST_Z, share_z(groups))), sample_ratio_p(groups), sticky_violations(experiment, window), units,
        sum(not seen.unit for seen in window),
        compare_opinions(told, same_rate=SAME_RATE, same_relative=SAME_RELATIVE, seed=seed),
    )  # fmt: skip


def _row(variant: str, side: Sequence[Seen], teacher: Mapping[str, Sequence[str]]) -> VariantResult:
    costs = [seen.cost_microusd for seen in side if seen.cost_microusd is not None]
    latencies = [seen.latency_us / 1000 for seen in side if seen.is_answered and seen.latency_us is not None]
    first_bytes = [seen.first_byte_us / 1000 for seen in side if seen.is_answered and seen.first_byte_us is not None]
    return VariantResult(
        variant,
        len(side),
        len({seen.unit for seen in side}),
        sum(seen.is_answered for seen in side),
        sum(seen.is_fallback for seen in side),
        cluster_rate(_by_unit(side, lambda seen: float(seen.is_success))),
        cluster_rate(_by_unit(side, lambda seen: _agreement(seen, teacher))),
        quantile(latencies, 0.5),
        quantile(latencies, 0.95),
        quantile(first_bytes, 0.5),
        round(sum(costs) / len(costs) * 1000) if costs else None,
        len(costs),
    )


def _agreement(seen: Seen, teacher: Mapping[str, Sequence[str]]) -> float | None:
    """The part of the teacher's other answers to the same input that are the same; None when there is none."""
    if not seen.is_success or not seen.input_hash:
        return None
    answers = teacher.get(seen.input_hash, ())
    same, n = answers.count(seen.answer), len(answers)
    if seen.variant == BASELINE:  # its own answer is among them
        same, n = same - 1, n - 1
    return max(0, same) / n if n > 0 else None


def _differences(
    baseline: VariantResult, candidate: VariantResult, side0: Sequence[Seen], side: Sequence[Seen], seed: int
) -> tuple[Difference, ...]:
    def latency(seen: Seen) -> float | None:
        return None if seen.latency_us is None or not seen.is_answered else seen.latency_us / 1000

    def cost(seen: Seen) -> float | None:
        return None if seen.cost_microusd is None else seen.cost_microusd * 1000.0

    def drawn(value: Callable[[Seen], float | None], q: float | None) -> Interval | None:
        return cluster_difference(_by_unit(side, value), _by_unit(side0, value), q, seed=seed)

    return (
        _difference(
            "success", candidate.success.value, baseline.success.value, rate_difference(candidate.success, baseline.success)
        ),
        _difference(
            "exact_match", candidate.exact_match.value, baseline.exact_match.value,
            rate_difference(candidate.exact_match, baseline.exact_match),
        ),
        _difference("latency_p50_ms", candidate.latency_p50_ms, baseline.latency_p50_ms, drawn(latency, 0.5)),
        _difference("latency_p95_ms", candidate.latency_p95_ms, baseline.latency_p95_ms, drawn(latency, 0.95)),
        _difference(
            "cost_per_1000_microusd", candidate.cost_per_1000_microusd, baseline.cost_per_1000_microusd, drawn(cost, None)
        ),
    )  # fmt: skip


def _difference(metric: str, value: float | None, value0: float | None, interval: Interval | None) -> Difference:
    difference = None if value is None or value0 is None else value - value0
    if difference is None or interval is None:
        return Difference(metric, difference, None, None, UNSURE)
    is_rate = metric in ("success", "exact_match")
    margin = SAME_RATE if is_rate else SAME_RELATIVE * abs(value0 or 0.0)
    return Difference(metric, difference, *interval, word_for(interval, margin, more_is_better=is_rate))


def word_for(interval: Interval, margin: float, *, more_is_better: bool) -> str:
    """same when the whole interval lies within `margin` of 0, unsure when it merely holds 0, else better or worse."""
    low, high = interval
    if -margin <= low and high <= margin:
        return SAME
    if low <= 0 <= high:
        return UNSURE
    return BETTER if (low > 0) == more_is_better else WORSE


def _by_unit(side: Sequence[Seen], value: Callable[[Seen], float | None]) -> dict[str, list[float]]:
    units: dict[str, list[float]] = defaultdict(list)
    for seen in side:
        if (one := value(seen)) is not None:
            units[seen.unit].append(one)
    return units
