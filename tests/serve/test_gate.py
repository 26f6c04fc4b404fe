"""The gate is written beforehand; what was not measured is not passed, and every criterion is told with its value."""

from __future__ import annotations

import json

import pytest

from capture.errors import GateError
from serve.gate import Gate, judge, record, refuse_failed
from train.runs import Evaluation


def evaluation(variant: str, value: float | None, low: float | None = None, n: int = 100, split: str = "test") -> Evaluation:
    return Evaluation("run_1", variant, split, "exact_match", n, value, low, value, "")


def passed(gate: Gate, *evaluations: Evaluation) -> dict[str, bool]:
    return {one.name: one.is_passed for one in judge(gate, evaluations)}


GOOD = (evaluation("student", 0.9, 0.85), evaluation("base", 0.02, 0.0), evaluation("cheap_baseline", 0.88, 0.8))


def test_a_good_student_passes_and_the_record_is_plain_json() -> None:
    gate = Gate(minimum_exact_match=0.85)
    criteria = judge(gate, GOOD)
    refuse_failed("triage", criteria)
    kept = json.loads(json.dumps(record(gate, criteria)))
    assert kept["gate"]["minimum_exact_match"] == 0.85
    assert [one["is_passed"] for one in kept["criteria"]] == [True, True, True]


def test_every_criterion_is_listed_with_its_value_when_one_fails() -> None:
    with pytest.raises(GateError) as caught:
        refuse_failed("triage", judge(Gate(minimum_exact_match=0.95), GOOD))
    for part in (
        "triage",
        "exact match 0.900 (wanted at least 0.950: failed)",
        "better than the base model 0.850",
        "passed",
        "train again",
    ):
        assert part in str(caught.value)


def test_the_lower_bound_of_the_student_must_beat_the_base() -> None:
    close = (evaluation("student", 0.9, 0.7), evaluation("base", 0.75))
    assert passed(Gate(), *close)["better than the base model"] is False
    assert "better than the base model" not in passed(Gate(must_beat_base=False), *close)


def test_the_cheap_baseline_counts_only_when_asked_for() -> None:
    assert "better than the cheap baseline" not in passed(Gate(), *GOOD)
    assert passed(Gate(must_beat_cheap_baseline=True), *GOOD)["better than the cheap baseline"] is False


@pytest.mark.parametrize(
    "evaluations",
    [(), (evaluation("student", None, n=0),), (evaluation("student", 0.9, 0.8, split="val"), evaluation("base", 0.0))],
)
def test_what_was_not_measured_is_not_passed(evaluations: tuple[Evaluation, ...]) -> None:
    results = passed(Gate(), *evaluations)
    assert results["exact match"] is False
    assert results["test examples"] is False
    assert results["better than the base model"] is False


def test_a_test_split_that_is_too_small_fails() -> None:
    assert passed(Gate(minimum_n=101), *GOOD)["test examples"] is False
