from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.settings import CurateSettings
from curate.splits import GOLDEN, SPLITS, TEST, TRAIN, VAL, assign, components, join_sessions, later_than

DEFAULTS = CurateSettings()


@st.composite
def grouped_rows(draw: st.DrawFn) -> tuple[list[str], list[int]]:
    sizes = draw(st.lists(st.integers(1, 5), min_size=1, max_size=60))
    groups = [group for group, size in enumerate(sizes) for _ in range(size)]
    salt = draw(st.integers(0, 1000))
    return [f"b2:{salt}-{row}" for row in range(len(groups))], groups


@given(grouped_rows())
def test_a_fresh_group_never_lies_across_splits(rows: tuple[list[str], list[int]]) -> None:
    keys, groups = rows
    splits = assign(keys, groups, {}, DEFAULTS)
    sides: dict[int, set[str]] = {}
    for group, split in zip(groups, splits, strict=True):
        assert split in SPLITS
        sides.setdefault(group, set()).add(split)
    assert all(len(side) == 1 for side in sides.values())


@given(
    grouped_rows(),
    st.randoms(use_true_random=False),
    st.integers(2, 5),
    st.booleans(),
    st.floats(0, 1),
    st.sets(st.integers(0, 99)),
)
def test_growth_never_moves_an_example(
    rows: tuple[list[str], list[int]], rng: random.Random, steps: int, is_hard: bool, cut: float, pinned: set[int]
) -> None:
    """Rows arrive in any order and groups merge; what has a split keeps it or, in train only, leaves.

    So with a cut in time, with eval of hard groups, and with what a person pinned, before or after it had a split.
    """
    keys, groups = rows
    order = list(range(len(keys)))
    rng.shuffle(order)
    hard = [rng.random() for _ in keys]
    behind = {row for place, row in enumerate(order) if place >= cut * len(order)}
    known: dict[str, str] = {}
    for step in range(1, steps + 1):
        known |= {keys[row]: GOLDEN for row in pinned if row < len(keys) and row % steps < step}
        present = sorted(order[: len(order) * step // steps])
        merged = [groups[row] // step for row in present]
        splits = assign(
            [keys[row] for row in present], merged, known, DEFAULTS, later=[row in behind for row in present],
            hardness=[hard[row] for row in present] if is_hard else [],
        )  # fmt: skip
        for row, split in zip(present, splits, strict=True):
            before = known.get(keys[row])
            assert before is None or split == before or (before == TRAIN and split == "")
            assert split != GOLDEN or before == GOLDEN
            assert not (before is None and row in behind and split == TRAIN)
            if split:
                known[keys[row]] = split
        for group in set(merged):
            sides = {split == TRAIN for split, of in zip(splits, merged, strict=True) if of == group and split}
            assert len(sides) <= 1


@given(grouped_rows(), st.randoms(use_true_random=False))
def test_the_order_of_rows_does_not_matter(rows: tuple[list[str], list[int]], rng: random.Random) -> None:
    keys, groups = rows
    order = list(range(len(keys)))
    rng.shuffle(order)
    straight = dict(zip(keys, assign(keys, groups, {}, DEFAULTS), strict=True))
    shuffled = assign([keys[row] for row in order], [groups[row] for row in order], {}, DEFAULTS)
    assert straight == {keys[row]: split for row, split in zip(order, shuffled, strict=True)}


def test_shares_come_out_near_what_was_asked() -> None:
    keys = [f"b2:{number}" for number in range(4000)]
    counts = Counter(assign(keys, list(range(4000)), {}, CurateSettings(val_share=0.15, test_share=0.05)))
    assert abs(counts[VAL] / 4000 - 0.15) < 0.02
    assert abs(counts[TEST] / 4000 - 0.05) < 0.015


@pytest.mark.parametrize("count", [10, 30, 100])
def test_a_small_dataset_has_all_three_splits(count: int) -> None:
    for salt in range(20):
        keys = [f"b2:{salt}-{number}" for number in range(count)]
        assert set(assign(keys, list(range(count)), {}, DEFAULTS)) == {TRAIN, VAL, TEST}


def test_another_salt_gives_other_splits_to_fresh_examples_only() -> None:
    keys = [f"b2:{number}" for number in range(200)]
    groups = list(range(200))
    first = assign(keys, groups, {}, DEFAULTS)
    other = CurateSettings(salt="other")
    assert assign(keys, groups, {}, other) != first
    assert assign(keys, groups, dict(zip(keys, first, strict=True)), other) == first


def test_a_large_fresh_group_trains() -> None:
    for salt in range(50):
        keys = [f"b2:{salt}-{number}" for number in range(100)]
        splits = assign(keys, [0] * 40 + list(range(1, 61)), {}, DEFAULTS)
        assert splits[:40] == [TRAIN] * 40


def test_a_newcomer_that_bridges_goes_to_eval_and_train_leaves() -> None:
    splits = assign(["a", "b", "c"], [0, 0, 0], {"a": TRAIN, "b": TEST}, DEFAULTS)
    assert splits == ["", TEST, TEST]


def test_what_clusters_with_a_pinned_input_never_trains() -> None:
    known = {"pinned": GOLDEN, "trained": TRAIN}
    assert assign(["pinned", "trained", "new"], [0, 0, 0], known, DEFAULTS) == [GOLDEN, "", TEST]
    known = {"pinned": GOLDEN, "held out": VAL}
    assert assign(["pinned", "held out", "new"], [0, 0, 0], known, DEFAULTS) == [GOLDEN, VAL, VAL]


def test_pinned_inputs_do_not_count_as_a_split() -> None:
    keys = [f"b2:{number}" for number in range(60)]
    splits = assign(keys, list(range(60)), dict.fromkeys(keys[:30], GOLDEN), DEFAULTS)
    assert splits[:30] == [GOLDEN] * 30
    assert set(splits[30:]) == {TRAIN, VAL, TEST}


def test_behind_a_cut_in_time_all_is_eval_and_what_clusters_with_it_leaves_train() -> None:
    keys = [f"b2:{number}" for number in range(400)]
    groups = [*range(200), *range(150, 350)]
    later = [False] * 200 + [True] * 200
    splits = assign(keys, groups, {}, DEFAULTS, later=later)
    assert set(splits[200:]) == {VAL, TEST}
    assert splits[150:200] == [""] * 50
    assert Counter(splits[:150])[TRAIN] > 100 and set(splits[:150]) == {TRAIN, VAL, TEST}
    known = {keys[0]: TRAIN, keys[350]: TRAIN, keys[351]: TEST}
    again = assign(keys, groups, known, DEFAULTS, later=later)
    assert (again[0], again[350], again[351]) == (TRAIN, TRAIN, TEST)


def test_a_cut_takes_a_date_or_a_time_of_any_zone() -> None:
    new_year_us = 1_767_225_600_000_000
    times = [new_year_us - 1, new_year_us]
    for cut in ("2026-01-01", "2026-01-01T00:00", "2026-01-01T02:00+02:00"):
        assert later_than(times, cut) == [False, True]
    assert later_than(times, "") == [False, False]


def test_eval_is_taken_from_the_hardest_and_train_keeps_as_many_of_them() -> None:
    keys = [f"b2:{number}" for number in range(1_000)]
    groups = [number // 2 for number in range(1_000)]
    hard = [1.0 if 100 <= group < 200 else group / 1_000 for group in groups]
    splits = assign(keys, groups, {}, DEFAULTS, hardness=hard)
    counts = Counter(splits)
    assert (counts[VAL], counts[TEST]) == (100, 100)
    threshold = sorted(hard)[-400]
    assert all(hard[row] >= threshold for row, split in enumerate(splits) if split != TRAIN)
    assert sum(split == TRAIN for split, one in zip(splits, hard, strict=True) if one == 1.0) > 60
    known = dict(zip(keys, splits, strict=True))
    assert assign(keys, groups, known, DEFAULTS, hardness=[1 - one for one in hard]) == splits


def test_the_hardest_few_are_drawn_as_often_as_those_that_fill_the_pool() -> None:
    keys = [f"b2:{number}" for number in range(2_000)]
    splits = assign(keys, list(range(2_000)), {}, DEFAULTS, hardness=[float(number < 200) for number in range(2_000)])
    held_out = [split != TRAIN for split in splits]
    assert sum(held_out) == 400
    assert 75 < sum(held_out[:200]) < 125


@given(grouped_rows(), st.randoms(use_true_random=False))
def test_hard_eval_keeps_groups_whole_and_shares(rows: tuple[list[str], list[int]], rng: random.Random) -> None:
    keys, groups = rows
    splits = assign(keys, groups, {}, DEFAULTS, hardness=[rng.random() for _ in keys])
    assert len({(group, split) for group, split in zip(groups, splits, strict=True)}) == len(set(groups))
    counts = Counter(splits)
    for split in (VAL, TEST):
        assert counts[split] <= 0.15 * len(keys) + 1


def test_components_are_named_by_their_smallest_row() -> None:
    assert components(6, [(4, 2), (5, 4), (1, 0)]) == [0, 0, 2, 3, 2, 2]


def test_a_session_keeps_its_examples_together() -> None:
    groups, apart = join_sessions([0, 1, 2, 3], ["s", "", "s", "t"], [""] * 4, DEFAULTS)
    assert groups == [0, 1, 0, 3]
    assert apart == 0


def test_a_session_that_everything_shares_glues_nothing() -> None:
    groups, apart = join_sessions(list(range(100)), ["all"] * 100, [""] * 100, DEFAULTS)
    assert groups == list(range(100))
    assert apart == 1


def test_a_session_never_brings_train_and_eval_together() -> None:
    groups, apart = join_sessions([0, 1, 2], ["s", "s", ""], [TRAIN, TEST, ""], DEFAULTS)
    assert groups == [0, 1, 2]
    assert apart == 1


@settings(max_examples=50)
@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 12)), min_size=1, max_size=120))
def test_sessions_only_merge_groups_and_never_beyond_the_limit(rows: list[tuple[int, int]]) -> None:
    groups = components(len(rows), [(row, rows.index(one)) for row, one in enumerate(rows)])
    before = Counter(groups)
    joined, _ = join_sessions(groups, [f"s{session}" for _, session in rows], [""] * len(rows), DEFAULTS)
    assert all(joined[row] == joined[group] for row, group in enumerate(groups))
    limit = max(4, max(before.values()))
    assert max(Counter(joined).values()) <= limit
