"""Rows that share a key: the pairs worth comparing."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from curate.likeness.similarity import Indices, Keys

LIMIT, _WINDOW = 100, 30
_ROW_BITS = 32
_HELD = 1 << 24

Codes = npt.NDArray[np.int64]
"""Pairs of rows, each as one number: see `code`."""


def code(a: Indices, b: Indices) -> Codes:
    """Pairs (a[i], b[i]) as numbers that sort as the pairs do; rows are below 2**31."""
    return np.asarray(np.minimum(a, b) << _ROW_BITS | np.maximum(a, b))


def decode(codes: Codes) -> tuple[Indices, Indices]:
    """The pairs that `code` made into numbers."""
    return codes >> _ROW_BITS, codes & (2**_ROW_BITS - 1)


def distinct(codes: Codes) -> Codes:
    """Each of `codes` once, sorted. Ten times as fast on millions of them as np.unique, which goes by hashes."""
    ordered = np.sort(codes)
    return ordered[np.concatenate([[True], ordered[1:] != ordered[:-1]])] if len(ordered) else ordered


def edges(keys: Keys) -> tuple[Codes, int]:
    """The pairs of rows that agree in a column of `keys`, sorted, and how many buckets were too crowded to pair all with all."""
    held, crowded = [np.empty(0, np.int64)], 0
    for column in range(keys.shape[1]):
        values = keys[:, column]
        order = np.argsort(values, kind="stable")
        bounds = np.flatnonzero(np.diff(values[order]) != 0) + 1
        found, full = bucket_pairs(order, np.concatenate([[0], bounds, [len(order)]]))
        held.append(found)
        crowded += full
        if sum(map(len, held)) > max(_HELD, 2 * len(held[0])):
            held = [distinct(np.concatenate(held))]
    return distinct(np.concatenate(held)), crowded


def bucket_pairs(members: Indices, starts: Indices) -> tuple[Codes, int]:
    """Pairs within buckets of rows, in order: bucket i holds members[starts[i]:starts[i + 1]]; and how many are crowded.

    In a crowded one each row meets the next few only, which still chains the whole bucket.
    """
    sizes = np.diff(starts)
    held = [np.empty(0, np.int64)]
    for size in np.unique(sizes[(sizes > 1) & (sizes <= LIMIT)]).tolist():
        rows = members[starts[:-1][sizes == size][:, None] + np.arange(size)]
        left, right = np.triu_indices(size, 1)
        held.append(code(rows[:, left], rows[:, right]).ravel())
    crowded = np.flatnonzero(sizes > LIMIT)
    for bucket in crowded.tolist():
        rows = members[starts[bucket] : starts[bucket + 1]]
        held += [code(rows[:-step], rows[step:]) for step in range(1, _WINDOW + 1)]
    return np.concatenate(held), len(crowded)
