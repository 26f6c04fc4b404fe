"""Prompts as pieces, so that what an app wrote in them can be told from what was filled in.

A piece is a short segment (up to four words) or a run of four words of a longer one, as a hash; volatile parts, numbers, days
and months are masked. What the system prompt says and what the user's turns say are kept apart, since a team may share a
system prompt between tasks. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from capture.messages import Message
from capture.offered import Tool
from curate.likeness.hashing import PRIME, Hashes, word_hash
from curate.likeness.wording import SEGMENT_END, mask, normalise

SYSTEM, TALK = 0, 1
"""The two parts of a prompt: instructions with the names of tools, and the user's turns."""

OPENING = 24
"""Words of a prompt that count as its opening."""
_MOST_CHARACTERS = 20_000
_LETTERS_A_WORD = 5
_REMEMBERED = 256
_DIGITS = re.compile(r"\d+")
_CALENDAR = re.compile(
    r"\b(?:mon|tues?|wed(?:nes)?|thu(?:rs)?|fri|sat(?:ur)?|sun)(?:day)?\b|\b(?:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?"
    r"|may|june?|july?|aug(?:ust)?|sept?(?:ember)?|oct(?:ober)?|nov(?:ember)?|dec(?:ember)?)\b"
)
_SYSTEM_ROLES = ("system", "developer")

Counts = npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Prompt:
    """The pieces of an input: hashes in ascending order, how many words each stands for, and which part it is of.

    `opening` has the pieces of the first words.
    """

    pieces: Hashes
    words: Counts
    part: Counts
    opening: tuple[int, ...]

    @property
    def key(self) -> bytes:
        """Equal for prompts with equal pieces."""
        return self.pieces.tobytes()


@dataclass(frozen=True, slots=True)
class Segment:
    """A line or sentence as it was written, its comparable words, and its pieces in order."""

    text: str
    words: tuple[str, ...]
    pieces: tuple[int, ...]


class PromptReader:
    """Takes inputs apart. What several of them say word for word is taken apart once, and forgotten with the reader."""

    def __init__(self) -> None:
        self._pieces = lru_cache(maxsize=_REMEMBERED)(_pieces)

    def read(self, messages: Sequence[Message], tools: Sequence[Tool] = ()) -> Prompt:
        """The pieces of an input; none where nothing readable was asked."""
        parts: list[tuple[Hashes, Counts]] = []
        parted: list[int] = []
        opening: tuple[int, ...] = ()
        for part in (SYSTEM, TALK):
            for text in texts_of(messages, tools, part):
                hashes, words = self._pieces(text, part)
                parts.append((hashes, words))
                parted += [part] * len(hashes)
                opening = opening or tuple(hashes[:OPENING].tolist())
        if not parts:
            return Prompt(np.empty(0, np.uint64), np.empty(0, np.int32), np.empty(0, np.int32), ())
        pieces, first = np.unique(np.concatenate([hashes for hashes, _ in parts]), return_index=True)
        return Prompt(pieces, np.concatenate([words for _, words in parts])[first], np.array(parted, np.int32)[first], opening)


def texts_of(messages: Sequence[Message], tools: Sequence[Tool], part: int) -> list[str]:
    """The texts of one part of an input, each cut where it is very long."""
    if part == TALK:
        return [message.text[:_MOST_CHARACTERS] for message in messages if message.role == "user" and message.text.strip()]
    texts = [message.text[:_MOST_CHARACTERS] for message in messages if message.role in _SYSTEM_ROLES and message.text.strip()]
    return [*texts, " ".join(tool.name for tool in tools)] if tools else texts


def segments_of(text: str, part: int) -> Iterator[Segment]:
    """The segments of `text` that hold words."""
    for segment in SEGMENT_END.split(text):
        words = _flat(segment)
        if words:
            yield Segment(segment.strip(), words, tuple(_hashes(words, part)))


def word_count(prompt: Prompt, part: int) -> int:
    """How many words the pieces of one part stand for."""
    return int(prompt.words[prompt.part == part].sum())


def _pieces(text: str, part: int) -> tuple[Hashes, Counts]:
    hashes: list[int] = []
    words: list[int] = []
    for segment in segments_of(text, part):
        hashes += segment.pieces
        words += [_weight(segment.words)] if len(segment.words) <= 4 else [1] * len(segment.pieces)
    return np.array(hashes, dtype=np.uint64), np.array(words, dtype=np.int32)


def _weight(words: Sequence[str]) -> int:
    """The words of a short segment; in scripts without spaces a few letters count as one."""
    return max(len(words), sum(map(len, words)) // _LETTERS_A_WORD if not words[0].isascii() else 0)


def _flat(segment: str) -> tuple[str, ...]:
    flat = _DIGITS.sub("0", _CALENDAR.sub("§d", normalise(mask(segment))))
    return tuple(flat.split()) if any(letter.isalnum() for letter in flat) else ()


def _hashes(words: Sequence[str], part: int) -> list[int]:
    length = min(4, len(words))
    single = np.array([word_hash(word) for word in words], dtype=np.uint64)
    count = len(words) - length + 1
    hashes = single[:count] + np.uint64(2 * length + part)
    for step in range(1, length):
        hashes = hashes * PRIME + single[step : count + step]
    hashes = (hashes ^ (hashes >> np.uint64(31))) * PRIME
    found: list[int] = (hashes ^ (hashes >> np.uint64(29))).tolist()
    return found
