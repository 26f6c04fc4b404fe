from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capture.messages import Message
from curate.likeness.duplicates import EXACT, NEAR, Comparison, compare, disagreements, find_duplicates, read_wordings
from curate.likeness.templates import read_input
from curate.settings import CurateSettings
from tests.curate.sending import NEARUP

DEFAULTS = CurateSettings()


def compared(texts: list[str], answers: list[str] | None = None) -> Comparison:
    inputs = [read_input((Message("system", "Sort."), Message("user", text))) for text in texts]
    return compare(read_wordings(inputs, answers or ["same"] * len(texts))[1], DEFAULTS)


def gone(texts: list[str], answers: list[str] | None = None) -> dict[int, tuple[str, int]]:
    comparison = compared(texts, answers)
    said = answers or ["same"] * len(texts)
    removals = find_duplicates(comparison, range(len(texts)), said, range(len(texts)))
    return {row: (removal.reason, removal.kept) for row, removal in removals.items()}


def test_case_space_and_punctuation_make_an_exact_duplicate() -> None:
    assert gone(["Where is my parcel?", "where is  my parcel", "Cancel my plan"]) == {1: (EXACT, 0)}


def test_a_slip_makes_a_near_duplicate_and_names_what_stays() -> None:
    assert gone(["Cancel my plan", "Where is my parcel, it is late", "Where is my parcle, it is late"]) == {2: (NEAR, 1)}


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("Please send 12 red chairs to the office in Leeds", "Please send 13 red chairs to the office in Leeds"),
        ("I can log in to my account on the website", "I can not log in to my account on the website"),
    ],
)
def test_a_changed_number_or_a_negation_is_another_input(left: str, right: str) -> None:
    assert gone([left, right]) == {}


def test_near_duplicates_with_different_answers_both_stay_and_are_told() -> None:
    texts, answers = (
        ["Someone stole my card in the old town last night", "Someone stole my phone in the old town last night"],
        ["card", "phone"],
    )
    comparison = compared(texts, answers)
    assert find_duplicates(comparison, [0, 1], answers, [0, 1]) == {}
    assert disagreements(comparison, {0: 0, 1: 1}, answers) == [(0, 1)]


def test_a_phrase_that_many_share_still_tells_two_inputs_apart() -> None:
    """What varies is the same name and item; the phrases are frequent enough to look like a template."""
    phrases = [
        "I want my money back now for the",
        "Please tell me where you left the",
        "I cannot log in to pay for the",
        "Send a new invoice copy for the",
    ]
    items = [
        f"{name} {item}" for name in ("red", "blue", "old", "new", "big") for item in ("lamp", "sofa", "desk", "rug", "kettle")
    ]
    texts = [f"{phrase} {item}" for phrase in phrases for item in items] * 2
    removals = gone(texts, [phrase for phrase in phrases for _ in items] * 2)
    assert all(texts[row].split(" the ")[0] == texts[kept].split(" the ")[0] for row, (_, kept) in removals.items())


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(0, 3), st.sampled_from("xy")), min_size=1, max_size=40))
def test_what_goes_is_explained_by_something_that_stays(rows: list[tuple[str, int, str]]) -> None:
    texts = [f"the {letter * 5} parcel of {letter} has been late since week {number}" for letter, number, _ in rows]
    removals = gone(texts, [answer for _, _, answer in rows])
    assert all(kept not in removals for _, kept in removals.values())
    assert len(removals) < len(rows)


def benchmark(rows: int) -> list[dict[str, Any]]:
    path = NEARUP / f"nearup_{rows}.parquet"
    if not path.is_file():
        pytest.skip("the near-duplicate benchmark is not in ../shared/data")
    parquet = pytest.importorskip("pyarrow.parquet")
    return list(parquet.read_table(path).to_pylist())


def clusters_of(rows: list[dict[str, Any]]) -> list[int]:
    """For each row the row that is kept for it; tasks are curated one by one."""
    by_task: dict[str, list[int]] = defaultdict(list)
    for place, row in enumerate(rows):
        by_task[row["task"]].append(place)
    kept = list(range(len(rows)))
    for places in by_task.values():
        inputs = [read_input((Message("system", rows[at]["system"] or ""), Message("user", rows[at]["user"]))) for at in places]
        answers = ["same"] * len(places)
        comparison = compare(read_wordings(inputs, answers)[1], DEFAULTS)
        for row, removal in find_duplicates(comparison, range(len(places)), answers, range(len(places))).items():
            kept[places[row]] = places[removal.kept]
    return kept


def pairs_of(labels: list[Any]) -> int:
    return sum(count * (count - 1) // 2 for count in Counter(labels).values())


def test_precision_and_recall_on_the_benchmark() -> None:
    rows = benchmark(10_000)
    kept = clusters_of(rows)
    truth = [row["cluster"] for row in rows]
    agreeing = pairs_of(list(zip(kept, truth, strict=True)))
    hard = [place for place, row in enumerate(rows) if row["kind"] == "numneg"]
    merged = [place for place in hard if truth[kept[place]] != truth[place]]
    assert hard and not merged
    assert agreeing / pairs_of(kept) >= 0.99
    assert agreeing / pairs_of(truth) >= 0.95
