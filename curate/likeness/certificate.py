"""The overlap certificate: no eval example has an equal or a near-equal in train.

Joined afresh and exactly, by other means than the clustering, on what varies of the inputs: equal wording; character 4-gram
Jaccard similarity of at least `overlap_threshold`; more than `ngram_share` of the word 8-grams of the shorter text, without those
that are common property (see `joins.sharing`). So what it certifies is: no train input asks what an eval input asks, nor holds a
good part of what is an eval input's own. Two prompts that only quote the same passages, as many others do, are two examples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from curate.likeness.duplicates import Wording
from curate.likeness.engine import LOCAL, Engine
from curate.likeness.joins import resembling, sharing
from curate.likeness.similarity import Flags, arrow_texts
from curate.settings import CurateSettings


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


def find_overlap(
    train: Sequence[Wording], held_out: Sequence[Wording], settings: CurateSettings, engine: Engine = LOCAL
) -> Overlap:
    """Joins the wordings of train with those of eval; likeness is judged on what varies."""
    varying, own = {wording.varying for wording in held_out}, {wording.own for wording in held_out}
    exact = frozenset(row for row, wording in enumerate(train) if wording.varying in varying or wording.own in own)
    if not train or not held_out:
        return Overlap(exact, frozenset(), frozenset())
    texts = {wording.varying: 0 for wording in train}
    near = resembling(arrow_texts(list(texts)), arrow_texts(sorted(varying)), settings.overlap_threshold)
    shared = sharing(list(texts), sorted(varying), settings.ngram_share, engine)
    return Overlap(exact, _rows(train, texts, near), _rows(train, texts, shared))


def _rows(train: Sequence[Wording], texts: dict[str, int], flags: Flags) -> frozenset[int]:
    found = {text for text, flag in zip(texts, flags.tolist(), strict=True) if flag} if np.any(flags) else set()
    return frozenset(row for row, wording in enumerate(train) if wording.varying in found)
