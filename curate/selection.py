"""Which exchanges become candidate examples: those of a task that an app asked and the teacher answered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache

from capture import feed, feedback
from capture.database import Database
from capture.errors import NotFoundError
from capture.exchange import BASELINE, Exchange
from capture.filters import Filter, parse_filter, quote
from capture.ids import content_hash
from capture.messages import Message, ToolCall
from capture.offered import Tool
from capture.progress import Progress
from curate.cleaning.clean import Cleaned, clean
from curate.examples import ANSWER, IMPORTED
from curate.likeness.wording import mask, normalise
from curate.reviewing.review import hash_of
from curate.settings import CurateSettings
from curate.terms import TERMS_TAG

DAMAGED = "damaged"
"""Reason of exchanges whose content in the store cannot be read."""
_BATCH = 500
_COUNT_CAP = 10_000_000
_IMPORTED_FROM = "import:dataset"
"""The upstream of exchanges that a team's own data set gave."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """An exchange that can teach. `input_key` is the hash of its whole input in masked, normalised wording.

    The target is text and `calls`, and `target_source` says who gave it; `tools` are those that the input offers.
    `personal` counts the personal data found, `score` is what feedback gave, None without. Times are UTC microseconds.
    """

    exchange_id: str
    started_us: int
    protocol: str
    teacher_model: str
    unit: str
    session: str
    messages: tuple[Message, ...]
    target: str
    input_key: str
    personal: Mapping[str, int]
    looks_refused: bool
    calls: tuple[ToolCall, ...] = ()
    tools: tuple[Tool, ...] = ()
    target_source: str = ANSWER
    terms: str = ""
    score: float | None = None

    @property
    def answer(self) -> Message:
        """The target as a message."""
        return Message("assistant", self.target, self.calls)


@dataclass(frozen=True, slots=True)
class Target:
    """What stands in for the answer of an exchange, and who gave it: see `curate.examples`.

    `unless` is the hash of an answer that a reviewer accepted: where the captured one is that, it stands itself.
    """

    message: Message
    source: str
    unless: str = ""


@dataclass(frozen=True, slots=True)
class Selection:
    """Candidates in order of time, and the reason for every selected exchange that cannot teach.

    `by_student` counts exchanges of the task that a student answered: they are never selected.
    """

    candidates: list[Candidate]
    dropped: dict[str, str]
    by_student: int


def select(
    database: Database, tags: tuple[str, ...], targets: Mapping[str, Target], settings: CurateSettings, on_progress: Progress
) -> Selection:
    """Reads and cleans the exchanges of a task, which carry any of `tags`; `targets` stand in for answers, by exchange id."""
    chosen = _filter(tags, settings)
    total = feed.count(database, chosen, _COUNT_CAP, longest_s=feed.PATIENT_S)
    scores = feedback.values(database, settings.score_name, chosen) if settings.score_name else {}
    candidates: list[Candidate] = []
    dropped: dict[str, str] = {}
    by_student = 0
    same: dict[Message, Message] = {}
    for done, (exchange, content) in enumerate(feed.with_readable(database, chosen)):
        if done % _BATCH == 0:
            on_progress("read exchanges", done, total)
        if not is_from_teacher(exchange):
            by_student += 1
            continue
        if content is None:
            dropped[exchange.id] = DAMAGED
            continue
        conversation, offered = feed.asked_of(exchange, content)
        given, score = targets.get(exchange.id), scores.get(exchange.id)
        if given and given.unless:
            own = clean(exchange, conversation, settings, None, offered, score)
            given = None if not own.reason and hash_of(Message("assistant", own.target, own.calls)) == given.unless else given
        cleaned = clean(exchange, conversation, settings, given.message if given else None, offered, score)
        if cleaned.reason:
            dropped[exchange.id] = cleaned.reason
            continue
        source = given.source if given else IMPORTED if exchange.upstream == _IMPORTED_FROM else ANSWER
        found = _candidate(exchange, input_key(conversation.asked, offered.tools), cleaned, source, same)
        candidates.append(replace(found, score=None if given else score))
    on_progress("read exchanges", total, total)
    candidates.sort(key=lambda candidate: (candidate.started_us, candidate.exchange_id))
    return Selection(candidates, dropped, by_student)


def require_task(database: Database, task: str, tags: tuple[str, ...]) -> None:
    """NotFoundError, naming the tasks that exist, when no exchange carries one of `tags`, the names of `task`."""
    known = [summary.task for summary in feed.tasks(database) if summary.task]
    if set(known).isdisjoint(tags):
        names = ", ".join(known) or "none yet"
        raise NotFoundError(f"There is no task {task!r}.", f"Tasks with traffic: {names}.")


def is_from_teacher(exchange: Exchange) -> bool:
    """False when a student answered, or would have: what a student says must never teach the next one."""
    return exchange.variant in ("", BASELINE) and exchange.upstream != "engine" and not exchange.release_id


def input_key(messages: tuple[Message, ...], tools: tuple[Tool, ...] = ()) -> str:
    """Content hash of an input; volatile parts, case, space and punctuation do not count."""
    turns = [f"{message.role}\x1f{_flat(message.said)}" for message in messages]
    turns += [f"tool\x1f{tool.name}\x1f{tool.description}\x1f{tool.parameters}" for tool in tools]
    return content_hash("\x1e".join(turns).encode("utf-8", "replace"))


def _filter(tags: tuple[str, ...], settings: CurateSettings) -> Filter:
    return parse_filter(f"task:{','.join(map(quote, tags))} purpose:app {settings.filter}")


def _candidate(exchange: Exchange, key: str, cleaned: Cleaned, source: str, same: dict[Message, Message]) -> Candidate:
    return Candidate(
        exchange.id,
        exchange.started_us,
        exchange.protocol,
        exchange.model_served or exchange.model_asked,
        exchange.unit,
        exchange.session_name,
        tuple(same.setdefault(message, message) for message in cleaned.messages),  # one system prompt, not thousands
        cleaned.target,
        key,
        cleaned.personal,
        cleaned.looks_refused,
        cleaned.calls,
        cleaned.tools,
        source,
        exchange.tags.get(TERMS_TAG, ""),
    )


@lru_cache(maxsize=1024)
def _flat(text: str) -> str:
    return normalise(mask(text))
