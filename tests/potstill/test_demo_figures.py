"""The bounds that the demo is held to."""

from __future__ import annotations

import dataclasses

import pytest

from capture.exchange import Exchange
from potstill.demo_figures import Figures, check_ledger, shortfalls, student_after

GOOD = Figures(
    sent=2780, captured=2780, lost=0, duplicate=0, bill_balanced=True, overlap=0,
    em_student=0.91, em_base=0.0, em_cheap_baseline=0.97, em_teacher=0.96, test_examples=100, parity=1.0,
    share_set_bp=3000, share_seen_bp=3100, share_units=400, sticky_violations=0, fallbacks=0,
    requests_after_rollback=60, student_after_rollback=0, last_student_ms_after_rollback=120.0,
    client_errors=0, seconds=300.0, is_toy_base=True,
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
        {"requests_after_rollback": 0},
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


def exchange(number: int, *, started_us: int = 0, variant: str = "") -> Exchange:
    values: dict[str, object] = {field.name: "" for field in dataclasses.fields(Exchange)}
    values |= {"id": f"ex_{number}", "tags": {"call": str(number)}, "started_us": started_us, "variant": variant}
    return Exchange(**values)  # type: ignore[arg-type]


def test_the_ledger_finds_what_is_missing_and_what_is_there_twice() -> None:
    stored = [exchange(number) for number in (0, 1, 1, 3)]
    check = check_ledger(range(5), ["ex_0", "ex_1", "ex_3", "ex_4"], stored)
    assert (check.captured, check.lost, check.duplicate) == (3, 2, 1)
    whole = check_ledger(range(4), ["ex_0"], [exchange(number) for number in range(4)])
    assert (whole.captured, whole.lost, whole.duplicate) == (4, 0, 0)


def test_only_requests_that_began_2_s_after_the_rollback_count_against_it() -> None:
    stored = [
        exchange(0, started_us=900, variant="candidate"),
        exchange(1, started_us=500_000, variant="candidate"),
        exchange(2, started_us=2_500_000, variant="baseline"),
    ]
    assert student_after(stored, 1_000) == (1, 0, 499.0)
    late = [*stored, exchange(3, started_us=2_500_000, variant="candidate")]
    assert student_after(late, 1_000) == (2, 1, 2499.0)
