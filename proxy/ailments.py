"""What ails a house whose processes all run: a store that is away, locked or behind, a spool that loses exchanges.

Health is open to everybody, so no sentence here names an address, a path or a person: those are in /status.
"""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass, field

LONGEST_LAG_S = 60
_MINUTE_US = 60_000_000
_SECOND_US = 1_000_000
_ANSWERED = re.compile(r"The store answered: (?P<what>[a-z /]{1,80})\.")
"""What SQLite says in its fixed words, such as `database is locked`. PostgreSQL's own words may name hosts and users."""


@dataclass(slots=True)
class Recent:
    """How much a number that never goes back has grown within the last minute."""

    _total: int = 0
    _grown: deque[tuple[int, int]] = field(default_factory=deque)

    def told(self, now_us: int, total: int) -> None:
        """The number is `total` now."""
        if total > self._total:
            if self._grown and now_us - self._grown[-1][0] < _SECOND_US:
                at, more = self._grown.pop()
                self._grown.append((at, more + total - self._total))
            else:
                self._grown.append((now_us, total - self._total))
            self._total = total
        self._forget(now_us)

    def growth(self, now_us: int) -> int:
        """What it grew by in the minute before `now_us`."""
        self._forget(now_us)
        return sum(more for _, more in self._grown)

    def _forget(self, now_us: int) -> None:
        while self._grown and now_us - self._grown[0][0] > _MINUTE_US:
            self._grown.popleft()


def of_store(problem: str, full_us: int, now_us: int) -> list[str]:
    """What ails the store, when the writer says `problem` of it and it last held all that was spooled at `full_us`."""
    if problem:
        answered = _ANSWERED.fullmatch(problem)
        return [f"store: {answered['what'] if answered else 'it cannot be written, and GET /status says why'}"]
    lag_s = (now_us - full_us) // _SECOND_US
    return [f"store: {lag_s} seconds behind the spool"] if lag_s > LONGEST_LAG_S else []


def of_spool(dropped: int, sync_failures: int) -> list[str]:
    """What ails the spool, when it lost so many exchanges, and the disk refused to sync it so often, in the last minute."""
    found = []
    if dropped:
        found.append(f"spool: {_counted(dropped, 'exchange')} dropped in the last minute")
    if sync_failures:
        found.append(f"spool: {_counted(sync_failures, 'sync')} refused by the disk in the last minute")
    return found


def _counted(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"
