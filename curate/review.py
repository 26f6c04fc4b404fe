"""Review: a person's recorded decisions on examples. Append-only: an undo is a row too, nothing is changed or deleted."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import Connection, Row, text

from capture import clock, ids
from capture.database import Database
from capture.errors import NotFoundError, PotstillError
from capture.messages import Message, ToolCall
from capture.offered import Tool
from curate.examples import ANSWER, messages_of, tools_from

ACCEPT, REJECT, EDIT, SKIP, UNDO = "accept", "reject", "edit", "skip", "undo"
VERDICTS = (ACCEPT, REJECT, EDIT, SKIP)

_UNREVIEWED = """NOT EXISTS (SELECT 1 FROM reviews WHERE reviews.task = examples.task
    AND reviews.exchange_id = examples.exchange_id GROUP BY reviews.exchange_id
    HAVING SUM(CASE WHEN reviews.verdict = 'undo' THEN -1 ELSE 1 END) > 0)"""


class ReviewError(PotstillError):
    """A verdict cannot be recorded as it was given."""


@dataclass(frozen=True, slots=True)
class Review:
    """One recorded decision; `target` is the reviewer's own for an edit, else ''. `created_us` is UTC microseconds."""

    id: str
    task: str
    exchange_id: str
    verdict: str
    target: str
    reviewer: str
    note: str
    created_us: int


@dataclass(frozen=True, slots=True)
class ReviewCard:
    """An example that waits for a verdict. `note` says why it comes so early; `reason` why the latest build dropped it, or ''."""

    exchange_id: str
    task: str
    messages: tuple[Message, ...]
    target: str
    split: str
    reason: str
    note: str
    priority: int
    tools: tuple[Tool, ...] = ()
    calls: tuple[ToolCall, ...] = ()
    target_source: str = ANSWER
    look_alike: str = ""
    stands_for: int = 1


@dataclass(frozen=True, slots=True)
class ReviewProgress:
    """How many examples wait and how many have which verdict."""

    waiting: int
    accepted: int
    rejected: int
    edited: int
    skipped: int


def queue(database: Database, task: str, limit: int = 50) -> list[ReviewCard]:
    """The next examples of `task` without a verdict, most urgent first; empty before its first dataset version."""
    sql = f"""SELECT exchange_id, messages, target, split, reason, note, priority, tools, answer, target_source, look_alike,
        stands_for FROM examples WHERE task = :task AND {_UNREVIEWED} ORDER BY priority, id LIMIT :limit"""  # noqa: S608  constant text
    with database.read() as connection:
        rows = connection.execute(text(sql), {"task": task, "limit": limit}).all()
    return [_card(row, task) for row in rows]


def _card(row: Row[Any], task: str) -> ReviewCard:
    (answer,) = messages_of([json.loads(row.answer)]) if row.answer else (Message("assistant", row.target),)
    return ReviewCard(
        row.exchange_id, task, messages_of(json.loads(row.messages)), row.target, row.split, row.reason, row.note, row.priority,
        tools_from(json.loads(row.tools)), answer.tool_calls, row.target_source, row.look_alike, row.stands_for,
    )  # fmt: skip


def record(
    database: Database, task: str, exchange_id: str, verdict: str, target: str = "", reviewer: str = "", note: str = ""
) -> Review:
    """Records a verdict; the latest one of an example counts. It takes effect in the next dataset version.

    ReviewError for an unknown verdict or an edit without a target; NotFoundError when `task` has no such example.
    """
    if verdict not in VERDICTS:
        raise ReviewError(f"{verdict!r} is not a verdict.", f"Use one of {', '.join(VERDICTS)}.")
    if verdict == EDIT and not target.strip():
        raise ReviewError("An edit needs a target, and this one is empty.", "Give the right answer, or reject the example.")
    with database.write() as connection:
        sql = text("SELECT id FROM examples WHERE task = :task AND exchange_id = :exchange_id")
        found = connection.execute(sql, {"task": task, "exchange_id": exchange_id}).first()
        if found is None:
            raise NotFoundError(
                f"Task {task!r} has no example of exchange {exchange_id!r}.", f"Run `potstill dataset build {task}` first."
            )
        return _append(connection, task, exchange_id, verdict, target if verdict == EDIT else "", reviewer, note)


def undo(database: Database, task: str, reviewer: str) -> Review | None:
    """Takes back the latest verdict of `reviewer` that still stands and returns it; None when there is none."""
    with database.write() as connection:
        mine = [review for review in _standing(_read(connection, task)) if review.reviewer == reviewer]
        if not mine:
            return None
        _append(connection, task, mine[-1].exchange_id, UNDO, "", reviewer, "")
        return mine[-1]


def progress(database: Database, task: str) -> ReviewProgress:
    """Where the review of `task` stands."""
    sql = f"SELECT COUNT(*) FROM examples WHERE task = :task AND {_UNREVIEWED}"  # noqa: S608  constant text
    with database.read() as connection:
        waiting = int(connection.execute(text(sql), {"task": task}).scalar_one())
    verdicts = [review.verdict for review in standing_verdicts(database, task)]
    return ReviewProgress(waiting, verdicts.count(ACCEPT), verdicts.count(REJECT), verdicts.count(EDIT), verdicts.count(SKIP))


def standing_verdicts(database: Database, task: str) -> list[Review]:
    """For each example the verdict that counts: the latest that was not taken back."""
    with database.read() as connection:
        reviews = _read(connection, task)
    return list({review.exchange_id: review for review in _standing(reviews)}.values())


def _standing(reviews: Iterable[Review]) -> list[Review]:
    """Verdicts that were not taken back, oldest first; an undo takes back its reviewer's latest on that example."""
    standing: list[Review] = []
    for review in reviews:
        if review.verdict != UNDO:
            standing.append(review)
            continue
        for place in range(len(standing) - 1, -1, -1):
            if (standing[place].exchange_id, standing[place].reviewer) == (review.exchange_id, review.reviewer):
                del standing[place]
                break
    return standing


def _read(connection: Connection, task: str) -> list[Review]:
    sql = f"SELECT {', '.join(Review.__slots__)} FROM reviews WHERE task = :task ORDER BY number"  # noqa: S608  constant text
    return [Review(*row) for row in connection.execute(text(sql), {"task": task})]


def _append(connection: Connection, task: str, exchange_id: str, verdict: str, target: str, reviewer: str, note: str) -> Review:
    review = Review(ids.new_id("rv"), task, exchange_id, verdict, target, reviewer, note, clock.now_us())
    columns = ", ".join(Review.__slots__)
    values = ", ".join(f":{name}" for name in Review.__slots__)
    connection.execute(text(f"INSERT INTO reviews ({columns}) VALUES ({values})"), asdict(review))  # noqa: S608  constant text
    return review
