"""How groups that were found compare with those that are true.

Precision and recall count pairs of rows: of the pairs that a method put together those that belong together, and of those that
belong together the ones that it put together. Groups are those of the leader rule: every row goes with the row kept for it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.curate.edits import HARD

Rows = npt.NDArray[np.int64]


def judged(kept: Rows, cluster: Rows, kind: npt.NDArray[Any]) -> dict[str, Any]:
    """Figures of a method that kept row kept[i] for row i, which truly belongs to cluster[i].

    A hard negative is merged when it shares a group with a row of another cluster, whichever of the two stays.
    """
    both = _pairs(_coded(kept, cluster))
    found, true = _pairs(kept), _pairs(cluster)
    groups, place = np.unique(kept, return_inverse=True)
    low, high = np.full(len(groups), np.iinfo(np.int64).max), np.full(len(groups), -1)
    np.minimum.at(low, place, cluster)
    np.maximum.at(high, place, cluster)
    mixed = (low != high)[place]
    is_hard = np.isin(kind, HARD)
    return {
        "precision": both / found if found else 1.0,
        "recall": both / true if true else 1.0,
        "hard_negatives_merged": int((mixed & is_hard).sum()),
        "hard_negatives": int(is_hard.sum()),
        "largest_cluster": int(np.bincount(place).max()),
        "kept": len(groups),
        "kept_in_truth": len(np.unique(cluster)),
        "rows": len(kept),
    }


def leaked(train: Rows, held_out: Rows, cluster: Rows) -> float:
    """Share of the rows `held_out` that have a true duplicate among the rows `train`."""
    return float(np.isin(cluster[held_out], cluster[train]).mean()) if len(held_out) else 0.0


def _coded(left: Rows, right: Rows) -> Rows:
    return np.unique(left, return_inverse=True)[1] * (int(right.max(initial=0)) + 1) + right


def _pairs(labels: Rows) -> int:
    _, counts = np.unique(labels, return_counts=True)
    return int((counts * (counts - 1) // 2).sum())
