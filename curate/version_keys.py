"""The keys of a dataset version: hashes of its inputs, from which no text can be read.

They stay when texts go with their retention, so that what was held out is known for ever. An erasure takes them too: who knows
a text can tell by its hash that it was there.
"""

from __future__ import annotations

import io
from collections.abc import Collection, Sequence
from hashlib import blake2b

import numpy as np
import numpy.typing as npt

from capture.errors import StoreError
from curate.likeness.duplicates import Wording
from curate.likeness.similarity import BANDS, arrow_texts, band_keys
from curate.splits import SPLITS

KEYS = "keys.npy"
KEY = np.dtype([("input", "<u8"), ("exact", "<u8"), ("split", "u1"), ("bands", "<u8", (BANDS,))])

KeyRows = npt.NDArray[np.void]


def make_keys(wordings: Sequence[Wording], input_keys: Sequence[str], splits: Sequence[str]) -> bytes:
    """The file `keys.npy` of a version: for each kept example hashes of its input and wording, and its split.

    The same examples give the same bytes, in whatever order they come.
    """
    rows = np.zeros(len(wordings), KEY)
    rows["input"] = [hash_of(key) for key in input_keys]
    rows["exact"] = [hash_of(wording.varying) for wording in wordings]
    rows["split"] = [SPLITS.index(split) for split in splits]
    rows["bands"] = band_keys(arrow_texts([wording.varying for wording in wordings]))
    return _written(np.sort(rows, order=["input", "exact", "split"]))


def load_keys(data: bytes) -> KeyRows:
    """The keys that `make_keys` wrote; StoreError when they are none."""
    try:
        rows = np.load(io.BytesIO(data), allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise StoreError(f"{KEYS} cannot be read: {error}.", "Build the dataset again.") from error
    if rows.dtype != KEY:
        raise StoreError(f"{KEYS} holds rows of another form.", "Build the dataset again.")
    return np.asarray(rows)


def without_keys(data: bytes, input_keys: Collection[str]) -> bytes:
    """The file without the rows of these inputs."""
    rows = load_keys(data)
    gone = np.array([hash_of(key) for key in input_keys], dtype=np.uint64)
    return _written(rows[~np.isin(rows["input"], gone)])


def hash_of(text: str) -> int:
    """64 bits of a text."""
    return int.from_bytes(blake2b(text.encode("utf-8", "replace"), digest_size=8).digest(), "little")


def _written(rows: KeyRows) -> bytes:
    held = io.BytesIO()
    np.save(held, rows, allow_pickle=False)
    return held.getvalue()
