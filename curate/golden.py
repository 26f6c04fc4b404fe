"""The golden set: inputs that a person pinned for evaluation, each with the answer that somebody stands for, and a grade.

A pinned input is held out for ever: its side in `splits` is `golden`, so no build trains on it or on what clusters with it. Where
a frozen version was trained on it already, pinning says so; nothing can untrain a version. Taking a pin back does not make an
input trainable again: it becomes test.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Row

from capture.database import Database
from capture.messages import Message
from capture.offered import Tool
from capture.statements import among
from curate.doubting import contradictions
from curate.examples import EDIT, IMPORTED, Example, example_id, messages_of, to_line, tools_from
from curate.likeness.templates import Template
from curate.selection import Candidate
from curate.splits import GOLDEN
from curate.tasks.aliases import names_of

_PROMPTS = ("system", "developer")


@dataclass(frozen=True, slots=True)
class Golden:
    """A pinned input: what is asked, and the answer that `who` stands for. `exchange_id` is '' for one that came from a file.

    `grade` and `note` are the expert's own words. `created_us` is UTC microseconds.
    """

    task: str
    input_key: str
    exchange_id: str
    messages: tuple[Message, ...]
    tools: tuple[Tool, ...]
    answer: Message
    grade: str
    who: str
    note: str
    created_us: int

    @property
    def id(self) -> str:
        """The id of its exchange, else one that its input gives it."""
        return self.exchange_id or f"gold_{self.input_key.rpartition(':')[2][:26]}"


def pins(database: Database, task: str) -> list[Golden]:
    """The golden set of `task`, by input key; of what is pinned under several of its names, the newest counts."""
    sql = among("SELECT * FROM golden WHERE task IN :names ORDER BY input_key, created_us, task")
    with database.read() as connection:
        names = {"names": names_of(connection, task)}
        rows = connection.execute(sql, names).all()
    found = [replace(_golden(row), task=task) for row in rows]
    return list({one.input_key: one for one in found}.values())


def as_candidates(golden: Sequence[Golden]) -> list[Candidate]:
    """Pins as rows that a build compares with its candidates; they are of no unit, session or time."""
    return [
        Candidate(
            one.id, 0, "", "", "", "", one.messages, one.answer.text, one.input_key, {}, False, one.answer.tool_calls, one.tools,
            _source(one),
        )
        for one in golden
    ]  # fmt: skip


def golden_lines(golden: Sequence[Golden]) -> str:
    """The golden set as a version writes it: one example a line, in the form of the splits, with `grade` and `note`."""
    lines = []
    for one in sorted(golden, key=lambda one: one.input_key):
        example = Example(
            example_id(one.id), one.exchange_id, one.task, one.messages, one.answer.text, GOLDEN, one.input_key, "", "",
            one.answer.tool_calls, one.tools, _source(one),
        )  # fmt: skip
        said = {name: value for name, value in (("grade", one.grade), ("note", one.note)) if value}
        row = {**json.loads(to_line(example)), **said}
        lines.append(json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n")
    return "".join(lines)


def disagreeing(golden: Sequence[Golden], candidates: Sequence[Candidate]) -> list[str]:
    """Exchanges whose target says otherwise than the expert does of the same input: the teacher's errors on the golden set."""
    answers = {one.input_key: one.answer for one in golden}
    same = [candidate for candidate in candidates if candidate.input_key in answers]
    kind = contradictions.kind_of([candidate.answer for candidate in candidates])
    said = contradictions.answers([*(candidate.answer for candidate in same), *(answers[one.input_key] for one in same)], kind)
    return [candidate.exchange_id for place, candidate in enumerate(same) if said[place] != said[len(same) + place]]


def without_prompt(golden: Sequence[Golden], template: Template) -> list[Golden]:
    """Pins from files that have no system prompt although the task's app writes one: they ask what the app never does."""
    if not any(piece.partition("\n")[0] in _PROMPTS for piece in template.context):
        return []
    return [one for one in golden if not one.exchange_id and not any(message.role in _PROMPTS for message in one.messages)]


def bare_pins(task: str, ids: Sequence[str]) -> str:
    """What to say of the pins `ids`, which are `without_prompt`."""
    return (
        f"{len(ids)} pinned input{' has' if len(ids) == 1 else 's have'} no system prompt although the app writes one. "
        f"Import their file again with --system, and take each of these back: potstill dataset golden remove {task} {ids[0]}"
    )


def _source(golden: Golden) -> str:
    return EDIT if golden.exchange_id else IMPORTED


def _golden(row: Row[Any]) -> Golden:
    (answer,) = messages_of([json.loads(row.answer)])
    messages, tools = messages_of(json.loads(row.messages)), tools_from(json.loads(row.tools))
    return Golden(
        row.task, row.input_key, row.exchange_id, messages, tools, answer, row.grade, row.who, row.note, row.created_us
    )  # fmt: skip
