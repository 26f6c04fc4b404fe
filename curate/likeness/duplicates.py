"""Exact and near duplicates, judged on what varies.

Two inputs are the same when their wording is equal without the app's part. They are near duplicates when the variable parts
are similar, the questions with what is not in most of them are similar too (a phrase that many users share is still theirs),
and numbers, negations and the number of turns agree. Deletion follows the leader rule: only what is similar to a kept example may
go, so chains of small differences do not swallow each other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from curate.likeness.engine import LOCAL, Engine
from curate.likeness.near import leaders as leaders
from curate.likeness.near import similar_pairs
from curate.likeness.similarity import Pairs, arrow_texts
from curate.likeness.templates import MINED_SHARE, UNIVERSAL_SHARE, Asked, Stripper, Template, mine, turns
from curate.likeness.wording import Critical, critical, normalise
from curate.settings import CurateSettings

EXACT, NEAR = "exact_duplicate", "near_duplicate"
CROWD_SHARE = 0.01
"""One cluster above this part of a task deserves a warning."""


Settle = Callable[[Template, Sequence[Asked]], Template]
"""Takes the template that was mined of these inputs, and gives the one that counts."""


@dataclass(frozen=True, slots=True)
class Wording:
    """What of an input is compared, normalised: `varying` without all boilerplate, `own` with phrases that many users share.

    `turns` says how far the conversation went: the next turn of one is much like the one before, and another input.
    """

    varying: str
    own: str
    critical: Critical
    turns: int = 0


@dataclass(frozen=True, slots=True)
class Comparison:
    """Rows grouped into nodes of equal wording, and pairs of nodes that are similar.

    `loose` pairs must share a split; `near` pairs, a subset, are near duplicates. `crowded` counts buckets that were too
    full to be compared completely, `largest` the rows of the largest cluster: equal, or connected by near duplicates.
    """

    rows: list[list[int]]
    wordings: list[Wording]
    loose: Pairs
    near: Pairs
    crowded: int
    largest: int

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


def read_wordings(
    inputs: Sequence[Asked], answers: Sequence[str], settle: Settle | None = None
) -> tuple[Template, list[Wording]]:
    """The task's template, as mined or as `settle` decides, and the wording of each input without it."""
    template, universal = mine(inputs, answers, MINED_SHARE, UNIVERSAL_SHARE)
    if settle is not None:
        template = settle(template, inputs)
        universal = replace(universal, context=template.context)
    varying, own = Stripper(template), Stripper(universal)
    found: dict[Asked, Wording] = {}
    for asked in inputs:
        if asked not in found:
            found[asked] = worded(asked, varying, own)
    return template, [found[asked] for asked in inputs]


def worded(asked: Asked, varying: Stripper, own: Stripper) -> Wording:
    """The wording of one input; `varying` and `own` take away the template, and what most inputs share."""
    text = own.variable_part(asked)
    return Wording(normalise(varying.variable_part(asked)), normalise(text), critical(text), turns(asked, varying.template))


def compare(wordings: Sequence[Wording], settings: CurateSettings, engine: Engine = LOCAL) -> Comparison:
    """All similar pairs; the result depends neither on the order of rows with equal wording nor on the engine."""
    nodes: dict[Wording, list[int]] = {}
    for row, wording in enumerate(wordings):
        nodes.setdefault(wording, []).append(row)
    distinct = list(nodes)
    guards = {guard: number for number, guard in enumerate({(wording.critical, wording.turns): 0 for wording in distinct})}
    guard = np.array([guards[wording.critical, wording.turns] for wording in distinct], dtype=np.int64)
    varying, own = (arrow_texts([getattr(wording, name) for wording in distinct]) for name in ("varying", "own"))
    loose, near = similar_pairs(varying, None if varying.equals(own) else own, guard, settings, engine)
    rows = list(nodes.values())
    return Comparison(rows, distinct, loose, near, loose.crowded, _largest(near, [len(members) for members in rows]))


def find_duplicates(comparison: Comparison, alive: Sequence[int], said: Sequence[str], rank: Sequence[int]) -> dict[int, Removal]:
    """Which of the rows `alive` go, and for whom. Near duplicates whose answers differ both stay."""
    best = comparison.best_rows(alive, rank)
    near = comparison.near
    answers = {answer: number for number, answer in enumerate({said[row]: 0 for row in best.values()})}
    answer = np.array([answers[said[best[node]]] if node in best else -1 for node in range(len(comparison.rows))], dtype=np.int64)
    same = (answer[near.a] == answer[near.b]) & (answer[near.a] >= 0)
    order = sorted(best, key=lambda node: rank[best[node]])
    leader = leaders(len(comparison.rows), near.where(same), order).tolist()
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


def _largest(near: Pairs, sizes: Sequence[int]) -> int:
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    if not sizes:
        return 0
    links = coo_matrix((np.ones(len(near.a), np.int8), (near.a, near.b)), shape=(len(sizes), len(sizes)))
    _, labels = connected_components(links, directed=False)
    return int(np.bincount(labels, weights=np.array(sizes)).max())
