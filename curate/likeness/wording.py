"""The wording of texts, made comparable: volatile parts masked, spelling flattened, and what must never be flattened."""

from __future__ import annotations

import re
import unicodedata

SEGMENT_END = re.compile(r"\n+|(?<=[.!?:;])\s+")
"""Where a line or a sentence ends."""
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.IGNORECASE)
_TIME = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d)?(\.\d+)?(Z|[+-]\d\d:?\d\d)?")
_IDENTIFIER = re.compile(r"\b(?=[0-9a-f]*\d)(?=[0-9a-f]*[a-f])[0-9a-f]{12,}\b|\b[A-Z]{1,4}-?\d{6,}\b", re.IGNORECASE)
_DIGIT = re.compile(r"\d")
_WORD = re.compile(r"\w+")
_NOT_WORD = re.compile(r"[^\w§]+")
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_NEGATIONS = (
    "not no never without cannot neither nor none nobody nothing nowhere cant dont doesnt didnt isnt arent wasnt werent wont"
    " wouldnt couldnt shouldnt mustnt hasnt havent hadnt neednt aint",
    "nicht nichts nie niemals niemand ohne weder kein keine keinen keinem keiner keines",
    "pas jamais rien aucun aucune sans non",
    "nunca jamás nada nadie ningún ninguno ninguna tampoco sin ni",
    "mai nessun nessuno nessuna niente nulla senza né",
    "não nem jamais ninguém nenhum nenhuma sem",
    "niet niets nooit niemand zonder geen",
)
"""English, German, French, Spanish, Italian, Portuguese, Dutch. All count in every text: a word that negates in one of these
languages and is rare or means nothing in the others costs at most a near duplicate that stays. So what is said all the time
in another sense is left out: French `ne` (Italian `ne`, `of it`; `pas` stands beside it anyway), `plus`, `personne`."""
_NEGATES = frozenset(word for words in _NEGATIONS for word in words.split())

Critical = tuple[tuple[str, ...], int]


def mask(text: str) -> str:
    """`text` with UUIDs, timestamps and identifiers replaced by marks. Plain numbers stay: they carry meaning."""
    if "-" in text:
        text = _UUID.sub("§u", text)
    return _IDENTIFIER.sub("§i", _TIME.sub("§t", text)) if _DIGIT.search(text) else text


def normalise(text: str) -> str:
    """Words of `text` in NFKC, casefolded, without punctuation, one space between; text without any word stays as it is."""
    folded = unicodedata.normalize("NFKC", text).casefold().replace("’", "'").replace("'", "")
    return " ".join(_NOT_WORD.sub(" ", folded).split()) or " ".join(folded.split())


def numbers(text: str) -> tuple[str, ...]:
    """The numbers in `text`, sorted, without those of masked parts."""
    return tuple(sorted(_NUMBER.findall(mask(text)))) if _DIGIT.search(text) else ()


def critical(text: str) -> Critical:
    """What must agree before two similar texts count as one: the sorted numbers and how often something is negated.

    Words of negation are known in seven languages (see `_NEGATIONS`); others are guarded by their numbers alone.
    """
    plain = unicodedata.normalize("NFKC", text).casefold().replace("’", "'").replace("'", "")
    return numbers(text), sum(word in _NEGATES for word in _WORD.findall(plain))
