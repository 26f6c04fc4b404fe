"""The Rollout screen as lines of text: share, comparison, intervals, split check, releases, history. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tui import words
from tui.reading import Rollout
from tui.text import cut, one_line
from tui.widgets.interval_bar import interval_bar
from tui.widgets.share_slider import slider, staged_line

if TYPE_CHECKING:
    from serve.experiments import Comparison, Difference, VariantResult
    from serve.statistics import Rate

_WIDE = 78
_HISTORY_SHOWN = 3
_RELEASES_SHOWN = 2
_NAMES = {
    "success": "success",
    "exact_match": "same answer",
    "latency_p50_ms": "latency p50",
    "latency_p95_ms": "latency p95",
    "cost_per_1000_microusd": "cost per 1k",
}
_RATES = ("success", "exact_match")


def rollout_lines(view: Rollout, staged_bp: int, width: int, now_us: int) -> list[str]:
    """Everything about one task's rollout, the most important first, each line at most `width` cells."""
    lines = [_title(view, width), *_share(view, staged_bp, width), ""]
    if view.comparison is None:
        lines += [" No comparison yet: no release of this task ever had a share.", ""]
    else:
        lines += [*_table(view.comparison, width), "", *_checks(view.comparison, width), *_bars(view.comparison, width), ""]
    lines += [*_history(view, now_us), *_releases(view)]
    return [cut(line, width) for line in lines]


def _title(view: Rollout, width: int) -> str:
    name = f" {one_line(view.task, 30)}"
    if len(view.tasks) > 1:
        name += f"  (task {view.tasks.index(view.task) + 1} of {len(view.tasks)}, n next)"
    right = f"flag {'on' if view.share_bp else 'off'}" + (f"   sticky by {view.unit}" if view.unit else "") + " "
    return name + right.rjust(max(width - len(name), len(right) + 2))


def _share(view: Rollout, staged_bp: int, width: int) -> list[str]:
    if view.candidate is None:
        state = view.releases[0].state if view.releases else "missing"
        return [
            " The baseline answers everything.",
            f" No release is ready (the newest is {state}). Make one: potstill release TASK",
        ]
    teacher = one_line(view.teacher or "teacher", 20)
    return [
        slider(teacher, one_line(view.candidate.name, 20), view.share_bp, width),
        staged_line(view.share_bp, staged_bp, width),
    ]


def _table(comparison: Comparison, width: int) -> list[str]:
    def row(name: str, baseline: str, candidate: str, difference: str, word: str) -> str:
        if width >= _WIDE:
            return f" {name:12}{baseline:17}{candidate:17}{difference:25}{word}"
        return f" {name:12}{difference:26}{word}"

    sides = (comparison.baseline, comparison.candidate)
    lines = [row("METRIC", "BASELINE", "CANDIDATE", "DIFFERENCE (95%)", "VERDICT")]
    for one in comparison.differences:
        word = f"{one.word} !" if one.word == "worse" else one.word
        baseline, candidate = (_value(side, one.metric) for side in sides)
        lines.append(row(_NAMES.get(one.metric, one.metric), baseline, candidate, _difference(one), word))
    return lines


def _value(side: VariantResult, metric: str) -> str:
    if metric in _RATES:
        rate: Rate = side.success if metric == "success" else side.exact_match
        return f"{_percent(rate.value)}  n {rate.n:,}"
    if metric == "latency_p50_ms":
        return _milliseconds(side.latency_p50_ms)
    if metric == "latency_p95_ms":
        return _milliseconds(side.latency_p95_ms)
    return words.money(side.cost_per_1000_microusd)


def _difference(difference: Difference) -> str:
    if difference.value is None:
        return words.UNKNOWN
    if difference.metric in _RATES and difference.low is not None and difference.high is not None:
        return f"{difference.value * 100:+.1f} pt [{difference.low * 100:+.1f}, {difference.high * 100:+.1f}]"
    value = _signed(difference.metric, difference.value)
    if difference.low is None or difference.high is None:
        return f"{value} (too few)"
    return f"{value} [{_signed(difference.metric, difference.low)}, {_signed(difference.metric, difference.high)}]"


def _signed(metric: str, value: float) -> str:
    sign = "-" if value < 0 else "+"
    if metric in _RATES:
        return f"{sign}{abs(value) * 100:.1f} pt"
    if metric.endswith("_ms"):
        return f"{sign}{_milliseconds(abs(value))}"
    return f"{sign}{words.money(abs(value))}"


def _bars(comparison: Comparison, width: int) -> list[str]:
    lines = []
    for one in comparison.differences:
        if one.metric in _RATES and one.value is not None and one.low is not None and one.high is not None:
            limit = max(abs(one.low), abs(one.high), 0.01)
            ends = f"{limit * 100:.1f} pt"
            cells = max(min(width - 17 - 2 * (len(ends) + 3), 50), 9)
            lines.append(f" {_NAMES[one.metric]:12} -{ends} {interval_bar(one.value, one.low, one.high, limit, cells)} +{ends}")
    return lines


def _checks(comparison: Comparison, width: int) -> list[str]:
    expected, seen = words.share(comparison.share_expected_bp), words.share(comparison.share_seen_bp)
    word = "ok" if comparison.is_sound else "BROKEN: believe nothing above"
    split = (
        f" split check  {word}: {expected} wanted, {seen} seen of {comparison.units:,} units (p {comparison.sample_ratio_p:.2f})"
    )
    changed = f", {comparison.sticky_violations:,} changed sides"
    side = comparison.candidate
    fallbacks = f" fallbacks    {side.fallbacks:,} of {side.n:,}: the teacher stepped in before the first byte"
    state = "running" if comparison.is_running else "ended"
    where = f" experiment   {state}: {one_line(comparison.release_name, 24)}, last share {words.share(comparison.share_set_bp)}"
    return [split + (changed if len(split + changed) <= width else ""), fallbacks, where]


def _history(view: Rollout, now_us: int) -> list[str]:
    if not view.history:
        return []
    before, lines = 0, []
    for change in view.history:
        why = f': "{one_line(change.why, 40)}"' if change.why else ""
        lines.append(
            f" {words.ago(change.created_us, now_us):10}  {words.share(before)} -> {words.share(change.share_bp)}"
            f"  {one_line(change.engine_model, 20)}  {one_line(change.who, 16)}{why}"
        )
        before = change.share_bp
    newest_first = lines[::-1][:_HISTORY_SHOWN]
    return [f" {'history' if at == 0 else '':12}{line}" for at, line in enumerate(newest_first)]


def _releases(view: Rollout) -> list[str]:
    shown = [
        f"{one_line(release.name, 30)} {release.state}"
        + (f", parity {release.parity_same} of {release.parity_n}" if release.parity_n else "")
        for release in view.releases[:_RELEASES_SHOWN]
    ]
    return [f" {'releases' if at == 0 else '':12} {line}" for at, line in enumerate(shown)]


def _percent(value: float | None) -> str:
    return words.UNKNOWN if value is None else f"{value * 100:.1f}%"


def _milliseconds(value: float | None) -> str:
    return words.duration(None if value is None else value * 1_000)


def empty_lines() -> Sequence[str]:
    """What the screen says when there is nothing to roll out."""
    return (
        "No release to roll out.",
        "",
        "A release is a trained adapter that passed its gate:",
        "",
        "  potstill dataset build TASK",
        "  potstill train TASK",
        "  potstill release TASK",
        "",
        "Then its share of the traffic is set here.",
    )
