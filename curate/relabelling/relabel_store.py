"""Other teachers' answers as they are stored: every one stays, one of an exchange may be chosen to stand for its target."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, text

from capture import clock, ids
from capture.database import Database
from capture.messages import Message
from capture.statements import among, few, insert
from curate.examples import messages_of, prompt_of
from curate.tasks.aliases import names_of


@dataclass(frozen=True, slots=True)
class Relabel:
    """An answer to the input of `exchange_id`; `answer_exchange_id` is the exchange that it came in.

    Where the two are the same it is the original answer, which gets a row when a judge scored it beside others. `score` is from
    0 to 10 and `judge` names model and version of the prompt; both are empty for what was not judged. `created_us` is UTC
    microseconds.
    """

    id: str
    task: str
    exchange_id: str
    answer_exchange_id: str
    model: str
    answer: Message
    score: float | None = None
    judge: str = ""
    note: str = ""
    is_chosen: bool = False
    created_us: int = 0

    @property
    def is_original(self) -> bool:
        """True for the answer that was captured."""
        return self.exchange_id == self.answer_exchange_id


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was decided about the answers of one exchange: scores by the row's id, which row stands ('': the original)."""

    exchange_id: str
    judge: str
    scores: Mapping[str, float] = field(default_factory=dict)
    chosen: str = ""


def relabels(database: Database, task: str, exchange_ids: Sequence[str] | None = None) -> dict[str, list[Relabel]]:
    """The rows of `task` and its aliases, or of some of their exchanges, by exchange id, oldest first."""
    found: dict[str, list[Relabel]] = {}
    with database.read() as connection:
        names = names_of(connection, task)
        if exchange_ids is None:
            statement = among("SELECT * FROM relabels WHERE task IN :names ORDER BY created_us, id")
            _gather(connection.execute(statement, {"names": names}), found)
        for some in few(exchange_ids or ()):
            statement = among("SELECT * FROM relabels WHERE task IN :names AND exchange_id IN :ids ORDER BY created_us, id")
            _gather(connection.execute(statement, {"names": names, "ids": some}), found)
    return found


def new_relabel(task: str, exchange_id: str, answer_exchange_id: str, model: str, answer: Message, note: str = "") -> Relabel:
    """A row that is not stored yet."""
    return Relabel(ids.new_id("rl"), task, exchange_id, answer_exchange_id, model, answer, note=note, created_us=clock.now_us())


def store(database: Database, rows: Sequence[Relabel], verdict: Verdict | None = None) -> None:
    """Stores new rows, and the verdict about all rows of their exchange, in one transaction. Nothing is ever taken away."""
    if not rows and verdict is None:
        return
    with database.write() as connection:
        for row in rows:
            _insert(connection, row)
        if verdict is not None:
            _decide(connection, verdict)


def _insert(connection: Connection, row: Relabel) -> None:
    values = {
        "id": row.id, "task": row.task, "exchange_id": row.exchange_id, "answer_exchange_id": row.answer_exchange_id,
        "model": row.model, "answer": json.dumps(prompt_of([row.answer])[0], ensure_ascii=False), "score": row.score,
        "judge": row.judge, "note": row.note, "is_chosen": int(row.is_chosen), "created_us": row.created_us,
    }  # fmt: skip
    insert(connection, "relabels", [values])


def _decide(connection: Connection, verdict: Verdict) -> None:
    of_exchange = {"exchange_id": verdict.exchange_id, "judge": verdict.judge, "chosen": verdict.chosen}
    sql = """UPDATE relabels SET judge = :judge, is_chosen = CASE WHEN id = :chosen THEN 1 ELSE 0 END
        WHERE exchange_id = :exchange_id"""
    connection.execute(text(sql), of_exchange)
    scores = [{"id": id, "score": score} for id, score in sorted(verdict.scores.items())]
    if scores:
        connection.execute(text("UPDATE relabels SET score = :score WHERE id = :id"), scores)


def _gather(rows: Any, found: dict[str, list[Relabel]]) -> None:
    for row in rows:
        (answer,) = messages_of([json.loads(row.answer)])
        found.setdefault(row.exchange_id, []).append(
            Relabel(
                row.id, row.task, row.exchange_id, row.answer_exchange_id, row.model, answer, row.score, row.judge, row.note,
                bool(row.is_chosen), row.created_us,
            )
        )  # fmt: skip
