"""Exact and near duplicates, judged on what varies.

Two inputs are the same when their wording is equal without the app's part. They are near duplicates when the variable parts
are similar, the questions with what is not in most of them are similar too (a phrase that many users share is still theirs),
and numbers and negations agree. Deletion follows the leader rule: only what is similar to a kept example may go, so chains of
small differences do not swallow each other.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from curate.settings import CurateSettings
from curate.similarity import Pairs, jaccard, shingles, similar_pairs
from curate.templates import MINED_SHARE, UNIVERSAL_SHARE, Asked, Stripper, Template, mine
from curate.wording import Critical, critical, normalise

EXACT, NEAR = "exact_duplicate", "near_duplicate"
CROWD_SHARE = 0.01
"""One cluster above this part of a task deserves a warning."""


@dataclass(frozen=True, slots=True)
class Wording:
    """What of an input is compared, normalised: `varying` without all boilerplate, `own` with phrases that many users share."""

    varying: str
    own: str
    critical: Critical


@dataclass(frozen=True, slots=True)
class Comparison:
    """Rows grouped into nodes of equal wording, and pairs of nodes that are similar.

    `loose` pairs must share a split; `near` pairs, a subset, are near duplicates. `crowded` counts buckets that were too
    full to be compared completely.
    """

    rows: list[list[int]]
    wordings: list[Wording]
    loose: Pairs
    near: Pairs
    crowded: int

    def best_rows(self, alive: Iterable[int], rank: Sequence[int]) -> dict[int, int]:
        """For every node with a row in `alive` the row of lowest rank."""
        living = set(alive)
        found = {node: [row for row in rows if row in living] for node, rows in enumerate(self.rows)}
        return {node: min(rows, key=rank.__getitem__) for node, rows in found.items() if rows}


@dataclass(frozen=True, slots=True)
class Removal:
    """A row that goes: its reason, and the row that stays for it."""

    reason: str
    kept: int


def read_wordings(inputs: Sequence[Asked], answers: Sequence[str]) -> tuple[Template, list[Wording]]:
    """The task's template and the wording of each input without it."""
    template = mine(inputs, answers, MINED_SHARE)
    universal = replace(mine(inputs, answers, UNIVERSAL_SHARE), context=template.context)
    varying, own = Stripper(template), Stripper(universal)
    found: dict[Asked, Wording] = {}
    for asked in inputs:
        if asked not in found:
            text = own.variable_part(asked)
            found[asked] = Wording(normalise(varying.variable_part(asked)), normalise(text), critical(text))
    return template, [found[asked] for asked in inputs]


def compare(wordings: Sequence[Wording], settings: CurateSettings) -> Comparison:
    """All similar pairs; the result does not depend on the order of rows with equal wording."""
    nodes: dict[Wording, list[int]] = {}
    for row, wording in enumerate(wordings):
        nodes.setdefault(wording, []).append(row)
    distinct = list(nodes)
    loose = similar_pairs([wording.varying for wording in distinct], settings.split_threshold)
    near = loose.where(loose.similarity >= settings.near_threshold)
    agreeing = [
        distinct[left].critical == distinct[right].critical for left, right in zip(near.a.tolist(), near.b.tolist(), strict=True)
    ]
    near = near.where(np.array(agreeing, dtype=np.bool_))
    return Comparison(list(nodes.values()), distinct, loose, _similar_as_a_whole(near, distinct, settings), loose.crowded)


def leaders(count: int, pairs: Pairs, order: Iterable[int]) -> list[int]:
    """For each of `count` nodes the kept node that explains it; a kept node leads itself, a node outside `order` has -1.

    `order` begins with what is most worth keeping. A node that goes is explained by the kept node most similar to it.
    """
    neighbours: list[list[tuple[float, int]]] = [[] for _ in range(count)]
    for left, right, similarity in zip(pairs.a.tolist(), pairs.b.tolist(), pairs.similarity.tolist(), strict=True):
        neighbours[left].append((-similarity, right))
        neighbours[right].append((-similarity, left))
    leader = [-1] * count
    kept: set[int] = set()
    gone: set[int] = set()
    for node in order:
        if node not in gone:
            kept.add(node)
            leader[node] = node
            gone.update(other for _, other in neighbours[node])
    for node in gone:
        leader[node] = min(neighbour for neighbour in neighbours[node] if neighbour[1] in kept)[1]
    return leader


def find_duplicates(comparison: Comparison, alive: Sequence[int], said: Sequence[str], rank: Sequence[int]) -> dict[int, Removal]:
    """Which of the rows `alive` go, and for whom. Near duplicates whose answers differ both stay."""
    best = comparison.best_rows(alive, rank)
    near = comparison.near
    same = [
        left in best and right in best and said[best[left]] == said[best[right]]
        for left, right in zip(near.a.tolist(), near.b.tolist(), strict=True)
    ]
    order = sorted(best, key=lambda node: rank[best[node]])
    leader = leaders(len(comparison.rows), near.where(np.array(same, dtype=np.bool_)), order)
    living = set(alive)
    out: dict[int, Removal] = {}
    for node, kept in best.items():
        if leader[node] == node:
            out |= {row: Removal(EXACT, kept) for row in comparison.rows[node] if row != kept and row in living}
        else:
            out |= {row: Removal(NEAR, best[leader[node]]) for row in comparison.rows[node] if row in living}
    return out


def disagreements(comparison: Comparison, kept: Mapping[int, int], said: Sequence[str]) -> list[tuple[int, int]]:
    """Pairs of kept rows that are near duplicates with different answers; `kept` maps a node to its kept row."""
    near = comparison.near
    pairs = [
        (kept[left], kept[right])
        for left, right in zip(near.a.tolist(), near.b.tolist(), strict=True)
        if left in kept and right in kept
    ]
    return [(left, right) for left, right in pairs if said[left] != said[right]]


def _similar_as_a_whole(near: Pairs, distinct: Sequence[Wording], settings: CurateSettings) -> Pairs:
    involved = sorted({*near.a.tolist(), *near.b.tolist()})
    if not involved:
        return near
    place = np.full(len(distinct), -1, dtype=np.int64)
    place[involved] = np.arange(len(involved))
    rows = shingles([distinct[node].own for node in involved])
    return near.where(jaccard(rows, place[near.a], place[near.b]) >= settings.near_threshold)
