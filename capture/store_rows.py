"""The SQL of the store writer: rows of capture in, positions of spools out. Writing the same row again changes nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, text
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, StatementError

from capture import clock
from capture.database import Database
from capture.derive import StoredExchange
from capture.errors import StoreError
from capture.exchange_rows import insert_exchanges, take_turn
from capture.feedback import Feedback, drop_words
from capture.feedback import insert as insert_feedback
from capture.loose_json import clean_text
from capture.redact import redact_text
from capture.spool_reader import Position, SpooledGap

_GAPS = text(
    "INSERT INTO gaps (id, spool_id, from_us, to_us, lost, reason) "
    "VALUES (:id, :spool_id, :from_us, :to_us, :lost, :reason) ON CONFLICT (id) DO NOTHING"
)
_LETTERS = text(
    "INSERT INTO dead_letters (exchange_id, reason, record, created_us) "
    "VALUES (:exchange_id, :reason, :record, :created_us) ON CONFLICT (exchange_id) DO NOTHING"
)
_POSITIONS = text(
    "INSERT INTO spools (spool_id, segment, position, updated_us) VALUES (:spool_id, :segment, :position, :us) "
    "ON CONFLICT (spool_id) DO UPDATE SET segment = excluded.segment, position = excluded.position, "
    "updated_us = excluded.updated_us"
)
_REFUSED_SQLSTATES = ("22", "23", "54")
"""Classes of PostgreSQL errors that are about the row: bad data, broken constraint, too large."""


class RefusedError(Exception):
    """The store is well but will not take one of these rows."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """An exchange that cannot be stored, and why."""

    exchange_id: str
    reason: str
    record: bytes


def read_positions(database: Database) -> dict[str, Position]:
    """Up to where each spool is in the store."""
    with database.read() as connection:
        rows = connection.execute(text("SELECT spool_id, segment, position FROM spools")).all()
    return {row[0]: (int(row[1]), int(row[2])) for row in rows}


def forget_positions(database: Database, before_us: int) -> None:
    """Drops the positions of spools that nobody has read since `before_us`; their folders are long gone."""
    with database.write() as connection:
        connection.execute(text("DELETE FROM spools WHERE updated_us < :before"), {"before": before_us})


def write(
    database: Database,
    exchanges: Sequence[StoredExchange],
    letters: Sequence[DeadLetter] = (),
    gaps: Sequence[tuple[str, SpooledGap]] = (),
    positions: Mapping[str, Position] | None = None,
    said: Sequence[Feedback] = (),
) -> int:
    """Everything in one transaction; how many exchanges were new.

    RefusedError when a row is at fault, StoreError when the store is.
    """
    try:
        with database.write() as connection:
            take_turn(connection)
            stored = insert_exchanges(connection, exchanges)
            _many(connection, _LETTERS, [_letter_row(letter) for letter in letters])
            _many(connection, _GAPS, [_gap_row(spool_id, found) for spool_id, found in gaps])
            insert_feedback(connection, said)
            drop_words(connection, [each.exchange for each in exchanges])
            _many(connection, _POSITIONS, [_position_row(*item) for item in (positions or {}).items()])
    except StoreError as error:
        if isinstance(error.__cause__, DBAPIError) and _is_refusal(error.__cause__):
            raise RefusedError(redact_text(str(error.__cause__.orig))[0]) from error
        raise
    except (StatementError, ValueError, OverflowError) as error:  # refused before it reached the store
        cause = error.orig if isinstance(error, StatementError) and error.orig is not None else error  # without the row's values
        raise RefusedError(redact_text(str(cause))[0]) from error
    return stored


def _many(connection: Connection, statement: Any, rows: list[dict[str, Any]]) -> int:
    return max(0, connection.execute(statement, rows).rowcount) if rows else 0


def _is_refusal(error: DBAPIError) -> bool:
    sqlstate = getattr(error.orig, "sqlstate", None) or ""
    return isinstance(error, DataError | IntegrityError) or sqlstate[:2] in _REFUSED_SQLSTATES


def _letter_row(letter: DeadLetter) -> dict[str, Any]:
    return {
        "exchange_id": letter.exchange_id,
        "reason": clean_text(letter.reason)[:2_000],
        "record": letter.record,
        "created_us": clock.now_us(),
    }


def _gap_row(spool_id: str, found: SpooledGap) -> dict[str, Any]:
    gap = found.gap
    reason = clean_text(gap.reason)
    return {"id": found.id, "spool_id": spool_id, "from_us": gap.from_us, "to_us": gap.to_us, "lost": gap.lost, "reason": reason}


def _position_row(spool_id: str, position: Position) -> dict[str, Any]:
    return {"spool_id": spool_id, "segment": position[0], "position": position[1], "us": clock.now_us()}
