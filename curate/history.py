"""Reads what earlier versions and reviews decided, and writes what a build decided."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence

from sqlalchemy import Connection, text

from capture import clock
from capture.database import Database
from capture.messages import Message
from curate.draft import CONTRADICTION, REJECTED, Draft, History
from curate.examples import EDIT as EDITED
from curate.examples import example_id, prompt_of, tools_of
from curate.review import ACCEPT, EDIT, REJECT, standing_verdicts
from curate.selection import Candidate, Target

_LABELS = 50
_BATCH = 1_000


def read_history(database: Database, task: str) -> tuple[History, dict[str, Target]]:
    """What is already decided about `task`, and the targets that stand in for answers, by exchange id."""
    of_task = {"task": task}
    with database.read() as connection:
        sides = connection.execute(text("SELECT input_key, split FROM splits WHERE task = :task"), of_task).all()
        sql = "SELECT exchange_id, split FROM examples WHERE task = :task AND split <> ''"
        kept = connection.execute(text(sql), of_task).all()
    verdicts = standing_verdicts(database, task)
    history = History(
        {row[0]: row[1] for row in kept},
        {row[0]: row[1] for row in sides},
        frozenset(review.exchange_id for review in verdicts if review.verdict in (ACCEPT, EDIT)),
        frozenset(review.exchange_id for review in verdicts if review.verdict == REJECT),
    )
    edited = [review for review in verdicts if review.verdict == EDIT]
    return history, {review.exchange_id: Target(Message("assistant", review.target), EDITED) for review in edited}


def write_splits(connection: Connection, task: str, draft: Draft, number: int) -> None:
    """Remembers for ever where each kept input went; what is already known stays."""
    known = {row[0] for row in connection.execute(text("SELECT input_key FROM splits WHERE task = :task"), {"task": task})}
    fresh: dict[str, str] = {}
    for candidate in draft.candidates:
        split = draft.splits.get(candidate.exchange_id, "")
        if split and candidate.input_key not in known:
            fresh.setdefault(candidate.input_key, split)
    rows = [{"task": task, "input_key": key, "split": split, "first_version": number} for key, split in fresh.items()]
    _insert(connection, "splits", rows)


def write_examples(connection: Connection, task: str, draft: Draft) -> None:
    """Replaces the examples that Review shows: the kept ones, and those a person may want to decide about."""
    now_us = clock.now_us()
    rows = []
    for priority, (candidate, note) in enumerate(review_order(draft)):
        drop = draft.dropped.get(candidate.exchange_id)
        rows.append({
            "id": example_id(candidate.exchange_id), "task": task, "exchange_id": candidate.exchange_id,
            "input_key": candidate.input_key, "split": draft.splits.get(candidate.exchange_id, ""),
            "reason": drop.reason if drop else "", "messages": json.dumps(prompt_of(candidate.messages), ensure_ascii=False),
            "target": candidate.target, "priority": priority, "note": note, "created_us": now_us,
            "tools": json.dumps(tools_of(candidate.tools), ensure_ascii=False),
            "answer": json.dumps(prompt_of([candidate.answer])[0], ensure_ascii=False),
            "target_source": candidate.target_source, "look_alike": "", "stands_for": 1,
        })  # fmt: skip
    connection.execute(text("DELETE FROM examples WHERE task = :task"), {"task": task})
    _insert(connection, "examples", rows)


def review_order(draft: Draft) -> list[tuple[Candidate, str]]:
    """Candidates worth a person's look, most urgent first, with a note that says why.

    Contradictions, then near duplicates that disagree and answers that look like refusals, then rare targets, then the newest.
    """
    notes = _notes(draft)
    frequency = Counter(draft.said[exchange_id] for exchange_id in draft.splits)
    is_closed = len(frequency) <= _LABELS
    chosen = [
        candidate
        for candidate in draft.candidates
        if candidate.exchange_id in draft.splits or draft.dropped[candidate.exchange_id].reason in (CONTRADICTION, REJECTED)
    ]

    def urgency(candidate: Candidate) -> tuple[int, int, int, str]:
        tier = notes.get(candidate.exchange_id, (2, ""))[0]
        rarity = frequency[draft.said[candidate.exchange_id]] if is_closed else 0
        return tier, rarity, -candidate.started_us, candidate.exchange_id

    return [(candidate, notes.get(candidate.exchange_id, (2, ""))[1]) for candidate in sorted(chosen, key=urgency)]


def _notes(draft: Draft) -> dict[str, tuple[int, str]]:
    notes = {candidate.exchange_id: (1, "reads like a refusal") for candidate in draft.candidates if candidate.looks_refused}
    targets = {candidate.exchange_id: candidate.target for candidate in draft.candidates}
    for left, right in draft.disagreements:
        notes[left] = (1, f"a near duplicate was answered: {short(targets[right])}")
        notes[right] = (1, f"a near duplicate was answered: {short(targets[left])}")
    for contradiction in draft.contradictions:
        rows = (contradiction.winner, *contradiction.losers)
        counts = ", ".join(f"{short(draft.candidates[row].target)} {count}" for row, count in _by_count(contradiction.counts))
        for row in rows:
            exchange_id = draft.candidates[row].exchange_id
            notes[exchange_id] = (0, f"same input seen {sum(contradiction.counts.values())} times: {counts}")
    return notes


def _by_count(counts: Mapping[int, int]) -> list[tuple[int, int]]:
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def short(text: str) -> str:
    """`text` as notes quote it: on one line of at most 60 characters."""
    line = " ".join(text.split())
    return line if len(line) <= 60 else line[:59] + "…"


def _insert(connection: Connection, table: str, rows: Sequence[dict[str, object]]) -> None:
    for start in range(0, len(rows), _BATCH):
        batch = rows[start : start + _BATCH]
        columns, values = ", ".join(batch[0]), ", ".join(f":{name}" for name in batch[0])
        connection.execute(text(f"INSERT INTO {table} ({columns}) VALUES ({values})"), batch)  # noqa: S608  names from code
