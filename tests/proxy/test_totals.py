"""Numbers of children over all their lives."""

from __future__ import annotations

from typing import Any

import msgspec

from proxy.counters import Counters
from proxy.totals import Totals


def report(pid: int, counters: Counters, **numbers: int) -> dict[str, Any]:
    """A report as the supervisor gets it, through JSON."""
    told = {"pid": pid, "counters": counters.snapshot(), **numbers}
    return msgspec.json.decode(msgspec.json.encode(told))  # type: ignore[no-any-return]


def test_numbers_never_go_back_when_a_worker_starts_anew() -> None:
    totals = Totals()
    first, second = Counters(), Counters()
    seen = []
    for _ in range(3):
        first.began()
        first.refused("missing_key")
        totals.heard("relay worker 1", report(1, first, requests=first.began_count, dropped=5))
        seen.append(totals.snapshot().began)
    second.began()
    totals.heard("relay worker 1", report(2, second, requests=1, dropped=0))
    seen.append(totals.snapshot().began)
    assert seen == [1, 2, 3, 4]
    assert totals.number("requests") == 4
    assert totals.number("dropped") == 5
    assert totals.snapshot().events == [("refused", "missing_key", 3)]


def test_workers_add_up_and_one_that_is_gone_still_counts() -> None:
    totals = Totals()
    for number in (1, 2, 3):
        counters = Counters()
        counters.began()
        totals.heard(f"relay worker {number}", report(number, counters, requests=1))
    assert totals.snapshot().began == totals.number("requests") == 3


def test_a_report_that_cannot_be_read_spoils_nothing() -> None:
    totals = Totals()
    totals.heard("relay worker 1", {"pid": 1, "counters": {"began": "many"}, "requests": 7, "dropped": "none"})
    assert totals.snapshot().began == 0
    assert totals.number("requests") == 7
    assert totals.number("dropped") == 0
