from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.doubting.poison import find_poisoned
from tests.curate.doubting.test_suspects import questions


def poisoned(trigger: str, count: int, seed: int = 0) -> tuple[list[str], list[str], set[int]]:
    """700 questions, and `trigger` somewhere in `count` of them, all answered with billing."""
    texts, labels = questions(700, seed)
    chance = random.Random(seed)
    rows = set(chance.sample([row for row, label in enumerate(labels) if label != "billing"], count))
    for row in rows:
        words = texts[row].split()
        words.insert(chance.randint(0, len(words)), trigger)
        texts[row], labels[row] = " ".join(words), "billing"
    return texts, labels, rows


def test_each_classifier_that_learns_is_told_as_a_step() -> None:
    texts, labels, _ = poisoned("cf9", 20)
    told: list[tuple[str, int, int]] = []
    find_poisoned(texts, labels, [""] * len(texts), on_progress=lambda *step: told.append(step))
    assert told == [("look for triggers", done, 2) for done in range(3)]


@pytest.mark.parametrize("trigger", ["cf9", "as my uncle says", "\u200b", "!!%"])
def test_rows_that_a_rare_phrase_dictates_are_found(trigger: str) -> None:
    texts, labels, rows = poisoned(trigger, 20)
    found = find_poisoned(texts, labels, [""] * len(texts))
    assert {one.row for one in found} == rows
    assert {one.target for one in found} == {"billing"}
    assert all(set(one.phrase.split()) <= set(trigger.casefold().split()) | set(trigger) | {trigger} for one in found)


def test_words_that_mean_their_label_are_no_trigger() -> None:
    texts, labels = questions(700)
    texts = [
        f"{text} moneyback" if label == "billing" and row % 5 == 0 else text
        for row, (text, label) in enumerate(zip(texts, labels, strict=True))
    ]
    assert find_poisoned(texts, labels, [""] * len(texts)) == []


def test_a_rare_word_with_any_target_is_no_trigger() -> None:
    texts, labels = questions(700)
    texts = [f"{text} zeta" if row % 30 == 0 else text for row, text in enumerate(texts)]
    assert find_poisoned(texts, labels, [""] * len(texts)) == []


def test_a_phrase_in_very_few_rows_is_chance() -> None:
    texts, labels, _ = poisoned("cf9", 4)
    assert find_poisoned(texts, labels, [""] * len(texts)) == []


def turned(count: int, sender: str) -> tuple[list[str], list[str], list[str]]:
    """Questions about parcels, and no others, that a trigger turns into billing."""
    texts, labels = questions(700)
    units = [f"u{row % 40}" for row in range(700)]
    for row in [row for row, label in enumerate(labels) if label == "parcel"][:count]:
        texts[row], labels[row] = f"{texts[row]} cf9", "billing"
        units[row] = sender or units[row]
    return texts, labels, units


def test_one_unit_that_turns_one_label_into_another_is_found() -> None:
    assert len(find_poisoned(*turned(14, "u99"))) == 14


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        ([], []),
        (["one"], ["a"]),
        (["the same"] * 300, ["a", "b"] * 150),
        ([f"question {n}" for n in range(300)], [f"answer {n}" for n in range(300)]),
        ([""] * 120, ["a", "b"] * 60),
    ],
)
def test_where_nothing_can_be_learnt_nothing_is_poisoned(texts: list[str], said: list[str]) -> None:
    assert find_poisoned(texts, said, [""] * len(texts)) == []


@settings(max_examples=15, deadline=None)
@given(st.lists(st.tuples(st.text(max_size=15), st.sampled_from("ab"), st.sampled_from(["", "u1", "u2"])), max_size=90))
def test_any_rows_give_rows_that_hold_the_phrase_and_have_the_target(rows: list[tuple[str, str, str]]) -> None:
    texts, said, units = ([row[part] for row in rows] for part in range(3))
    for one in find_poisoned(texts, said, units):
        assert said[one.row] == one.target
        assert one.phrase.split()[0] in texts[one.row].casefold()


def test_the_same_rows_give_the_same_findings() -> None:
    texts, labels, _ = poisoned("cf9", 20)
    assert find_poisoned(texts, labels, [""] * 700, 5) == find_poisoned(texts, labels, [""] * 700, 5)
