"""Releases as they stand in the store: read, find by any of their names, write states."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

from sqlalchemy import Connection, text

from capture import clock
from capture.database import Database
from capture.errors import NotFoundError
from capture.ids import new_id

PREPARING, READY, FAILED, RETIRED = "preparing", "ready", "failed", "retired"
STATES = (PREPARING, READY, FAILED, RETIRED)
_SAFE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_UNSAFE = re.compile(r"[^A-Za-z0-9]")
_COLUMNS = "id, task, number, adapter_id, engine_model, state, gate, parity_n, parity_same, created_us"


@dataclass(frozen=True, slots=True)
class Release:
    """A numbered adapter of a task. Only a release in state ready may be given a share.

    `gate` holds the criteria with their values, as they were when the release was made.
    """

    id: str
    task: str
    number: int
    adapter_id: str
    engine_model: str
    state: str
    gate: Mapping[str, Any]
    parity_n: int
    parity_same: int
    created_us: int

    @property
    def name(self) -> str:
        """How people write it: `triage#1`."""
        return f"{self.task}#{self.number}"


def list_releases(database: Database, task: str = "") -> list[Release]:
    """Releases, newest first; of one task when it is given."""
    where = " WHERE task = :task" if task else ""
    statement = text(f"SELECT {_COLUMNS} FROM releases{where} ORDER BY created_us DESC, number DESC")  # noqa: S608
    with database.read() as connection:
        return [_release(row) for row in connection.execute(statement, {"task": task} if task else {})]


def get_release(database: Database, task: str, release: str | int | None = None) -> Release:
    """The release of `task` by number, id, `task#1` or `task@r1`; None is the newest ready one.

    NotFoundError names what there is.
    """
    with database.read() as connection:
        return find_release(connection, task, release)


def find_release(connection: Connection, task: str, release: str | int | None = None) -> Release:
    """As `get_release`, inside a transaction that is already open."""
    rows = connection.execute(
        text(f"SELECT {_COLUMNS} FROM releases WHERE task = :task ORDER BY number DESC"),  # noqa: S608
        {"task": task},
    )
    releases = [_release(row) for row in rows]
    if not releases:
        raise NotFoundError(f"Task {task!r} has no release.", f"Train it, then run `potstill release {task}`.")
    known = ", ".join(f"{one.name} ({one.state})" for one in releases[:5])
    if release is None:
        ready = [one for one in releases if one.state == READY]
        if not ready:
            raise NotFoundError(f"Task {task!r} has no ready release: {known}.", f"Run `potstill release {task}`.")
        return ready[0]
    for one in releases:
        if str(release) in (str(one.number), f"r{one.number}", one.id, one.name, one.engine_model):
            return one
    raise NotFoundError(f"Task {task!r} has no release {release!r}.", f"Known: {known}.")


def engine_model_name(task: str, number: int) -> str:
    """The name under which the engine serves a release: `task@rN`, in letters that are safe in paths and addresses.

    A task with other letters gets a digest in place of them, so that two tasks never share a name.
    """
    if _SAFE.fullmatch(task):
        return f"{task}@r{number}"
    return f"{_UNSAFE.sub('-', task)[:40]}-{blake2b(task.encode(), digest_size=4).hexdigest()}@r{number}"


def add_release(database: Database, task: str, adapter_id: str, gate: Mapping[str, Any]) -> Release:
    """A new release in state preparing, with the next number of its task."""
    with database.write() as connection:
        lock_against_others(connection)
        last = connection.execute(text("SELECT max(number) FROM releases WHERE task = :task"), {"task": task}).scalar() or 0
        release = Release(
            new_id("rel"), task, last + 1, adapter_id, engine_model_name(task, last + 1), PREPARING, gate, 0, 0, clock.now_us()
        )
        connection.execute(
            text(
                f"INSERT INTO releases ({_COLUMNS}) VALUES (:id, :task, :number, :adapter_id, :engine_model, :state, :gate,"  # noqa: S608
                " :parity_n, :parity_same, :created_us)"
            ),
            {
                "id": release.id, "task": task, "number": release.number, "adapter_id": adapter_id,
                "engine_model": release.engine_model, "state": PREPARING, "gate": json.dumps(dict(gate)),
                "parity_n": 0, "parity_same": 0, "created_us": release.created_us,
            },
        )  # fmt: skip
    return release


def settle_release(database: Database, release: Release, state: str, gate: Mapping[str, Any], n: int, same: int) -> Release:
    """Writes how preparing `release` ended and gives it back as it now stands."""
    with database.write() as connection:
        connection.execute(
            text("UPDATE releases SET state = :state, gate = :gate, parity_n = :n, parity_same = :same WHERE id = :id"),
            {"state": state, "gate": json.dumps(dict(gate)), "n": n, "same": same, "id": release.id},
        )
    return get_release(database, release.task, release.id)


def lock_against_others(connection: Connection) -> None:
    """Lets one transaction at a time number releases and flag changes, so that numbers appear in their order."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(7311405)"))


def _release(row: Sequence[Any]) -> Release:
    values = list(row)
    values[6] = json.loads(values[6])
    return Release(*values)
