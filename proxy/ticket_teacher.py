"""The scripted teacher's answers to tickets: it reads the text as a small classifier does, and is wrong now and then."""

from __future__ import annotations

import math
import random
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from hashlib import blake2b
from itertools import pairwise

from proxy import ticket_texts as texts
from proxy.ticket_grammar import expand
from proxy.tickets import TASKS, fresh_text, reply_text, ticket_text

ERROR_SHARE = 0.015
_TEXTS_PER_LABEL = 300
_SMOOTHING = 0.5
_WORD = re.compile(r"[^\W\d_]+|\?")


def teacher_answer(user_prompt: str, task: str = "triage", nonce: str | int = 0, error_share: float = ERROR_SHARE) -> str:
    """What the scripted teacher replies to `user_prompt`, decided by the ticket's text and `nonce` alone.

    It gives the answer that it reads from the text, but another label for about `error_share` of all pairs of text and nonce: the
    same text asked again under another nonce may be answered otherwise.
    """
    spec, text = TASKS[task], ticket_text(user_prompt)
    if not spec.labels:
        return reply_text(text, _reader("triage").label(text))
    label = _reader(task).label(text)
    if _draw(task, text, str(nonce), "slips") < error_share:
        others = [other for other in spec.labels if other != label]
        label = others[int(_draw(task, text, str(nonce), "which") * len(others))]
    return spec.answer(label)


def warm_up() -> None:
    """Reads up on every task now (some seconds), so that no first answer has to wait for it."""
    for spec in TASKS.values():
        if spec.labels:
            _reader(spec.name)


@dataclass(frozen=True, slots=True)
class _Reader:
    """Multinomial naive Bayes over words and word pairs; a feature weighs the less, the more evenly the labels share it."""

    labels: tuple[str, ...]
    weights: Mapping[str, tuple[float, ...]]

    def label(self, text: str) -> str:
        found = [self.weights[feature] for feature in _features(text) if feature in self.weights]
        scores = [sum(column) for column in zip(*found, strict=True)] if found else [0.0]
        return self.labels[max(range(len(scores)), key=scores.__getitem__)]


@cache
def _reader(task: str) -> _Reader:
    rng = random.Random(f"reader:{task}")
    labels = TASKS[task].labels
    counts = [Counter(feature for text in _lessons(task, label, rng) for feature in _features(text)) for label in labels]
    vocabulary = {feature for count in counts for feature, seen in count.items() if seen > 1}
    totals = [sum(count.values()) + _SMOOTHING * len(vocabulary) for count in counts]
    weights: dict[str, tuple[float, ...]] = {}
    for feature in vocabulary:
        rates = [(count[feature] + _SMOOTHING) / total for count, total in zip(counts, totals, strict=True)]
        shares = [rate / sum(rates) for rate in rates]
        certainty = 1 + sum(share * math.log(share) for share in shares) / math.log(len(shares))
        weights[feature] = tuple(certainty * math.log(share) for share in shares)
    return _Reader(labels, weights)


def _lessons(task: str, label: str, rng: random.Random) -> list[str]:
    lessons = [fresh_text(task, label, rng) for _ in range(_TEXTS_PER_LABEL)]
    if task == "triage":
        lessons += [expand(pattern, rng) for pattern in texts.FOREIGN_TRIAGE[label] for _ in range(10)]
        lessons += list(texts.EMPTYISH) * (10 if label == "general_question" else 0)
    return lessons


def _features(text: str) -> list[str]:
    words = _WORD.findall(text.lower())
    return words + [f"{left} {right}" for left, right in pairwise(words)]


def _draw(*parts: str) -> float:
    """A number in [0, 1) decided by `parts`."""
    return int.from_bytes(blake2b("\x1f".join(parts).encode(), digest_size=8).digest(), "big") / 2**64
