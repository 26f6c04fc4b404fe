"""Finds the variable part of a task's inputs: what is left when everything that the app wrote is taken away.

Four steps, each counted over distinct inputs, else a popular duplicate would declare itself boilerplate, and of a conversation
over its last input, which holds the earlier ones, else what was said once in it would:
messages that come back whole (the system prompt, few-shot examples), framing lines with a running number
(`Ticket #4711 (email, Mon 9:05)`), frequent segments (lines, sentences), and words inside frequent word 4-grams.
When nothing is left the whole text stays. What was taken is a `Template`, kept with the dataset version.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import dropwhile
from typing import Any

import numpy as np

from capture.messages import Message
from capture.offered import Tool
from curate.likeness.hashing import Hashes, runs, word_hash
from curate.likeness.turns import continued
from curate.likeness.wording import SEGMENT_END, mask, normalise

MINED_SHARE, UNIVERSAL_SHARE = 0.02, 0.5
"""Part of the distinct inputs from which a piece counts as the app's. A piece of a question between the two may be a phrase of
many users: it tells nothing where texts are compared loosely, and everything where one of two inputs is to be deleted."""
_LEAST = 5
_FRAME_SHARE, _RUNNING_SHARE, _AGREEING_SHARE = 0.5, 0.8, 0.9
_SHORT = 4_000
_SENTENCE_END = re.compile(r"([.!?:;])\s+")  # with line breaks the places of SEGMENT_END, found faster
_USER, _SYSTEM = "user", ("tools", "system", "developer")
_WORDS = re.compile(r"\s*\S+\s*$|\s*\S+|\s+")


@dataclass(frozen=True, slots=True)
class Asked:
    """An input, volatile parts masked: `question` is the last user message, `context` everything else.

    The last `after` pieces of the context come after the question: what was called since, and what that gave.
    """

    context: tuple[str, ...]
    question: str
    after: int = 0

    @property
    def pieces(self) -> tuple[str, ...]:
        """All of it in order."""
        place = len(self.context) - self.after
        return (*self.context[:place], f"{_USER}\n{self.question}", *self.context[place:])


@dataclass(frozen=True, slots=True)
class Template:
    """What the app wrote: pieces that occur in at least `minimum` of `distinct` inputs, with their counts.

    `frames` maps the first word of a framing line to the words that it may hold beside numbers.
    """

    distinct: int
    minimum: int
    context: Mapping[str, int]
    frames: Mapping[str, frozenset[str]]
    segments: Mapping[str, int]
    phrases: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of a message by `role` that the app wrote (`is_app`), or that varies; None while that is undecided."""

    role: str
    text: str
    is_app: bool | None


def read_input(messages: Sequence[Message], tools: Sequence[Tool] = ()) -> Asked:
    """The masked wording of an input; `messages` must not be empty. Of `tools` the names count."""
    last = max((place for place, message in enumerate(messages) if message.role == _USER), default=len(messages) - 1)
    others = [message for place, message in enumerate(messages) if place != last]
    offered = [f"tools\n{' '.join(tool.name for tool in tools)}"] if tools else []
    context = [f"{message.role}\n{_masked(message.said)}" for message in others]
    return Asked((*offered, *context), _masked(messages[last].said), len(messages) - 1 - last)


def mine(inputs: Sequence[Asked], answers: Sequence[str], *shares: float) -> list[Template]:
    """The template of a task's inputs for each of `shares`; `answers` are their targets, made comparable.

    A framing line is believed to carry nothing only when inputs that are equal without it have equal answers. The whole messages
    are those of the first share.
    """
    frames = _mine_frames(inputs, answers)
    went_on = continued([asked.pieces for asked in inputs])
    inputs = [asked for asked, is_earlier in zip(inputs, went_on, strict=True) if not is_earlier]
    stripped = [_without_frames(asked.question, frames) for asked in inputs]
    questions = [normalise(question) for question in stripped]
    by_question: dict[str, set[tuple[tuple[str, ...], str]]] = defaultdict(set)
    for question, text, asked in zip(questions, stripped, inputs, strict=True):
        by_question[question].add((asked.context, text))
    distinct = len(by_question)
    minima = [max(_LEAST, math.ceil(share * distinct)) for share in shares]
    whole = min(minima[0], max(2, math.ceil(distinct / 2)))  # a whole message, so even two inputs are proof
    context = _frequent(({piece for pieces, _ in texts for piece in pieces} for texts in by_question.values()), whole)
    documents = [{_joined(pieces, text, context) for pieces, text in texts} for texts in by_question.values()]
    known = _counted({key for text in texts for _, key in _segments(text)} for texts in documents)
    templates = []
    for minimum in minima:
        segments = _at_least(known, minimum)
        remaining = [{_without_segments(text, segments) for text in texts} for texts in documents]
        templates.append(Template(distinct, minimum, context, frames, segments, _mine_phrases(remaining, minimum)))
    return templates


def still_said(template: Mapping[str, Any], asked: Sequence[Asked]) -> dict[str, Any]:
    """`template` as it stands in a file, without the pieces that none of these inputs says any more."""
    context = {piece for each in asked for piece in each.context}
    said = "\n".join(f" {normalise(text)} " for each in asked for text in (each.question, *each.context))
    words = set(said.split())
    joined = f" {' '.join(filter(None, map(_key, said.split())))} "
    return {
        **template,
        "context": {piece: count for piece, count in template["context"].items() if piece in context},
        "frames": {
            first: [word for word in held if word in words] for first, held in template["frames"].items() if first in words
        },
        "segments": {piece: count for piece, count in template["segments"].items() if f" {piece} " in said},
        "phrases": {piece: count for piece, count in template["phrases"].items() if f" {piece} " in joined},
    }


def turns(asked: Asked, template: Template) -> int:
    """How far the conversation went: its messages without the question, system prompts and examples that the app puts first."""
    place = len(asked.context) - asked.after
    said = [piece for piece in asked.context[:place] if piece.partition("\n")[0] not in _SYSTEM]
    return len(list(dropwhile(template.context.__contains__, said))) + asked.after


class Stripper:
    """Takes a template away from inputs of its task."""

    def __init__(self, template: Template) -> None:
        self.template = template
        words = sorted(int(_phrase_hashes(phrase.split())[0]) for phrase in template.phrases)
        self._phrases = np.array(words, dtype=np.uint64)

    def variable_part(self, asked: Asked) -> str:
        """What varies in `asked`, as it was written; the last step that would leave no word is not taken."""
        unframed = _without_frames(asked.question, self.template.frames)
        joined = _joined(asked.context, unframed, self.template.context)
        left = joined if _has_words(joined) else asked.question if asked.question.strip() else _joined(asked.context, "", {})
        shorter = _without_segments(left, self.template.segments)
        left = shorter if _has_words(shorter) else left
        shorter = self._without_phrases(left)
        return shorter if _has_words(shorter) else left

    def marks(self, asked: Asked) -> list[Span]:
        """`asked` in order, word by word, with who wrote it; unlike `variable_part` every step is taken.

        Numbers of a framing line are the user's, whatever stands around them is the app's.
        """
        spans: list[Span] = []
        for piece in asked.context:
            role, _, text = piece.partition("\n")
            spans += [Span(role, text, True)] if piece in self.template.context else self._marked(role, text)
        spans += self._marked("user", asked.question)
        open_places = [place for place, span in enumerate(spans) if span.is_app is None]
        covered = self._covered([spans[place].text.strip() for place in open_places]) or set()
        inside = {open_places[place] for place in covered}
        return [replace(span, is_app=place in inside) if span.is_app is None else span for place, span in enumerate(spans)]

    def _marked(self, role: str, text: str) -> list[Span]:
        """The words of `text`, undecided where neither frames nor segments of the template hold them."""
        found: list[Span] = []
        for line in text.splitlines(keepends=True):
            if _is_frame(line, self.template.frames):
                found += [Span(role, word, not _is_number(word)) for word in _WORDS.findall(line)]
                continue
            start = 0
            for end in [*(match.end() for match in SEGMENT_END.finditer(line)), len(line)]:
                segment, start = line[start:end], end
                if not segment.strip() or _flat(segment.strip()) in self.template.segments:
                    found.append(Span(role, segment, True))
                else:
                    found += [Span(role, word, None if word.strip() else True) for word in _WORDS.findall(segment)]
        return found

    def _without_phrases(self, text: str) -> str:
        words = text.split()
        covered = self._covered(words)
        return text if covered is None else " ".join(word for place, word in enumerate(words) if place not in covered)

    def _covered(self, words: Sequence[str]) -> set[int] | None:
        """The places of `words` that stand inside a phrase of the template; None where there can be none."""
        places = [place for place, word in enumerate(words) if _key(word)]
        hashes = _phrase_hashes([_key(words[place]) for place in places])
        if not len(hashes) or not len(self._phrases):
            return None
        found = np.searchsorted(self._phrases, hashes).clip(max=len(self._phrases) - 1)
        return {places[start + step] for start in np.flatnonzero(self._phrases[found] == hashes).tolist() for step in range(4)}


def _masked(text: str) -> str:
    """As `mask`; what comes again and again (system prompts, earlier turns) is kept, of long texts but a few."""
    return _masked_short(text) if len(text) <= _SHORT else _masked_long(text)


@lru_cache(maxsize=4096)
def _masked_short(text: str) -> str:
    return mask(text)


@lru_cache(maxsize=16)
def _masked_long(text: str) -> str:
    return mask(text)


@lru_cache(maxsize=65536)
def _flat(segment: str) -> str:
    return normalise(segment)


@lru_cache(maxsize=65536)
def _key(word: str) -> str:
    key = normalise(word).replace(" ", "")
    return key if _has_words(key) else ""


def _has_words(text: str) -> bool:
    return any(letter.isalnum() for letter in text)


def _frequent(documents: Iterable[Iterable[str]], minimum: int) -> dict[str, int]:
    return _at_least(_counted(documents), minimum)


def _counted(documents: Iterable[Iterable[str]]) -> Counter[str]:
    counts: Counter[str] = Counter()
    for pieces in documents:
        counts.update(pieces)
    return counts


def _at_least(counts: Counter[str], minimum: int) -> dict[str, int]:
    return {piece: count for piece, count in sorted(counts.items()) if count >= minimum}


def _joined(context: Sequence[str], question: str, known: Mapping[str, int]) -> str:
    kept = [piece.partition("\n")[2] for piece in context if piece not in known]
    return "\n".join([*kept, question])


def _segments(text: str) -> list[tuple[str, str]]:
    return [(part, _flat(part)) for part in _SENTENCE_END.sub(r"\1\n", text).split("\n") if part.strip()]


def _without_segments(text: str, known: Mapping[str, int]) -> str:
    if not known:
        return text
    return "\n".join(part for part, key in _segments(text) if key not in known)


def _mine_phrases(documents: Sequence[set[str]], minimum: int) -> dict[str, int]:
    words = [[[key for key in map(_key, text.split()) if key] for text in sorted(texts)] for texts in documents]
    hashes = [np.unique(np.concatenate([_phrase_hashes(text) for text in texts])) for texts in words]
    if not hashes:
        return {}
    values, counts = np.unique(np.concatenate(hashes), return_counts=True)
    frequent = dict(zip(values[counts >= minimum].tolist(), counts[counts >= minimum].tolist(), strict=True))
    found: dict[str, int] = {}
    for texts, present in zip(words, hashes, strict=True):
        wanted = {value for value in present.tolist() if value in frequent}
        for text in texts if wanted else ():
            for start, value in enumerate(_phrase_hashes(text).tolist()):
                if value in wanted:
                    found[" ".join(text[start : start + 4])] = frequent[value]
    return dict(sorted(found.items()))


def _phrase_hashes(words: Sequence[str]) -> Hashes:
    return runs(np.array([word_hash(word) for word in words], np.uint64), 4)


def _mine_frames(inputs: Sequence[Asked], answers: Sequence[str]) -> dict[str, frozenset[str]]:
    questions = {asked.question: answer for asked, answer in zip(inputs, answers, strict=True)}
    lines_by_first: dict[str, list[list[str]]] = defaultdict(list)
    for question in questions:
        seen: set[str] = set()
        for words in _lines(question):
            if words[0] not in seen:
                seen.add(words[0])
                lines_by_first[words[0]].append(words)
    frames = {}
    for first, lines in sorted(lines_by_first.items()):
        if len(lines) >= max(2 * _LEAST, _FRAME_SHARE * len(questions)) and _is_running(lines):
            minimum = max(_LEAST, math.ceil(MINED_SHARE * len(lines)))
            counts = Counter(word for words in lines for word in set(words) if not _is_number(word))
            frames[first] = frozenset(word for word, count in counts.items() if count >= minimum)
    while frames and not _carry_nothing(questions, frames):
        frames.popitem()
    return frames


def _lines(text: str) -> list[list[str]]:
    lines = (normalise(line).split() for line in text.split("\n"))
    return [words for words in lines if words and not _is_number(words[0])]


def _is_number(word: str) -> bool:
    return any(letter.isdigit() for letter in word)


def _is_running(lines: Sequence[Sequence[str]]) -> bool:
    """True when nearly every line has numbers of its own: a ticket number, a time; not an age or an amount."""
    numbers = {tuple(word for word in words if _is_number(word)) for words in lines}
    return () not in numbers and len(numbers) >= _RUNNING_SHARE * len(lines)


def _without_frames(text: str, frames: Mapping[str, frozenset[str]]) -> str:
    if not frames:
        return text
    left = "\n".join(line for line in text.split("\n") if not _is_frame(line, frames))
    return left if left.strip() else text


def _is_frame(line: str, frames: Mapping[str, frozenset[str]]) -> bool:
    words = normalise(line).split() if frames else []
    known = frames.get(words[0]) if words else None
    return known is not None and all(_is_number(word) or word in known for word in words)


def _carry_nothing(questions: Mapping[str, str], frames: Mapping[str, frozenset[str]]) -> bool:
    """True when questions that are equal without their frames have equal answers, or hardly any become equal."""
    answers: dict[str, Counter[str]] = defaultdict(Counter)
    for question, answer in questions.items():
        answers[normalise(_without_frames(question, frames))][answer] += 1
    merged = [counts for counts in answers.values() if counts.total() > 1]
    together = sum(counts.total() for counts in merged)
    if together < _LEAST:
        return 2 * len(answers) > len(questions)
    return sum(max(counts.values()) for counts in merged) >= _AGREEING_SHARE * together
