"""Words of the full-text index, and the questions put to it: the same words match in SQLite and in PostgreSQL.

Both stores get text that only has letters, digits and spaces, so neither's own idea of a word (numbers with signs, addresses,
hyphens, accents) plays a part. What `searchable` returns is what the index holds: a change to it needs a migration that
rebuilds table exchange_words.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import chain

MAX_CHARACTERS = 50_000
"""What comes later in a text is not searched."""
MAX_WORDS = 16_000
"""PostgreSQL knows the places of the first 16,383 words, so that a phrase behind them is not found there."""
MAX_WORD = 64
"""Letters of a word that count; more of them are not language."""

_ASCII = bytes(
    code if 48 <= code < 58 or 97 <= code < 123 or code > 127 else code + 32 if 65 <= code < 91 else 32 for code in range(256)
)
"""Translates UTF-8: letters of ASCII to lower case, the rest of ASCII to spaces; other letters stay."""
_FOREIGN = re.compile("[^\x00-\x7f]+")
_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1100-\u11ff\u1780-\u17ff\u3005-\u3007\u3040-\u318f\u31a0-\u31ff\u3400-\u4dbf\u4e00-\u9fff"
    "\uac00-\ud7ff\uf900-\ufaff\U00020000-\U0003ffff]"
)
"""Scripts that are written without spaces between words (and Hangul, whose endings cling): each letter counts as a word."""
_SOUND_MARKS = "\u3099\u309a"


class _Folding(dict[int, str]):
    """What a letter beyond ASCII becomes; remembers the first 20,000 that it is asked for."""

    def __missing__(self, code: int) -> str:
        folded = _fold(chr(code))
        if len(self) < 20_000:
            self[code] = folded
        return folded


_FOLDING = _Folding()


@dataclass(frozen=True, slots=True)
class Phrase:
    """Words that follow each other; with `is_prefix` the last of them is only the beginning of a word."""

    words: tuple[str, ...]
    is_prefix: bool = False


def searchable(text: str) -> str:
    """`text` as the index keeps it: lower-case words without accents, separated by spaces; any str, never an error.

    Words are cut after 64 letters; the text after 50,000 characters or 16,000 words.
    """
    text = text[:MAX_CHARACTERS]
    if not text.isascii():
        text = _FOREIGN.sub(_fold_run, unicodedata.normalize("NFKC", text))
    folded = text[: 2 * MAX_CHARACTERS].encode().translate(_ASCII).decode()
    if _has_long_word(folded):
        folded = " ".join([word[:MAX_WORD] for word in folded.split(" ")])
    if len(folded) >= 2 * MAX_WORDS:
        folded = " ".join(folded.split()[:MAX_WORDS])
    return folded


def phrase(text: str, *, is_prefix: bool = False) -> Phrase | None:
    """`text` as a question; None when it has neither letter nor digit, for which nothing can be found."""
    words = tuple(searchable(text).split())
    return Phrase(words, is_prefix) if words else None


def tsvector(words: str) -> str:
    """What `searchable` returned, spelled as PostgreSQL's type tsvector.

    Its own parser of text would split words such as 12e34ab, and knows letters only as far as the server's locale does.
    """
    return "".join(chain.from_iterable(zip(words.split(), _places(), strict=False)))


def fts5_query(wanted: Sequence[Sequence[Phrase]], unwanted: Sequence[Sequence[Phrase]] = ()) -> str:
    """A MATCH expression: one phrase of every group of `wanted`, which has one at least, and none of `unwanted`."""
    query = " AND ".join(_either(group, _fts5_phrase, " OR ") for group in wanted)
    return f"({query}) NOT ({' OR '.join(_either(group, _fts5_phrase, ' OR ') for group in unwanted)})" if unwanted else query


def postgresql_query(wanted: Sequence[Sequence[Phrase]], unwanted: Sequence[Sequence[Phrase]] = ()) -> str:
    """The same, spelled as PostgreSQL's type tsquery."""
    parts = [_either(group, _postgresql_phrase, " | ") for group in wanted]
    return " & ".join([*parts, *("!" + _either(group, _postgresql_phrase, " | ") for group in unwanted)])


@cache
def _places() -> list[str]:
    return [f":{place} " for place in range(1, MAX_WORDS + 1)]


def _fold_run(match: re.Match[str]) -> str:
    return match[0].translate(_FOLDING)


def _fold(letter: str) -> str:
    """Without case and marks (accents, vowel points), but kana keep their sound marks and Hangul its syllables."""
    parts = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", letter).casefold())
    whole = unicodedata.normalize("NFC", "".join(part for part in parts if part in _SOUND_MARKS or not _is_mark(part)))
    if letter in _SOUND_MARKS or not whole:
        return ""
    if not whole.isalnum():
        return "".join(part if part.isalnum() else " " for part in whole)
    return _UNSPACED.sub(r" \g<0> ", whole)


def _is_mark(letter: str) -> bool:
    """Signs that belong to a letter; for SQLite some of New Tai Lue and Vedic are such that Unicode counts as letters."""
    return unicodedata.category(letter)[0] == "M" or "\u19b0" <= letter <= "\u19c9" or "\u1cf2" <= letter <= "\u1cf3"


def _has_long_word(text: str) -> bool:
    """Looks from space to the last space within reach, which for prose is a tenth of the work of splitting."""
    position, end = 0, len(text)
    while end - position > MAX_WORD:
        space = text.rfind(" ", position, position + MAX_WORD + 1)
        if space < 0:
            return True
        position = space + 1
    return False


def _either(group: Sequence[Phrase], spell: Callable[[Phrase], str], word_for_or: str) -> str:
    return word_for_or.join(spell(phrase) for phrase in group).join("()")


def _fts5_phrase(phrase: Phrase) -> str:
    return '"' + " ".join(phrase.words) + '"' + ("*" if phrase.is_prefix else "")


def _postgresql_phrase(phrase: Phrase) -> str:
    return " <-> ".join(phrase.words).join("()") if not phrase.is_prefix else f"({' <-> '.join(phrase.words)}:*)"
