"""The bounds that the demo is held to."""

from __future__ import annotations

import dataclasses

import pytest

from potstill.demo_figures import Figures, shortfalls

GOOD = Figures(
    sent=2780, captured=2780, lost=0, duplicate=0, bill_balanced=True, overlap=0,
    em_student=0.91, em_base=0.0, em_cheap_baseline=0.97, em_teacher=0.96, test_examples=100, parity=1.0,
    share_set_bp=3000, share_seen_bp=3100, share_units=400, sticky_violations=0, fallbacks=0,
    student_after_rollback=0, last_student_ms_after_rollback=120.0, client_errors=0, seconds=300.0, is_toy_base=True,
)  # fmt: skip


def test_a_good_run_falls_short_of_nothing() -> None:
    assert shortfalls(GOOD) == []


@pytest.mark.parametrize(
    "change",
    [
        {"captured": 2779}, {"lost": 1}, {"duplicate": 1}, {"bill_balanced": False}, {"overlap": 1}, {"em_student": 0.84},
        {"em_student": None},
        {"em_base": 0.06}, {"em_base": None}, {"em_cheap_baseline": None}, {"em_teacher": None}, {"parity": 0.98},
        {"parity": None},
        {"share_seen_bp": 3700}, {"share_seen_bp": 2300}, {"sticky_violations": 1}, {"student_after_rollback": 1},
        {"client_errors": 1},
    ],
    ids=str,
)  # fmt: skip
def test_each_figure_that_misses_its_bound_is_named(change: dict[str, object]) -> None:
    assert len(shortfalls(dataclasses.replace(GOOD, **change))) == 1


def test_a_real_base_model_is_not_held_to_the_bounds_of_the_toy() -> None:
    real = dataclasses.replace(GOOD, em_base=0.4, em_student=0.8, is_toy_base=False)
    assert shortfalls(real) == []


def test_the_share_is_judged_by_its_standard_error() -> None:
    # 3 standard errors of 30 % at 50 users are 1,944 basis points.
    assert shortfalls(dataclasses.replace(GOOD, share_seen_bp=4900, share_units=50)) == []
    assert len(shortfalls(dataclasses.replace(GOOD, share_seen_bp=4950, share_units=50))) == 1
