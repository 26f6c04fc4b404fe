"""Which split an example belongs to: by group, by content, once and for all.

A group is a connected component of similar examples (similar without guard: merging too much is safe here), joined with the turns
of its conversation, and with its session where that keeps groups small. A fresh group is placed by the hash of its content; a
group that holds a known example follows it. Where a newcomer bridges a train and an eval example, the eval example stays and the
train example leaves the version as `bridges_eval`.

What a person pinned (golden) is held out for ever and in none of the three splits: newcomers that cluster with it go to test,
train examples that do leave the version. With a cut in time, fresh examples from later are eval and what clusters with
them leaves train, so that drift shows; before the cut, groups are placed as always. With hardness, fresh eval groups are taken
from the hardest: see `assign`.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from hashlib import blake2b

from curate.settings import CurateSettings

TRAIN, VAL, TEST = "train", "val", "test"
SPLITS = (TRAIN, VAL, TEST)
GOLDEN = "golden"
"""Side of an input that a person pinned; held out like eval, but in a file of its own."""
STRICTEST = (GOLDEN, TEST, VAL, TRAIN)
"""Which side holds where several names of a task say several."""
_SMALL_GROUP = 4
_HARD_POOL = 2
"""Fresh eval groups are drawn from this many times as many of the hardest rows; the rest of these trains."""


def components(count: int, pairs: Sequence[tuple[int, int]]) -> list[int]:
    """The group of each of `count` rows: the smallest row that it is connected with."""
    parent = list(range(count))
    for left, right in pairs:
        a, b = _root(parent, left), _root(parent, right)
        parent[max(a, b)] = min(a, b)
    return [_root(parent, row) for row in range(count)]


def join_sessions(
    groups: Sequence[int], sessions: Sequence[str], known: Sequence[str], settings: CurateSettings,
    turns: Sequence[tuple[int, int]] = (),
) -> tuple[list[int], int]:  # fmt: skip
    """`groups` with the groups of one session made one, smallest sessions first, and how many sessions stayed apart.

    Pairs of rows that are `turns` of one conversation come together first, however large it is.

    They stay apart where the joined group would be too large, so that a session id that everything shares glues nothing, and
    where it would bring a known train and a known eval example together. `known` is each row's split so far, or ''.
    """
    limit = max(_SMALL_GROUP, int(settings.session_join_share * len(groups)))
    parent = list(range(len(groups)))
    size = Counter(groups)
    sides: dict[int, set[bool]] = defaultdict(set)
    members: dict[str, set[int]] = defaultdict(set)
    for group, session, split in zip(groups, sessions, known, strict=True):
        if split:
            sides[group].add(split == TRAIN)
        if session:
            members[session].add(group)
    for one, other in turns:
        left, right = sorted((_root(parent, groups[one]), _root(parent, groups[other])))
        both = sides[left] | sides[right]
        if left != right and len(both) < 2:
            parent[right] = left
            size[left] += size[right]
            sides[left] = both
    apart = 0
    for _, of_session in sorted(members.items(), key=lambda item: (len(item[1]), item[0])):
        roots = sorted({_root(parent, group) for group in of_session})
        joined = set().union(*(sides[root] for root in roots))
        if len(roots) > 1 and (sum(size[root] for root in roots) > limit or len(joined) > 1):
            apart += 1
            continue
        for root in roots[1:]:
            parent[root] = roots[0]
            size[roots[0]] += size[root]
        sides[roots[0]] = joined
    return [_root(parent, group) for group in groups], apart


def later_than(times_us: Sequence[int], eval_after: str) -> list[bool]:
    """Which rows (UTC microseconds) come at or after `eval_after`, a date or time in ISO 8601, UTC unless it says otherwise.

    None does for ''. ValueError when it is no time.
    """
    if not eval_after:
        return [False] * len(times_us)
    moment = datetime.fromisoformat(eval_after)
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    cut_us = int(moment.timestamp() * 1_000_000)
    return [time >= cut_us for time in times_us]


def assign(
    keys: Sequence[str],
    groups: Sequence[int],
    known: Mapping[str, str],
    settings: CurateSettings,
    *,
    later: Sequence[bool] = (),
    hardness: Sequence[float] = (),
    guests: int = 0,
) -> list[str]:
    """The split of each row: train, val, test, or golden for a pinned one; '' for what leaves train because it bridges to eval.

    `keys` are content hashes, `known` maps those of earlier versions to their split, which never changes. A fresh group larger
    than half of an eval split trains, and where chance left an eval split below half of its share, fresh groups fill it.

    `later` marks rows behind a cut in time: fresh ones are eval. `hardness` (larger is harder) takes fresh eval groups from the
    hardest instead of by hash alone: from the hardest groups with twice as many rows as eval wants the hash picks, so that train
    keeps as many hard ones. Each is empty for none. The last `guests` rows, all known, count in no share.
    """
    members: dict[int, list[int]] = defaultdict(list)
    for row, group in enumerate(groups):
        members[group].append(row)
    splits = [""] * len(keys)
    fresh: list[tuple[float, list[int]]] = []
    for rows in members.values():
        old = {keys[row]: known[keys[row]] for row in rows if keys[row] in known}
        newest = {row for row in rows if later and later[row] and keys[row] not in known}
        position = _position(min(keys[row] for row in rows), settings.salt)
        if not old and not newest:
            fresh.append((position, rows))
            continue
        held_out = sorted(key for key, split in old.items() if split != TRAIN)
        eval_side = _eval_side([old[key] for key in held_out], position, settings)
        bridges = bool(held_out or newest)
        by_time = bool(later) and all(later[row] for row in rows if old.get(keys[row], TRAIN) != TRAIN)
        for row in rows:
            if keys[row] in old:
                splits[row] = "" if bridges and old[keys[row]] == TRAIN else old[keys[row]]
            elif row in newest or (held_out and not by_time):
                splits[row] = eval_side
            else:
                splits[row] = "" if bridges else TRAIN
    own = splits[: len(splits) - guests]
    _place(sorted(fresh), own, settings, hardness)
    return [*own, *splits[len(own) :]]


def _eval_side(held_out: Sequence[str], position: float, settings: CurateSettings) -> str:
    """Where fresh eval rows of a group go: after what the group holds out already, else by hash."""
    if held_out:
        return next((side for side in held_out if side != GOLDEN), TEST)
    return VAL if position < settings.val_share / (settings.val_share + settings.test_share) else TEST


def _place(
    fresh: Sequence[tuple[float, list[int]]], splits: list[str], settings: CurateSettings, hardness: Sequence[float]
) -> None:
    """Gives every fresh group (by position in [0, 1)) a split."""
    shares = {VAL: settings.val_share, TEST: settings.test_share}
    largest = {split: max(1.0, share * len(splits) / 2) for split, share in shares.items()}
    if hardness:
        _place_hard(fresh, splits, shares, largest, hardness)
    else:
        for position, rows in fresh:
            split = VAL if position < shares[VAL] else TEST if position < shares[VAL] + shares[TEST] else TRAIN
            _give(rows, TRAIN if split != TRAIN and len(rows) > largest[split] else split, splits)
    counts = Counter(splits)
    for split, share in shares.items():
        wanted = math.ceil(share * len(splits) / 2)
        for _, rows in fresh:
            if counts[split] >= wanted or counts[TRAIN] - len(rows) < wanted:
                break
            if splits[rows[0]] == TRAIN and len(rows) <= largest[split]:
                _give(rows, split, splits)
                counts += Counter({split: len(rows)})
                counts[TRAIN] -= len(rows)


def _place_hard(
    fresh: Sequence[tuple[float, list[int]]], splits: list[str], shares: Mapping[str, float], largest: Mapping[str, float],
    hardness: Sequence[float],
) -> None:  # fmt: skip
    """Eval gets its share of the fresh rows out of the hardest groups, the hash decides which of them."""
    rows_there = sum(len(rows) for _, rows in fresh)
    for _, rows in fresh:
        _give(rows, TRAIN, splits)
    # Equally hard groups come in an order of their own: those of the lowest positions would all be picked below.
    hardest = sorted(fresh, key=lambda group: (-max(hardness[row] for row in group[1]), group[0] * 2**24 % 1))
    pool: list[tuple[float, list[int]]] = []
    pooled = 0
    for group in hardest:
        if pooled >= _HARD_POOL * sum(shares.values()) * rows_there:
            break
        if len(group[1]) <= min(largest.values()):
            pool.append(group)
            pooled += len(group[1])
    given = dict.fromkeys(shares, 0)
    for _, rows in sorted(pool):
        # the side that lacks most of its share, so that both are as hard
        lacking = {split: share * rows_there - given[split] for split, share in shares.items()}
        split = max(lacking, key=lambda one: (lacking[one] / shares[one], one))
        if lacking[split] >= len(rows) / 2:
            _give(rows, split, splits)
            given[split] += len(rows)


def _give(rows: Sequence[int], split: str, splits: list[str]) -> None:
    for row in rows:
        splits[row] = split


def _position(key: str, salt: str) -> float:
    digest = blake2b(key.encode(), digest_size=8, key=blake2b(salt.encode(), digest_size=32).digest()).digest()
    return int.from_bytes(digest, "big") / 2**64


def _root(parent: list[int], row: int) -> int:
    while parent[row] != row:
        parent[row] = parent[parent[row]]
        row = parent[row]
    return row
