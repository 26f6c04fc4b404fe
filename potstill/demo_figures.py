"""The figures that the demo must show, and the bounds it is held to."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from capture.exchange import CANDIDATE, Exchange
from potstill.demo_traffic import CALL_TAG


@dataclass(frozen=True, slots=True)
class Figures:
    """One run of the demo. Shares are in basis points, exact matches and parity in [0, 1]; None means not measured."""

    sent: int
    captured: int
    lost: int
    duplicate: int
    bill_balanced: bool
    overlap: int
    em_student: float | None
    em_base: float | None
    em_cheap_baseline: float | None
    em_teacher: float | None
    test_examples: int
    parity: float | None
    share_set_bp: int
    share_seen_bp: int
    share_units: int
    sticky_violations: int
    fallbacks: int
    requests_after_rollback: int
    student_after_rollback: int
    last_student_ms_after_rollback: float | None
    client_errors: int
    seconds: float
    is_toy_base: bool


def shortfalls(figures: Figures) -> list[str]:
    """One sentence for each figure that misses its bound; empty when all hold."""
    f = figures
    share = f.share_set_bp / 10_000
    three_errors_bp = 3 * math.sqrt(share * (1 - share) / max(f.share_units, 1)) * 10_000
    checks = [
        (
            f.sent == f.captured and f.lost == 0 and f.duplicate == 0,
            f"ledger: sent {f.sent}, captured {f.captured}, lost {f.lost}, duplicate {f.duplicate}",
        ),
        (f.bill_balanced, "the bill does not add up"),
        (f.overlap == 0, f"train-eval overlap is {f.overlap}, not 0"),
        (not f.is_toy_base or (f.em_student or 0) >= 0.85, f"exact match of the student is {f.em_student}, below 0.85"),
        (
            not f.is_toy_base or (f.em_base is not None and f.em_base <= 0.05),
            f"exact match of the base is {f.em_base}, above 0.05",
        ),
        (f.em_cheap_baseline is not None, "the cheap baseline was not measured"),
        (f.em_teacher is not None, "the teacher was not measured"),
        (f.parity is not None and f.parity >= 0.99, f"engine and trainer agree on {f.parity}, below 0.99"),
        (
            abs(f.share_seen_bp - f.share_set_bp) <= three_errors_bp,
            f"share seen {f.share_seen_bp} bp is further than {three_errors_bp:.0f} bp from the {f.share_set_bp} bp set",
        ),
        (f.sticky_violations == 0, f"{f.sticky_violations} users saw both variants"),
        (
            f.student_after_rollback == 0,
            f"{f.student_after_rollback} requests reached the student more than 2 s after the rollback",
        ),
        (f.requests_after_rollback > 0, "no request came later than 2 s after the rollback, so nothing is proved"),
        (f.client_errors == 0, f"clients saw {f.client_errors} errors"),
    ]
    return [sentence for holds, sentence in checks if not holds]


@dataclass(frozen=True, slots=True)
class LedgerCheck:
    """The apps' ledger against the store."""

    captured: int
    lost: int
    duplicate: int


def check_ledger(sent_numbers: Iterable[int], told_ids: Iterable[str], stored: Iterable[Exchange]) -> LedgerCheck:
    """Compares what the apps sent, by number and by the exchange id they were told, with what the store holds."""
    by_number: dict[str, int] = {}
    ids = set()
    for exchange in stored:
        number = exchange.tags.get(CALL_TAG)
        if number is not None:
            by_number[number] = by_number.get(number, 0) + 1
            ids.add(exchange.id)
    missing = {str(number) for number in sent_numbers} - set(by_number)
    unknown_ids = {told for told in told_ids if told} - ids
    return LedgerCheck(
        captured=len(by_number),
        lost=max(len(missing), len(unknown_ids)),
        duplicate=sum(count - 1 for count in by_number.values()),
    )


def student_after(stored: Iterable[Exchange], rollback_us: int) -> tuple[int, int, float | None]:
    """How many requests began more than 2 s after `rollback_us`, how many of them on the student, and how late (ms) the student's
    last one began."""
    after = [e for e in stored if e.started_us > rollback_us]
    late = [e for e in after if e.started_us > rollback_us + 2_000_000]
    students = [(e.started_us - rollback_us) / 1000 for e in after if e.variant == CANDIDATE]
    return len(late), sum(e.variant == CANDIDATE for e in late), max(students, default=None)
