"""Whether a text is in one of the languages that a team wants, judged by py3langid's model, which needs no network.

Short texts get the benefit of the doubt, and so does what is no prose: JSON, code, lists of numbers.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from capture.messages import Message
from curate.cleaning.json_strings import is_json
from curate.settings import language_codes

_LEAST_LETTERS = 20
_LEAST_SHARE = 0.6
_MOST_CHARACTERS = 2_000
_SURE = 0.8
_FIRST_IDEOGRAPH = "\u2e80"
_LETTERS_OF_IDEOGRAPH = 3
_NOT_PROSE = re.compile(r"```.*?(?:```|\Z)|`[^`\n]*`|https?://\S+|<[^<>\n]*>|\{[^{}]*\}|\S+@\S+", re.DOTALL)
# fmt: off
_COMMON = (
    "ar", "bg", "bn", "ca", "cs", "da", "de", "el", "en", "es", "et", "fa", "fi", "fr", "he", "hi", "hr", "hu", "id", "it", "ja",
    "ko", "lt", "lv", "ms", "nl", "no", "pl", "pt", "ro", "ru", "sk", "sl", "sr", "sv", "ta", "te", "th", "tr", "uk", "ur", "vi",
    "zh",
)
# fmt: on
"""With rare languages to choose from, one short English text in a hundred would be Latin or Volapük."""


def is_foreign(messages: Sequence[Message], languages: str) -> bool:
    """True when the last prose that a user says in `messages` is surely in none of `languages` (codes with commas between).

    '' allows all. The codes are those that CurateSettings takes.
    """
    wanted = frozenset(language_codes(languages))
    if not wanted:
        return False
    identifier = _identifier(wanted)
    for message in reversed(messages):
        prose = _prose(message.text) if message.role == "user" else ""
        if prose:
            language, probability = identifier.classify(prose)
            return language not in wanted and probability >= _SURE
    return False


def _prose(text: str) -> str:
    """The words of `text`; '' where there are too few of them to judge."""
    if is_json(text):
        return ""
    plain = " ".join(_NOT_PROSE.sub(" ", text[: 4 * _MOST_CHARACTERS]).split())[:_MOST_CHARACTERS]
    letters = sum(map(str.isalpha, plain))
    if letters + plain.count(" ") < _LEAST_SHARE * len(plain):
        return ""
    weight = letters + (_LETTERS_OF_IDEOGRAPH - 1) * sum(letter >= _FIRST_IDEOGRAPH for letter in plain)
    return plain if weight >= _LEAST_LETTERS else ""


@lru_cache(maxsize=8)
def _identifier(wanted: frozenset[str]) -> Any:
    identifier = copy.copy(_model())
    identifier.set_languages(sorted(wanted.union(_COMMON)))
    return identifier


@lru_cache(maxsize=1)
def _model() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
