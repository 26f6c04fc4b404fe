"""What an engine must do, and the one that does it in this process.

An engine only decides where the same functions over Arrow batches are called, so every engine gives the same result.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from curate.likeness.buckets import Codes, edges
from curate.likeness.similarity import Flags, Keys

BATCH = 20_000

KeysOf = Callable[[Any], Keys]
"""Takes an Arrow array of texts and gives some keys of each, a row a text."""


class Engine(Protocol):
    """Where heavy steps run. Functions that are handed over must be importable where they run: no lambdas, no closures."""

    def map_batches(self, table: Any, function: Callable[..., Any], returns: Any) -> Any:
        """One value of the Arrow type `returns` for each row of an Arrow table, in its order.

        `function` takes the columns of a batch as Arrow arrays and gives the values as an Arrow array.
        """
        ...

    def group_edges(self, texts: Any, keys: KeysOf) -> tuple[Codes, int]:
        """The pairs of `texts` that share a key, sorted (see `buckets`), and how many keys too many rows share."""
        ...

    def semi_join(self, left: Keys, right: Keys) -> Flags:
        """For each key of `left` whether it occurs in `right`."""
        ...


class LocalEngine:
    """Everything in this process, batch after batch."""

    def map_batches(self, table: Any, function: Callable[..., Any], returns: Any) -> Any:
        """See `Engine`."""
        import pyarrow as pa

        parts = [function(*batch.columns) for batch in table.to_batches(max_chunksize=BATCH)]
        return pa.chunked_array(parts, type=returns).combine_chunks()

    def group_edges(self, texts: Any, keys: KeysOf) -> tuple[Codes, int]:
        """See `Engine`."""
        return edges(keys(texts))

    def semi_join(self, left: Keys, right: Keys) -> Flags:
        """See `Engine`."""
        known = np.unique(right)
        if not len(known):
            return np.zeros(len(left), np.bool_)
        return np.asarray(known[np.searchsorted(known, left).clip(max=len(known) - 1)] == left)


LOCAL = LocalEngine()
