"""Pairs of similar texts: character 4-grams, MinHash with banding for candidates, exact Jaccard for the verdict.

MinHash: Broder, "On the resemblance and containment of documents", 1997. 128 hashes in 25 bands of 5 give a pair of
similarity 0.6 a chance of 0.87 to be looked at, 0.7 of 0.99, 0.5 of 0.55.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

_HASHES, _BANDS, _ROWS, _SEED = 128, 25, 5, 1
_BUCKET_LIMIT, _WINDOW = 100, 30
_CHUNK = 50_000

Indices = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Pairs:
    """Pairs a[i] < b[i] with their Jaccard similarity, sorted. `crowded` counts buckets too full to compare all with all."""

    a: Indices
    b: Indices
    similarity: Floats
    crowded: int = 0

    def where(self, chosen: npt.NDArray[np.bool_]) -> Pairs:
        """The pairs that `chosen` marks."""
        return Pairs(self.a[chosen], self.b[chosen], self.similarity[chosen], self.crowded)


def shingles(texts: Sequence[str]) -> Any:
    """One sparse row per text: which hashed character 4-grams it holds. Texts shorter than that hold themselves."""
    from sklearn.feature_extraction.text import HashingVectorizer

    vectorizer = HashingVectorizer(
        analyzer="char", ngram_range=(4, 4), n_features=2**22, norm=None, alternate_sign=False, binary=True,
        lowercase=False, dtype=np.float32,
    )  # fmt: skip
    return vectorizer.transform([text if len(text) >= 4 else text.ljust(4, "\x00") for text in texts]).tocsr()


def similar_pairs(texts: Sequence[str], threshold: float) -> Pairs:
    """Pairs of `texts` whose similarity is at least `threshold`; deterministic, and near-complete from 0.7 on."""
    if len(texts) < 2:
        return Pairs(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))
    rows = shingles(texts)
    a, b, crowded = _candidates(_signatures(rows))
    similarity = jaccard(rows, a, b)
    return Pairs(a, b, similarity, crowded).where(similarity >= threshold)


def jaccard(rows: Any, a: Indices, b: Indices) -> Floats:
    """Exact Jaccard similarity of rows a[i] and b[i] of a binary sparse matrix."""
    sizes = np.diff(rows.indptr).astype(np.float64)
    parts = [np.empty(0)]
    for start in range(0, len(a), _CHUNK):
        left, right = a[start : start + _CHUNK], b[start : start + _CHUNK]
        shared = np.asarray(rows[left].multiply(rows[right]).sum(axis=1)).ravel()
        union = sizes[left] + sizes[right] - shared
        parts.append(np.divide(shared, union, out=np.zeros(len(left)), where=union > 0))
    return np.concatenate(parts)


def _signatures(rows: Any) -> npt.NDArray[np.uint32]:
    generator = np.random.default_rng(_SEED)
    factors = generator.integers(1, 2**63, _HASHES, dtype=np.uint64) | np.uint64(1)
    offsets = generator.integers(0, 2**63, _HASHES, dtype=np.uint64)
    hashed = (rows.indices.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)) * np.uint64(0xBF58476D1CE4E5B9)
    hashed ^= hashed >> np.uint64(29)
    out = np.empty((rows.shape[0], _HASHES), np.uint32)
    for place in range(_HASHES):
        values = ((hashed * factors[place] + offsets[place]) >> np.uint64(32)).astype(np.uint32)
        out[:, place] = np.minimum.reduceat(values, rows.indptr[:-1])
    return out


def _candidates(signatures: npt.NDArray[np.uint32]) -> tuple[Indices, Indices, int]:
    count, crowded = len(signatures), 0
    codes = [np.empty(0, np.int64)]
    for band in range(_BANDS):
        part = np.ascontiguousarray(signatures[:, band * _ROWS : (band + 1) * _ROWS])
        _, group = np.unique(part.view([("", np.uint32)] * _ROWS).ravel(), return_inverse=True)
        order = np.argsort(group, kind="stable")
        bounds = np.flatnonzero(np.diff(group[order], prepend=-1, append=-1))
        for start, end in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
            if end - start > 1:
                left, right = _bucket_pairs(order[start:end])
                crowded += end - start > _BUCKET_LIMIT
                codes.append(left * count + right)
    unique = np.unique(np.concatenate(codes))
    return unique // count, unique % count, crowded


def _bucket_pairs(members: Indices) -> tuple[Indices, Indices]:
    """All pairs of a bucket; of a crowded one each member with the next few, which still chains the whole bucket."""
    size = len(members)
    if size <= _BUCKET_LIMIT:
        left, right = np.triu_indices(size, 1)
        return members[left], members[right]
    steps = [(members[:-step], members[step:]) for step in range(1, _WINDOW + 1)]
    return np.concatenate([left for left, _ in steps]), np.concatenate([right for _, right in steps])
