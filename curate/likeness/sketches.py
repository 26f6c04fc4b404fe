"""Short sketches of texts that show, without reading them, which pairs cannot be similar enough.

A sketch has a bit for each of 512 parts that the hashes of a text's 4-grams fall into. A bit that only one of two texts has
stands for a gram that the other lacks, so the bits in common bound the grams in common from above: E. Sandes, G. Teodoro and
A. Melo, "Bitmap filter: speeding up exact set similarity joins with bitwise operations", 2020. No similar pair is lost. Of long
texts, with far more grams than bits, nothing can be told and all their pairs pass.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from curate.likeness.engine import Engine
from curate.likeness.similarity import Flags, Indices, Keys, distinct_grams

_WORDS = 8
_WORD, _BIT = np.uint64(64 - 20 - 3), np.uint64(64 - 20 - 9)  # from the 44 bits that a gram's hash has


@dataclass(frozen=True, slots=True)
class Sketches:
    """For each text its bits, how many grams it has, and how many of them share a bit with another; 80 bytes a text."""

    bits: Keys
    sizes: Indices
    hidden: Indices

    @classmethod
    def of(cls, texts: Any, engine: Engine) -> Sketches:
        """The sketches of an Arrow array of texts."""
        import pyarrow as pa

        found = engine.map_batches(pa.table({"text": texts}), sketch, pa.binary(8 * (_WORDS + 1)))
        rows = np.frombuffer(found.buffers()[1] or b"", np.uint64)[found.offset * (_WORDS + 1) :].reshape(-1, _WORDS + 1)
        rows = rows[: len(found)]
        sizes = rows[:, 0].astype(np.int64)
        return cls(rows[:, 1:], sizes, sizes - np.bitwise_count(rows[:, 1:]).sum(axis=1, dtype=np.int64))

    def may_reach(self, threshold: float, a: Indices, b: Indices) -> Flags:
        """Which pairs (a[i], b[i]) may have a Jaccard similarity of `threshold`; none that has it is missing."""
        common = np.bitwise_count(self.bits[a] & self.bits[b]).sum(axis=1, dtype=np.int64)
        shared = common + np.minimum(self.hidden[a], self.hidden[b])
        return np.asarray(shared >= threshold * (self.sizes[a] + self.sizes[b] - shared) - 1e-9)


def sketch(texts: Any) -> Any:
    """How many distinct grams each text has, and its bits: a fixed-size binary Arrow array of 64-bit words."""
    import pyarrow as pa

    found = distinct_grams(texts)
    rows = np.zeros((len(texts), _WORDS + 1), np.uint64)
    rows[:, 0] = np.diff(found.starts)
    place = (found.values >> _WORD).astype(np.int64) + 1
    bit = np.uint64(1) << ((found.values >> _BIT) & np.uint64(63))
    np.bitwise_or.at(rows, (found.rows, place), bit)
    return pa.FixedSizeBinaryArray.from_buffers(pa.binary(rows.shape[1] * 8), len(rows), [None, pa.py_buffer(rows)])
