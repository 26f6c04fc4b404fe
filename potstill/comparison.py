"""The A/B table, for people."""

from __future__ import annotations

from potstill.output import Output, one_line
from serve.experiments import Comparison, Difference, VariantResult
from serve.opinions import OpinionDifference
from serve.statistics import Rate

_NAMES = {
    "success": "success",
    "exact_match": "exact match",
    "latency_p50_ms": "latency p50",
    "latency_p95_ms": "latency p95",
    "cost_per_1000_microusd": "cost per 1,000",
}


def print_comparison(comparison: Comparison, output: Output) -> None:
    """Both variants side by side, the differences with their intervals and words, and whether the split can be trusted."""
    c = comparison
    output.heading(f"{c.task}: teacher (baseline) against {c.engine_model} (candidate), {'running' if c.is_running else 'ended'}")
    rows: list[tuple[str, ...]] = [("exchanges", str(c.baseline.n), str(c.candidate.n), "", "", "")]
    rows.append((f"{c.unit}s" if c.unit != "auto" else "units", str(c.baseline.units), str(c.candidate.units), "", "", ""))
    rows.append(("the teacher stepped in", "", str(c.candidate.fallbacks), "", "", ""))
    rows += [_row(difference, c.baseline, c.candidate) for difference in c.differences]
    rows += [_opinion(difference) for difference in c.opinions]
    output.table(("", "BASELINE", "CANDIDATE", "DIFFERENCE", "95 %", ""), rows, right=("BASELINE", "CANDIDATE", "DIFFERENCE"))
    n = c.candidate.exact_match.n
    output.say(
        f"exact match: against a teacher's answer to the same input ({n} of the candidate's have one); the baseline's is the"
    )
    output.say(
        "teacher's agreement with itself, the ceiling. Intervals are by unit, since requests of one user are not independent."
    )
    output.say(
        f"share set {c.share_set_bp / 100:.1f} %, seen {c.share_seen_bp / 100:.1f} % of {c.units} units (z {c.share_z:+.2f}); "
        f"units that saw both variants: {c.sticky_violations}; without a unit: {c.without_unit}"
    )
    if not c.is_sound:
        output.say("The split itself is broken: believe nothing above. Look at how users are tagged.", style="bold red")
    if c.is_running:
        output.say(f"Back at once: potstill flag rollback {c.task}")


def _row(difference: Difference, baseline: VariantResult, candidate: VariantResult) -> tuple[str, ...]:
    metric = difference.metric
    interval = (
        ""
        if difference.low is None or difference.high is None
        else f"[{_signed(metric, difference.low)}, {_signed(metric, difference.high)}]"
    )
    change = "" if difference.value is None else _signed(metric, difference.value)
    return (_NAMES.get(metric, metric), _value(metric, baseline), _value(metric, candidate), change, interval, difference.word)


def _opinion(difference: OpinionDifference) -> tuple[str, ...]:
    d = difference
    sides = ["unknown" if side.mean is None else f"{side.mean:.3g} of {side.n}" for side in (d.baseline, d.candidate)]
    change = "" if d.value is None else f"{d.value:+.3g}"
    interval = "" if d.low is None or d.high is None else f"[{d.low:+.3g}, {d.high:+.3g}]"
    return (f"feedback: {one_line(d.name, 24)}", *sides, change, interval, d.word)


def _value(metric: str, result: VariantResult) -> str:
    value = getattr(result, metric)
    if isinstance(value, Rate):
        return "unknown" if value.value is None else f"{value.value:.3f}"
    if value is None:
        return "unknown"
    return f"${value / 1_000_000:.4f}" if metric.startswith("cost") else f"{value:.0f} ms"


def _signed(metric: str, value: float) -> str:
    if metric.startswith("cost"):
        return f"{'-' if value < 0 else '+'}${abs(value) / 1_000_000:.4f}"
    return f"{value:+.0f}" if metric.startswith("latency") else f"{value:+.3f}"
