"""Contradictions of a task as people look at them: the input, and all answers to it together, with who gave them.

Found in the traffic of now, by what a build finds them with: what it drops before is out, such as pinned inputs and rows that
reviewers threw out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from capture.database import Database
from capture.progress import Progress
from curate.doubting.contradictions import Contradiction
from curate.draft import settle_answers
from curate.gathering import gather
from curate.likeness.engine import engine_for
from curate.selection import Candidate, require_task
from curate.settings import CurateSettings
from curate.tasks.aliases import expand


@dataclass(frozen=True, slots=True)
class Answer:
    """One of several answers to an input, as its newest exchange `newest_id` gave it; `stands` where the policy keeps it.

    `teachers` counts the exchanges of each model, `newest_us` is UTC microseconds, `score` the mean of those that have one.
    """

    text: str
    stands: bool
    is_reviewed: bool
    exchange_ids: tuple[str, ...]
    teachers: Mapping[str, int]
    newest_us: int
    score: float | None
    newest_id: str


@dataclass(frozen=True, slots=True)
class Dispute:
    """An input with several answers, most frequent first after the one that stands. `wordings` counts different inputs in it.

    `kind` is `teachers`, `wording` or `variance`, `decided_by` a policy, `review` or `tie`: see `curate.doubting.contradictions`.
    """

    asked: str
    kind: str
    decided_by: str
    wordings: int
    answers: tuple[Answer, ...]


def disputes(database: Database, task: str, settings: CurateSettings, on_progress: Progress) -> list[Dispute]:
    """The contradictions among all that `task` was asked, those of most exchanges first; NotFoundError for an unknown task."""
    tags = expand(database, task)
    require_task(database, task, tags)
    gathered = gather(database, task, tags, settings, "", on_progress)
    if not gathered.selection.candidates:
        return []
    found = settle_answers(
        gathered.selection.candidates, gathered.history, settings, on_progress, engine=engine_for(settings),
        settle=lambda mined, inputs: gathered.settle(mined, inputs).template,
    )  # fmt: skip
    return in_words(found.contradictions, found.own)


def in_words(found: Sequence[Contradiction], rows: Sequence[Candidate]) -> list[Dispute]:
    """`found` among `rows` as people read them, those of most exchanges first."""
    made = [_dispute(contradiction, rows) for contradiction in found]
    return sorted(made, key=lambda one: -sum(len(answer.exchange_ids) for answer in one.answers))


def _dispute(contradiction: Contradiction, rows: Sequence[Candidate]) -> Dispute:
    answers = [
        Answer(
            rows[_newest(side.rows, rows)].answer.said,
            contradiction.winner in side.rows,
            side.is_reviewed,
            tuple(rows[row].exchange_id for row in side.rows),
            side.teachers,
            side.newest_us,
            side.score,
            rows[_newest(side.rows, rows)].exchange_id,
        )
        for side in contradiction.sides
    ]
    newest = rows[_newest(contradiction.rows, rows)]
    asked = next((message.said for message in reversed(newest.messages) if message.role != "system"), "")
    inputs = {rows[row].input_key for row in contradiction.rows}
    return Dispute(asked, contradiction.kind, contradiction.decided_by, len(inputs), tuple(answers))


def _newest(of: Sequence[int], rows: Sequence[Candidate]) -> int:
    return max(of, key=lambda row: (rows[row].started_us, row))
