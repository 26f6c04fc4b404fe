"""Sums over the exchanges that match a filter: how many, how they ended, how long they took, what they used and cost.

The newest 200,000 that match are looked at, so that a question about everything takes seconds, whatever the store holds.
"""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import text

from capture import search
from capture.database import Database
from capture.errors import SettingsError
from capture.exchange import COMPLETE
from capture.filter_fields import MODEL_SQL
from capture.filters import Filter

MOST = 200_000
_PAGE = 20_000
_COUNTS = (
    "exchanges", "successes", "tokens_in", "tokens_out", "tokens_cached", "tokens_reasoning", "cost_microusd", "unpriced",
    "body_bytes",
)  # fmt: skip
_LAST = (1 << 63) - 1


def _day(us: int) -> str:
    return datetime.fromtimestamp(us / 1_000_000, UTC).date().isoformat()


def _hour(us: int) -> str:
    return datetime.fromtimestamp(us / 1_000_000, UTC).strftime("%Y-%m-%dT%H")


_KEYS: Mapping[str, tuple[str, Callable[[Any], str]]] = {
    "task": ("task", str),
    "model": (MODEL_SQL, str),
    "variant": ("variant", str),
    "release": ("release_id", str),
    "state": ("state", str),
    "status": ("status", str),
    "error": ("error_kind", str),
    "finish": ("finish_reason", str),
    "purpose": ("purpose", str),
    "upstream": ("upstream", str),
    "protocol": ("protocol", str),
    "environment": ("environment", str),
    "user": ("user_name", str),
    "session": ("session_name", str),
    "usage": ("usage_source", str),
    "day": ("started_us", _day),
    "hour": ("started_us", _hour),
}
BY = tuple(_KEYS)
"""What exchanges can be grouped by; days and hours are UTC."""


@dataclass(frozen=True, slots=True)
class Sums:
    """Figures of some exchanges. `key` is what they share, '' for all, and for those that have no such thing.

    `errors` counts the failed by their kind. Latencies are microseconds at the nearest rank, None when no exchange has one.
    Tokens and `cost_microusd` are sums over the exchanges where they are known; `unpriced` counts those without a cost.
    `body_bytes` is what was relayed.
    """

    key: str
    exchanges: int
    successes: int
    errors: Mapping[str, int]
    p50_us: int | None
    p95_us: int | None
    first_byte_p50_us: int | None
    tokens_in: int
    tokens_out: int
    tokens_cached: int
    tokens_reasoning: int
    cost_microusd: int
    unpriced: int
    body_bytes: int


@dataclass(frozen=True, slots=True)
class Stats:
    """Figures of the matching exchanges, and by group, the largest first.

    `is_cut`: more match than were looked at. Times are UTC microseconds, 0 without any. `store_bytes` is the size of the
    whole store on its disk.
    """

    total: Sums
    groups: tuple[Sums, ...]
    is_cut: bool
    first_us: int
    last_us: int
    store_bytes: int


def read_stats(database: Database, filter: Filter, by: str = "", *, most: int = MOST) -> Stats:
    """The figures of the newest `most` exchanges that match; SettingsError for a `by` that is not in `BY`."""
    if by and by not in _KEYS:
        raise SettingsError(f"Exchanges cannot be grouped by {by!r}.", f"Take one of {', '.join(BY)}.")
    key_sql, spell = _KEYS.get(by, ("''", str))
    tallies: dict[str, _Tally] = {}
    first_us = last_us = 0
    before, seen, is_cut = _LAST, 0, False
    while not is_cut and (rows := _rows(database, filter, key_sql, before, min(_PAGE, most + 1 - seen))):
        if seen + len(rows) > most:
            rows, is_cut = rows[: most - seen], True
        for row in rows:
            before, started_us, name = row[0], row[2], spell(row[1])
            first_us = min(first_us or started_us, started_us)
            last_us = max(last_us, started_us)
            if (tally := tallies.get(name)) is None:
                tally = tallies[name] = _Tally()
            tally.add(*row[3:])
        seen += len(rows)
    total = _Tally()
    for tally in tallies.values():
        total.merge(tally)
    groups = sorted((tally.sums(key) for key, tally in tallies.items()), key=lambda sums: (-sums.exchanges, sums.key))
    return Stats(total.sums(""), tuple(groups) if by else (), is_cut, first_us, last_us, store_bytes(database))


def store_bytes(database: Database) -> int:
    """What the store takes on its disk: SQLite's files, or PostgreSQL's database."""
    if database.is_sqlite:
        path = Path(database.url.removeprefix("sqlite:///"))
        files = (path, path.with_name(f"{path.name}-wal"))
        return sum(file.stat().st_size for file in files if file.exists())
    with database.read() as connection:
        return int(connection.execute(text("SELECT pg_database_size(current_database())")).scalar_one())


def _rows(database: Database, filter: Filter, key_sql: str, before: int, limit: int) -> Sequence[Any]:
    columns = (
        f"number, {key_sql}, started_us, status, state, error_kind, latency_us, first_byte_us, tokens_in, tokens_out, "
        "tokens_cached, tokens_reasoning, cost_microusd, body_bytes"
    )
    params = {"before": before, "limit": limit}
    return search.select(database, filter, columns, bound="< :before", is_newest_first=True, params=params)


@dataclass(slots=True)
class _Tally:
    exchanges: int = 0
    successes: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    tokens_cached: int = 0
    tokens_reasoning: int = 0
    cost_microusd: int = 0
    unpriced: int = 0
    body_bytes: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    latencies: array[int] = field(default_factory=lambda: array("q"))
    first_bytes: array[int] = field(default_factory=lambda: array("q"))

    def add(
        self,
        status: int,
        state: str,
        error_kind: str,
        latency_us: int | None,
        first_byte_us: int | None,
        tokens_in: int | None,
        tokens_out: int | None,
        tokens_cached: int,
        tokens_reasoning: int,
        cost_microusd: int | None,
        body_bytes: int,
    ) -> None:
        self.exchanges += 1
        if state == COMPLETE and 200 <= status < 300:
            self.successes += 1
        else:
            self.errors[error_kind or (f"status {status}" if state == COMPLETE else state)] += 1
        if latency_us is not None:
            self.latencies.append(latency_us)
        if first_byte_us is not None:
            self.first_bytes.append(first_byte_us)
        self.tokens_in += tokens_in or 0
        self.tokens_out += tokens_out or 0
        self.tokens_cached += tokens_cached
        self.tokens_reasoning += tokens_reasoning
        self.body_bytes += body_bytes
        if cost_microusd is None:
            self.unpriced += 1
        else:
            self.cost_microusd += cost_microusd

    def merge(self, other: _Tally) -> None:
        for name in _COUNTS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.errors.update(other.errors)
        self.latencies.extend(other.latencies)
        self.first_bytes.extend(other.first_bytes)

    def sums(self, key: str) -> Sums:
        latencies, first_bytes = sorted(self.latencies), sorted(self.first_bytes)
        return Sums(
            key,
            self.exchanges,
            self.successes,
            dict(self.errors.most_common()),
            _at(latencies, 0.5),
            _at(latencies, 0.95),
            _at(first_bytes, 0.5),
            self.tokens_in,
            self.tokens_out,
            self.tokens_cached,
            self.tokens_reasoning,
            self.cost_microusd,
            self.unpriced,
            self.body_bytes,
        )


def _at(ordered: Sequence[int], share: float) -> int | None:
    """The value at the nearest rank."""
    return ordered[math.ceil(len(ordered) * share) - 1] if ordered else None
