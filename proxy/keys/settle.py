"""Settles reservations with what the store says exchanges cost; until it says so they stand.

The order keeps budgets: first which exchanges the store has, then what was spent, so that the second includes the first; only
when the ledger has the second are the reservations of the first given back.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, text

from capture import ids
from capture.database import Database
from capture.spend import day_of
from capture.statements import among, few
from proxy.keys.ledger import Ledger, Wish
from proxy.keys.limits import first_day_of, month_of

MOST_AT_ONCE, FEW = 2_000, 500
"""Most requests that the store is asked about in one round, and how many it is asked about in each."""
_LONGEST_PAUSE = 15
"""Rounds that pass at most without asking."""
_SPENT = (
    "SELECT {name}, SUM(CASE WHEN day = :today THEN cost_microusd + :assumed * unpriced ELSE 0 END), "
    "SUM(cost_microusd + :assumed * unpriced) FROM spend WHERE day >= :first AND {name} <> '' GROUP BY {name}"
)


@dataclass(frozen=True, slots=True)
class Owed:
    """A request that is over, by the raw id of its exchange, with what was taken for it; `ended_us` says since when."""

    raw_id: bytes
    wishes: tuple[Wish, ...]
    tokens: int
    microusd: int
    ended_us: int


class Rounds:
    """Which of the requests that wait for the store it is asked about next, so that many that wait cost little.

    The oldest come first, as the store gets them first; where it has none of them, the next ones, as some it never gets. While
    it has nothing new of many, more and more rounds pass without asking; few are asked about each round.
    """

    def __init__(self) -> None:
        self._start = self._pause = self._left = 0

    def next(self, waiting: int) -> slice:
        """The places to ask about now, of `waiting` in the order of their age; an empty slice for none."""
        if self._left and waiting > FEW:
            self._left -= 1
            return slice(0)
        if self._start >= waiting:
            self._start = 0
        return slice(self._start, min(self._start + MOST_AT_ONCE, waiting))

    def heard(self, settled: int) -> None:
        """The store had `settled` of those."""
        if settled:
            self._start = self._pause = self._left = 0
        else:
            self._start += MOST_AT_ONCE
            self._pause = self._left = min(2 * self._pause + 1, _LONGEST_PAUSE)


def key_subject(id: str) -> str:
    """A key's name in the ledger."""
    return f"key:{id}"


def task_subject(name: str) -> str:
    """A task's name in the ledger."""
    return f"task:{name}"


def settle(
    database: Database, ledger: Ledger, owed: Sequence[Owed], subjects: Iterable[str], assumed_microusd: int, now_us: int
) -> list[Owed]:
    """Books what the store says `subjects` have spent, settles those of `owed` that it has, and returns the rest. StoreError."""
    with database.read() as connection:
        used = _used_tokens(connection, [each.raw_id for each in owed])
        spent = _read_spent(connection, assumed_microusd, now_us)
    for subject in subjects:
        day, month = spent.get(subject, (0, 0))
        ledger.book(subject, day, month, now_us)
    waiting = []
    for each in owed:
        if each.raw_id in used:
            ledger.settle(each.wishes, each.tokens, used[each.raw_id], each.microusd, now_us)
        else:
            waiting.append(each)
    return waiting


def _used_tokens(connection: Connection, raw_ids: Sequence[bytes]) -> dict[bytes, int]:
    """Tokens that were asked of upstreams, by raw id, of those exchanges that the store has."""
    named = {ids.format_id("ex", raw): raw for raw in raw_ids}
    found: dict[bytes, int] = {}
    select = among(
        "SELECT id, CASE WHEN saved_microusd > 0 THEN 0 ELSE COALESCE(tokens_in, 0) + COALESCE(tokens_out, 0) END FROM exchanges "
        "WHERE id IN :ids"
    )
    for some in few(list(named)):
        for id, tokens in connection.execute(select, {"ids": some}):
            found[named[str(id)]] = int(tokens)
    return found


def _read_spent(connection: Connection, assumed_microusd: int, now_us: int) -> Mapping[str, tuple[int, int]]:
    """What every key and task has spent today and this month, by its name in the ledger."""
    params = {"today": day_of(now_us), "first": first_day_of(month_of(now_us)), "assumed": assumed_microusd}
    spent: dict[str, tuple[int, int]] = {}
    for column, subject in (("key_id", key_subject), ("task", task_subject)):
        for name, day, month in connection.execute(text(_SPENT.format(name=column)), params):
            spent[subject(str(name))] = (int(day), int(month))
    return spent
