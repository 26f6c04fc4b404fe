"""Traffic without a task, grouped by what the app wrote and not its users: what it might be called.

Two apps with the same opening words and different bodies are two; a prompt that is filled in anew, with other names, dates or
examples, stays one. See `curate.tasks.prompt_groups`.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from capture import feed
from capture.database import Database
from capture.exchange import Exchange
from capture.filters import parse_filter
from capture.messages import Message
from capture.progress import Progress, tell_nobody
from curate.tasks.prompt_groups import Group, group_prompts
from curate.tasks.prompts import SYSTEM, TALK, Prompt, PromptReader, segments_of, texts_of

UNTAGGED = "-has:task purpose:app"
"""The exchanges that are looked at, as a filter."""
_BATCH = 200
_NAME_WORDS, _LONGEST_NAME = 3, 40
_OPENING = 200
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


@dataclass(frozen=True, slots=True)
class Template:
    """A group of untagged exchanges that were sent to one path, the newest first."""

    path: str
    group: Group
    exchanges: tuple[Exchange, ...]
    opening: str
    said: tuple[tuple[int, tuple[str, ...]], ...]
    """What of the newest one the app wrote: the words of each segment, and which part of the prompt it is of."""


def suggest_tasks(database: Database, *, newest: int, least: int, on_progress: Progress = tell_nobody) -> Untagged:
    """The groups of at least `least` among the `newest` exchanges without a task, the largest first."""
    looked_at, templates = find_templates(database, newest=newest, least=least, on_progress=on_progress)
    names = _distinct(templates)
    found = tuple(_suggestion(template, name) for template, name in zip(templates, names, strict=True))
    return Untagged(looked_at, looked_at - sum(each.exchanges for each in found), found)


def find_templates(
    database: Database, *, newest: int, least: int, on_progress: Progress = tell_nobody
) -> tuple[int, list[Template]]:
    """How many exchanges were looked at, and the templates of at least `least` of them, the largest first."""
    read = list(_read(database, newest, on_progress))
    by_path: dict[str, list[tuple[Exchange, Prompt]]] = defaultdict(list)
    for exchange, prompt in read:
        by_path[exchange.path].append((exchange, prompt))
    found = [
        (group, tuple(rows[place][0] for place in group.members))
        for path, rows in sorted(by_path.items())
        for group in group_prompts([prompt for _, prompt in rows], path)
        if len(group.members) >= least
    ]
    found.sort(key=lambda each: (-len(each[1]), each[0].fingerprint))
    return len(read), [_template(database, group, exchanges) for group, exchanges in found]


def name_of(words: Iterable[str]) -> str:
    """A short name from the words that say something; '' where none does."""
    telling = dict.fromkeys(re.sub(r"[^a-z0-9]", "", word) for word in words if word not in _SAYS_NOTHING)
    return "-".join([word for word in telling if len(word) > 1][:_NAME_WORDS])[:_LONGEST_NAME].strip("-")


def _read(database: Database, newest: int, tell: Progress) -> Iterator[tuple[Exchange, Prompt]]:
    reader, untagged = PromptReader(), feed.page(database, parse_filter(UNTAGGED), limit=newest)
    for start in range(0, len(untagged), _BATCH):
        tell("read prompts", start, len(untagged))
        for exchange, content in feed.readable(database, untagged[start : start + _BATCH]):
            if content is not None:
                yield exchange, reader.read(feed.conversation_of(exchange, content).asked)
    tell("read prompts", len(untagged), len(untagged))


def _template(database: Database, group: Group, exchanges: tuple[Exchange, ...]) -> Template:
    asked = feed.conversation(database, exchanges[0]).asked
    core = group.core[SYSTEM] | group.core[TALK]
    said = []
    for part in (SYSTEM, TALK):
        for text in texts_of(asked, (), part):
            for segment in segments_of(text, part):
                covered = {place + step for place, piece in enumerate(segment.pieces) if piece in core for step in range(4)}
                said.append((part, tuple(word for place, word in enumerate(segment.words) if place in covered)))
    return Template(exchanges[0].path, group, exchanges, _opening(asked), tuple(each for each in said if each[1]))


def _opening(asked: Sequence[Message]) -> str:
    """The text that the template opens: the instructions, or the first question where those say hardly anything."""
    texts = [texts[0] for part in (SYSTEM, TALK) if (texts := texts_of(asked, (), part))]
    return texts[0] if texts and (len(texts) == 1 or len(texts[0].split()) > 5) else texts[-1] if texts else ""


def _distinct(templates: Sequence[Template]) -> list[str]:
    """A name for each; those whose instructions give the same name are named after the form that only their users' turns have."""
    names = [name_of(word for _, words in template.said for word in words) or "task" for template in templates]
    shared = {name for name, count in Counter(names).items() if count > 1}
    said = Counter(words for template in templates for words in set(template.said))
    used: Counter[str] = Counter()
    found = []
    for template, name in zip(templates, names, strict=True):
        if name in shared:
            name = name_of(word for each in template.said if each[0] == TALK and said[each] == 1 for word in each[1]) or name
        used[name] += 1
        found.append(name if used[name] == 1 else f"{name}-{used[name]}")
    return found


def _suggestion(template: Template, name: str) -> Suggestion:
    exchanges = template.exchanges
    return Suggestion(
        name,
        template.group.fingerprint,
        len(exchanges),
        template.path,
        tuple(sorted({each.model_asked for each in exchanges if each.model_asked})),
        min(each.started_us for each in exchanges),
        max(each.started_us for each in exchanges),
        sum(each.cost_microusd or 0 for each in exchanges),
        " ".join(template.opening.split())[:_OPENING],
        max(exchanges, key=lambda each: each.number).id,
    )
