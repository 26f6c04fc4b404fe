"""Gives stored exchanges without a task a task, and takes it back: the one thing about an exchange that may be decided later.

Each one that was given a task carries the tag `@named` with who gave it; no client can send a tag of that name. So the app's own
words are never overwritten, and what was given can be taken back whole. Spending stays booked as it was.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from sqlalchemy import text

from capture.database import Database
from capture.loose_json import compact
from capture.statements import among, few

MARK = "@named"
"""The tag of an exchange whose task was given later; its value says by what."""
_MANY = 500


def give_task(database: Database, numbers: Sequence[int], task: str, by: str) -> int:
    """Gives the exchanges with these numbers `task`, as far as they have none; how many that were."""
    given = 0
    untagged = among("SELECT number, tags FROM exchanges WHERE task = '' AND number IN :numbers")
    for some in few(numbers, _MANY):
        with database.write() as connection:
            found = connection.execute(untagged, {"numbers": some}).all()
            rows = [{"number": number, "task": task, "tags": compact({**json.loads(tags), MARK: by})} for number, tags in found]
            if rows:
                connection.execute(text("UPDATE exchanges SET task = :task, tags = :tags WHERE number = :number"), rows)
            given += len(rows)
    return given


def take_task(database: Database, task: str, by: str) -> int:
    """Takes `task` back from the exchanges to which `give_task` gave it for `by`; how many that were."""
    taken = last = 0
    sql = text(
        "SELECT number, tags FROM exchanges WHERE task = :task AND tags LIKE :mark AND number > :last ORDER BY number LIMIT :many"
    )
    while True:
        with database.write() as connection:
            wanted = {"task": task, "mark": f'%"{MARK}"%', "last": last, "many": _MANY}
            found = [(int(number), json.loads(tags)) for number, tags in connection.execute(sql, wanted)]
            if not found:
                return taken
            last = found[-1][0]
            rows = [
                {"number": number, "tags": compact({key: value for key, value in tags.items() if key != MARK})}
                for number, tags in found
                if tags.get(MARK) == by
            ]
            if rows:
                connection.execute(text("UPDATE exchanges SET task = '', tags = :tags WHERE number = :number"), rows)
            taken += len(rows)
