from __future__ import annotations

import csv
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.doubting.suspects import find_suspects, judged, unjudged

BANKING = Path(__file__).parents[4] / "shared" / "data" / "datasets" / "banking77" / "train.csv"
TOPICS = {
    "billing": "invoice charge refund price fee paid twice credit receipt amount",
    "parcel": "parcel courier delivery tracking late shipment box address doorstep arrived",
    "account": "login password username profile email reset locked signin security settings",
}


def questions(count: int, seed: int = 0) -> tuple[list[str], list[str]]:
    """Texts of five words of a topic and three of none, and their topics."""
    chance = random.Random(seed)
    labels = [chance.choice(sorted(TOPICS)) for _ in range(count)]
    common = "please the my was with about today can you help now again".split()  # noqa: SIM905
    texts = [" ".join(chance.sample(TOPICS[label].split(), 4) + chance.sample(common, 4)) for label in labels]
    return texts, labels


def test_labels_that_were_exchanged_are_found_and_no_others() -> None:
    texts, labels = questions(500)
    wrong = {3, 50, 77, 120, 200}
    given_labels = [("parcel" if label != "parcel" else "account") if row in wrong else label for row, label in enumerate(labels)]
    found = find_suspects(texts, given_labels, range(500))
    assert {suspect.row for suspect in found} == wrong
    for suspect in found:
        assert (suspect.given, suspect.predicted) == (given_labels[suspect.row], labels[suspect.row])
        assert 50 * suspect.p_given < suspect.p_predicted <= 1


def test_each_classifier_that_learns_is_told_as_a_step() -> None:
    texts, labels = questions(240)
    told: list[tuple[str, int, int]] = []
    find_suspects(texts, labels, range(240), on_progress=lambda *step: told.append(step))
    assert told == [("predict labels", done, 4) for done in range(5)]


def test_rows_of_one_group_do_not_confirm_each_other() -> None:
    texts, labels = questions(240)
    texts += ["invoice charge refund price fee"] * 6
    labels += ["parcel"] * 6
    alone = {suspect.row for suspect in find_suspects(texts, labels, range(246))}
    together = {suspect.row for suspect in find_suspects(texts, labels, [*range(240), *[240] * 6])}
    assert together >= set(range(240, 246))
    assert len(alone & set(range(240, 246))) < 6


@pytest.mark.parametrize(
    ("texts", "labels"),
    [
        ([], []),
        (["one question"], ["a"]),
        (["the same question"] * 200, ["a", "b"] * 100),
        ([f"question {n}" for n in range(200)], ["a"] * 200),
        ([f"question {n}" for n in range(200)], [f"a long answer of its own {n}" for n in range(200)]),
        ([f"question {n}" for n in range(40)], ["a", "b"] * 20),
        (["", "!?", " "] * 60, ["a", "b", "c"] * 60),
    ],
)
def test_where_nothing_can_be_learnt_nothing_is_said(texts: list[str], labels: list[str]) -> None:
    assert find_suspects(texts, labels, range(len(texts))) == []


def test_a_label_with_one_row_is_no_suspect() -> None:
    texts, labels = questions(200)
    labels[17] = "only here"
    assert 17 not in {suspect.row for suspect in find_suspects(texts, labels, range(200))}


def test_of_very_many_labels_the_500_most_frequent_are_judged_and_the_others_counted() -> None:
    labels = [f"label {number % 600:03d}" for number in range(3_000)] + ["label 599"] * 3 + ["rare"] * 4
    rows, names, given = judged(labels, range(len(labels)))
    assert names == (*(f"label {number:03d}" for number in range(499)), "label 599")
    assert len(rows) == len(given) == 499 * 5 + 8
    assert (unjudged(labels), unjudged(labels[:500] * 5), unjudged([])) == (100, 0, 0)


def test_the_same_rows_give_the_same_suspects() -> None:
    texts, labels = questions(150)
    labels[:6] = ["billing"] * 6
    assert find_suspects(texts, labels, range(150), 3) == find_suspects(texts, labels, range(150), 3)


@settings(max_examples=15, deadline=None)
@given(st.lists(st.tuples(st.text(max_size=12), st.sampled_from(["a", "b", "c"])), max_size=80), st.integers(1, 9))
def test_any_rows_give_suspects_whose_label_is_another(rows: list[tuple[str, str]], groups: int) -> None:
    found = find_suspects([text for text, _ in rows], [label for _, label in rows], [at % groups for at in range(len(rows))])
    assert all(suspect.given == rows[suspect.row][1] != suspect.predicted for suspect in found)


def test_of_labels_of_real_questions_exchanged_at_random_most_are_found() -> None:
    if not BANKING.is_file():
        pytest.skip("banking77 is not in ../shared/data")
    with BANKING.open(encoding="utf-8", newline="") as file:
        rows = [(row["text"], row["category"]) for row in csv.DictReader(file)]
    names = sorted({label for _, label in rows})[::6]
    texts, labels = map(list, zip(*[row for row in rows if row[1] in names], strict=True))
    chance = random.Random(0)
    wrong = set(chance.sample(range(len(texts)), len(texts) // 20))
    given_labels = [
        chance.choice([name for name in names if name != labels[at]]) if at in wrong else labels[at] for at in range(len(texts))
    ]
    found = {suspect.row for suspect in find_suspects(texts, given_labels, range(len(texts)))}
    assert len(found & wrong) > 0.8 * len(wrong)
    assert len(found & wrong) > 0.75 * len(found)
