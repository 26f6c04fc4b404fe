"""Pinning inputs into the golden set, and taking pins back; see `curate.golden`."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection, text

from capture import clock, feed
from capture.database import Database
from capture.errors import NotFoundError, PotstillError
from capture.exchange import Exchange
from capture.messages import Message
from capture.statements import among, insert
from curate.cleaning.clean import clean
from curate.datasets import versions
from curate.examples import prompt_of, tools_of
from curate.golden import Golden, pins
from curate.history import sides_of
from curate.reviewing import review
from curate.selection import input_key
from curate.settings import CurateSettings
from curate.splits import GOLDEN, TEST, TRAIN
from curate.tasks.aliases import expand, names_of

_KEY = re.compile(r'"input_key":\s*"([^"\\]*)"')


class GoldenError(PotstillError):
    """An input cannot be pinned as it was given."""


@dataclass(frozen=True, slots=True)
class Pinned:
    """What pinning did: `side` is where the input belonged before ('' for nowhere), `trained` the versions that trained on it.

    `unread` are versions whose train file is gone, so that nobody can tell. A version is called TASK/vN, as it was built.
    `replaced` is the pin of before where its answer was another one.
    """

    golden: Golden
    side: str
    trained: tuple[str, ...]
    unread: tuple[str, ...]
    replaced: Golden | None = None


@dataclass(frozen=True, slots=True)
class AcceptedPins:
    """What came of pinning what reviewers accepted: `unlike` exchanges had enough verdicts that differ, `problems` cannot be
    pinned, each with why."""

    pinned: tuple[Pinned, ...]
    unlike: tuple[str, ...]
    problems: tuple[tuple[str, str], ...]


def pin_exchange(
    database: Database, task: str, exchange_id: str, settings: CurateSettings, *, who: str, answer: Message | None = None,
    grade: str = "", note: str = "",
) -> Pinned:  # fmt: skip
    """Pins the input of an exchange with the expert's `answer`: without one, with a reviewer's edit, else with what was answered.

    Pinning it again replaces answer and grade. GoldenError when the exchange cannot be an example (a secret in it, no text, ...)
    or belongs to another task, NotFoundError when there is none.
    """
    exchange = feed.get(database, exchange_id)
    if exchange.task not in expand(database, task):
        of = exchange.task or "(none)"
        raise GoldenError(f"Exchange {exchange.id} belongs to task {of}, not {task}.", "Name its own task, or another exchange.")
    given = answer or _edit(database, task, exchange.id)
    return pin(database, [_from_exchange(database, task, exchange, settings, given, who=who, grade=grade, note=note)])[0]


def pin_accepted(database: Database, task: str, reviewers: int, settings: CurateSettings, *, who: str) -> AcceptedPins:
    """Pins every example that at least `reviewers` people accepted or edited alike and nobody rejected."""
    agreed: list[tuple[str, Message | None, int]] = []
    unlike = []
    for exchange_id, (answers, rejected) in sorted(_verdicts(database, task).items()):
        if len(answers) + rejected < reviewers or not answers:
            continue
        if rejected or len(set(answers.values())) > 1:
            unlike.append(exchange_id)
            continue
        edited = next(iter(answers.values()))
        agreed.append((exchange_id, review.as_message(edited) if edited else None, len(answers)))
    made, problems = [], []
    for exchange_id, given, count in agreed:
        said = {"grade": f"agreed by {count}", "note": "accepted in review"}
        try:
            exchange = feed.get(database, exchange_id)
            made.append(_from_exchange(database, task, exchange, settings, given, who=who, **said))
        except (GoldenError, NotFoundError) as error:
            problems.append((exchange_id, error.what))
    return AcceptedPins(tuple(pin(database, made)), tuple(unlike), tuple(problems))


def pin(database: Database, made: Sequence[Golden]) -> list[Pinned]:
    """Writes pins, all of one task or none, and says what was known of each input before."""
    if not made:
        return []
    task = made[0].task
    trained, unread = trained_on(database, task, {golden.input_key for golden in made})
    before = {golden.input_key: golden for golden in pins(database, task)}
    frozen = versions(database, task)
    first_version = frozen[-1].number + 1 if frozen else 1
    out = []
    with database.write() as connection:
        names, sides = names_of(connection, task), sides_of(connection, task)
        for golden in made:
            key = golden.input_key
            _remove(connection, names, key)
            _hold_out(connection, names, key, GOLDEN, first_version)
            _insert(connection, golden)
            old = before.get(key)
            replaced = old if old is not None and old.answer.said != golden.answer.said else None
            out.append(Pinned(golden, sides.get(key, ""), trained.get(key, ()), unread, replaced))
    return out


def unpin(database: Database, task: str, id: str) -> Golden:
    """Takes back the pin with this input key, exchange id or golden id; the input is test from now on, never train."""
    found = [golden for golden in pins(database, task) if id in (golden.input_key, golden.exchange_id, golden.id)]
    if not found:
        raise NotFoundError(f"Nothing pinned in task {task!r} is called {id!r}.", f"See `potstill dataset golden list {task}`.")
    with database.write() as connection:
        names = names_of(connection, task)
        _remove(connection, names, found[0].input_key)
        _hold_out(connection, names, found[0].input_key, TEST, 0)
    return found[0]


def trained_on(database: Database, task: str, input_keys: Collection[str]) -> tuple[dict[str, tuple[str, ...]], tuple[str, ...]]:
    """The frozen versions (TASK/vN) that trained on each of these inputs, and those whose train file is gone.

    Versions of `task` and of its aliases, and those of other tasks that examples of it were mixed into.
    """
    found: dict[str, list[str]] = {}
    unread = []
    names, wanted = expand(database, task), set(input_keys)
    for version in versions(database):
        mixed = version.manifest.get("mix_in", {}).get("examples", {})
        if version.task not in names and mixed.keys().isdisjoint(names):
            continue
        path, name = version.folder / f"{TRAIN}.jsonl", f"{version.task}/v{version.number}"
        if not path.is_file():
            unread.append(name)
            continue
        for key in sorted(_keys_in(path, wanted, version.task, names)):
            found.setdefault(key, []).append(name)
    return {key: tuple(called) for key, called in found.items()}, tuple(unread)


def _from_exchange(
    database: Database, task: str, exchange: Exchange, settings: CurateSettings, given: Message | None, *, who: str, grade: str,
    note: str,
) -> Golden:  # fmt: skip
    content = feed.content(database, exchange)
    conversation, offered = feed.asked_of(exchange, content)
    cleaned = clean(exchange, conversation, settings, given, offered)
    if cleaned.reason:
        raise GoldenError(
            f"Exchange {exchange.id} cannot be pinned: {cleaned.reason}.",
            "Pin another one, or give the right answer with --answer.",
        )
    answer = Message("assistant", cleaned.target, cleaned.calls)
    key = input_key(conversation.asked, offered.tools)
    return Golden(task, key, exchange.id, cleaned.messages, cleaned.tools, answer, grade, who, note, clock.now_us())


def _verdicts(database: Database, task: str) -> Mapping[str, tuple[dict[str, str], int]]:
    """For each example what every reviewer wants it to answer ('' as it is), and how many reject it."""
    found = {}
    for exchange_id, reviews in review.by_example(review.standing(review.all_reviews(database, task))).items():
        latest = review.opinions(reviews)
        answers = {one.reviewer: one.target for one in latest if one.verdict in (review.ACCEPT, review.EDIT)}
        found[exchange_id] = (answers, sum(one.verdict == review.REJECT for one in latest))
    return found


def _edit(database: Database, task: str, exchange_id: str) -> Message | None:
    edits = [one for one in review.standing_verdicts(database, task) if one.exchange_id == exchange_id]
    return review.as_message(edits[0].target) if edits and edits[0].verdict == review.EDIT else None


def _keys_in(path: Path, wanted: set[str], task: str, names: Collection[str]) -> set[str]:
    """Which of the keys `wanted` the train file of a version of `task` has, in rows of the tasks `names`."""
    found = set()
    with path.open(encoding="utf-8") as file:
        for line in file:
            if wanted.isdisjoint(_KEY.findall(line)):  # a text may hold such words too; only few lines need to be parsed
                continue
            row = json.loads(line)
            if row["input_key"] in wanted and row.get("task", task) in names:
                found.add(str(row["input_key"]))
    return found


def _remove(connection: Connection, names: Collection[str], key: str) -> None:
    sql = among("DELETE FROM golden WHERE task IN :names AND input_key = :key")
    connection.execute(sql, {"names": names, "key": key})


def _hold_out(connection: Connection, names: Collection[str], key: str, split: str, first_version: int) -> None:
    """By each of its names, so that the input is held out still when an alias becomes a task of its own again."""
    for name in names:
        values = {"task": name, "input_key": key, "split": split, "first_version": first_version}
        update = text("UPDATE splits SET split = :split WHERE task = :task AND input_key = :input_key")
        if not connection.execute(update, values).rowcount:
            insert(connection, "splits", [values])


def _insert(connection: Connection, golden: Golden) -> None:
    names = ("task", "input_key", "exchange_id", "grade", "who", "note", "created_us")
    values: dict[str, object] = {name: getattr(golden, name) for name in names}
    values |= {
        "messages": json.dumps(prompt_of(golden.messages), ensure_ascii=False),
        "tools": json.dumps(tools_of(golden.tools), ensure_ascii=False),
        "answer": json.dumps(prompt_of([golden.answer])[0], ensure_ascii=False),
    }
    insert(connection, "golden", [values])
