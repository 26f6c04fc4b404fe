"""Near duplicates as rensa and datasketch find them: MinHash of 128 permutations over character 4-grams, threshold 0.6.

Both are used as their documents show, in one pass: a row goes when a row that was kept before shares a band with it and the two
signatures say 0.6 or more, the most similar one for it; else it is kept and inserted. They have no guard.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from benchmarks.curate.truth import Rows

RENSA, DATASKETCH = "rensa", "datasketch"
NAMES = (RENSA, DATASKETCH)
_PERMUTATIONS, _THRESHOLD, _BANDS = 128, 0.6, 32


def kept(name: str, texts: Sequence[str]) -> Rows:
    """For each text the row that stays for it."""
    return _kept_by_rensa(texts) if name == RENSA else _kept_by_datasketch(texts)


def _grams(text: str) -> list[str]:
    return list({text[start : start + 4] for start in range(max(1, len(text) - 3))})


def _kept_by_rensa(texts: Sequence[str]) -> Rows:
    from rensa import RMinHash, RMinHashLSH

    index = RMinHashLSH(threshold=_THRESHOLD, num_perm=_PERMUTATIONS, num_bands=_BANDS)

    def signature(text: str) -> Any:
        made = RMinHash(num_perm=_PERMUTATIONS, seed=1)
        made.update(_grams(text))
        return made

    return _one_by_one(texts, signature, index.query, index.insert)


def _kept_by_datasketch(texts: Sequence[str]) -> Rows:
    from datasketch import MinHash, MinHashLSH

    index = MinHashLSH(threshold=_THRESHOLD, num_perm=_PERMUTATIONS)

    def signature(text: str) -> Any:
        made = MinHash(num_perm=_PERMUTATIONS, seed=1)
        made.update_batch([gram.encode() for gram in _grams(text)])
        return made

    return _one_by_one(texts, signature, index.query, index.insert)


def _one_by_one(
    texts: Sequence[str],
    signature: Callable[[str], Any],
    query: Callable[[Any], Sequence[int]],
    insert: Callable[[int, Any], None],
) -> Rows:
    stays = np.arange(len(texts))
    signatures: dict[int, Any] = {}
    for row, text in enumerate(texts):
        mine = signature(text)
        likely = ((mine.jaccard(signatures[other]), -other) for other in query(mine))
        similarity, other = max(likely, default=(0.0, 0))
        if similarity >= _THRESHOLD:
            stays[row] = -other
        else:
            insert(row, mine)
            signatures[row] = mine
    return stays
