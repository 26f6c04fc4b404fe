"""The overlap certificate: no eval example has an equal or a near-equal in train.

Joined afresh and exactly, by other means than the clustering: equal wording; character 4-gram Jaccard by a prefix
filter (Xiao et al., "Efficient similarity joins for near duplicate detection", 2008), which misses no pair; shared word
8-grams as part of the shorter text.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from curate.duplicates import Wording
from curate.settings import CurateSettings

_WORDS = 8
_CHUNK = 2_000


@dataclass(frozen=True, slots=True)
class Overlap:
    """Train rows that overlap with eval, by the way they do."""

    exact: frozenset[int]
    near: frozenset[int]
    ngram8: frozenset[int]

    @property
    def rows(self) -> frozenset[int]:
        """All of them."""
        return self.exact | self.near | self.ngram8

    def counts(self) -> dict[str, int]:
        """Rows by way, as a manifest says it."""
        return {"exact": len(self.exact), "near": len(self.near), "ngram8": len(self.ngram8)}


def find_overlap(train: Sequence[Wording], held_out: Sequence[Wording], settings: CurateSettings) -> Overlap:
    """Joins the wordings of train with those of eval; likeness is judged on what varies."""
    varying, own = {wording.varying for wording in held_out}, {wording.own for wording in held_out}
    exact = frozenset(row for row, wording in enumerate(train) if wording.varying in varying or wording.own in own)
    if not train or not held_out:
        return Overlap(exact, frozenset(), frozenset())
    left, right = [wording.varying for wording in train], [wording.varying for wording in held_out]
    return Overlap(exact, _near(left, right, settings.split_threshold), _sharing(left, right, settings.ngram_share))


def _near(train: Sequence[str], held_out: Sequence[str], threshold: float) -> frozenset[int]:
    from sklearn.feature_extraction.text import CountVectorizer

    vectorizer = CountVectorizer(analyzer="char", ngram_range=(4, 4), binary=True, lowercase=False, dtype=np.int32)
    rows = vectorizer.fit_transform([text if len(text) >= 4 else text.ljust(4, "\x00") for text in (*train, *held_out)]).tocsr()
    sizes = np.diff(rows.indptr)
    prefixes = _prefixes(rows, threshold)
    rests = sizes - np.diff(prefixes.indptr)
    eval_prefixes = prefixes[len(train) :].T.tocsr()
    found: set[int] = set()
    for start in range(0, len(train), _CHUNK):
        end = min(start + _CHUNK, len(train))
        common = (prefixes[start:end] @ eval_prefixes).tocoo()
        left, right = start + common.row, len(train) + common.col
        # What two rows share beyond their prefixes lies in the rest of one of them; see section 3 of the paper.
        needed = threshold / (1 + threshold) * (sizes[left] + sizes[right]) - 1e-9
        likely = common.data + np.maximum(rests[left], rests[right]) >= needed
        left, right = left[likely], right[likely]
        shared = np.asarray(rows[left].multiply(rows[right]).sum(axis=1)).ravel()
        close = shared >= threshold * (sizes[left] + sizes[right] - shared)
        found |= set(left[close].tolist())
    return frozenset(found)


def _prefixes(rows: Any, threshold: float) -> Any:
    """Of each row the rarest shingles: two rows as similar as `threshold` have at least one of these in common."""
    from scipy.sparse import csr_matrix

    counts = np.asarray(rows.sum(axis=0)).ravel()
    rarity = np.empty(len(counts), dtype=np.int64)
    rarity[np.argsort(counts, kind="stable")] = np.arange(len(counts))
    ordered = csr_matrix((rows.data, rarity[rows.indices], rows.indptr), shape=rows.shape)
    ordered.sort_indices()
    sizes = np.diff(ordered.indptr)
    lengths = np.array([size - math.ceil(threshold * size - 1e-9) + 1 for size in sizes.tolist()], dtype=np.int64)
    place = np.arange(len(ordered.indices)) - np.repeat(ordered.indptr[:-1], sizes)
    chosen = place < np.repeat(lengths, sizes)
    indptr = np.concatenate([[0], np.cumsum(np.minimum(lengths, sizes))])
    return csr_matrix((ordered.data[chosen], ordered.indices[chosen], indptr), shape=rows.shape)


def _sharing(train: Sequence[str], held_out: Sequence[str], limit: float) -> frozenset[int]:
    holders: dict[str, list[int]] = defaultdict(list)
    sizes = []
    for row, text in enumerate(held_out):
        grams = _word_grams(text)
        sizes.append(len(grams))
        for gram in grams:
            holders[gram].append(row)
    found = set()
    for row, text in enumerate(train):
        grams = _word_grams(text)
        shared = Counter(other for gram in grams for other in holders.get(gram, ()))
        if any(count > limit * min(len(grams), sizes[other]) for other, count in shared.items()):
            found.add(row)
    return frozenset(found)


def _word_grams(text: str) -> set[str]:
    words = text.split()
    return {" ".join(words[start : start + _WORDS]) for start in range(len(words) - _WORDS + 1)}
