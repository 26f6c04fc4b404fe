"""How grams and words are hashed to 64 bits: the same in every process, on every machine, for ever, as versions hold hashes.

A hash beside the number of its row fits in 64 bits as well: `hash >> LOWER` has 44 bits, the number stands above them at `UPPER`,
and `LOW` takes it off again.
"""

from __future__ import annotations

from functools import lru_cache
from hashlib import blake2b

import numpy as np
import numpy.typing as npt

PRIME, MIX = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9)
LOWER, UPPER, LOW = np.uint64(20), np.uint64(44), np.uint64((1 << 44) - 1)

Hashes = npt.NDArray[np.uint64]


@lru_cache(maxsize=65_536)
def word_hash(word: str) -> int:
    """64 bits of BLAKE2b; half of a surrogate pair counts as '?'."""
    return int.from_bytes(blake2b(word.encode("utf-8", "replace"), digest_size=8).digest(), "big")


def runs(values: Hashes, length: int) -> Hashes:
    """A hash for each run of `length` neighbours in `values`, in their order; none where there are fewer."""
    count = max(len(values) - length + 1, 0)
    hashed = values[:count]
    for step in range(1, length):
        hashed = hashed * PRIME + values[step : step + count]
    return hashed
