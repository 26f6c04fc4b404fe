from __future__ import annotations

import csv
import random
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from threadpoolctl import threadpool_limits

from capture.messages import Message, ToolCall
from curate.sampling import Pickable, choose, facility_location, labels_of, length_buckets, lsa, qualities, quotas
from tests.curate.sending import mails

BANKING = Path(__file__).resolve().parents[3] / "shared" / "data" / "datasets" / "banking77"
TOPICS = ("card stolen abroad", "invoice is wrong", "parcel never came", "cannot log in", "close the account")


def row(number: int, label: str = "", quality: float = 1.0, text: str = "") -> Pickable:
    words = text or f"{TOPICS[number % 5]} {'abcdefghij'[number % 10] * 3} {number}"
    return Pickable(label, len(words), quality, words)


@given(st.dictionaries(st.text(max_size=3), st.integers(1, 500), max_size=40), st.integers(0, 2_000))
def test_quotas_add_up_and_no_label_gets_more_than_it_has(counts: dict[str, int], most: int) -> None:
    quota = quotas(counts, most)
    assert sum(quota.values()) == min(most, sum(counts.values()))
    assert all(0 <= quota[label] <= count for label, count in counts.items())
    if most >= len(counts):
        assert all(quota.values())
    frequent = sorted(counts, key=lambda label: -counts[label])
    assert all(quota[one] >= quota[other] - 1 for one, other in pairwise(frequent))


def test_quotas_lie_between_proportion_and_equality() -> None:
    assert quotas({"a": 10_000, "b": 100, "c": 1}, 112) == {"a": 101, "b": 10, "c": 1}
    assert quotas({"a": 10_000, "b": 3}, 100) == {"a": 98, "b": 2}
    assert quotas({"a": 5, "b": 9, "c": 7}, 2) == {"a": 0, "b": 1, "c": 1}


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 30), st.floats(0.1, 1)), min_size=1, max_size=60),
    st.integers(1, 60),
    st.randoms(use_true_random=False),
)
def test_the_order_of_rows_does_not_decide(rows: list[tuple[str, int, float]], most: int, rng: random.Random) -> None:
    pickable = [row(number, label, quality) for label, number, quality in rows]
    chosen = choose(pickable, most, 0)
    assert len(set(chosen)) == len(chosen) == min(most, len(rows))
    order = list(range(len(rows)))
    rng.shuffle(order)
    shuffled = choose([pickable[at] for at in order], most, 0)
    assert Counter(pickable[order[at]] for at in shuffled) == Counter(pickable[at] for at in chosen)


def test_rare_labels_survive() -> None:
    pickable = [row(number, "frequent") for number in range(200)] + [row(500 + number, f"rare{number}") for number in range(5)]
    chosen = Counter(pickable[at].label for at in choose(pickable, 50, 0))
    assert chosen == {"frequent": 45, **{f"rare{number}": 1 for number in range(5)}}


def test_what_stands_stays_and_counts_in_its_quota() -> None:
    pickable = [row(number, "ab"[number % 2]) for number in range(100)]
    standing = list(range(0, 60, 2))
    chosen = choose(pickable, 40, 0, standing)
    assert set(standing) <= set(chosen)
    assert Counter(pickable[at].label for at in chosen) == {"a": 30, "b": 10}
    assert choose(pickable, 10, 0, standing) == standing
    assert choose(pickable, 100, 0) == list(range(100))


def test_short_and_long_inputs_are_both_chosen() -> None:
    texts = [f"{TOPICS[number % 5]} {number} " + "and more of it " * (20 if number % 10 == 0 else 0) for number in range(300)]
    chosen = choose([Pickable("x", len(text), 1.0, text) for text in texts], 60, 0)
    assert Counter(len(texts[at]) > 100 for at in chosen)[True] in range(5, 13)
    assert length_buckets([0, 3, 4, 15, 16, 63, 64, 200_000]) == [0, 0, 1, 1, 2, 2, 3, 8]


def test_variety_counts_inside_a_quota() -> None:
    crowd = [row(number, text="where is the thing I sent") for number in range(95)]
    others = [row(number, text=f"{text} today") for number, text in enumerate(TOPICS)]
    assert set(range(95, 100)) <= set(choose([*crowd, *others], 8, 0))


def test_better_scored_targets_come_first() -> None:
    pickable = [row(number, quality=0.1 + 0.9 * (number % 2)) for number in range(200)]
    chosen = choose(pickable, 40, 0)
    assert sum(pickable[at].quality == 1.0 for at in chosen) > 30


def test_equal_texts_are_told_apart_by_quality_alone() -> None:
    pickable = [row(0, quality=0.1 + number / 100, text="the very same words") for number in range(50)]
    assert set(range(41, 50)) <= set(choose(pickable, 10, 0))
    assert len(choose([row(0, text=" ") for _ in range(20)], 5, 0)) == 5


def test_scores_of_any_scale_become_weights() -> None:
    assert qualities([None, None]) == [1.0, 1.0]
    assert qualities([3, 3]) == [1.0, 1.0]
    assert qualities([-5, 5, None]) == pytest.approx([0.1, 1.0, 0.55])


def test_labels_are_answers_of_a_closed_set_or_names_of_tools() -> None:
    words = [Message("assistant", text) for text in ("yes", "no", "no", "yes")]
    call = Message("assistant", "", (ToolCall("book", "{}"), ToolCall("pay", "{}")))
    assert labels_of([*words, call], ["yes", "no", "no", "yes", "calls"]) == ["yes", "no", "no", "yes", "book+pay"]
    free = [Message("assistant", f"Dear customer {number}") for number in range(20)]
    assert labels_of([*free, call], [message.text for message in free] + ["calls"]) == [""] * 20 + ["book+pay"]


def coverage(Z: np.ndarray, chosen: list[int]) -> float:
    return float((Z @ Z[chosen].T).max(axis=1).mean())


def clustered(count: int, centres: int) -> np.ndarray:
    generator = np.random.default_rng(3)
    centre = generator.normal(size=(centres, 32))
    rows = centre[generator.geometric(0.1, size=count) % centres] + 0.3 * generator.normal(size=(count, 32))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def test_facility_location_covers_more_than_chance_and_nearly_as_much_as_full_greedy() -> None:
    Z = clustered(1_500, 40)
    similarity = np.maximum(Z @ Z.T, 0)
    greedy: list[int] = []
    best = np.zeros(len(Z))
    for _ in range(40):
        greedy.append(int(np.maximum(similarity - best, 0).sum(axis=1).argmax()))
        best = np.maximum(best, similarity[greedy[-1]])
    chosen = facility_location(Z, 40)
    random_rows = np.random.default_rng(0).choice(len(Z), 40, replace=False).tolist()
    assert len(set(chosen)) == 40
    assert coverage(Z, chosen) > 0.97 * coverage(Z, greedy)
    assert coverage(Z, chosen) > coverage(Z, random_rows) + 0.05


@pytest.mark.parametrize("k", [0, 1, 200, 290, 900])
def test_facility_location_gives_as_many_as_there_are(k: int) -> None:
    Z = clustered(300, 7)
    chosen = facility_location(Z, k, seed=4)
    assert len(set(chosen)) == len(chosen) == min(k, 300)
    assert chosen == facility_location(Z, k, seed=4)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 60), st.sets(st.integers(0, 59)), st.sets(st.integers(0, 59)), st.integers(1, 6))
def test_whatever_stands_some_of_what_was_chosen_may_stand_without_a_change(
    most: int, standing: set[int], some: set[int], labels: int
) -> None:
    rows = [row(number, f"label{number % 11 % labels}", 0.2 + number % 5 / 7) for number in range(60)]
    chosen = choose(rows, most, 0, standing)
    assert standing <= set(chosen) and len(chosen) == max(most, len(standing))
    assert choose(rows, most, 0, standing | (some & set(chosen))) == chosen


def test_where_much_stands_the_fullest_label_gives_way() -> None:
    rows = [row(number, label) for number, label in enumerate("a" * 60 + "b" * 20 + "c" * 4)]
    standing = range(60, 80)
    chosen = Counter(rows[at].label for at in choose(rows, 40, 0, standing))
    assert chosen == {"a": 16, "b": 20, "c": 4}


def test_the_number_of_threads_does_not_decide() -> None:
    rows = [row(0, text=mail.question) for mail in mails(2_000)]
    found = []
    for threads in (1, 2):
        with threadpool_limits(limits=threads):
            found.append(choose(rows, 500, 0))
    assert found[0] == found[1]


def test_texts_become_rows_of_unit_length() -> None:
    Z = lsa(["card stolen", "card was stolen", "wrong invoice", ""], 0)
    assert np.allclose(np.linalg.norm(Z, axis=1), [1, 1, 1, 0], atol=1e-5)
    assert Z[0] @ Z[1] > Z[0] @ Z[2]
    assert lsa(["", " "], 0).shape[0] == lsa(["same", "same"], 0).shape[0] == 2


def test_a_sample_of_real_questions_teaches_more_than_chance() -> None:
    """banking77 as skewed traffic: few intents are most of it. Judged by the nearest chosen question to each test question."""
    if not BANKING.is_dir():
        pytest.skip("banking77 is not in ../shared/data")
    questions, tests = (
        list(csv.DictReader((BANKING / name).read_text("utf-8").splitlines(keepends=True))) for name in ("train.csv", "test.csv")
    )
    rank = {label: place for place, label in enumerate(sorted({one["category"] for one in questions}), 1)}
    seen: Counter[str] = Counter()
    pool = []
    for one in questions:
        seen[one["category"]] += 1
        if seen[one["category"]] <= max(1, 150 // rank[one["category"]]):
            pool.append(one)
    tests = tests[::8]
    Z = lsa([one["text"] for one in (*pool, *tests)], 0)
    labels, wanted = np.array([one["category"] for one in pool]), np.array([one["category"] for one in tests])

    def right(chosen: list[int]) -> float:
        return float((labels[chosen][(Z[len(pool) :] @ Z[chosen].T).argmax(axis=1)] == wanted).mean())

    by_chance = max(right(random.Random(seed).sample(range(len(pool)), 150)) for seed in range(5))
    assert right(facility_location(Z[: len(pool)], 150)) > by_chance
    rows = [Pickable(one["category"], len(one["text"]), 1.0, one["text"]) for one in pool]
    assert right(choose(rows, 150, 0)) > by_chance + 0.05
