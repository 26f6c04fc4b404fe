"""Inputs of like meaning, by a user's own embedding: for a person to look at, never to delete.

Cosine similarity of embeddings merges what differs in the one word that counts, so nothing here drops an example. Vectors are
compared in blocks, so memory does not grow with the square of the rows.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from capture.errors import PotstillError

_BLOCK = 1_024
MOST_PAIRS = 100_000
NOTE = "an embedding finds it like"
"""How each note of this module begins."""

Vectors = npt.NDArray[np.float32]


class EmbeddingError(PotstillError):
    """Vectors cannot be read, or do not fit each other."""


@dataclass(frozen=True, slots=True)
class AlikePair:
    """Two ids, the smaller first, and the cosine of their vectors."""

    left: str
    right: str
    similarity: float


@dataclass(frozen=True, slots=True)
class Alike:
    """The most similar pairs, best first, and how many there are in all."""

    pairs: tuple[AlikePair, ...]
    found: int


def similar_by_embedding(vectors: Vectors, ids: Sequence[str], threshold: float, most: int = MOST_PAIRS) -> Alike:
    """All pairs of rows whose cosine is at least `threshold`; of more than `most` the best are listed and all are counted.

    EmbeddingError for a row that is not finite or all zero, for ids that come twice, and for a threshold outside (0, 1].
    """
    if not 0 < threshold <= 1:
        raise EmbeddingError(f"The threshold {threshold} is not above 0 and at most 1.", "Try 0.95.")
    unit = _unit(vectors, ids)
    best: list[tuple[float, str, str]] = []
    found = 0
    for start in range(0, len(ids), _BLOCK):
        rows = unit[start : start + _BLOCK]
        for other in range(start, len(ids), _BLOCK):
            cosines = rows @ unit[other : other + _BLOCK].T
            if other == start:
                cosines = np.triu(cosines, 1)
            # the cosine of a row with itself comes out a little off 1
            left, right = np.nonzero(cosines >= threshold - 1e-6)
            found += len(left)
            best = _best(best, cosines[left, right], left + start, right + other, ids, most)
    ranked = sorted(best, key=lambda pair: (-pair[0], pair[1], pair[2]))
    return Alike(tuple(AlikePair(left, right, round(min(similarity, 1.0), 4)) for similarity, left, right in ranked), found)


def notes_of(pairs: Sequence[AlikePair]) -> Mapping[str, str]:
    """What Review says of each id: the one that is most like it, how much, and how many others are."""
    closest: dict[str, AlikePair] = {}
    counts: dict[str, int] = {}
    for pair in pairs:
        for id in (pair.left, pair.right):
            counts[id] = counts.get(id, 0) + 1
            if id not in closest or pair.similarity > closest[id].similarity:
                closest[id] = pair
    return {
        id: f"{NOTE} {pair.right if id == pair.left else pair.left} ({pair.similarity:.2f})"
        + (f" and {counts[id] - 1} more" if counts[id] > 1 else "")
        for id, pair in sorted(closest.items())
    }


def _best(
    best: list[tuple[float, str, str]], cosines: Vectors, left: npt.NDArray[np.int64], right: npt.NDArray[np.int64],
    ids: Sequence[str], most: int,
) -> list[tuple[float, str, str]]:  # fmt: skip
    if len(cosines) > most:
        # of equal cosines those of the first rows, whatever the sort does inside
        chosen = np.lexsort((right, left, -cosines))[:most]
        cosines, left, right = cosines[chosen], left[chosen], right[chosen]
    floor = best[-1][0] if len(best) >= most else -math.inf
    new = [
        (float(cosine), *sorted((ids[a], ids[b])))
        for cosine, a, b in zip(cosines.tolist(), left.tolist(), right.tolist(), strict=True)
        if cosine >= floor
    ]
    return heapq.nsmallest(most, [*best, *new], key=lambda pair: (-pair[0], pair[1], pair[2])) if new else best


def _unit(vectors: Vectors, ids: Sequence[str]) -> Vectors:
    if len(vectors) != len(ids):
        raise EmbeddingError(f"There are {len(vectors)} vectors for {len(ids)} ids.", "Give one vector for each id.")
    if twice := [id for id, count in Counter(ids).items() if count > 1]:
        raise EmbeddingError(f"There are two vectors for {twice[0]!r}.", "Give one vector for each id.")
    if not len(ids):
        return np.zeros((0, 1), np.float32)
    lengths = np.linalg.norm(vectors.astype(np.float32), axis=1, keepdims=True)
    bad = np.flatnonzero(~np.isfinite(lengths[:, 0]) | (lengths[:, 0] <= 0))
    if len(bad):
        raise EmbeddingError(f"The vector of {ids[int(bad[0])]!r} is not finite or all zero.", "Leave it out, or embed it again.")
    unit: Vectors = (vectors / lengths).astype(np.float32)
    return unit
