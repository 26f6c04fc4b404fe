"""Removes exchanges that are too old, or too many, in small steps; never more than a clock gone wrong could explain.

What a dataset version holds, or a person is to review, stays, unless that is wanted too. A sweep refuses to run when the
clock contradicts the store or itself by more than an hour. It also refuses to take more than a fifth of all exchanges where
nobody has seen what the limits mean: at the first sweep after a limit was set or changed, and by age when the clock says that
the last accepted sweep was more than a week ago. What grows beyond limits that a sweep was accepted for goes without a word,
however much it is. The table `meta` keeps which limits were accepted when, and the refusal that stands.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeVar

import msgspec
from sqlalchemy import Connection, text

from capture import clock, ids
from capture.capture_settings import CaptureSettings
from capture.database import Database
from capture.errors import RetentionError
from capture.exchange_rows import delete_exchanges, take_turn

LARGEST_SHARE = 0.2
"""Part of all exchanges that one sweep may take without being forced."""
LARGEST_SKEW_US = 3_600_000_000
LONGEST_PAUSE_US = 7 * 86_400_000_000
"""After a longer pause between accepted sweeps, a clock gone wrong is as likely as a machine that was off."""
CHUNK = 200
"""Exchanges removed in one transaction, so that nobody waits long for the lock."""
_EVERY_NS = 3_600_000_000_000
_DAY_US = 86_400_000_000
_GIB = 2**30
_ACCEPTED, _REFUSED = "retention:accepted", "retention:refused"
_Meta = TypeVar("_Meta")
_FREE = "NOT EXISTS (SELECT 1 FROM examples WHERE examples.exchange_id = exchanges.id)"
_AGED = "id < :before_id AND started_us < :before_us"


@dataclass(frozen=True, slots=True)
class Due:
    """What has to go: exchanges begun before `before_us` (UTC microseconds; id before `before_id`), and all up to number `up_to`.

    `count` of `stored` exchanges go; `kept` are as old but belong to a dataset or a review. `with_datasets` takes those too.
    """

    before_us: int
    before_id: str
    up_to: int
    count: int
    kept: int
    stored: int
    with_datasets: bool = False
    aged: int = 0
    """How many of `count` go because of their age."""
    limits: str = ""
    """The limits that say so."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """A sweep of the store writer that was refused at `at_us` (UTC microseconds), and what to do about it."""

    at_us: int
    what: str
    next_step: str


@dataclass(frozen=True, slots=True)
class _Accepted:
    """Under which limits a sweep was accepted last, and when."""

    limits: str
    at_us: int


@dataclass(frozen=True, slots=True)
class TaskDue:
    """How much of a task would go, and when the oldest and newest of it began (UTC microseconds)."""

    task: str
    exchanges: int
    oldest_us: int
    newest_us: int


def measure(database: Database, settings: CaptureSettings, *, with_datasets: bool = False) -> Due:
    """What the limits of `settings` want removed at this moment."""
    before_us = clock.now_us() - settings.retention_days * _DAY_US if settings.retention_days else 0
    before_us = max(0, before_us)
    before_id = ids.format_id("ex", (before_us // 1000 + 1).to_bytes(6, "big") + bytes(10))
    free = "" if with_datasets else f" AND {_FREE}"
    bounds = {"before_us": before_us, "before_id": before_id}
    with database.read() as connection:
        stored = int(connection.execute(text("SELECT COUNT(*) FROM exchanges")).scalar_one())
        aged = all_aged = 0
        if before_us:
            aged, all_aged = (
                int(connection.execute(text(f"SELECT COUNT(*) FROM exchanges WHERE {_AGED}{also}"), bounds).scalar_one())  # noqa: S608
                for also in (free, "")
            )
        excess = max(0, stored - settings.retention_exchanges) if settings.retention_exchanges else 0
        if settings.retention_gib:
            excess = max(excess, _excess(stored_bytes(database), int(settings.retention_gib * _GIB), stored))
        up_to, beyond = 0, 0
        if excess > aged:
            sql = f"SELECT number FROM exchanges WHERE NOT ({_AGED}){free} ORDER BY number LIMIT :many"  # noqa: S608
            sql = f"SELECT COUNT(*), MAX(number) FROM ({sql}) AS oldest"  # noqa: S608  constant text
            beyond, up_to = connection.execute(text(sql), {**bounds, "many": excess - aged}).one()
    limits = f"{settings.retention_days} days, {settings.retention_gib} GiB, {settings.retention_exchanges} exchanges"
    count, kept = aged + int(beyond), all_aged - aged
    return Due(before_us, before_id, int(up_to or 0), count, kept, stored, with_datasets, aged, limits)


def by_task(database: Database, due: Due) -> list[TaskDue]:
    """What would go, by task."""
    what = "task, COUNT(*), MIN(started_us), MAX(started_us)"
    sql = f"SELECT {what} FROM exchanges WHERE {_where(due)} GROUP BY task ORDER BY task"  # noqa: S608  constant text
    with database.read() as connection:
        return [TaskDue(*row) for row in connection.execute(text(sql), _params(due))]


def check(database: Database, due: Due, *, skew_us: int = 0) -> None:
    """RetentionError when the clock cannot be trusted, or too much would go unasked; `skew_us`: wall clock against monotonic."""
    with database.read() as connection:
        newest = connection.execute(text("SELECT ended_us FROM exchanges ORDER BY number DESC LIMIT 1")).scalar()
        accepted = _read_meta(connection, _ACCEPTED, _Accepted)
    behind_us = int(newest or 0) - clock.now_us()
    if behind_us > LARGEST_SKEW_US:
        raise RetentionError(
            f"The clock says {clock.iso(clock.now_us())}, but the newest exchange is of {clock.iso(int(newest or 0))}.",
            "Set the clock right; when it is, and the exchange is wrong: potstill retention run --force",
        )
    if abs(skew_us) > LARGEST_SKEW_US:
        raise RetentionError(
            f"The clock has jumped by {skew_us / LARGEST_SKEW_US:+.1f} hours since this process began.",
            "When it is right now: potstill retention run",
        )
    unseen = due.count
    if accepted is not None and accepted.limits == due.limits and not due.with_datasets:
        unseen = due.aged if abs(clock.now_us() - accepted.at_us) > LONGEST_PAUSE_US else 0
    if unseen > LARGEST_SHARE * due.stored:
        raise RetentionError(
            f"Retention would remove {unseen} of {due.stored} exchanges, more than {LARGEST_SHARE:.0%}.",
            "Look at `potstill retention plan`; if that is meant: potstill retention run --force",
        )


def accept(database: Database, due: Due) -> None:
    """Keeps that a sweep under these limits was accepted, by `check` or by a person; a refusal that stood is over."""
    if due.with_datasets:  # a wish of this once, which says nothing about the store writer's sweeps
        return
    with database.write() as connection:
        _write_meta(connection, _ACCEPTED, _Accepted(due.limits, clock.now_us()))
        _write_meta(connection, _REFUSED, None)


def read_refusal(database: Database) -> Refusal | None:
    """The refusal that keeps the store writer from removing anything; None when none stands."""
    with database.read() as connection:
        return _read_meta(connection, _REFUSED, Refusal)


def remove_some(database: Database, due: Due, after: int = 0, limit: int = CHUNK) -> tuple[int, int]:
    """Removes the next exchanges that are due behind number `after`, at most `limit` and in one short transaction.

    How many, and the last of their numbers; (0, `after`) at the end, when dead letters of that age go too.
    """
    sql = f"SELECT number FROM exchanges WHERE {_where(due)} AND number > :after ORDER BY number LIMIT :many"  # noqa: S608
    with database.write() as connection:
        take_turn(connection)
        rows = connection.execute(text(sql), {**_params(due), "after": after, "many": limit})
        numbers = [int(row[0]) for row in rows]
        if not numbers:
            connection.execute(text("DELETE FROM dead_letters WHERE created_us < :before"), {"before": due.before_us})
            return 0, after
        return delete_exchanges(connection, numbers), numbers[-1]


def stored_bytes(database: Database) -> int:
    """What exchanges take in the store: on SQLite all pages in use, on PostgreSQL the rows, without indexes and dead rows."""
    with database.read() as connection:
        if database.is_sqlite:
            pages, free, size = (
                int(connection.exec_driver_sql(f"PRAGMA {name}").scalar_one())
                for name in ("page_count", "freelist_count", "page_size")
            )
            return (pages - free) * size
        sizes = [
            "SELECT SUM(pg_column_size(exchanges.*)) FROM exchanges",
            "SELECT SUM(octet_length(zstd)) FROM contents",
            "SELECT SUM(octet_length(zstd)) FROM pieces",
            "SELECT SUM(pg_column_size(words)) FROM exchange_words",
        ]
        return sum(int(connection.execute(text(sql)).scalar() or 0) for sql in sizes)


def free_bytes(database: Database) -> int:
    """Bytes of the SQLite file that are free and will be used again; 0 on PostgreSQL, whose autovacuum sees to it."""
    if not database.is_sqlite:
        return 0
    with database.read() as connection:
        free, size = (int(connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()) for name in ("freelist_count", "page_size"))
    return free * size


class Retention:
    """The store writer's retention: it looks once an hour, and removes a little whenever the writer has nothing else to do."""

    def __init__(self, database: Database, settings: CaptureSettings) -> None:
        self._database, self._settings = database, settings
        self._is_on = bool(settings.retention_days or settings.retention_gib or settings.retention_exchanges)
        self._started = (clock.now_us(), clock.monotonic_ns())
        self._looked_ns: int | None = None
        self._due: Due | None = None
        self._after = 0

    def step(self) -> int:
        """How many exchanges it removed just now; RetentionError once an hour while a sweep is refused.

        After any error nothing is tried before the next hour.
        """
        if not self._is_on:
            return 0
        now_ns = clock.monotonic_ns()
        if self._due is None:
            if self._looked_ns is not None and now_ns - self._looked_ns < _EVERY_NS:
                return 0
            self._looked_ns = now_ns
            self._due, self._after = self._look(), 0
        due, self._due = self._due, None  # should this fail, the sweep is over
        if due is None:
            return 0
        removed, self._after = remove_some(self._database, due, self._after)
        self._due = due if removed else None
        return removed

    def _look(self) -> Due | None:
        """What is due, when removing it was accepted."""
        due = measure(self._database, self._settings)
        try:
            check(self._database, due, skew_us=self._skew_us())
        except RetentionError as error:
            if not due.count:
                return None
            with self._database.write() as connection:
                _write_meta(connection, _REFUSED, Refusal(clock.now_us(), error.what, error.next_step))
            raise
        accept(self._database, due)
        return due if due.count else None

    def _skew_us(self) -> int:
        wall_us, monotonic_ns = self._started
        return clock.now_us() - wall_us - (clock.monotonic_ns() - monotonic_ns) // 1000


def _read_meta(connection: Connection, name: str, kind: type[_Meta]) -> _Meta | None:
    found = connection.execute(text("SELECT value FROM meta WHERE name = :name"), {"name": name}).scalar()
    return None if found is None else msgspec.json.decode(str(found), type=kind)


def _write_meta(connection: Connection, name: str, value: Refusal | _Accepted | None) -> None:
    """Puts `value` in place of what was there; None takes it away."""
    connection.execute(text("DELETE FROM meta WHERE name = :name"), {"name": name})
    if value is not None:
        row = {"name": name, "value": msgspec.json.encode(value).decode()}
        connection.execute(text("INSERT INTO meta (name, value) VALUES (:name, :value) ON CONFLICT (name) DO NOTHING"), row)


def _where(due: Due) -> str:
    return f"(({_AGED}) OR number <= :up_to)" + ("" if due.with_datasets else f" AND {_FREE}")


def _params(due: Due) -> dict[str, object]:
    return {"before_us": due.before_us, "before_id": due.before_id, "up_to": due.up_to}


def _excess(used: int, limit: int, stored: int) -> int:
    """How many exchanges of average size stand above `limit` bytes."""
    return min(stored, math.ceil((used - limit) * stored / used)) if used > limit and stored else 0
