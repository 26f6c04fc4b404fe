from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.likeness.semantic import AlikePair, EmbeddingError, notes_of, similar_by_embedding

VECTOR = st.tuples(*[st.integers(-3, 3)] * 3).filter(any)


def ids_of(count: int) -> list[str]:
    return [f"ex_{number:05d}" for number in range(count)]


@settings(max_examples=40, deadline=None)
@given(st.lists(VECTOR, max_size=30), st.sampled_from([0.3, 0.8, 0.95, 1.0]))
def test_all_pairs_of_at_least_the_threshold_are_found(rows: list[tuple[int, ...]], threshold: float) -> None:
    vectors = np.array(rows, np.float32).reshape(len(rows), 3)
    found = similar_by_embedding(vectors, ids_of(len(rows)), threshold)
    expected = set()
    for left in range(len(rows)):
        for right in range(left + 1, len(rows)):
            a, b = vectors[left].astype(float), vectors[right].astype(float)
            if a @ b / np.linalg.norm(a) / np.linalg.norm(b) >= threshold - 1e-6:
                expected.add((f"ex_{left:05d}", f"ex_{right:05d}"))
    assert {(pair.left, pair.right) for pair in found.pairs} == expected
    assert found.found == len(expected)


def test_pairs_across_blocks_are_found_and_the_best_listed_first() -> None:
    generator = np.random.default_rng(0)
    vectors = generator.normal(size=(2_500, 64)).astype(np.float32)
    vectors[2_400] = vectors[3]
    vectors[1_200] = vectors[2_000] + 0.05 * generator.normal(size=64).astype(np.float32)
    found = similar_by_embedding(vectors, ids_of(2_500), 0.9)
    assert [(pair.left, pair.right) for pair in found.pairs] == [("ex_00003", "ex_02400"), ("ex_01200", "ex_02000")]
    assert found.pairs[0].similarity == 1.0 > found.pairs[1].similarity


def test_of_too_many_pairs_the_best_are_listed_and_all_counted() -> None:
    vectors = np.ones((1_500, 4), np.float32)
    found = similar_by_embedding(vectors, ids_of(1_500), 0.99, most=10)
    assert found.found == 1_500 * 1_499 // 2
    assert [(pair.left, pair.right) for pair in found.pairs] == [("ex_00000", f"ex_{n:05d}") for n in range(1, 11)]


def test_a_note_names_the_closest_and_how_many_more() -> None:
    pairs = [AlikePair("a", "b", 0.97), AlikePair("a", "c", 0.99)]
    assert notes_of(pairs) == {
        "a": "an embedding finds it like c (0.99) and 1 more",
        "b": "an embedding finds it like a (0.97)",
        "c": "an embedding finds it like a (0.99)",
    }


@pytest.mark.parametrize(
    ("rows", "ids", "threshold", "problem"),
    [
        ([[1, 0], [0, 0]], ["a", "b"], 0.9, "'b' is not finite or all zero"),
        ([[1, 0], [float("nan"), 1]], ["a", "b"], 0.9, "'b' is not finite"),
        ([[1, 0], [0, 1]], ["a", "a"], 0.9, "two vectors for 'a'"),
        ([[1, 0]], ["a", "b"], 0.9, "1 vectors for 2 ids"),
        ([[1, 0]], ["a"], 1.5, "threshold 1.5"),
    ],
)
def test_vectors_that_make_no_sense_are_refused(rows: list[list[float]], ids: list[str], threshold: float, problem: str) -> None:
    with pytest.raises(EmbeddingError, match=problem):
        similar_by_embedding(np.array(rows, np.float32), ids, threshold)
