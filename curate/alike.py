"""Examples of a task beside what an embedding says of them, and the notes that Review shows. Nothing is dropped."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, text

from capture.database import Database
from capture.errors import NotFoundError
from capture.statements import among
from curate.examples import messages_of
from curate.likeness.semantic import NOTE
from curate.tasks.aliases import names_of

_BETWEEN = "; "


@dataclass(frozen=True, slots=True)
class Shown:
    """A kept example as it is shown beside a like one: all that was asked but the system prompt, the target, the split."""

    exchange_id: str
    asked: str
    target: str
    split: str


def kept_examples(database: Database, task: str) -> dict[str, Shown]:
    """The kept examples of the latest build of `task` by exchange id; NotFoundError before there is one."""
    sql = "SELECT exchange_id, messages, target, split FROM examples WHERE task IN :names AND split <> '' ORDER BY exchange_id"
    with database.read() as connection:
        rows = _of_task(connection, sql, task)
    if not rows:
        raise NotFoundError(f"Task {task!r} has no examples.", f"Build them first: `potstill dataset build {task}`.")
    return {row.exchange_id: Shown(row.exchange_id, _asked(row.messages), row.target, row.split) for row in rows}


def write_notes(database: Database, task: str, notes: Mapping[str, str]) -> int:
    """Puts `notes` beside what Review says of these examples, in place of notes of an earlier embedding; how many have one."""
    sql = "SELECT exchange_id, note FROM examples WHERE task IN :names ORDER BY exchange_id"
    update = text("UPDATE examples SET note = :note WHERE exchange_id = :exchange_id")
    with database.write() as connection:
        rows = _of_task(connection, sql, task)
        for row in rows:
            kept = [part for part in row.note.split(_BETWEEN) if part and not part.startswith(NOTE)]
            note = _BETWEEN.join([*kept, *([notes[row.exchange_id]] if row.exchange_id in notes else [])])
            if note != row.note:
                connection.execute(update, {"note": note, "exchange_id": row.exchange_id})
    return sum(row.exchange_id in notes for row in rows)


def _of_task(connection: Connection, sql: str, task: str) -> Sequence[Row[Any]]:
    return connection.execute(among(sql), {"names": names_of(connection, task)}).all()


def _asked(messages: str) -> str:
    return "\n".join(message.said for message in messages_of(json.loads(messages)) if message.role != "system")
