"""Adds up what children count, over all of them and over all their lives, so that no number ever goes back.

A child tells its numbers about twice a second; what one that is killed counted after its last word is missing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from proxy.counters import Snapshot, merged

COUNTED = ("requests", "fallbacks", "dropped", "sync_failures", "unsure", "stored", "refused", "spans_sent", "spans_refused")
"""Plain numbers of a report that only grow while the child lives."""


@dataclass(slots=True)
class _Life:
    """What a child said last."""

    pid: int
    counters: Snapshot
    numbers: dict[str, int]


@dataclass(slots=True)
class Totals:
    """Told with `heard`; read with `snapshot` and `number`."""

    _former: Snapshot = field(default_factory=Snapshot)
    _former_numbers: dict[str, int] = field(default_factory=dict)
    _lives: dict[str, _Life] = field(default_factory=dict)

    def heard(self, name: str, report: Mapping[str, Any]) -> None:
        """Child `name` has said `report`; another `pid` than before is another life.

        Counters of a child of another version that cannot be read count as none; the rest of its report does not suffer.
        """
        counters = report.get("counters")
        try:
            snapshot = msgspec.convert(counters, Snapshot) if counters is not None else Snapshot()
        except msgspec.ValidationError:
            snapshot = Snapshot()
        numbers = {key: int(report[key]) for key in COUNTED if isinstance(report.get(key), int)}
        now = _Life(int(report.get("pid", 0)), snapshot, numbers)
        before = self._lives.get(name)
        if before is not None and before.pid != now.pid:
            self._former = merged((self._former, before.counters))
            for key, value in before.numbers.items():
                self._former_numbers[key] = self._former_numbers.get(key, 0) + value
        self._lives[name] = now

    def snapshot(self) -> Snapshot:
        """The counters of all workers since the start of the house."""
        return merged((self._former, *(life.counters for life in self._lives.values())))

    def number(self, key: str) -> int:
        """One of `COUNTED`, of all children since the start of the house."""
        return self._former_numbers.get(key, 0) + sum(life.numbers.get(key, 0) for life in self._lives.values())
