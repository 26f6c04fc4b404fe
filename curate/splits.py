"""Which split an example belongs to: by group, by content, once and for all.

A group is a connected component of similar examples (similar without guard: merging too much is safe here), joined with its
session where that keeps groups small. A fresh group is placed by the hash of its content; a group that holds a known
example follows it. Where a newcomer bridges a train and an eval example, the eval example stays and the train example leaves
the version as `bridges_eval`.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from hashlib import blake2b

from curate.settings import CurateSettings

TRAIN, VAL, TEST = "train", "val", "test"
SPLITS = (TRAIN, VAL, TEST)
_SMALL_GROUP = 4


def components(count: int, pairs: Sequence[tuple[int, int]]) -> list[int]:
    """The group of each of `count` rows: the smallest row that it is connected with."""
    parent = list(range(count))
    for left, right in pairs:
        a, b = _root(parent, left), _root(parent, right)
        parent[max(a, b)] = min(a, b)
    return [_root(parent, row) for row in range(count)]


def join_sessions(
    groups: Sequence[int], sessions: Sequence[str], known: Sequence[str], settings: CurateSettings
) -> tuple[list[int], int]:
    """`groups` with the groups of one session made one, smallest sessions first, and how many sessions stayed apart.

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


def assign(keys: Sequence[str], groups: Sequence[int], known: Mapping[str, str], settings: CurateSettings) -> list[str]:
    """The split of each row; '' for a train example that a newcomer bridges to eval.

    `keys` are content hashes, `known` maps those of earlier versions to their split, which never changes. A fresh group larger
    than half of an eval split trains, and where chance left an eval split below half of its share, fresh groups fill it.
    """
    members: dict[int, list[int]] = defaultdict(list)
    for row, group in enumerate(groups):
        members[group].append(row)
    splits = [""] * len(keys)
    fresh: list[tuple[float, list[int]]] = []
    for rows in members.values():
        old = {keys[row]: known[keys[row]] for row in rows if keys[row] in known}
        held_out = sorted(key for key, split in old.items() if split != TRAIN)
        if not old:
            fresh.append((_position(min(keys[row] for row in rows), settings.salt), rows))
            continue
        newcomers = old[held_out[0]] if held_out else TRAIN
        for row in rows:
            split = old.get(keys[row], newcomers)
            splits[row] = "" if held_out and split == TRAIN else split
    _place(sorted(fresh), splits, settings)
    return splits


def _place(fresh: Sequence[tuple[float, list[int]]], splits: list[str], settings: CurateSettings) -> None:
    """Gives every fresh group (by position in [0, 1)) a split."""
    shares = {VAL: settings.val_share, TEST: settings.test_share}
    largest = {split: max(1.0, share * len(splits) / 2) for split, share in shares.items()}
    for position, rows in fresh:
        split = VAL if position < settings.val_share else TEST if position < settings.val_share + settings.test_share else TRAIN
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
