"""Notices that an app has changed its prompt: what recent traffic of a task says that its frozen version never saw.

A student was trained on the version's prompts; a new template under the old task is news to it. Names, dates, numbers and other
fillings are no news: a stretch counts from eight unknown words, said in several different requests and in a part of all, and a
segment that is gone from eight words, too.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from capture import feed
from capture.database import Database
from capture.exchange import Exchange
from capture.filters import parse_filter, quote
from capture.messages import Message
from capture.offered import Tool
from curate.datasets import DatasetVersion, load_split
from curate.likeness.hashing import Hashes
from curate.splits import SPLITS
from curate.tasks.aliases import expand
from curate.tasks.kept_templates import VARIABLE
from curate.tasks.prompt_groups import fingerprint, group_prompts
from curate.tasks.prompts import SYSTEM, TALK, Prompt, PromptReader, Segment, segments_of, texts_of

_STRETCH, _AROUND = 8, 3
_LEAST, _LEAST_SHARE = 5, 0.05
_SPOKEN_SHARE = 0.2
"""Part of the exchanges from which words of the user's turns count as a form of the app, and not as what many users say."""
_NEARLY_ALL = 0.9
_BATCH = 200
_MOST_LINES = 40


@dataclass(frozen=True, slots=True)
class NewPrompt:
    """A prompt that a frozen version never saw: in how many of the newest exchanges, since when (UTC microseconds).

    `share` is their part of the exchanges that were looked at. `diff` has lines that begin with + (new) or - (gone).
    """

    fingerprint: str
    exchanges: int
    first_us: int
    share: float
    example_id: str
    diff: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Asked:
    exchange: Exchange
    messages: tuple[Message, ...]
    tools: tuple[Tool, ...]
    prompt: Prompt


@dataclass(frozen=True, slots=True)
class _Seen:
    """What a version knows: all its pieces, and the segments of instructions that nearly every input holds."""

    pieces: Hashes
    segments: tuple[Segment, ...]


def new_prompts(database: Database, task: str, version: DatasetVersion, *, newest: int = 500) -> list[NewPrompt]:
    """What of the `newest` exchanges of `task` and its aliases was asked with prompts new to `version`, the most frequent first.

    StoreError when the version's files were changed or are gone.
    """
    recent = list(_recent(database, task, newest))
    if not recent:
        return []
    seen = _seen(version)
    least = max(_LEAST, _LEAST_SHARE * len(recent))
    fresh = [_only(each.prompt, _fresh(each, seen.pieces)) for each in recent]
    found: list[NewPrompt] = []
    told: set[int] = set()
    for group in group_prompts(fresh, task):
        distinct = {recent[place].prompt.key for place in group.members}
        share = _LEAST_SHARE if group.words[SYSTEM] >= _STRETCH - _AROUND else _SPOKEN_SHARE
        is_frequent = len(group.members) >= max(_LEAST, share * len(recent)) and len(distinct) >= _LEAST
        if is_frequent and sum(group.words) >= _STRETCH - _AROUND:
            told.update(group.members)
            core = group.core[SYSTEM] | group.core[TALK]
            found.append(_new(group.fingerprint, [recent[place] for place in group.members], core, seen, len(recent)))
    shorter: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for place, each in enumerate(recent):
        held = set(each.prompt.pieces.tolist())
        lost = [segment for segment in seen.segments if held.isdisjoint(segment.pieces)]
        words = [len(segment.words) for segment in lost]
        if place not in told and (max(words, default=0) >= _STRETCH or sum(words) >= 2 * _STRETCH):
            shorter[tuple(sorted({piece for segment in lost for piece in segment.pieces}))].append(place)
    for pieces, places in sorted(shorter.items()):
        if len(places) >= least:
            found.append(_new(fingerprint(pieces, task), [recent[place] for place in places], frozenset(), seen, len(recent)))
    return sorted(found, key=lambda each: (-each.exchanges, each.fingerprint))


def _recent(database: Database, task: str, newest: int) -> Iterator[_Asked]:
    reader, names = PromptReader(), ",".join(map(quote, expand(database, task)))
    exchanges = feed.page(database, parse_filter(f"task:{names} purpose:app"), limit=newest)
    for start in range(0, len(exchanges), _BATCH):
        for exchange, content in feed.readable(database, exchanges[start : start + _BATCH]):
            if content is not None:
                conversation, offered = feed.asked_of(exchange, content)
                prompt = reader.read(conversation.asked, offered.tools)
                if len(prompt.pieces):
                    yield _Asked(exchange, conversation.asked, offered.tools, prompt)


def _seen(version: DatasetVersion) -> _Seen:
    counts: Counter[int] = Counter()
    all_pieces: list[Hashes] = []
    segments: dict[tuple[int, ...], Segment] = {}
    distinct: set[bytes] = set()
    reader = PromptReader()
    for split in SPLITS:
        for example in load_split(version, split):
            prompt = reader.read(example.messages, example.tools)
            if prompt.key in distinct:
                continue
            distinct.add(prompt.key)
            all_pieces.append(prompt.pieces)
            counts.update(prompt.pieces[prompt.part == SYSTEM].tolist())
            if len(distinct) == 1:  # nearly every input holds the core, so almost any of them can show it
                texts = texts_of(example.messages, example.tools, SYSTEM)
                segments = {segment.pieces: segment for text in texts for segment in segments_of(text, SYSTEM)}
    core = frozenset(piece for piece, count in counts.items() if count >= _NEARLY_ALL * len(distinct))
    shown = tuple(segment for segment in segments.values() if core.issuperset(segment.pieces))
    return _Seen(np.unique(np.concatenate(all_pieces)) if all_pieces else np.empty(0, np.uint64), shown)


def _fresh(asked: _Asked, known: Hashes) -> set[int]:
    """The unknown pieces in stretches of at least eight words that no known piece covers."""
    unknown = set(np.setdiff1d(asked.prompt.pieces, known, assume_unique=True).tolist())
    found: set[int] = set()
    for part in (SYSTEM, TALK) if unknown else ():
        for text in texts_of(asked.messages, asked.tools, part):
            length, stretch = 0, set[int]()
            for segment in segments_of(text, part):
                covered = {
                    place + step for place, piece in enumerate(segment.pieces) if piece not in unknown for step in range(4)
                }
                for place in range(len(segment.words)):
                    if place in covered:
                        found |= stretch if length >= _STRETCH else set()
                        length, stretch = 0, set()
                    else:
                        length += 1
                        near = segment.pieces[max(0, place - 3) : place + 1]
                        stretch |= unknown.intersection(near)
            found |= stretch if length >= _STRETCH else set()
    return found


def _only(prompt: Prompt, pieces: set[int]) -> Prompt:
    inside = np.isin(prompt.pieces, np.array(sorted(pieces), dtype=np.uint64), assume_unique=True)
    opening = tuple(piece for piece in prompt.opening if piece in pieces)
    return Prompt(prompt.pieces[inside], prompt.words[inside], prompt.part[inside], opening)


def _new(mark: str, asked: Sequence[_Asked], core: frozenset[int], seen: _Seen, looked_at: int) -> NewPrompt:
    newest = max(asked, key=lambda each: each.exchange.number)
    held = set(newest.prompt.pieces.tolist())
    lines = [f"- {segment.text}" for segment in seen.segments if held.isdisjoint(segment.pieces)]
    everyone = set.intersection(*(set(each.prompt.pieces.tolist()) for each in asked))
    for part in (SYSTEM, TALK):
        for text in texts_of(newest.messages, newest.tools, part):
            told = (segment for segment in segments_of(text, part) if not core.isdisjoint(segment.pieces))
            lines += [f"+ {_shown(segment, everyone)}" for segment in told]
    first_us = min(each.exchange.started_us for each in asked)
    shown = [*lines[:_MOST_LINES], *([f"  and {len(lines) - _MOST_LINES} lines more"] if len(lines) > _MOST_LINES else [])]
    return NewPrompt(mark, len(asked), first_us, len(asked) / looked_at, newest.exchange.id, tuple(shown))


def _shown(segment: Segment, everyone: set[int]) -> str:
    """A segment as it was written, or where it varies, its words with a mark for what does."""
    if everyone.issuperset(segment.pieces):
        return segment.text
    covered = _covered(segment, everyone.__contains__)
    words = [word if place in covered else VARIABLE for place, word in enumerate(segment.words)]
    return " ".join(word for place, word in enumerate(words) if word != VARIABLE or words[place - 1 : place] != [VARIABLE])


def _covered(segment: Segment, holds: Callable[[int], bool]) -> set[int]:
    """The places of words that one of the pieces that it `holds` spans."""
    return {place + step for place, piece in enumerate(segment.pieces) if holds(piece) for step in range(4)}
