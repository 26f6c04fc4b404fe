"""Review: people's recorded decisions on examples. Append-only: an undo is a row too, nothing is changed or deleted.

Several people may judge one example; of each the latest verdict that was not taken back counts, and a skip is no opinion.
Then the majority decides between keeping (accept, edit) and rejecting. Where it is even, the example is disputed: it has no
standing verdict and waits for a third person. Among those who keep it, the newest edit's target wins over any accept.
An accept is of the answer that the example had then: when it gets another one, it waits again.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import blake2b
from typing import Any

from sqlalchemy import Connection, Row, text

from capture import clock, ids
from capture.database import Database
from capture.errors import NotFoundError, PotstillError
from capture.ids import content_hash
from capture.loose_json import clean_text
from capture.messages import Message, ToolCall
from capture.offered import Tool
from capture.pseudonyms import KEEP_PERSONAL, PersonalPolicy
from capture.redact import redact_text
from capture.statements import among, few, insert
from curate.examples import ANSWER, messages_of, prompt_of, tools_from
from curate.reviewing.look_alikes import Side, answer_of, read_answers, read_sides
from curate.tasks.aliases import names_of

ACCEPT, REJECT, EDIT, SKIP, UNDO = "accept", "reject", "edit", "skip", "undo"
VERDICTS = (ACCEPT, REJECT, EDIT, SKIP)


class ReviewError(PotstillError):
    """A verdict cannot be recorded as it was given."""


@dataclass(frozen=True, slots=True)
class Review:
    """One recorded decision; `target` is the reviewer's own for an edit, else ''. `created_us` is UTC microseconds.

    `id` names the decision: the rows of look-alikes that were decided at once share it. `answer_hash` is that of the answer
    which was accepted, see `hash_of`: '' for other verdicts, and for an accept from before other answers than the captured one
    could stand.
    """

    id: str
    task: str
    exchange_id: str
    verdict: str
    target: str
    reviewer: str
    note: str
    created_us: int
    answer_hash: str = ""


@dataclass(frozen=True, slots=True)
class ReviewCard:
    """An example that waits for a verdict. `note` says why it comes so early; `reason` why the latest build dropped it, or ''.

    The target is text and `calls`, given by `target_source`; it stands for `stands_for` exchanges. `alike` look-alikes wait
    besides it, and `sides` are other answers to the same question.
    """

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
    alike: int = 0
    sides: tuple[Side, ...] = ()

    @property
    def answer(self) -> Message:
        """The target as a message."""
        return Message("assistant", self.target, self.calls)


@dataclass(frozen=True, slots=True)
class LookAlikes:
    """What one verdict may decide: exchanges, and the cards of the first of them."""

    exchange_ids: tuple[str, ...]
    cards: tuple[ReviewCard, ...]


@dataclass(frozen=True, slots=True)
class ReviewProgress:
    """How many examples wait, how many have which verdict, and how many are disputed (they wait again)."""

    waiting: int
    accepted: int
    rejected: int
    edited: int
    skipped: int
    disputed: int = 0


def queue(database: Database, task: str, limit: int = 50, reviewer: str = "", second_opinion: int = 0) -> list[ReviewCard]:
    """The next examples of `task` that wait, most urgent first; empty before its first dataset version.

    With `reviewer`, those that wait for this person: what others only skipped as well. With `second_opinion` n above 0, one
    in n examples that others judged waits too, every n-th card, so that agreement can be measured; which, depends on the
    example alone, so everybody gets the same. What is disputed comes first.
    """
    with database.read() as connection:
        reviews = _read(connection, task)
        waiting = _waiting(connection, task, reviews, reviewer, second_opinion)
        return _cards(connection, task, list(waiting)[: max(limit, 0)], waiting, reviews)


def look_alikes(database: Database, task: str, exchange_id: str, reviewer: str = "", limit: int = 50) -> LookAlikes:
    """The example of this exchange and those of its look-alikes that wait for `reviewer`, with the first `limit` cards.

    `exchange_id` may be the start of an id. NotFoundError when `task` has no such example.
    """
    sql = text("SELECT look_alike FROM examples WHERE exchange_id = :exchange_id")
    with database.read() as connection:
        (exchange_id,) = _whole_ids(connection, task, [exchange_id])
        mark = str(connection.execute(sql, {"exchange_id": exchange_id}).scalar_one())
        reviews = _read(connection, task)
        waiting = _waiting(connection, task, reviews, reviewer, 0)
        others = [other for other, its in waiting.items() if mark and its == mark and other != exchange_id]
        chosen = (exchange_id, *others)
        return LookAlikes(chosen, tuple(_cards(connection, task, chosen[: max(limit, 0)], waiting, reviews)))


def _waiting(connection: Connection, task: str, reviews: Iterable[Review], reviewer: str, second_opinion: int) -> dict[str, str]:
    """The look-alike mark of each example that waits, in the order of the queue."""
    sql = among("SELECT exchange_id, look_alike FROM examples WHERE task IN :names ORDER BY priority, id")
    rows = connection.execute(sql, {"names": names_of(connection, task)}).all()
    marks = {str(row.exchange_id): str(row.look_alike) for row in rows}
    current = _of_present_answers(connection, reviews)
    return {chosen: marks[chosen] for chosen in line_up(marks, current, reviewer, second_opinion)}


def _of_present_answers(connection: Connection, reviews: Iterable[Review]) -> list[Review]:
    """The standing verdicts without accepts of an answer that the example has no more."""
    stand = standing(reviews)
    answers = read_answers(connection, sorted({review.exchange_id for review in stand if review.answer_hash}))
    present = {exchange_id: hash_of(answer) for exchange_id, answer in answers.items()}
    return [
        review for review in stand
        if not review.answer_hash or present.get(review.exchange_id, review.answer_hash) == review.answer_hash
    ]  # fmt: skip


def line_up(exchange_ids: Iterable[str], reviews: Iterable[Review], reviewer: str = "", second_opinion: int = 0) -> list[str]:
    """Which of `exchange_ids` wait, in the order of `queue`, given all rows of the task's reviews."""
    given = by_example(standing(reviews))
    disputed: list[str] = []
    fresh: list[str] = []
    again: list[str] = []
    for exchange_id in exchange_ids:
        verdicts = given.get(exchange_id, [])
        if not verdicts:
            fresh.append(exchange_id)
        elif not reviewer or all(verdict.reviewer != reviewer for verdict in verdicts):
            settled = settle(verdicts)
            if settled is None:
                disputed.append(exchange_id)
            elif reviewer and settled.verdict == SKIP:
                fresh.append(exchange_id)
            elif reviewer and second_opinion > 0 and _number(exchange_id) % second_opinion == 0:
                again.append(exchange_id)
    lined = disputed
    step = max(second_opinion - 1, 1)
    for start in range(0, len(fresh), step):
        lined += fresh[start : start + step]
        lined += again[start // step : start // step + 1]
    return lined + again[-(-len(fresh) // step) :]


def _number(exchange_id: str) -> int:
    return int.from_bytes(blake2b(exchange_id.encode(), digest_size=8).digest(), "big")


def _cards(
    connection: Connection, task: str, exchange_ids: Sequence[str], waiting: Mapping[str, str], reviews: Iterable[Review]
) -> list[ReviewCard]:
    sql = among("""SELECT exchange_id, messages, target, split, reason, note, priority, tools, answer, target_source, look_alike,
        stands_for FROM examples WHERE exchange_id IN :ids""")
    found: dict[str, Row[Any]] = {}
    for some in few(exchange_ids):
        found |= {row.exchange_id: row for row in connection.execute(sql, {"ids": some})}
    alike: dict[str, int] = defaultdict(int)
    for mark in waiting.values():
        alike[mark] += 1
    sides = read_sides(connection, task, (row.look_alike for row in found.values()))
    verdicts = by_example(standing(review for review in reviews if review.exchange_id in found))
    cards = []
    for exchange_id in exchange_ids:
        row = found[exchange_id]
        others = alike[row.look_alike] - (exchange_id in waiting) if row.look_alike else 0
        note = f"{_in_dispute(verdicts.get(exchange_id, []))}{row.note}"
        cards.append(_card(row, task, note, others, sides.get(row.look_alike, ())))
    return cards


def _in_dispute(verdicts: Sequence[Review]) -> str:
    """How many keep it and how many reject it, but not who: the next person decides alone."""
    if not verdicts or settle(verdicts) is not None:
        return ""
    reject = sum(opinion.verdict == REJECT for opinion in opinions(verdicts))
    return f"reviewers differ: {len(opinions(verdicts)) - reject} keep it, {reject} reject it. "


def _card(row: Row[Any], task: str, note: str, alike: int, sides: tuple[Side, ...]) -> ReviewCard:
    return ReviewCard(
        row.exchange_id, task, messages_of(json.loads(row.messages)), row.target, row.split, row.reason, note.strip(),
        row.priority, tools_from(json.loads(row.tools)), answer_of(row.answer, row.target).tool_calls, row.target_source,
        row.look_alike, row.stands_for, alike, sides,
    )  # fmt: skip


def record(
    database: Database, task: str, exchange_id: str, verdict: str, target: str = "", reviewer: str = "", note: str = "",
    personal: PersonalPolicy = KEEP_PERSONAL,
) -> Review:  # fmt: skip
    """Records a verdict; a person's latest on an example counts. It takes effect in the next dataset version.

    `exchange_id` may be the start of an id that no other example has. ReviewError for an unknown verdict or an edit without a
    target; NotFoundError when `task` has no such example. Secrets are taken out of target and note, and personal data as
    `personal` says.
    """
    return record_many(database, task, [exchange_id], verdict, target, reviewer, note, personal)[0]


def record_many(
    database: Database, task: str, exchange_ids: Sequence[str], verdict: str, target: str = "", reviewer: str = "",
    note: str = "", personal: PersonalPolicy = KEEP_PERSONAL,
) -> list[Review]:  # fmt: skip
    """Records one verdict on several examples, all or none; one `undo` takes all of it back. Ids and errors as in `record`."""
    if verdict not in VERDICTS:
        raise ReviewError(f"{verdict!r} is not a verdict.", f"Use one of {', '.join(VERDICTS)}.")
    if verdict == EDIT and not target.strip():
        raise ReviewError("An edit needs a target, and this one is empty.", "Give the right answer, or reject the example.")
    if not exchange_ids:
        raise ReviewError("A verdict needs an example, and none was named.", "Give the id of an exchange.")
    target = kept_words(target, personal) if verdict == EDIT else ""
    as_message(target)
    note = kept_words(note, personal)
    with database.write() as connection:
        whole = dict.fromkeys(_whole_ids(connection, task, exchange_ids))
        return _append(connection, task, list(whole), verdict, target, reviewer, note)


def as_message(target: str) -> Message:
    """An edit's target as a message: its words, or its calls where it is an assistant message with `tool_calls` as JSON.

    `{"role": "assistant", "content": "", "tool_calls": [...]}` in OpenAI's form; ReviewError when the calls cannot be read.
    """
    if not (target.lstrip().startswith("{") and '"tool_calls"' in target):
        return Message("assistant", target)
    try:
        turn = json.loads(target)
        if turn.get("role") != "assistant" or "tool_calls" not in turn:
            return Message("assistant", target)
        (message,) = messages_of([{"content": "", **turn}])
        if any(not isinstance(json.loads(call.arguments), dict) for call in message.tool_calls):
            raise ValueError("arguments are no JSON object")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        form = '{"id": "...", "type": "function", "function": {"name": "...", "arguments": "{...}"}}'
        raise ReviewError(f"The calls of this target cannot be read: {error}.", f"Write each call as {form}.") from error
    return message


def hash_of(answer: Message) -> str:
    """Tells one answer from another: text and calls count, ids of calls do not."""
    return content_hash(answer.said.encode("utf-8", "replace"))


def as_text(message: Message) -> str:
    """What a person edits of a target; `as_message` turns it back."""
    return json.dumps(prompt_of([message])[0], ensure_ascii=False, indent=2) if message.tool_calls else message.text


def kept_words(words: str, personal: PersonalPolicy) -> str:
    """What may be stored of what a person wrote: no secrets, and personal data as `personal` says."""
    redacted = redact_text(clean_text(words))[0]
    hiding = personal.hiding()
    return redacted if hiding is None else hiding.text(redacted)


def _whole_ids(connection: Connection, task: str, exchange_ids: Sequence[str]) -> list[str]:
    """The exchanges of the examples of `task` that have these ids, or the only ones that start so."""
    query = among("SELECT exchange_id FROM examples WHERE task IN :names AND exchange_id IN :ids")
    names = names_of(connection, task)
    found: set[str] = set()
    for some in few(exchange_ids):
        found |= set(connection.execute(query, {"names": names, "ids": some}).scalars())
    return [given if given in found else _only_one(connection, task, names, given) for given in exchange_ids]


def _only_one(connection: Connection, task: str, names: Collection[str], given: str) -> str:
    start = given if given.startswith("ex_") else f"ex_{given}"
    query = among("SELECT exchange_id FROM examples WHERE task IN :names AND substr(exchange_id, 1, :length) = :start LIMIT 2")
    found = connection.execute(query, {"names": names, "length": len(start), "start": start}).scalars().all()
    if len(found) == 1:
        return str(found[0])
    if found:
        raise NotFoundError(f"More than one example of task {task!r} starts with {given!r}.", "Give more of the id.")
    next_step = (
        f"See which wait: potstill review next {task} --limit 20. A newer exchange waits after potstill dataset build {task}"
    )
    raise NotFoundError(f"Task {task!r} has no example of exchange {given!r}.", next_step)


def undo(database: Database, task: str, reviewer: str) -> list[Review]:
    """Takes back the latest decision of `reviewer` that still stands and returns it: empty when there is none.

    A decision on look-alikes is taken back whole.
    """
    with database.write() as connection:
        mine = [review for review in standing(_read(connection, task)) if review.reviewer == reviewer]
        taken = [review for review in mine if review.id == mine[-1].id]
        if taken:
            _append(connection, taken[0].task, [review.exchange_id for review in taken], UNDO, "", reviewer, "")
        return taken


def progress(database: Database, task: str, reviewer: str = "", second_opinion: int = 0) -> ReviewProgress:
    """Where the review of `task` stands; what waits is counted as `queue` counts it."""
    with database.read() as connection:
        reviews = _read(connection, task)
        waiting = len(_waiting(connection, task, reviews, reviewer, second_opinion))
    given = by_example(standing(reviews))
    settled = [settle(verdicts) for verdicts in given.values()]
    counts = [sum(review is not None and review.verdict == verdict for review in settled) for verdict in VERDICTS]
    accepted, rejected, edited, skipped = counts
    return ReviewProgress(waiting, accepted, rejected, edited, skipped, settled.count(None))


def standing_verdicts(database: Database, task: str) -> list[Review]:
    """For each example the verdict that counts, see the top of this module; what is disputed has none."""
    settled = map(settle, by_example(standing(all_reviews(database, task))).values())
    return [review for review in settled if review is not None]


def disputed(database: Database, task: str) -> frozenset[str]:
    """Exchanges whose examples as many people reject as keep."""
    given = by_example(standing(all_reviews(database, task)))
    return frozenset(exchange_id for exchange_id, verdicts in given.items() if settle(verdicts) is None)


def all_reviews(database: Database, task: str) -> list[Review]:
    """Every row of `task` and its aliases, oldest first, with those that were taken back and the undos."""
    with database.read() as connection:
        return _read(connection, task)


def standing(reviews: Iterable[Review]) -> list[Review]:
    """Verdicts that were not taken back, oldest first; an undo takes back its reviewer's latest on that example."""
    stacks: dict[tuple[str, str], list[int]] = defaultdict(list)
    kept: dict[int, Review] = {}
    for place, review in enumerate(reviews):
        stack = stacks[review.exchange_id, review.reviewer]
        if review.verdict != UNDO:
            kept[place] = review
            stack.append(place)
        elif stack:
            del kept[stack.pop()]
    return list(kept.values())


def by_example(reviews: Iterable[Review]) -> dict[str, list[Review]]:
    """Reviews by exchange, in their order."""
    found: dict[str, list[Review]] = defaultdict(list)
    for review in reviews:
        found[review.exchange_id].append(review)
    return dict(found)


def opinions(verdicts: Iterable[Review]) -> list[Review]:
    """The latest verdict of each person on one example, oldest first, without skips."""
    latest: dict[str, Review] = {}
    for verdict in verdicts:
        latest.pop(verdict.reviewer, None)
        latest[verdict.reviewer] = verdict
    return [verdict for verdict in latest.values() if verdict.verdict != SKIP]


def settle(verdicts: Sequence[Review]) -> Review | None:
    """Of the standing verdicts on one example, oldest first and not empty, the one that counts; None when it is disputed."""
    held = opinions(verdicts)
    if not held:
        return verdicts[-1]
    reject = [verdict for verdict in held if verdict.verdict == REJECT]
    keep = [verdict for verdict in held if verdict.verdict != REJECT]
    if len(reject) == len(keep):
        return None
    edits = [verdict for verdict in keep if verdict.verdict == EDIT]
    return reject[-1] if len(reject) > len(keep) else (edits or keep)[-1]


def _read(connection: Connection, task: str) -> list[Review]:
    sql = f"SELECT {', '.join(Review.__slots__)} FROM reviews WHERE task IN :names ORDER BY number"  # noqa: S608  constant text
    names = {"names": names_of(connection, task)}
    return [Review(*row) for row in connection.execute(among(sql), names)]


def _append(
    connection: Connection, task: str, exchange_ids: Sequence[str], verdict: str, target: str, reviewer: str, note: str
) -> list[Review]:
    id, now_us = ids.new_id("rv"), clock.now_us()
    answers = read_answers(connection, exchange_ids) if verdict == ACCEPT else {}
    hashes = {exchange_id: hash_of(answer) for exchange_id, answer in answers.items()}
    made = [
        Review(id, task, exchange_id, verdict, target, reviewer, note, now_us, hashes.get(exchange_id, ""))
        for exchange_id in exchange_ids
    ]
    insert(connection, "reviews", [asdict(each) for each in made])
    return made
