"""Reads exchanges from the store: pages by number, counts with a cap, contents, conversations. Nothing here writes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from hashlib import blake2b
from typing import Any

from sqlalchemy import Row, text

from capture import search
from capture.assemble import assemble
from capture.content import read_content, read_or_damaged
from capture.database import Database
from capture.errors import NotFoundError
from capture.exchange import OMITTED, Content, Conversation, Exchange
from capture.filters import Filter
from capture.offered import Offered, read_offered

_COLUMNS = ", ".join(field.name for field in fields(Exchange))
_ID_LETTERS = 29  # ex_ and 26 letters
_LAST = (1 << 63) - 1
PATIENT_S = 600.0
"""For work that people start and leave alone, such as an export: how long one question to the store may take."""
_BATCH = 500
_BATCH_BYTES = 16 << 20
_NO_CONTENT = Content({}, {}, b"", b"", "", "")


@dataclass(frozen=True, slots=True)
class TaskSummary:
    """A task that exchanges carry, how many, and when the first and last of them started (UTC microseconds)."""

    task: str
    exchanges: int
    first_us: int
    last_us: int


def page(database: Database, filter: Filter, *, before: int = 0, limit: int = 100) -> list[Exchange]:
    """Newest first: at most `limit` exchanges stored before number `before` (from the newest when 0).

    StoreError when the store looked for ten seconds without an end.
    """
    params = {"before": before or _LAST, "limit": limit}
    rows = search.select(database, filter, _COLUMNS, bound="< :before", is_newest_first=True, params=params)
    return [_exchange(row) for row in rows]


def after(
    database: Database, filter: Filter, *, after: int = 0, limit: int = 100, longest_s: float = search.LONGEST_S
) -> list[Exchange]:
    """Oldest first: at most `limit` exchanges stored after number `after` (from the oldest when 0).

    Numbers are given in the order of storing and become visible in it: asking again from the last number sees each
    exchange exactly once.
    """
    params = {"after": after, "limit": limit}
    rows = search.select(database, filter, _COLUMNS, bound="> :after", is_newest_first=False, params=params, longest_s=longest_s)
    return [_exchange(row) for row in rows]


def get(database: Database, id: str) -> Exchange:
    """The exchange with this id or with the only id that starts so; NotFoundError when there is none or more than one."""
    start = id if id.startswith("ex_") else f"ex_{id}"
    found: Sequence[Any] = []
    if start.isascii() and start.isprintable():
        bounds = {"low": start.ljust(_ID_LETTERS, "0"), "high": start.ljust(_ID_LETTERS, "z")}
        sql = f"SELECT {_COLUMNS} FROM exchanges WHERE id >= :low AND id <= :high ORDER BY id LIMIT 2"  # noqa: S608  names
        with database.read() as connection:
            found = connection.execute(text(sql), bounds).all()
    if len(found) == 1:
        return _exchange(found[0])
    what = f"More than one exchange starts with {id!r}." if found else f"There is no exchange {id!r}."
    raise NotFoundError(what, "Give more of the id." if found else "List them with `potstill exchanges list`.")


def content(database: Database, exchange: Exchange) -> Content:
    """Headers and both bodies as they were relayed, content encoding and all, but for what was taken out before storing.

    Bodies are empty where the content was omitted. NotFoundError when the exchange is no longer in the store.
    """
    found = contents(database, [exchange])
    if exchange.number not in found:
        raise NotFoundError(f"The content of {exchange.id} is not in the store.", "It may have been erased meanwhile.")
    return found[exchange.number]


def contents(database: Database, exchanges: Sequence[Exchange]) -> dict[int, Content]:
    """The content of each of `exchanges` by number, read together; of one that is no longer in the store there is none."""
    omitted = dict.fromkeys(_omitted(exchanges), _NO_CONTENT)
    with database.read() as connection:
        return omitted | read_content(connection, [exchange.number for exchange in exchanges])


def readable(database: Database, exchanges: Sequence[Exchange]) -> Iterator[tuple[Exchange, Content | None]]:
    """Those of `exchanges` that are still stored, with their content, or None where it is damaged (see `potstill verify`).

    StoreError when the store cannot be read at all.
    """
    omitted: dict[int, Content | None] = dict.fromkeys(_omitted(exchanges), _NO_CONTENT)
    with database.read() as connection:
        found = omitted | read_or_damaged(connection, [exchange.number for exchange in exchanges])
    yield from ((exchange, found[exchange.number]) for exchange in exchanges if exchange.number in found)


def with_content(database: Database, filter: Filter, *, start: int = 0, end: int = 0) -> Iterator[tuple[Exchange, Content]]:
    """Every exchange that matches, with its content, in the order of storing; some megabytes of them are in memory at a time.

    Only those stored after number `start` and, unless 0, not after number `end`. StoreError where one is damaged.
    """
    for few in _batches(database, filter, start, end):
        found = contents(database, few)
        yield from ((exchange, found[exchange.number]) for exchange in few if exchange.number in found)


def with_readable(
    database: Database, filter: Filter, *, start: int = 0, end: int = 0
) -> Iterator[tuple[Exchange, Content | None]]:
    """As `with_content`, with None for the content of one that is damaged."""
    for few in _batches(database, filter, start, end):
        yield from readable(database, few)


def newest(database: Database) -> int:
    """The number of the exchange that was stored last, 0 when there is none."""
    with database.read() as connection:
        return int(connection.execute(text("SELECT COALESCE(MAX(number), 0) FROM exchanges")).scalar_one())


def conversation(database: Database, exchange: Exchange) -> Conversation:
    """What was asked and answered, in the canonical chat form; nothing where the content was omitted."""
    return conversation_of(exchange, content(database, exchange))


def conversation_of(exchange: Exchange, content: Content) -> Conversation:
    """As `conversation`, from content that was read already."""
    if exchange.content == OMITTED:
        return Conversation((), None)
    return assemble(
        exchange.protocol,
        exchange.path,
        exchange.is_stream,
        content.request_body,
        content.response_body,
        content.response_headers.get("content-encoding", ""),
        exchange.status,
        request_encoding=content.request_headers.get("content-encoding", ""),
    ).conversation


def asked_of(exchange: Exchange, content: Content) -> tuple[Conversation, Offered]:
    """As `conversation_of`, and what the request offered beside its messages."""
    offered = read_offered(content.request_body, content.request_headers.get("content-encoding", ""))
    return conversation_of(exchange, content), offered


def count(database: Database, filter: Filter, cap: int = 10_000, *, longest_s: float = search.LONGEST_S) -> int:
    """How many exchanges match; counting stops at `cap`. StoreError when it takes longer than `longest_s` seconds."""
    return search.count(database, filter, cap, longest_s)


def tasks(database: Database) -> list[TaskSummary]:
    """Every task seen, '' being untagged traffic, by name."""
    sql = "SELECT task, COUNT(*), MIN(started_us), MAX(started_us) FROM exchanges GROUP BY task ORDER BY task"
    with database.read() as connection:
        return [TaskSummary(row[0], int(row[1]), int(row[2]), int(row[3])) for row in connection.execute(text(sql))]


def revision(database: Database) -> int:
    """A number that differs whenever something in the store has changed; cheap enough to ask ten times a second."""
    sql = """SELECT (SELECT MAX(updated_us) FROM spools), (SELECT MAX(number) FROM reviews),
        (SELECT MAX(revision) FROM flag_changes), (SELECT MAX(heartbeat_us) FROM runs), (SELECT MAX(ended_us) FROM runs),
        (SELECT COUNT(*) FROM runs), (SELECT COUNT(*) FROM dataset_versions), (SELECT COUNT(*) FROM adapters),
        (SELECT MAX(created_us) FROM releases), (SELECT COUNT(*) FROM evaluations),
        (SELECT MAX(number) FROM feedback), (SELECT COUNT(*) FROM task_names), (SELECT COUNT(*) FROM task_aliases),
        (SELECT value FROM meta WHERE name = 'task_names:applied')"""
    with database.read() as connection:
        marks = tuple(connection.execute(text(sql)).one())
    return int.from_bytes(blake2b(repr(marks).encode(), digest_size=7).digest(), "big")


def _omitted(exchanges: Sequence[Exchange]) -> list[int]:
    return [exchange.number for exchange in exchanges if exchange.content == OMITTED]


def _batches(database: Database, filter: Filter, start: int, end: int) -> Iterator[list[Exchange]]:
    while batch := after(database, filter, after=start, limit=_BATCH, longest_s=PATIENT_S):
        yield from _by_size([exchange for exchange in batch if not end or exchange.number <= end])
        start = batch[-1].number
        if end and start >= end:
            return


def _by_size(exchanges: Sequence[Exchange]) -> Iterator[list[Exchange]]:
    few: list[Exchange] = []
    for exchange in exchanges:
        few.append(exchange)
        if sum(each.body_bytes for each in few) > _BATCH_BYTES:
            yield few
            few = []
    if few:
        yield few


def _exchange(row: Row[Any]) -> Exchange:
    values: dict[str, Any] = dict(row._mapping)
    values["tags"] = json.loads(values["tags"])
    values["is_stream"] = bool(values["is_stream"])
    return Exchange(**values)
