"""Traffic without a task, grouped by what the app wrote and not its users: what it might be called.

The fingerprint of a prompt's template is made from the opening words of the system prompt, or of the first question where that
says little. Numbers, dates and identifiers in it are masked, so that a template filled in anew stays the same.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from capture import feed
from capture.database import Database
from capture.exchange import Exchange
from capture.filters import parse_filter
from capture.ids import content_hash
from capture.messages import Message
from curate.wording import mask, normalise

UNTAGGED = "-has:task purpose:app"
"""The exchanges that are looked at, as a filter."""
_OPENING, _LITTLE, _QUESTION = 24, 8, 5
_BATCH = 200
_DIGITS = re.compile(r"\d+")
_NAME_WORDS, _LONGEST_NAME = 3, 40
_SAYS_NOTHING = frozenset(
    (
        *("a", "an", "and", "are", "as", "assistant", "be", "by", "can", "expert", "following", "for", "from", "given"),
        *("have", "helpful", "i", "in", "is", "it", "me", "must", "not", "of", "on", "or", "our", "please"),
        *("should", "task", "that", "the", "their", "this", "to", "who", "will", "with", "you", "your"),
    )
)


@dataclass(frozen=True, slots=True)
class Suggestion:
    """Exchanges that share a template, and a name for the task that they may be. Times are UTC microseconds."""

    name: str
    fingerprint: str
    exchanges: int
    path: str
    models: tuple[str, ...]
    first_us: int
    last_us: int
    cost_microusd: int
    opening: str
    example_id: str


@dataclass(frozen=True, slots=True)
class Untagged:
    """What the newest exchanges without a task are: `looked_at` of them, `apart` in no group that is large enough."""

    looked_at: int
    apart: int
    suggestions: tuple[Suggestion, ...]


@dataclass(slots=True)
class _Group:
    words: tuple[str, ...]
    opening: str
    exchanges: list[Exchange] = field(default_factory=list)


def suggest_tasks(database: Database, *, newest: int, least: int) -> Untagged:
    """The groups of at least `least` among the `newest` exchanges without a task, the largest first."""
    groups: dict[tuple[str, tuple[str, ...]], _Group] = {}
    looked_at = 0
    untagged = feed.page(database, parse_filter(UNTAGGED), limit=newest)
    for start in range(0, len(untagged), _BATCH):
        some = untagged[start : start + _BATCH]
        contents = feed.contents(database, some)
        for exchange in some:
            if exchange.number not in contents:
                continue
            looked_at += 1
            asked = feed.conversation_of(exchange, contents[exchange.number]).asked
            words, opening = opening_of(asked)
            if words:
                groups.setdefault((exchange.path, words), _Group(words, opening)).exchanges.append(exchange)
    large = sorted((each for each in groups.values() if len(each.exchanges) >= least), key=lambda each: -len(each.exchanges))
    names = _distinct([name_of(group.words) for group in large])
    found = tuple(_suggestion(group, name) for group, name in zip(large, names, strict=True))
    return Untagged(looked_at, looked_at - sum(each.exchanges for each in found), found)


def opening_of(asked: Sequence[Message]) -> tuple[tuple[str, ...], str]:
    """The words that a template is known by, and the text that they open; nothing where nothing readable was asked."""
    system = next((each.text for each in asked if each.role == "system" and each.text.strip()), "")
    question = next((each.text for each in asked if each.role == "user" and each.text.strip()), "")
    words = _words(system)[:_OPENING]
    if len(words) < _LITTLE:
        return (*words, *_words(question)[:_QUESTION]), system if len(words) > _QUESTION else question
    return words, system


def name_of(words: Iterable[str]) -> str:
    """A short name from the words that say something; '' where none does."""
    telling = dict.fromkeys(re.sub(r"[^a-z0-9]", "", word) for word in words if word not in _SAYS_NOTHING)
    return "-".join([word for word in telling if len(word) > 1][:_NAME_WORDS])[:_LONGEST_NAME].strip("-")


def _words(text: str) -> tuple[str, ...]:
    return tuple(_DIGITS.sub("0", normalise(mask(text[:4_000]))).split())


def _distinct(names: Sequence[str]) -> list[str]:
    used: defaultdict[str, int] = defaultdict(int)
    found = []
    for name in names:
        name = name or "task"
        used[name] += 1
        found.append(name if used[name] == 1 else f"{name}-{used[name]}")
    return found


def _suggestion(group: _Group, name: str) -> Suggestion:
    exchanges = group.exchanges
    return Suggestion(
        name,
        content_hash(" ".join((exchanges[0].path, *group.words)).encode())[3:15],
        len(exchanges),
        exchanges[0].path,
        tuple(sorted({each.model_asked for each in exchanges if each.model_asked})),
        min(each.started_us for each in exchanges),
        max(each.started_us for each in exchanges),
        sum(each.cost_microusd or 0 for each in exchanges),
        " ".join(group.opening.split())[:200],
        max(exchanges, key=lambda each: each.number).id,
    )
