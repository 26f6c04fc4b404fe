"""Reads exchanges from the store: pages by id, counts with a cap, bodies, conversations. Nothing here writes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from hashlib import blake2b
from typing import Any

import zstandard
from sqlalchemy import RowMapping, text

from capture.assemble import assemble
from capture.database import Database
from capture.errors import NotFoundError
from capture.exchange import Conversation, Exchange
from capture.filters import Filter

_COLUMNS = ", ".join(field.name for field in fields(Exchange))
_ID_LETTERS = 29  # ex_ and 26 letters
_MAX_BODY = 1 << 30


@dataclass(frozen=True, slots=True)
class TaskSummary:
    """A task that exchanges carry, how many, and when the first and last of them started (UTC microseconds)."""

    task: str
    exchanges: int
    first_us: int
    last_us: int


def page(database: Database, filter: Filter, *, before: str = "", limit: int = 100) -> list[Exchange]:
    """Newest first: at most `limit` exchanges older than the one with id `before` (from the newest when empty)."""
    where = f"({filter.where}) AND id < :before" if before else filter.where
    return _select(database, f"{where} ORDER BY id DESC LIMIT :limit", {**filter.params, "before": before, "limit": limit})


def after(database: Database, filter: Filter, after_id: str, limit: int) -> list[Exchange]:
    """Oldest first: at most `limit` exchanges younger than the one with id `after_id`.

    An exchange is stored when it ends and sorts by its start: to see every one exactly once, ask again from some
    way back and skip known ids.
    """
    where = f"({filter.where}) AND id > :after"
    return _select(database, f"{where} ORDER BY id LIMIT :limit", {**filter.params, "after": after_id, "limit": limit})


def get(database: Database, id: str) -> Exchange:
    """The exchange with this id or with the only id that starts so; NotFoundError when there is none or more than one."""
    start = id if id.startswith("ex_") else f"ex_{id}"
    bounds = {"low": start.ljust(_ID_LETTERS, "0"), "high": start.ljust(_ID_LETTERS, "z")}
    found = _select(database, "id >= :low AND id <= :high ORDER BY id LIMIT 2", bounds)
    if len(found) == 1:
        return found[0]
    what = f"More than one exchange starts with {id!r}." if found else f"There is no exchange {id!r}."
    raise NotFoundError(what, "Give more of the id." if found else "List them with `potstill exchanges list`.")


def body(database: Database, hash: str) -> bytes:
    """The body with this content hash as it was relayed, content encoding and all; NotFoundError when it is not stored."""
    with database.read() as connection:
        row = connection.execute(text("SELECT zstd FROM bodies WHERE hash = :hash"), {"hash": hash}).first()
    if row is None:
        raise NotFoundError(f"There is no body {hash!r}.", "It may have been erased.")
    return zstandard.ZstdDecompressor().decompress(bytes(row[0]), max_output_size=_MAX_BODY)


def conversation(database: Database, exchange: Exchange) -> Conversation:
    """What was asked and answered, in the canonical chat form."""
    return assemble(
        exchange.protocol,
        exchange.path,
        exchange.is_stream,
        body(database, exchange.request_body),
        body(database, exchange.response_body),
        exchange.response_headers.get("content-encoding", ""),
        exchange.status,
        request_encoding=exchange.request_headers.get("content-encoding", ""),
    ).conversation


def count(database: Database, filter: Filter, cap: int = 10_000) -> int:
    """How many exchanges match; counting stops at `cap`."""
    sql = f"SELECT COUNT(*) FROM (SELECT 1 FROM exchanges WHERE {filter.where} LIMIT :cap) AS found"  # noqa: S608  bound
    with database.read() as connection:
        return int(connection.execute(text(sql), {**filter.params, "cap": cap}).scalar_one())


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
        (SELECT MAX(number) FROM feedback)"""
    with database.read() as connection:
        marks = tuple(connection.execute(text(sql)).one())
    return int.from_bytes(blake2b(repr(marks).encode(), digest_size=7).digest(), "big")


def _select(database: Database, condition: str, params: Mapping[str, Any]) -> list[Exchange]:
    sql = f"SELECT {_COLUMNS} FROM exchanges WHERE {condition}"  # noqa: S608  names from code, values bound
    with database.read() as connection:
        return [_exchange(row) for row in connection.execute(text(sql), params).mappings()]


def _exchange(row: RowMapping) -> Exchange:
    values = dict(row)
    for name in ("tags", "request_headers", "response_headers"):
        values[name] = json.loads(values[name])
    values["is_stream"] = bool(values["is_stream"])
    return Exchange(**values)
