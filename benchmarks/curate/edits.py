"""What people and apps do to an input that stays the same input, and what makes another one of it by one word.

As the reference of curation measured them: the same again, case and punctuation and white space, volatile slots, slips in 6 % of
the words, a phrase of courtesy, a light paraphrase of 10 % of the words. Hard negatives: one number changed, a negation added.
"""

from __future__ import annotations

import math
import random
import uuid

from curate.likeness.wording import critical

EXACT, SPELLING, SLOT, TYPO, COURTESY, PARAPHRASE = "exact", "wscase", "slot", "typo", "courtesy", "para"
KINDS = (EXACT, SPELLING, SLOT, TYPO, COURTESY, PARAPHRASE)
NUMBER, NEGATION = "numneg", "negation"
HARD = (NUMBER, NEGATION)

_TYPO_SHARE, _PARAPHRASE_SHARE = 0.06, 0.10
_BEFORE = ("Hello, ", "Hi, ", "Hi there, ", "Please help: ", "Quick question: ", "Good morning, ")
_AFTER = (" Thanks!", " Thank you.", " Please advise.", " Thanks in advance", " Cheers", " I appreciate your help")
_NEGATIONS = ("not", "never")
_LETTERS = "abcdefghijklmnopqrstuvwxyz"


def edited(text: str, kind: str, generator: random.Random) -> str:
    """`text` after an edit that does not change what is asked."""
    if kind == SPELLING:
        return _respelled(text, generator)
    if kind == SLOT:
        return with_slot(text, generator)
    if kind == COURTESY:
        return generator.choice(_BEFORE) + text if generator.random() < 0.5 else text + generator.choice(_AFTER)
    if kind == TYPO:
        return _with_slips(text, generator)
    return _paraphrased(text, generator) if kind == PARAPHRASE else text


def other_input(text: str, generator: random.Random) -> tuple[str, str] | None:
    """Another input that looks like `text` and what makes it one; None for a text too short for that."""
    words = text.split()
    numbers = [place for place, word in enumerate(words) if word.isdecimal()]
    if numbers:
        place = generator.choice(numbers)
        words[place] = str(int(words[place]) + generator.randint(1, 9))
        return " ".join(words), NUMBER
    if len(words) < 6:
        return None
    words.insert(generator.randint(1, len(words) - 1), generator.choice(_NEGATIONS))
    return " ".join(words), NEGATION


def with_slot(text: str, generator: random.Random) -> str:
    """`text` with what an app adds and changes at every call: a time, an id of the request, or both."""
    day = f"2026-{generator.randint(1, 12):02d}-{generator.randint(1, 28):02d}"
    time = f"{day}T{generator.randint(0, 23):02d}:{generator.randint(0, 59):02d}:{generator.randint(0, 59):02d}Z"
    request = str(uuid.UUID(int=generator.getrandbits(128)))
    return f"[{time} {request}] {text}"


def _respelled(text: str, generator: random.Random) -> str:
    how = generator.randrange(4)
    if how == 0:
        return text.upper()
    if how == 1:
        return f"{text.lower().rstrip('.?!')}{generator.choice(('', '??', '...', ' !'))}"
    if how == 2:
        return "  ".join(text.split(" "))
    return text.replace(",", " ,").capitalize() + generator.choice(("\n", " ", ".", "?"))


def _with_slips(text: str, generator: random.Random) -> str:
    words = text.split()
    places = _free_places(words)
    for place in generator.sample(places, min(len(places), max(1, math.ceil(_TYPO_SHARE * len(words))))):
        word = words[place]
        at, how = generator.randrange(max(1, len(word) - 1)), generator.randrange(4)
        if how == 0 and len(word) > 2:
            words[place] = word[:at] + word[at + 1 : at + 2] + word[at] + word[at + 2 :]
        elif how == 1 and len(word) > 3:
            words[place] = word[:at] + word[at + 1 :]
        elif how == 2:
            words[place] = word[:at] + word[at] + word[at:]
        else:
            words[place] = word[:at] + generator.choice(_LETTERS) + word[at + 1 :]
    return _if_critical_agrees(" ".join(words), text)


def _paraphrased(text: str, generator: random.Random) -> str:
    words = text.split()
    places = _free_places(words)
    for place in sorted(generator.sample(places, min(len(places), max(1, round(_PARAPHRASE_SHARE * len(words))))), reverse=True):
        if generator.random() < 0.5 and place + 1 < len(words):
            words[place], words[place + 1] = words[place + 1], words[place]
        elif len(words) > 5:
            del words[place]
    return _if_critical_agrees(" ".join(words), text)


def _free_places(words: list[str]) -> list[int]:
    """Words whose change does not make another input: no numbers, no negations."""
    return [place for place, word in enumerate(words) if critical(word) == ((), 0)]


def _if_critical_agrees(changed: str, text: str) -> str:
    return changed if critical(changed) == critical(text) else text
