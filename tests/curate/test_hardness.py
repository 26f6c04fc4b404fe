from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from curate.hardness import hardness
from curate.settings import CurateSettings
from curate.splits import TRAIN, assign

ROW = st.tuples(st.sampled_from("abc"), st.sampled_from(["one", "one two", ""]), st.none() | st.floats(-5, 5))


@given(st.lists(ROW, max_size=40), st.sets(st.integers(0, 39)))
def test_hardness_lies_between_0_and_1_and_a_dispute_never_lowers_it(
    rows: list[tuple[str, str, float | None]], disputed: set[int]
) -> None:
    columns = [row[0] for row in rows], [row[1] for row in rows], [row[2] for row in rows]
    calm, contested = hardness(*columns, set()), hardness(*columns, disputed)
    assert all(0 <= one <= 1 for one in contested)
    for row, (before, after) in enumerate(zip(calm, contested, strict=True)):
        assert after > before if row in disputed else after == before


def test_a_rare_label_is_harder_than_a_frequent_one() -> None:
    found = hardness(["often"] * 9 + ["seldom"], ["x"] * 10, [None] * 10, ())
    assert found[9] > max(found[:9])


def test_in_free_text_rare_words_are_hard() -> None:
    texts = ["where is my parcel"] * 8 + ["where is my refund", "bitte um storno"]
    found = hardness([""] * 10, texts, [None] * 10, ())
    assert found[9] > found[8] > found[0]


def test_a_low_score_is_hard_and_an_unknown_one_is_average() -> None:
    found = hardness(["x"] * 3, ["y"] * 3, [0.1, None, 0.9], ())
    assert found[0] > found[1] > found[2]


def test_a_dispute_outweighs_rarity() -> None:
    found = hardness(["often"] * 9 + ["seldom"], ["x"] * 10, [None] * 10, {0})
    assert found[0] > found[9]


def test_hard_eval_holds_more_disputed_and_rare_examples_than_train() -> None:
    labels = [f"label{number % 7 if number % 20 else 'rare'}" for number in range(1_000)]
    disputed = set(range(0, 1_000, 11))
    found = hardness(labels, ["text"] * 1_000, [None] * 1_000, disputed)
    splits = assign([f"b2:{row}" for row in range(1_000)], list(range(1_000)), {}, CurateSettings(), hardness=found)
    held_out = [row for row, split in enumerate(splits) if split != TRAIN]
    assert len(held_out) == 200
    assert len(disputed & set(held_out)) > 0.3 * len(disputed)
    assert Counter(labels[row] for row in held_out)["labelrare"] > 0.3 * 50
