"""Asks the store for the exchanges that match a filter, in the order of their numbers, in bounded time.

The stores' planners do not know how many exchanges a value has, and walk a million rows to find the three that match. So first
every condition that an index can answer alone is counted up to a bound. When one of them has few exchanges, only those are
looked at; else matches are dense, and a walk from the newest finds a page of them soon.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from capture import clock
from capture.database import Database
from capture.errors import StoreError
from capture.filters import Filter

LONGEST_S = 10.0
"""A question that takes longer is given up."""
_FEW = 5_000
_FEWEST = 50
_MANY = 50_000
_STEPS = 20_000
_QUERY_CANCELED = "57014"


@dataclass(frozen=True, slots=True)
class Source:
    """Where a filter's exchanges are looked for: the FROM part, the condition, and the column with their number."""

    tables: str
    where: str
    number: str


@contextmanager
def bounded(database: Database, longest_s: float = LONGEST_S) -> Iterator[Connection]:
    """A connection for reading on which no statement runs longer than `longest_s` seconds; StoreError when one would."""
    with database.read() as connection:
        try:
            if database.is_sqlite:
                with _interrupted(connection, longest_s):
                    yield connection
            else:
                connection.execute(text(f"SET LOCAL statement_timeout = {max(1, int(longest_s * 1000))}"))
                yield connection
        except DBAPIError as error:
            if _is_out_of_time(error):
                raise StoreError(
                    f"The store looked for {longest_s:g} seconds without an end.",
                    "Narrow the filter: give a task, a user, or since:2d.",
                ) from error
            raise


def select(
    database: Database,
    filter: Filter,
    columns: str,
    *,
    bound: str,
    is_newest_first: bool,
    params: Mapping[str, Any],
    longest_s: float = LONGEST_S,
) -> Sequence[Any]:
    """`columns` of the matching exchanges whose number fulfils `bound`, such as `< :before`; `params` has `limit`, too."""
    with bounded(database, longest_s) as connection:
        source = _source(database, connection, filter)
        sql = (
            f"SELECT {columns} FROM {source.tables} WHERE {source.where} AND {source.number} {bound} "  # noqa: S608  values bound
            f"ORDER BY {source.number} {'DESC' if is_newest_first else 'ASC'} LIMIT :limit"
        )
        return connection.execute(text(sql), {**filter.params, **params}).all()


def count(database: Database, filter: Filter, cap: int, longest_s: float = LONGEST_S) -> int:
    """How many match; counting stops at `cap`."""
    with bounded(database, longest_s) as connection:
        source = _source(database, connection, filter)
        newest = f"SELECT 1 FROM {source.tables} WHERE {source.where} ORDER BY {source.number} DESC LIMIT :cap"  # noqa: S608
        sql = f"SELECT COUNT(*) FROM ({newest}) AS found"  # noqa: S608
        return int(connection.execute(text(sql), {**filter.params, "cap": cap}).scalar_one())


def _source(database: Database, connection: Connection, filter: Filter) -> Source:
    few, how_many = _fewest(connection, filter)
    if not database.is_sqlite or filter.words is None or not filter.words.is_wanted:
        where = f"({filter.where(is_sqlite=database.is_sqlite)})"
        where += f" AND exchanges.number IN ({few})" if few else _window(connection, filter, "exchanges.number")
        how = f"INDEXED BY {filter.index}" if filter.index and not few else "NOT INDEXED"
        return Source(f"exchanges {how}" if database.is_sqlite else "exchanges", where, "exchanges.number")
    # The full-text index gives its rows in the order of their numbers, so that a page of a common word needs few of them.
    where = f"exchange_words.exchange_words MATCH :words_fts5 AND ({filter.sqlite})"
    if few:
        # With + the index is walked once, without it asked anew for each number.
        where += f" AND {'+' if how_many > _FEWEST else ''}exchange_words.rowid IN ({few})"
    else:
        where += _window(connection, filter, "exchange_words.rowid")
    tables = "exchange_words CROSS JOIN exchanges NOT INDEXED ON exchanges.number = exchange_words.rowid"
    return Source(tables, where, "exchange_words.rowid")


def _fewest(connection: Connection, filter: Filter) -> tuple[str, int]:
    """The numbers that the narrowest condition leaves, as a query, and how many; ('', 0) when each leaves many."""
    best, least = "", _FEW + 1
    for condition in filter.narrow:
        numbers = f"SELECT number FROM exchanges WHERE {condition}"  # noqa: S608  values bound
        sql = f"SELECT COUNT(*) FROM ({numbers} LIMIT {least}) AS found"  # noqa: S608
        found = int(connection.execute(text(sql), filter.params).scalar_one())
        if found < least:
            best, least = numbers, found
    return (best, least) if best else ("", 0)


def _window(connection: Connection, filter: Filter, number: str) -> str:
    """Bounds for a walk over a time that is not short: where its first and last exchange stand, as far as that is soon known.

    Numbers follow the order of storing, so exchanges of a time lie close to each other but may be mixed with others.
    """
    if not filter.times:
        return ""
    inside = f"SELECT number FROM exchanges WHERE {filter.times}"  # noqa: S608  values bound
    ends = f"SELECT COUNT(*), MIN(+number), MAX(+number) FROM ({inside} LIMIT {_MANY + 1}) AS found"  # noqa: S608
    count, first, last = connection.execute(text(ends), filter.params).one()
    if count <= _MANY:
        return f" AND {number} BETWEEN {int(first or 0)} AND {int(last or 0)}"
    if not filter.latest:
        return ""
    after = filter.latest.replace("<=", ">").replace(" AND ", " OR ")
    later = f"SELECT COUNT(*) FROM (SELECT 1 FROM exchanges WHERE {after} LIMIT {_MANY}) AS found"  # noqa: S608
    if int(connection.execute(text(later), filter.params).scalar_one()) < _MANY:
        return ""  # few to walk past
    # The + keeps SQLite from looking for the greatest number by walking the very rows that are to be passed over.
    last = connection.execute(text(f"SELECT MAX(+number) FROM ({inside}) AS found"), filter.params).scalar_one()  # noqa: S608
    return f" AND {number} <= {int(last or 0)}"


@contextmanager
def _interrupted(connection: Connection, longest_s: float) -> Iterator[None]:
    raw = connection.connection.driver_connection
    assert isinstance(raw, sqlite3.Connection)
    end_ns = clock.monotonic_ns() + int(longest_s * 1e9)
    raw.set_progress_handler(lambda: clock.monotonic_ns() > end_ns, _STEPS)
    try:
        yield
    finally:
        raw.set_progress_handler(None, 0)


def _is_out_of_time(error: DBAPIError) -> bool:
    return str(error.orig) == "interrupted" or getattr(error.orig, "sqlstate", None) == _QUERY_CANCELED
