"""The wording of texts, made comparable: volatile parts masked, spelling flattened, and what must never be flattened."""

from __future__ import annotations

import re
import unicodedata

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.IGNORECASE)
_TIME = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d)?(\.\d+)?(Z|[+-]\d\d:?\d\d)?")
_IDENTIFIER = re.compile(r"\b(?=[0-9a-f]*\d)(?=[0-9a-f]*[a-f])[0-9a-f]{12,}\b|\b[A-Z]{1,4}-?\d{6,}\b", re.IGNORECASE)
_NOT_WORD = re.compile(r"[^\w§]+")
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_NEGATION = re.compile(r"\b(?:not|no|never|without|cannot|cant|dont|doesnt|isnt|wont|nicht|kein|keine|nie|ohne)\b")

Critical = tuple[tuple[str, ...], int]


def mask(text: str) -> str:
    """`text` with UUIDs, timestamps and identifiers replaced by marks. Plain numbers stay: they carry meaning."""
    return _IDENTIFIER.sub("§i", _TIME.sub("§t", _UUID.sub("§u", text)))


def normalise(text: str) -> str:
    """Words of `text` in NFKC, casefolded, without punctuation, one space between; text without any word stays as it is."""
    folded = unicodedata.normalize("NFKC", text).casefold().replace("’", "'").replace("'", "")
    return " ".join(_NOT_WORD.sub(" ", folded).split()) or " ".join(folded.split())


def numbers(text: str) -> tuple[str, ...]:
    """The numbers in `text`, sorted, without those of masked parts."""
    return tuple(sorted(_NUMBER.findall(mask(text))))


def critical(text: str) -> Critical:
    """What must agree before two similar texts count as one: the sorted numbers and how often something is negated.

    The words of negation are English and German; other languages are guarded by their numbers alone.
    """
    plain = text.casefold().replace("’", "'").replace("'", "")
    return numbers(text), len(_NEGATION.findall(plain))
