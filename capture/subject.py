"""Whom an erasure is about: a user, a session, a user's session, or one exchange."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256

from sqlalchemy import Connection, text

from capture.errors import NotFoundError

COPY_TAG = "exchange"
"""Tag of an exchange that repeats another, for an evaluation or a judge; its value is the id of that one."""


@dataclass(frozen=True, slots=True)
class Subject:
    """`user` and `session` are names as they were captured, both must hold where both are given; `exchange_id` is a whole id."""

    user: str = ""
    session: str = ""
    exchange_id: str = ""

    def __post_init__(self) -> None:
        if not (self.user or self.session or self.exchange_id):
            raise NotFoundError("Nobody is named whose exchanges are to be forgotten.", "Give --user, --session or --exchange.")

    def matches(self, user: str, session: str, exchange_id: str) -> bool:
        """Whether an exchange of this user, session and id is meant."""
        return (
            (not self.user or user == self.user)
            and (not self.session or session == self.session)
            and (not self.exchange_id or exchange_id == self.exchange_id)
        )

    def gave(self, who: str, session: str, exchange_id: str) -> bool:
        """Whether this feedback by `who` is meant wherever it belongs: all of the user's, or what is on the named session."""
        if not self.user or who != self.user or self.exchange_id:
            return False
        return not self.session or (session == self.session and not exchange_id)

    @property
    def fingerprint(self) -> str:
        """A hash that says on a receipt who was meant, to those who know the names."""
        return "sha256:" + sha256("\0".join((self.user, self.session, self.exchange_id)).encode("utf-8", "replace")).hexdigest()


@dataclass(frozen=True, slots=True)
class Target:
    """One exchange to forget, as the store knows it."""

    number: int
    id: str
    task: str
    session: str
    input_hash: str


def find_targets(connection: Connection, subject: Subject) -> list[Target]:
    """The stored exchanges that are meant, and the copies that evaluations and judges made of them, in order of storing."""
    asked = {"user_name": subject.user, "session_name": subject.session, "id": subject.exchange_id}
    asked = {name: value for name, value in asked.items() if value}
    where = " AND ".join(f"{name} = :{name}" for name in asked)
    sql = f"SELECT number, id, task, session_name, input_hash FROM exchanges WHERE {where}"  # noqa: S608  names from code
    found = {row[0]: Target(*row) for row in connection.execute(text(sql), asked)}
    found |= {copy.number: copy for copy in find_copies(connection, found.values())} if found else {}
    return [found[number] for number in sorted(found)]


def find_copies(connection: Connection, targets: Iterable[Target]) -> list[Target]:
    """Exchanges that did not come from an app and asked what one of `targets` asked, or whose tag `exchange` names it."""
    known = list(targets)
    ids, hashes = {target.id for target in known}, {target.input_hash for target in known} - {""}
    sql = "SELECT number, id, task, session_name, input_hash, tags FROM exchanges WHERE purpose <> 'app' ORDER BY number"
    with connection.execution_options(yield_per=1_000).execute(text(sql)) as rows:
        return [Target(*row[:5]) for row in rows if row[4] in hashes or json.loads(row[5]).get(COPY_TAG) in ids]
