"""How hard each example is, for an eval set that asks more than the average: disputed, rare, or badly scored.

    disputed   teachers or near duplicates answer the same otherwise, or a person or a prediction doubts the target
    rare       the label or tool is seldom; where all labels are the same, as in free text, the words of the input are
    low score  a judge or feedback thought little of the answer

Pure; `splits.assign` takes fresh eval groups from the hardest.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Sequence

_DISPUTED_WEIGHT = 2.0
"""A dispute says more about one example than the frequency of its label does."""


def hardness(
    labels: Sequence[str], texts: Sequence[str], scores: Sequence[float | None], disputed: Collection[int]
) -> list[float]:
    """Hardness of each row in [0, 1]: the weighted mean of dispute, rarity and low score, each by its place among all rows.

    `labels` as `sampling.labels_of` gives them, `texts` what varies in the inputs, `scores` of any scale (None: unknown, which
    counts as average where others are known), `disputed` the rows that something speaks against.
    """
    rare = _places(_rarity(labels, texts))
    known = [score for score in scores if score is not None]
    low = _places([-(sum(known) / len(known) if score is None else score) for score in scores]) if known else []
    out = []
    for row, rarity in enumerate(rare):
        parts = [(_DISPUTED_WEIGHT, float(row in disputed)), (1.0, rarity)]
        if low:
            parts.append((1.0, low[row]))
        out.append(sum(weight * part for weight, part in parts) / sum(weight for weight, _ in parts))
    return out


def _rarity(labels: Sequence[str], texts: Sequence[str]) -> list[float]:
    counts = Counter(labels)
    if len(counts) > 1:
        return [1 / counts[label] for label in labels]
    words = [set(text.split()) for text in texts]
    holders = Counter(word for of_text in words for word in of_text)
    return [sum(math.log(len(texts) / holders[word]) for word in sorted(of)) / len(of) if of else 0.0 for of in words]


def _places(values: Sequence[float]) -> list[float]:
    """The share of the other values that each exceeds, equals counting half; 0.5 for a single one."""
    counts = Counter(values)
    below: dict[float, float] = {}
    passed = 0
    for value in sorted(counts):
        below[value] = (passed + (counts[value] - 1) / 2) / max(len(values) - 1, 1)
        passed += counts[value]
    return [below[value] if len(values) > 1 else 0.5 for value in values]
