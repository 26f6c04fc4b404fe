"""What keys and tasks cost, day by day: booked in the transaction that stores an exchange, so each counts exactly once.

Retention and forgetting take exchanges out of the store, never what they cost out of here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, text

from capture.exchange import Exchange
from capture.loose_json import clean_text

DAY_US = 86_400_000_000
_BOOK = text(
    "INSERT INTO spend (day, key_id, task, exchanges, unpriced, tokens, cost_microusd, saved_microusd) "
    "VALUES (:day, :key_id, :task, :exchanges, :unpriced, :tokens, :cost, :saved) ON CONFLICT (day, key_id, task) DO UPDATE SET "
    "exchanges = spend.exchanges + excluded.exchanges, unpriced = spend.unpriced + excluded.unpriced, "
    "tokens = spend.tokens + excluded.tokens, cost_microusd = spend.cost_microusd + excluded.cost_microusd, "
    "saved_microusd = spend.saved_microusd + excluded.saved_microusd"
)
_READ = text(
    "SELECT day, key_id, task, exchanges, unpriced, tokens, cost_microusd, saved_microusd FROM spend "
    "WHERE day >= :first ORDER BY day, key_id, task"
)


@dataclass(frozen=True, slots=True)
class Spend:
    """What the exchanges of a key for a task came to on one day (days since 1970, UTC).

    `unpriced` of them used tokens at a price that nobody knows; they are not in `cost_microusd`. `saved_microusd` is what
    answers from the response cache would have cost.
    """

    day: int
    key_id: str
    task: str
    exchanges: int
    unpriced: int
    tokens: int
    cost_microusd: int
    saved_microusd: int


def day_of(us: int) -> int:
    """The day of a moment (UTC microseconds), counted since 1970."""
    return us // DAY_US


def book(connection: Connection, exchanges: Sequence[Exchange]) -> None:
    """Adds what `exchanges` came to; the caller stores each of them in the same transaction."""
    sums: dict[tuple[int, str, str], list[int]] = {}
    for each in exchanges:
        found = sums.setdefault((day_of(each.started_us), clean_text(each.key_id), clean_text(each.task)), [0] * 5)
        tokens = (each.tokens_in or 0) + (each.tokens_out or 0)
        is_unpriced = each.cost_microusd is None and tokens > 0
        added = (1, int(is_unpriced), tokens, each.cost_microusd or 0, each.saved_microusd)
        for place, value in enumerate(added):
            found[place] += value
    names = ("exchanges", "unpriced", "tokens", "cost", "saved")
    rows = [
        {"day": day, "key_id": key_id, "task": task, **dict(zip(names, found, strict=True))}
        for (day, key_id, task), found in sorted(sums.items())
    ]
    if rows:
        connection.execute(_BOOK, rows)


def read(connection: Connection, first_day: int) -> list[Spend]:
    """Every day's sums from `first_day` on."""
    return [
        Spend(int(row[0]), str(row[1]), str(row[2]), *[int(value) for value in row[3:]])
        for row in connection.execute(_READ, {"first": first_day})
    ]
