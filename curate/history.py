"""Reads what earlier versions and reviews decided, and writes what a build decided."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterable, Sequence

from sqlalchemy import Connection, text

from capture import clock
from capture.database import Database
from capture.statements import among, few, insert
from curate.draft import OVERLAP, Draft, History
from curate.examples import Example, example_id, prompt_of, tools_of
from curate.golden import Golden, as_candidates, pins
from curate.reviewing.review import EDIT, REJECT, disputed, standing_verdicts
from curate.reviewing.review_order import Waiting, order
from curate.selection import Candidate
from curate.splits import GOLDEN, STRICTEST, TEST, TRAIN
from curate.tasks.aliases import names_of


def read_history(database: Database, task: str, settled: Collection[str] = (), golden: Sequence[Golden] | None = None) -> History:
    """What is decided about `task`, by any of its names; a person wrote the targets of the exchanges in `settled`, or accepted
    what they are now.

    `golden` are its pins, for a caller who has read them.
    """
    sql = among("SELECT exchange_id, split FROM examples WHERE task IN :names AND split <> ''")
    with database.read() as connection:
        kept = connection.execute(sql, {"names": names_of(connection, task)}).all()
        sides = sides_of(connection, task)
    verdicts = standing_verdicts(database, task)
    pinned = tuple(as_candidates(pins(database, task) if golden is None else golden))
    keys = {candidate.input_key for candidate in pinned}
    return History(
        {row[0]: row[1] for row in kept},
        {key: TEST if side == GOLDEN and key not in keys else side for key, side in sides.items()},  # a pin may have been erased
        frozenset(review.exchange_id for review in verdicts if review.verdict == EDIT).union(settled),
        frozenset(review.exchange_id for review in verdicts if review.verdict == REJECT),
        disputed(database, task),
        pinned,
    )


def former_eval(history: History, candidates: Sequence[Candidate], held_out: Iterable[Example]) -> tuple[list[Candidate], int]:
    """Inputs that earlier versions held out and that are neither among `candidates` nor pinned, and how many of them have no
    text any more, because it was erased or its files are gone.

    `held_out` are examples of earlier versions, in any order, the same one as often as it comes.
    """
    here = {candidate.input_key for candidate in (*candidates, *history.pinned)}
    wanted = {key for key, side in history.sides.items() if side != TRAIN and key not in here}
    found: dict[str, Example] = {}
    for one in held_out:
        if one.input_key in wanted:
            found[one.input_key] = min(one, found.get(one.input_key, one), key=lambda example: example.id)
    former = [
        Candidate(
            one.exchange_id or one.id, 0, one.protocol, "", "", "", one.messages, one.target, key, {}, False, one.calls,
            one.tools, one.target_source,
        )
        for key, one in sorted(found.items())
    ]  # fmt: skip
    return former, len(wanted) - len(former)


def sides_of(connection: Connection, task: str) -> dict[str, str]:
    """Where each known input of `task` belongs: of what its names say, the strictest (golden, test, val, train)."""
    sql = among("SELECT input_key, split FROM splits WHERE task IN :names")
    found: dict[str, str] = {}
    for key, side in connection.execute(sql, {"names": names_of(connection, task)}):
        found[key] = min(found.get(key, side), side, key=STRICTEST.index)
    return found


def write_splits(connection: Connection, task: str, draft: Draft, number: int) -> None:
    """Remembers for ever where each input went; what is already known stays.

    What left train because it overlaps with eval is remembered too: the next build must not find it fresh and hold it out.
    """
    known = {row[0] for row in connection.execute(text("SELECT input_key FROM splits WHERE task = :task"), {"task": task})}
    fresh: dict[str, str] = {}
    for candidate in draft.candidates:
        drop = draft.dropped.get(candidate.exchange_id)
        split = TRAIN if drop and drop.reason == OVERLAP else draft.splits.get(candidate.exchange_id, "")
        if split and candidate.input_key not in known:
            fresh[candidate.input_key] = min(split, fresh.get(candidate.input_key, split), key=STRICTEST.index)
    rows = [{"task": task, "input_key": key, "split": split, "first_version": number} for key, split in fresh.items()]
    insert(connection, "splits", rows)


def write_examples(connection: Connection, task: str, draft: Draft) -> None:
    """Replaces the examples that Review shows: the kept ones, and those a person may want to decide about."""
    now_us = clock.now_us()
    candidates = {candidate.exchange_id: candidate for candidate in draft.candidates}
    rows = []
    for priority, placed in enumerate(order(waiting(draft))):
        candidate, drop = candidates[placed.exchange_id], draft.dropped.get(placed.exchange_id)
        rows.append({
            "id": example_id(candidate.exchange_id), "task": task, "exchange_id": candidate.exchange_id,
            "input_key": candidate.input_key, "split": draft.splits.get(candidate.exchange_id, ""),
            "reason": drop.reason if drop else "", "messages": json.dumps(prompt_of(candidate.messages), ensure_ascii=False),
            "target": candidate.target, "priority": priority, "note": placed.note, "created_us": now_us,
            "tools": json.dumps(tools_of(candidate.tools), ensure_ascii=False),
            "answer": json.dumps(prompt_of([candidate.answer])[0], ensure_ascii=False),
            "target_source": candidate.target_source, "look_alike": draft.look_alikes[candidate.exchange_id],
            "stands_for": draft.clusters.get(candidate.exchange_id, 1),
        })  # fmt: skip
    connection.execute(among("DELETE FROM examples WHERE task IN :names"), {"names": names_of(connection, task)})
    # Those of a task whose name, or whose traffic, was another's when that was built.
    taken = among("DELETE FROM examples WHERE exchange_id IN :ids")
    for some in few(rows):
        connection.execute(taken, {"ids": [row["exchange_id"] for row in some]})
    insert(connection, "examples", rows)


def waiting(draft: Draft) -> list[Waiting]:
    """What Review may show of a draft: kept examples, and those that a person may want to decide about after all."""
    said_of = dict(draft.disagreements) | {right: left for left, right in draft.disagreements}
    told = {candidate.exchange_id: candidate.answer.said for candidate in draft.candidates}
    questions = _questions(draft)
    rows = []
    for row, candidate in enumerate(draft.candidates):
        key = candidate.exchange_id
        if key not in draft.look_alikes:
            continue
        question, answers = questions.get(key, ("", {}))
        suspect, poisoned = draft.doubts.suspects.get(row), draft.doubts.poisoned.get(row)
        rows.append(Waiting(
            key, draft.said[key], candidate.started_us, question, answers, told.get(said_of.get(key, ""), ""),
            candidate.looks_refused, suspect.p_predicted if suspect else 0.0, suspect.predicted if suspect else "",
            poisoned.phrase if poisoned else "", candidate.score, draft.clusters.get(key, 1), draft.look_alikes[key],
        ))  # fmt: skip
    return rows


def _questions(draft: Draft) -> dict[str, tuple[str, dict[str, int]]]:
    """The contradiction that each exchange is part of, with its answers as people read them and how often each was given."""
    found: dict[str, tuple[str, dict[str, int]]] = {}
    for contradiction in draft.contradictions:
        answers: Counter[str] = Counter()
        for side in contradiction.sides:
            answers[draft.candidates[side.rows[0]].answer.said.strip()] += len(side.rows)
        ids = [draft.candidates[row].exchange_id for row in contradiction.rows]
        found |= {exchange_id: (ids[0], dict(answers)) for exchange_id in ids}
    return found
