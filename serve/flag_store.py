"""Changes of flags: who, when and why, append-only. The last change of a task is in force.

A release starts a new experiment with a salt of its own. Changing the share of the same release keeps the salt, so that
units move in one direction only. After a rollback the next share is a new experiment.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, text

from capture import clock
from capture.database import Database
from capture.errors import GateError, NotFoundError, SettingsError
from capture.ids import new_id
from serve.flags import AUTO, UNITS, WHOLE_BP, Flag, Snapshot
from serve.release_store import READY, find_release, lock_against_others

_COLUMNS = "revision, id, task, release_id, engine_model, share_bp, unit, salt, who, why, created_us"


@dataclass(frozen=True, slots=True)
class FlagChange:
    """One row of a flag's history. `share_bp` is in basis points; 0 is a rollback."""

    revision: int
    id: str
    task: str
    release_id: str
    engine_model: str
    share_bp: int
    unit: str
    salt: str
    who: str
    why: str
    created_us: int


def read_revision(database: Database) -> int:
    """The newest revision of any flag; changes whenever a flag does."""
    with database.read() as connection:
        return connection.execute(text("SELECT max(revision) FROM flag_changes")).scalar() or 0


def read_snapshot(database: Database) -> Snapshot:
    """All flags in force, as of one moment."""
    with database.read() as connection:
        rows = connection.execute(
            text(
                "SELECT task, release_id, engine_model, share_bp, unit, salt, revision FROM flag_changes"
                " WHERE revision IN (SELECT max(revision) FROM flag_changes GROUP BY task)"
            )
        )
        flags = {row.task: Flag(*row) for row in rows}
    return Snapshot(max((flag.revision for flag in flags.values()), default=0), flags)


def history(database: Database, task: str) -> list[FlagChange]:
    """All changes of the flag of `task`, oldest first; empty when it never had one."""
    with database.read() as connection:
        rows = connection.execute(
            text(f"SELECT {_COLUMNS} FROM flag_changes WHERE task = :task ORDER BY revision"),  # noqa: S608
            {"task": task},
        )
        return [_change(row) for row in rows]


def set_share(
    database: Database, task: str, share_bp: int, *, release: str | int | None = None, unit: str | None = None, who: str, why: str
) -> FlagChange:
    """Gives `release` of `task` a share of `share_bp` basis points, in force on every relay within 500 ms.

    `release` None keeps the one in force, else takes the newest ready one; `unit` None keeps the one in force, else is auto.
    NotFoundError for an unknown task or release, GateError for a release that is not ready, SettingsError for a share or
    unit that does not exist.
    """
    if not 0 <= share_bp <= WHOLE_BP:
        raise SettingsError(f"A share of {share_bp} basis points is not between 0 and {WHOLE_BP}.", "30 % is 3000.")
    if unit is not None and unit not in (AUTO, *UNITS):
        raise SettingsError(f"Unit {unit!r} is unknown.", f"Known: {', '.join((AUTO, *UNITS))}.")
    with database.write() as connection:
        lock_against_others(connection)
        last = _last(connection, task)
        if last is not None and last.share_bp > 0:
            release, unit = last.release_id if release is None else release, unit or last.unit
        unit = unit or AUTO
        chosen = find_release(connection, task, release)
        if chosen.state != READY:
            raise GateError(
                f"Release {chosen.name} is {chosen.state}, not ready.",
                f"Run `potstill release {task}` for a new one; only a ready release may get a share.",
            )
        goes_on = last is not None and last.share_bp > 0 and (last.release_id, last.unit) == (chosen.id, unit)
        salt = last.salt if goes_on and last is not None else os.urandom(8).hex()
        return _append(connection, task, chosen.id, chosen.engine_model, share_bp, unit, salt, who, why)


def rollback(database: Database, task: str, who: str, why: str) -> FlagChange:
    """Gives the baseline everything, in force on every relay within 500 ms; needs nothing but the store.

    A flag that is at 0 already stays as it is. NotFoundError only when `task` never had a flag, so that a slip in the name
    is not mistaken for a rollback.
    """
    with database.write() as connection:
        lock_against_others(connection)
        last = _last(connection, task)
        if last is None:
            tasks = [row[0] for row in connection.execute(text("SELECT DISTINCT task FROM flag_changes ORDER BY task"))]
            known = (
                f"Tasks with a flag: {', '.join(tasks)}."
                if tasks
                else "No task has a flag, so every request goes to the teacher."
            )
            raise NotFoundError(f"Task {task!r} has no flag to roll back.", known)
        if last.share_bp == 0:
            return last
        return _append(connection, task, last.release_id, last.engine_model, 0, last.unit, last.salt, who, why)


def _append(
    connection: Connection, task: str, release_id: str, engine_model: str, share_bp: int, unit: str, salt: str, who: str, why: str
) -> FlagChange:
    values = {
        "id": new_id("chg"), "task": task, "release_id": release_id, "engine_model": engine_model, "share_bp": share_bp,
        "unit": unit, "salt": salt, "who": who, "why": why, "created_us": clock.now_us(),
    }  # fmt: skip
    revision = connection.execute(
        text(
            "INSERT INTO flag_changes (id, task, release_id, engine_model, share_bp, unit, salt, who, why, created_us)"
            " VALUES (:id, :task, :release_id, :engine_model, :share_bp, :unit, :salt, :who, :why, :created_us)"
            " RETURNING revision"
        ),
        values,
    ).scalar_one()
    return FlagChange(revision=revision, **values)  # type: ignore[arg-type]


def _last(connection: Connection, task: str) -> FlagChange | None:
    row = connection.execute(
        text(f"SELECT {_COLUMNS} FROM flag_changes WHERE task = :task ORDER BY revision DESC LIMIT 1"),  # noqa: S608
        {"task": task},
    ).first()
    return None if row is None else _change(row)


def _change(row: Sequence[Any]) -> FlagChange:
    return FlagChange(*row)
