"""Caps: how much one unit (a user, a customer) and one session (a conversation) may give to a version.

One noisy user would teach the student that user's ways. Both caps are pure and name the rows that go.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from itertools import accumulate

UNIT_CAP, SESSION_CAP = "unit_cap", "session_cap"


def over_cap(units: Sequence[str], order: Sequence[int], share: float) -> list[int]:
    """The rows that go because their unit gave more than `share` of what is kept, in the order of `order`.

    `units` names the unit of every row ('' for none: never capped), `order` lists the rows that are still there, best first; of a
    noisy unit the best stay. See `unit_cap` for how much that is.
    """
    cap = unit_cap(Counter(units[row] for row in order), share)
    taken: Counter[str] = Counter()
    over = []
    for row in order:
        unit = units[row]
        taken[unit] += 1
        if unit and taken[unit] > cap:
            over.append(row)
    return over


def unit_cap(rows_of: Counter[str], share: float) -> int:
    """Most rows of one unit, given the rows of each ('' counts those without a unit).

    With at least 1 / `share` units it is the largest number that is at most `share` of all rows that then remain: capping makes
    the whole smaller, so the cap shrinks with it. With fewer units nobody could stay below `share`, so a unit may give
    twice a fair share of what there is.
    """
    counts = sorted(count for unit, count in rows_of.items() if unit)
    free = rows_of[""]
    if not counts or share >= 1:
        return max(counts, default=0)
    # 1 / 0.01 is not exactly 100
    if len(counts) < math.ceil(1 / share - 1e-9):
        return max(1, math.ceil(2 * (sum(counts) + free) / len(counts)))
    sums = [0, *accumulate(counts)]

    def remaining(cap: int) -> int:
        below = bisect_right(counts, cap)
        return free + sums[below] + cap * (len(counts) - below)

    # What remains grows with the cap, ever more slowly: every cap up to the largest that holds holds too.
    low, high = 1, counts[-1]
    while low < high:
        middle = (low + high + 1) // 2
        if middle <= share * remaining(middle) + 1e-9:
            low = middle
        else:
            high = middle - 1
    return low


def over_session_cap(
    sessions: Sequence[str], times_us: Sequence[int], alive: Sequence[int], most: int, standing: Collection[int] = ()
) -> list[int]:
    """The rows of `alive` that go so that no session gives more than `most`; 0 is no limit. In ascending order.

    The last turn of a conversation stays first, for its input holds the others; then what is spread most evenly over it. Rows in
    `standing` (what eval holds or a person confirmed) stay before any other; some of what stayed may stand from then on without
    a change. Rows without a session are never capped.
    """
    if most <= 0:
        return []
    of_session: dict[str, list[int]] = defaultdict(list)
    for row in sorted(alive, key=lambda row: (times_us[row], row)):
        if sessions[row]:
            of_session[sessions[row]].append(row)
    over: list[int] = []
    for rows in of_session.values():
        if len(rows) > most:
            stays = set(_spread([row for row in rows if row in standing], most))
            others = [row for row in reversed(_spread(rows, most)) if row not in standing]
            stays |= set(others[: most - len(stays)])
            over += [row for row in rows if row not in stays]
    return sorted(over)


def _spread(rows: Sequence[int], most: int) -> Sequence[int]:
    """At most `most` of `rows`: the last, the first, and evenly between."""
    if len(rows) <= most:
        return rows
    if most <= 1:
        return rows[-most:] if most else ()
    return [rows[place * (len(rows) - 1) // (most - 1)] for place in range(most)]
