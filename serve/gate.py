"""The gate before a release: criteria written down beforehand, each passed or failed with its value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from capture.errors import GateError
from train.runs import Evaluation


@dataclass(frozen=True, slots=True)
class Gate:
    """What a student must show on the test split before it may become a release.

    `minimum_exact_match` and `minimum_parity` are shares between 0 and 1; `minimum_n` examples are needed for either. The
    lower end of the student's 95 % interval must beat the base model's value, so that a lucky small test split does not.
    """

    minimum_exact_match: float = 0.0
    must_beat_base: bool = True
    must_beat_cheap_baseline: bool = False
    minimum_n: int = 1
    minimum_parity: float = 0.99


@dataclass(frozen=True, slots=True)
class Criterion:
    """One line of the gate: what was asked, what was seen, and whether that is enough."""

    name: str
    wanted: str
    seen: str
    is_passed: bool


def judge(gate: Gate, evaluations: Sequence[Evaluation]) -> list[Criterion]:
    """Every criterion of `gate` against the exact match on the test split. What was not measured is not passed."""
    test = {one.variant: one for one in evaluations if one.split == "test" and one.metric == "exact_match"}
    student = test.get("student")
    n = student.n if student is not None else 0
    criteria = [
        Criterion("test examples", f"at least {gate.minimum_n}", str(n), n >= gate.minimum_n),
        Criterion(
            "exact match",
            f"at least {gate.minimum_exact_match:.3f}",
            _shown(student),
            student is not None and student.value is not None and student.value >= gate.minimum_exact_match,
        ),
    ]
    if gate.must_beat_base:
        criteria.append(_beats("base", "base model", student, test.get("base")))
    if gate.must_beat_cheap_baseline:
        criteria.append(_beats("cheap_baseline", "cheap baseline", student, test.get("cheap_baseline")))
    return criteria


def refuse_failed(task: str, criteria: Sequence[Criterion]) -> None:
    """GateError with every criterion and its value when one is not passed."""
    if all(one.is_passed for one in criteria):
        return
    lines = "; ".join(
        f"{one.name} {one.seen} (wanted {one.wanted}: {'passed' if one.is_passed else 'failed'})" for one in criteria
    )
    raise GateError(
        f"The adapter of task {task!r} did not pass the gate: {lines}.",
        "Add examples or change the recipe and train again; lower the gate only for a reason that you can write down.",
    )


def record(gate: Gate, criteria: Sequence[Criterion]) -> dict[str, Any]:
    """Gate and criteria as they are kept with the release."""
    return {"gate": asdict(gate), "criteria": [asdict(one) for one in criteria]}


def _beats(variant: str, name: str, student: Evaluation | None, other: Evaluation | None) -> Criterion:
    wanted = (
        f"student's lower bound above {other.value:.3f}"
        if other is not None and other.value is not None
        else f"{variant} measured"
    )
    seen = "not measured"
    is_passed = False
    if student is not None and student.low is not None and other is not None and other.value is not None:
        seen, is_passed = f"{student.low:.3f}", student.low > other.value
    return Criterion(f"better than the {name}", wanted, seen, is_passed)


def _shown(evaluation: Evaluation | None) -> str:
    return "not measured" if evaluation is None or evaluation.value is None else f"{evaluation.value:.3f}"
