"""From candidates to a draft: what is kept, in which split, and for everything else exactly one reason.

Pure: the same candidates, history and settings give the same draft.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from capture.errors import GateError
from curate import contradictions, duplicates, splits
from curate.certificate import Overlap, find_overlap
from curate.contradictions import Contradiction
from curate.duplicates import Comparison, Wording
from curate.selection import Candidate, Progress
from curate.settings import CurateSettings
from curate.templates import Template, read_input

CONTRADICTION, REJECTED, UNIT_CAP = "contradiction", "rejected_in_review", "unit_cap"
BRIDGES_EVAL, OVERLAP = "bridges_eval", "overlap"
_UNITS_FOR_CAP = 10


@dataclass(frozen=True, slots=True)
class History:
    """What earlier versions and reviews decided.

    `kept` maps exchanges of the latest version to their split, `sides` input keys of all versions to theirs; `accepted` are
    exchanges whose target a person confirmed or wrote, `rejected` those that a person threw out.
    """

    kept: Mapping[str, str] = field(default_factory=dict)
    sides: Mapping[str, str] = field(default_factory=dict)
    accepted: frozenset[str] = frozenset()
    rejected: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Drop:
    """Why a candidate goes, and the exchange that stays for it ('' when there is none)."""

    reason: str
    because: str = ""


@dataclass(frozen=True, slots=True)
class Draft:
    """`splits` has an entry for every candidate that is kept and `dropped` for every other, by exchange id.

    `clusters` gives for kept candidates how many candidates they stand for; `said` the comparable form of each target.
    """

    candidates: tuple[Candidate, ...]
    splits: Mapping[str, str]
    dropped: Mapping[str, Drop]
    template: Template
    said: Mapping[str, str]
    contradictions: tuple[Contradiction, ...]
    disagreements: tuple[tuple[str, str], ...]
    clusters: Mapping[str, int]
    crowded: int
    sessions_apart: int
    largest_group: int
    certificate: Mapping[str, int]


def make_draft(candidates: Sequence[Candidate], history: History, settings: CurateSettings, on_progress: Progress) -> Draft:
    """Resolves contradictions, removes duplicates, caps units, splits and certifies. `candidates` must not be empty.

    GateError when train and eval still overlap after every offender was removed.
    """
    rows = sorted(candidates, key=lambda candidate: candidate.exchange_id)
    dropped: dict[int, Drop] = {
        row: Drop(REJECTED) for row, candidate in enumerate(rows) if candidate.exchange_id in history.rejected
    }
    on_progress("find the template", 0, len(rows))
    said = contradictions.answers([candidate.answer for candidate in rows])
    template, wordings = duplicates.read_wordings([read_input(candidate.messages, candidate.tools) for candidate in rows], said)
    on_progress("compare inputs", 0, len(rows))
    comparison = duplicates.compare(wordings, settings)
    rank = _rank(rows, history)
    resolved = _resolve(rows, comparison, said, rank, history, settings, dropped)
    removals = duplicates.find_duplicates(comparison, _alive(rows, dropped), said, rank)
    dropped |= {row: Drop(removal.reason, rows[removal.kept].exchange_id) for row, removal in removals.items()}
    dropped |= {row: Drop(UNIT_CAP) for row in _over_cap(rows, _alive(rows, dropped), rank, settings)}
    on_progress("split", 0, len(rows))
    kept = _alive(rows, dropped)
    placed, apart, largest_group = _split(rows, kept, comparison, history, settings)
    dropped |= {row: Drop(BRIDGES_EVAL) for row in kept if not placed[row]}
    on_progress("certify", 0, len(rows))
    certificate = _certify(wordings, placed, dropped, settings)
    final = {row: split for row, split in placed.items() if row not in dropped}
    by_node = {node: row for node, members in enumerate(comparison.rows) for row in members if row in final}
    return Draft(
        tuple(rows),
        {rows[row].exchange_id: split for row, split in final.items()},
        {rows[row].exchange_id: drop for row, drop in sorted(dropped.items())},
        template,
        {candidate.exchange_id: answer for candidate, answer in zip(rows, said, strict=True)},
        tuple(resolved),
        tuple((rows[a].exchange_id, rows[b].exchange_id) for a, b in duplicates.disagreements(comparison, by_node, said)),
        _cluster_sizes(rows, dropped),
        comparison.crowded,
        apart,
        largest_group,
        certificate,
    )


def _alive(rows: Sequence[Candidate], dropped: Mapping[int, Drop]) -> list[int]:
    return [row for row in range(len(rows)) if row not in dropped]


def _rank(rows: Sequence[Candidate], history: History) -> list[int]:
    """Order of worth: what eval already holds, what train already holds, what a person confirmed, then the newest."""

    def worth(row: int) -> tuple[int, bool, int, str]:
        candidate = rows[row]
        split = history.kept.get(candidate.exchange_id, "")
        standing = 2 if not split else 1 if split == splits.TRAIN else 0
        return standing, candidate.exchange_id not in history.accepted, -candidate.started_us, candidate.exchange_id

    rank = [0] * len(rows)
    for place, row in enumerate(sorted(range(len(rows)), key=worth)):
        rank[row] = place
    return rank


def _resolve(
    rows: Sequence[Candidate], comparison: Comparison, said: Sequence[str], rank: Sequence[int], history: History,
    settings: CurateSettings, dropped: dict[int, Drop],
) -> list[Contradiction]:  # fmt: skip
    is_accepted = [candidate.exchange_id in history.accepted for candidate in rows]
    newest = [candidate.started_us for candidate in rows]
    found = contradictions.resolve(
        comparison, _alive(rows, dropped), said, rank, is_accepted, newest, settings.contradiction_threshold
    )
    for contradiction in found:
        dropped |= {row: Drop(CONTRADICTION, rows[contradiction.winner].exchange_id) for row in contradiction.losers}
    return found


def _over_cap(rows: Sequence[Candidate], alive: Sequence[int], rank: Sequence[int], settings: CurateSettings) -> list[int]:
    units = Counter(rows[row].unit for row in alive if rows[row].unit)
    if len(units) < _UNITS_FOR_CAP:
        return []
    cap = max(1, math.ceil(settings.per_unit_cap_share * len(alive)))
    taken: Counter[str] = Counter()
    over = []
    for row in sorted(alive, key=rank.__getitem__):
        unit = rows[row].unit
        taken[unit] += 1
        if unit and taken[unit] > cap:
            over.append(row)
    return over


def _split(
    rows: Sequence[Candidate], kept: Sequence[int], comparison: Comparison, history: History, settings: CurateSettings
) -> tuple[dict[int, str], int, int]:
    """The split of each kept row, how many sessions stayed apart, and the size of the largest group."""
    place = {row: position for position, row in enumerate(kept)}
    of_node = [[place[row] for row in members if row in place] for members in comparison.rows]
    pairs = [(members[0], other) for members in of_node for other in members[1:]]
    pairs += [
        (of_node[left][0], of_node[right][0])
        for left, right in zip(comparison.loose.a.tolist(), comparison.loose.b.tolist(), strict=True)
        if of_node[left] and of_node[right]
    ]
    groups = splits.components(len(kept), pairs)
    keys = [rows[row].input_key for row in kept]
    known = [history.sides.get(key, "") for key in keys]
    groups, apart = splits.join_sessions(groups, [rows[row].session for row in kept], known, settings)
    placed = splits.assign(keys, groups, history.sides, settings)
    return dict(zip(kept, placed, strict=True)), apart, max(Counter(groups).values(), default=0)


def _certify(
    wordings: Sequence[Wording], placed: Mapping[int, str], dropped: dict[int, Drop], settings: CurateSettings
) -> dict[str, int]:
    """Removes what overlaps from train, then joins again; the last join must find nothing."""
    held_out = [wordings[row] for row, split in placed.items() if split in (splits.VAL, splits.TEST)]

    def join() -> tuple[list[int], Overlap]:
        train = [row for row, split in placed.items() if split == splits.TRAIN and row not in dropped]
        return train, find_overlap([wordings[row] for row in train], held_out, settings)

    train, overlap = join()
    if overlap.rows:
        dropped |= {train[row]: Drop(OVERLAP) for row in sorted(overlap.rows)}
        _, overlap = join()
    if overlap.rows:
        raise GateError(f"Train and eval overlap: {overlap.counts()}.", "Report this: the certificate must hold by construction.")
    return overlap.counts()


def _cluster_sizes(rows: Sequence[Candidate], dropped: Mapping[int, Drop]) -> dict[str, int]:
    sizes = Counter(drop.because for drop in dropped.values() if drop.reason in (duplicates.EXACT, duplicates.NEAR))
    return {candidate.exchange_id: 1 + sizes[candidate.exchange_id] for candidate in rows if candidate.exchange_id in sizes}
