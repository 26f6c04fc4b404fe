"""From candidates to a draft: what is kept, in which split, and for everything else exactly one reason.

Pure: the same candidates, history and settings give the same draft, on every engine.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from capture.progress import Progress
from curate import sampling, splits
from curate.caps import SESSION_CAP, UNIT_CAP, over_cap, over_session_cap
from curate.doubting import contradictions, doubts
from curate.doubting.contradictions import Contradiction, Kind
from curate.doubting.doubts import Doubts
from curate.examples import Example
from curate.hardness import hardness
from curate.likeness import duplicates
from curate.likeness.certificate import find_overlap
from curate.likeness.duplicates import Comparison, Settle, Wording
from curate.likeness.engine import LOCAL, Engine
from curate.likeness.templates import Template, read_input
from curate.likeness.turns import continuations
from curate.mix_in import NOTHING, MixIn, pick_mix_in
from curate.reviewing.look_alikes import marks
from curate.selection import Candidate
from curate.settings import CurateSettings

CONTRADICTION, REJECTED, DISPUTED, PINNED = "contradiction", "rejected_in_review", "disputed_in_review", "golden"
POISONED, WRONG_ANSWER = "poisoned", "wrong_answer"
BRIDGES_EVAL, OVERLAP = "bridges_eval", "overlap"
SHOWN = (CONTRADICTION, REJECTED, DISPUTED, POISONED, WRONG_ANSWER)
"""Reasons of candidates that a person may want to decide about after all: Review shows them beside those that are kept."""


@dataclass(frozen=True, slots=True)
class History:
    """What earlier versions and reviews decided.

    `kept` maps exchanges of the latest version to their split, `sides` input keys of all versions to theirs; `accepted` are
    exchanges whose target a person confirmed or wrote, `rejected` those that people threw out, and about those `disputed` they
    do not agree. `pinned` are the inputs of the golden set. `former` are inputs that earlier versions held out and that are no
    candidates any more.
    """

    kept: Mapping[str, str] = field(default_factory=dict)
    sides: Mapping[str, str] = field(default_factory=dict)
    accepted: frozenset[str] = frozenset()
    rejected: frozenset[str] = frozenset()
    disputed: frozenset[str] = frozenset()
    pinned: tuple[Candidate, ...] = ()
    former: tuple[Candidate, ...] = ()


@dataclass(frozen=True, slots=True)
class Drop:
    """Why a candidate goes, and the exchange that stays for it ('' when there is none)."""

    reason: str
    because: str = ""


@dataclass(frozen=True, slots=True)
class Draft:
    """`splits` has an entry for every candidate that is kept and `dropped` for every other, by exchange id.

    `clusters` gives for kept candidates how many candidates they stand for; `said` the comparable form of each target, `kind`
    how those are compared, and `look_alikes` the mark of each one that Review shows (see `reviewing.look_alikes`). `wordings`
    are what of each candidate is compared.
    """

    candidates: tuple[Candidate, ...]
    splits: Mapping[str, str]
    dropped: Mapping[str, Drop]
    template: Template
    wordings: tuple[Wording, ...]
    said: Mapping[str, str]
    kind: Kind
    contradictions: tuple[Contradiction, ...]
    disagreements: tuple[tuple[str, str], ...]
    doubts: Doubts
    clusters: Mapping[str, int]
    look_alikes: Mapping[str, str]
    crowded: int
    largest_cluster: int
    sessions_apart: int
    largest_group: int
    certificate: Mapping[str, int]
    mix_in: MixIn


@dataclass(frozen=True, slots=True)
class Answered:
    """Candidates by exchange id (`own`), before any duplicate goes: what speaks against their targets, and which one of several
    answers to the same input stands.

    `rows` are `own` and behind them the inputs that are pinned or were held out before; `said`, `wordings` and `comparison` are
    about `rows`, in order, `rank`, `doubts`, `contradictions` and `dropped` about `own`.
    """

    own: tuple[Candidate, ...]
    rows: tuple[Candidate, ...]
    kind: Kind
    said: Sequence[str]
    template: Template
    wordings: Sequence[Wording]
    comparison: Comparison
    rank: Sequence[int]
    doubts: Doubts
    contradictions: Sequence[Contradiction]
    dropped: Mapping[int, Drop]


def settle_answers(
    candidates: Sequence[Candidate],
    history: History,
    settings: CurateSettings,
    on_progress: Progress,
    *,
    engine: Engine = LOCAL,
    settle: Settle | None = None,
) -> Answered:
    """Compares `candidates`, which must not be empty, doubts targets and resolves contradictions by the policy in `settings`."""
    own = sorted(candidates, key=lambda candidate: candidate.exchange_id)
    rows = [*own, *history.pinned, *history.former]  # the latter are compared with all others, and go nowhere themselves
    pinned = {candidate.input_key: candidate.exchange_id for candidate in history.pinned}
    dropped: dict[int, Drop] = {
        row: Drop(PINNED, pinned[candidate.input_key]) for row, candidate in enumerate(own) if candidate.input_key in pinned
    }
    thrown_out = history.rejected | history.disputed
    for row, candidate in enumerate(own):
        if candidate.exchange_id in thrown_out:
            dropped.setdefault(row, Drop(REJECTED if candidate.exchange_id in history.rejected else DISPUTED))
    on_progress("find the template", 0, len(rows))
    kind = contradictions.kind_of([candidate.answer for candidate in rows])
    said = contradictions.answers([candidate.answer for candidate in rows], kind)
    inputs = [read_input(candidate.messages, candidate.tools) for candidate in rows]
    template, wordings = duplicates.read_wordings(inputs, said, settle)
    on_progress("compare inputs", 0, len(rows))
    comparison = duplicates.compare(wordings, settings, engine)
    rank = _rank(own, history)
    doubted = doubts.find(
        own, inputs, template, said, kind, comparison, _alive(own, dropped), history.accepted, settings, on_progress
    )
    dropped |= {row: Drop(POISONED) for row in doubted.poisoned if settings.poisoned == "drop"}
    dropped |= {row: Drop(WRONG_ANSWER) for row in doubted.suspects if settings.wrong_answers == "drop" and row not in dropped}
    resolved = _resolve(own, comparison, said, rank, history, settings, dropped)
    return Answered(tuple(own), tuple(rows), kind, said, template, wordings, comparison, rank, doubted, resolved, dropped)


def make_draft(
    candidates: Sequence[Candidate],
    history: History,
    settings: CurateSettings,
    on_progress: Progress,
    *,
    engine: Engine = LOCAL,
    settle: Settle | None = None,
    others: Mapping[str, Sequence[Example]] | None = None,
) -> Draft:
    """Resolves contradictions, removes duplicates, caps, samples, splits and certifies. `candidates` must not be empty.

    `others` are train examples of other tasks that may be mixed in.
    """
    found = settle_answers(candidates, history, settings, on_progress, engine=engine, settle=settle)
    own, rows, said, wordings, comparison, rank = (
        found.own, found.rows, found.said, found.wordings, found.comparison, found.rank
    )  # fmt: skip
    doubted, resolved, dropped = found.doubts, found.contradictions, dict(found.dropped)
    removals = duplicates.find_duplicates(comparison, _alive(own, dropped), said, rank)
    dropped |= {row: Drop(removal.reason, own[removal.kept].exchange_id) for row, removal in removals.items()}
    on_progress("sample", 0, len(rows))
    _limit(own, wordings, said, rank, history, settings, dropped)
    on_progress("split", 0, len(rows))
    kept = _alive(own, dropped)
    living = set(kept)
    by_node = {node: row for node, members in enumerate(comparison.rows) for row in members if row in living}
    disputed = _disputed(resolved, duplicates.disagreements(comparison, by_node, said), doubted)
    guests = [*_left_eval(own, kept, dropped, history), *range(len(own), len(rows))]
    split = _split(rows, kept, guests, comparison, wordings, said, disputed, history, settings)
    placed = {row: split.sides[row] for row in kept}
    dropped |= {row: Drop(BRIDGES_EVAL) for row in kept if not placed[row]}
    on_progress("certify", 0, len(rows))
    held_out = [row for row, side in split.sides.items() if side in (splits.VAL, splits.TEST, splits.GOLDEN)]
    mixed, certificate = _certify(rows, wordings, placed, held_out, dropped, others or {}, settings, engine)
    final = {row: side for row, side in placed.items() if row not in dropped}
    by_node = {node: row for node, row in by_node.items() if row in final}
    ids = [candidate.exchange_id for candidate in own]
    shown = [row for row in range(len(own)) if row in final or dropped[row].reason in SHOWN]
    shown.sort(key=rank.__getitem__)
    return Draft(
        own,
        {ids[row]: side for row, side in final.items()},
        {ids[row]: drop for row, drop in sorted(dropped.items())},
        found.template,
        tuple(wordings[: len(own)]),
        dict(zip(ids, said, strict=False)),
        found.kind,
        tuple(resolved),
        tuple((ids[a], ids[b]) for a, b in duplicates.disagreements(comparison, by_node, said)),
        doubted,
        _cluster_sizes(own, dropped),
        _marks(ids, said, comparison, resolved, shown),
        comparison.crowded,
        comparison.largest,
        split.sessions_apart,
        split.largest_group,
        certificate,
        mixed,
    )


def _alive(rows: Sequence[Candidate], dropped: Mapping[int, Drop]) -> list[int]:
    return [row for row in range(len(rows)) if row not in dropped]


def _rank(rows: Sequence[Candidate], history: History) -> list[int]:
    """Order of worth: what eval holds, what train holds, what was in a version before, what a person confirmed, the newest."""

    def worth(row: int) -> tuple[int, bool, int, str]:
        candidate = rows[row]
        split = history.kept.get(candidate.exchange_id, "")
        known = 2 if candidate.input_key in history.sides else 3
        standing = known if not split else 1 if split == splits.TRAIN else 0
        return standing, candidate.exchange_id not in history.accepted, -candidate.started_us, candidate.exchange_id

    rank = [0] * len(rows)
    for place, row in enumerate(sorted(range(len(rows)), key=worth)):
        rank[row] = place
    return rank


def _resolve(
    rows: Sequence[Candidate], comparison: Comparison, said: Sequence[str], rank: Sequence[int], history: History,
    settings: CurateSettings, dropped: dict[int, Drop],
) -> list[Contradiction]:  # fmt: skip
    found = contradictions.resolve(
        comparison,
        _alive(rows, dropped),
        said,
        rank,
        [candidate.exchange_id in history.accepted for candidate in rows],
        [candidate.started_us for candidate in rows],
        settings.contradiction_threshold,
        settings.contradictions,
        [candidate.teacher_model for candidate in rows],
        [candidate.score for candidate in rows],
    )
    for contradiction in found:
        winner = "" if contradiction.winner is None else rows[contradiction.winner].exchange_id
        dropped |= {row: Drop(CONTRADICTION, winner) for row in contradiction.losers}
    return found


def _limit(
    rows: Sequence[Candidate], wordings: Sequence[Wording], said: Sequence[str], rank: Sequence[int], history: History,
    settings: CurateSettings, dropped: dict[int, Drop],
) -> None:  # fmt: skip
    """Caps sessions and units, then samples down to the size that the settings allow."""
    standing = {
        row for row, candidate in enumerate(rows)
        if history.sides.get(candidate.input_key, splits.TRAIN) != splits.TRAIN or candidate.exchange_id in history.accepted
    }  # fmt: skip
    sessions, times = [candidate.session for candidate in rows], [candidate.started_us for candidate in rows]
    over = over_session_cap(sessions, times, _alive(rows, dropped), settings.per_session_cap, standing)
    dropped |= {row: Drop(SESSION_CAP) for row in over}
    order = sorted(_alive(rows, dropped), key=rank.__getitem__)
    over = over_cap([candidate.unit for candidate in rows], order, settings.per_unit_cap_share)
    dropped |= {row: Drop(UNIT_CAP) for row in over}
    alive = _alive(rows, dropped)
    if not settings.max_examples or len(alive) <= settings.max_examples:
        return
    labels = sampling.labels_of([rows[row].answer for row in alive], [said[row] for row in alive])
    qualities = sampling.qualities([rows[row].score for row in alive])
    pickable = [
        sampling.Pickable(label, sum(len(message.said) for message in rows[row].messages), quality, wordings[row].varying)
        for row, label, quality in zip(alive, labels, qualities, strict=True)
    ]
    stays = [place for place, row in enumerate(alive) if row in standing]
    chosen = {alive[place] for place in sampling.choose(pickable, settings.max_examples, 0, stays)}
    dropped |= {row: Drop(sampling.NOT_SAMPLED) for row in alive if row not in chosen}


@dataclass(frozen=True, slots=True)
class _Split:
    """The side of each row, '' for one that leaves train; how many sessions stayed apart; the size of the largest group."""

    sides: Mapping[int, str]
    sessions_apart: int
    largest_group: int


def _left_eval(rows: Sequence[Candidate], kept: Sequence[int], dropped: Mapping[int, Drop], history: History) -> list[int]:
    """One row of each input that was held out before and is not kept now: what resembles it must not train even so."""
    keys = {rows[row].input_key for row in kept} | {candidate.input_key for candidate in history.pinned}
    found: dict[str, int] = {}
    for row in sorted(dropped):
        key = rows[row].input_key
        if key not in keys and history.sides.get(key, splits.TRAIN) != splits.TRAIN:
            found.setdefault(key, row)
    return list(found.values())


def _split(
    rows: Sequence[Candidate], own: Sequence[int], guests: Sequence[int], comparison: Comparison, wordings: Sequence[Wording],
    said: Sequence[str], disputed: set[int], history: History, settings: CurateSettings,
) -> _Split:  # fmt: skip
    """Places the rows `own` beside `guests`, which are held out and in no split themselves."""
    kept = [*own, *guests]
    place = {row: position for position, row in enumerate(kept)}
    of_node = [[place[row] for row in members if row in place] for members in comparison.rows]
    pairs = [(members[0], other) for members in of_node for other in members[1:]]
    pairs += [
        (of_node[left][0], of_node[right][0])
        for left, right in zip(comparison.loose.a.tolist(), comparison.loose.b.tolist(), strict=True)
        if of_node[left] and of_node[right]
    ]
    groups = splits.components(len(kept), pairs)
    chosen = [rows[row] for row in kept]
    keys = [candidate.input_key for candidate in chosen]
    known = dict(history.sides) | {candidate.input_key: splits.GOLDEN for candidate in history.pinned}
    groups, apart = splits.join_sessions(
        groups, [candidate.session for candidate in chosen], [known.get(key, "") for key in keys], settings,
        continuations([candidate.messages for candidate in chosen]),
    )  # fmt: skip
    hard: list[float] = []
    if settings.eval_selection == "hard":
        labels = sampling.labels_of([candidate.answer for candidate in chosen], [said[row] for row in kept])
        texts, scores = [wordings[row].varying for row in kept], [candidate.score for candidate in chosen]
        hard = hardness(labels, texts, scores, {place[row] for row in disputed if row in place})
    later = splits.later_than([candidate.started_us for candidate in chosen], settings.eval_after)
    sides = splits.assign(keys, groups, known, settings, later=later, hardness=hard, guests=len(guests))
    return _Split(dict(zip(kept, sides, strict=True)), apart, max(Counter(groups).values(), default=0))


def _certify(
    rows: Sequence[Candidate], wordings: Sequence[Wording], placed: Mapping[int, str], held_out: Sequence[int],
    dropped: dict[int, Drop], others: Mapping[str, Sequence[Example]], settings: CurateSettings, engine: Engine,
) -> tuple[MixIn, dict[str, int]]:  # fmt: skip
    """Removes what overlaps from train, mixes in other tasks, and joins until nothing is found.

    Once is not always enough: which 8-grams are common property depends on what is there.
    """
    held = [wordings[row] for row in held_out]
    mixed = NOTHING
    is_mixed = not others
    while True:
        train = [row for row, side in placed.items() if side == splits.TRAIN and row not in dropped]
        overlap = find_overlap([*(wordings[row] for row in train), *mixed.wordings], held, settings, engine)
        if overlap.rows:
            dropped |= {train[row]: Drop(OVERLAP) for row in sorted(overlap.rows) if row < len(train)}
            mixed = mixed.without({row - len(train) for row in overlap.rows if row >= len(train)})
        elif is_mixed:
            return mixed, overlap.counts()
        else:
            keys = frozenset(rows[row].input_key for row in held_out)
            mixed, is_mixed = pick_mix_in(others, len(train), held, keys, settings), True


def _disputed(resolved: Sequence[Contradiction], disagreements: Sequence[tuple[int, int]], doubted: Doubts) -> set[int]:
    return {
        *(row for contradiction in resolved for row in contradiction.rows),
        *(row for pair in disagreements for row in pair),
        *doubted.suspects,
    }


def _cluster_sizes(rows: Sequence[Candidate], dropped: Mapping[int, Drop]) -> dict[str, int]:
    sizes = Counter(drop.because for drop in dropped.values() if drop.reason in (duplicates.EXACT, duplicates.NEAR))
    return {candidate.exchange_id: 1 + sizes[candidate.exchange_id] for candidate in rows if candidate.exchange_id in sizes}


def _marks(
    ids: Sequence[str], said: Sequence[str], comparison: Comparison, resolved: Sequence[Contradiction], shown: Sequence[int]
) -> dict[str, str]:
    node_of = {row: node for node, members in enumerate(comparison.rows) for row in members}
    similar = zip(comparison.loose.a.tolist(), comparison.loose.b.tolist(), strict=True)
    questions = [[node_of[row] for row in contradiction.rows] for contradiction in resolved]
    names = [ids[row] for row in shown]
    found = marks(names, [said[row] for row in shown], [node_of[row] for row in shown], similar, questions)
    return dict(zip(names, found, strict=True))
