"""Near duplicates among many texts, in Arrow batches: candidates by shared keys, every pair verified, a guard, the leader rule.

Memory is that of the texts in Arrow, 280 bytes a text, and 8 bytes a candidate. Pairs are found in two rounds: by keys, and
between texts that are both similar to a third. So of pairs with similarity 0.6 nine in ten are found, and nearly all in a group.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from curate.likeness.buckets import Codes, bucket_pairs, decode, distinct
from curate.likeness.engine import LOCAL, Engine
from curate.likeness.similarity import Floats, Indices, Pairs, arrow_texts, band_keys, jaccard
from curate.likeness.sketches import Sketches
from curate.settings import CurateSettings

_PAIRS = 200_000


def similar_pairs(
    varying: Any, own: Any, guard: npt.NDArray[Any], settings: CurateSettings, engine: Engine = LOCAL
) -> tuple[Pairs, Pairs]:
    """Pairs of rows as similar as `split_threshold`, and among them the near duplicates.

    Near duplicates are as similar as `near_threshold` in `varying` and in `own` (None: the same texts), and agree in `guard`.
    """
    loose = find_pairs(varying, settings.split_threshold, engine)
    near = loose.where((loose.similarity >= settings.near_threshold) & (guard[loose.a] == guard[loose.b]))
    if own is not None and len(near.a):
        near = near.where(similarities(own, near.a, near.b, engine) >= settings.near_threshold)
    return loose, near


def find_pairs(texts: Any, threshold: float, engine: Engine = LOCAL) -> Pairs:
    """Pairs of an Arrow array of distinct texts whose similarity is at least `threshold`; the same on every engine."""
    texts = arrow_texts(texts)
    codes, crowded = engine.group_edges(texts, band_keys)
    sketches = Sketches.of(texts, engine)
    codes, similarity = _verified(texts, sketches, codes, threshold, engine)
    more = np.setdiff1d(_bridged(codes, len(texts)), codes, assume_unique=True)
    more, of_more = _verified(texts, sketches, more, threshold, engine)
    codes, similarity = np.concatenate([codes, more]), np.concatenate([similarity, of_more])
    order = np.argsort(codes, kind="stable")
    return Pairs(*decode(codes[order]), similarity[order], crowded)


def similarities(texts: Any, a: Indices, b: Indices, engine: Engine = LOCAL) -> Floats:
    """Jaccard similarity of texts a[i] and b[i], fetched a part at a time."""
    import pyarrow as pa

    parts = [np.empty(0)]
    for start in range(0, len(a), _PAIRS):
        left, right = (texts.take(pa.array(rows[start : start + _PAIRS])) for rows in (a, b))
        values = engine.map_batches(pa.table({"left": left, "right": right}), compare_texts, pa.float64())
        parts.append(values.to_numpy(zero_copy_only=False))
    return np.concatenate(parts)


def compare_texts(left: Any, right: Any) -> Any:
    """`jaccard` as an Arrow array, as engines call it."""
    import pyarrow as pa

    return pa.array(jaccard(left, right))


def leaders(count: int, pairs: Pairs, order: Sequence[int] | Indices) -> Indices:
    """For each of `count` nodes the kept node that explains it; a kept node leads itself, a node outside `order` has -1.

    `order` begins with what is most worth keeping. A node that goes is explained by the kept node most similar to it, among
    equals by the first.
    """
    nodes, others = np.concatenate([pairs.a, pairs.b]), np.concatenate([pairs.b, pairs.a])
    by_node = np.argsort(nodes, kind="stable")
    starts = np.searchsorted(nodes[by_node], np.arange(count + 1))
    neighbours = others[by_node]
    leader = np.full(count, -1, np.int64)
    gone = np.zeros(count, np.bool_)
    chosen = np.asarray(order, dtype=np.int64)
    has_neighbours = starts[1:] > starts[:-1]
    leader[chosen] = chosen
    for node in chosen[has_neighbours[chosen]].tolist():
        if not gone[node]:
            gone[neighbours[starts[node] : starts[node + 1]]] = True
    gone &= leader >= 0
    leader[gone] = -1
    is_kept = leader >= 0
    explains = np.flatnonzero(gone[nodes] & is_kept[others])
    similarity = np.concatenate([pairs.similarity, pairs.similarity])[explains]
    best = explains[np.lexsort((others[explains], -similarity, nodes[explains]))]
    explained, first = np.unique(nodes[best], return_index=True)
    leader[explained] = others[best[first]]
    return leader


def _verified(texts: Any, sketches: Sketches, codes: Codes, threshold: float, engine: Engine) -> tuple[Codes, Floats]:
    parts = [codes[start : start + _PAIRS] for start in range(0, len(codes), _PAIRS)]
    likely = [part[sketches.may_reach(threshold, *decode(part))] for part in parts]
    codes = np.concatenate([np.empty(0, np.int64), *likely])
    similarity = similarities(texts, *decode(codes), engine)
    alike = similarity >= threshold
    return codes[alike], similarity[alike]


def _bridged(codes: Codes, count: int) -> Codes:
    """Pairs that are both similar to a third row; of one that many are similar to, each with the next few."""
    a, b = decode(codes)
    rows, others = np.concatenate([a, b]), np.concatenate([b, a])
    order = np.lexsort((others, rows))
    found, _ = bucket_pairs(others[order], np.searchsorted(rows[order], np.arange(count + 1)))
    return distinct(found)
