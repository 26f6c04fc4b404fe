"""Contradictions of a task as people look at them: the input, and all answers to it together, with who gave them.

Found in the traffic of now, as a build finds them. What reviewers threw out is out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from capture.database import Database
from curate.contradictions import Contradiction
from curate.settings import CurateSettings
from curate.task_aliases import expand
from curate.templates import read_input

from curate import contradictions, duplicates
from curate.history import read_history
from curate.selection import Candidate, Progress, require_task, select
from curate.targets import accepted_hashes, read_targets, still_accepted


@dataclass(frozen=True, slots=True)
class Answer:
    """One of several answers to an input, as the newest exchange gave it; `stands` where the policy keeps it.

    `teachers` counts the exchanges of each model, `newest_us` is UTC microseconds, `score` the mean of those that have one.
    """

    text: str
    stands: bool
    is_reviewed: bool
    exchange_ids: tuple[str, ...]
    teachers: Mapping[str, int]
    newest_us: int
    score: float | None


@dataclass(frozen=True, slots=True)
class Dispute:
    """An input with several answers, most frequent first after the one that stands. `wordings` counts different inputs in it.

    `kind` is `teachers`, `wording` or `variance`, `decided_by` a policy, `review` or `tie`: see `curate.contradictions`.
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
    selected = select(database, tags, read_targets(database, task), settings, on_progress).candidates
    history = read_history(database, task, still_accepted(selected, accepted_hashes(database, task)))
    rows = [candidate for candidate in selected if candidate.exchange_id not in history.rejected]
    rows.sort(key=lambda candidate: candidate.exchange_id)
    if not rows:
        return []
    on_progress("compare inputs", 0, len(rows))
    said = contradictions.answers([candidate.answer for candidate in rows])
    wordings = duplicates.read_wordings([read_input(one.messages, one.tools) for one in rows], said)[1]
    found = contradictions.resolve(
        duplicates.compare(wordings, settings), range(len(rows)), said, range(len(rows)),
        [candidate.exchange_id in history.accepted for candidate in rows], [candidate.started_us for candidate in rows],
        settings.contradiction_threshold, settings.contradictions, [candidate.teacher_model for candidate in rows],
        [candidate.score for candidate in rows],
    )  # fmt: skip
    on_progress("compare inputs", len(rows), len(rows))
    return in_words(found, rows)


def in_words(found: Sequence[Contradiction], rows: Sequence[Candidate]) -> list[Dispute]:
    """`found` among `rows` as people read them, those of most exchanges first."""
    made = [_dispute(contradiction, rows) for contradiction in found]
    return sorted(made, key=lambda one: -sum(len(answer.exchange_ids) for answer in one.answers))


def kinds(found: Sequence[Contradiction]) -> dict[str, int]:
    """How many contradictions are of which kind; what varies is told apart from two models that disagree."""
    return dict(sorted(Counter(contradiction.kind for contradiction in found).items()))


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
        )
        for side in contradiction.sides
    ]
    newest = rows[_newest(contradiction.rows, rows)]
    asked = next((message.said for message in reversed(newest.messages) if message.role != "system"), "")
    inputs = {rows[row].input_key for row in contradiction.rows}
    return Dispute(asked, contradiction.kind, contradiction.decided_by, len(inputs), tuple(answers))


def _newest(of: Sequence[int], rows: Sequence[Candidate]) -> int:
    return max(of, key=lambda row: (rows[row].started_us, row))
