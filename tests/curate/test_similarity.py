from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.similarity import jaccard, shingles, similar_pairs

WORDS = st.lists(st.sampled_from(["alpha", "beta", "gamma", "delta", "eps", "zeta"]), min_size=0, max_size=8).map(" ".join)


def grams(text: str) -> set[str]:
    text = text.ljust(4, "\x00")
    return {text[start : start + 4] for start in range(len(text) - 3)}


def exact(left: str, right: str) -> float:
    return len(grams(left) & grams(right)) / len(grams(left) | grams(right))


@settings(deadline=None, max_examples=60)
@given(st.lists(WORDS, min_size=2, max_size=12))
def test_every_reported_similarity_is_exact(texts: list[str]) -> None:
    pairs = similar_pairs(texts, 0.5)
    for left, right, similarity in zip(pairs.a.tolist(), pairs.b.tolist(), pairs.similarity.tolist(), strict=True):
        assert left < right
        assert abs(similarity - exact(texts[left], texts[right])) < 1e-9
        assert similarity >= 0.5


@settings(deadline=None, max_examples=30)
@given(st.lists(WORDS, min_size=2, max_size=12))
def test_equal_texts_are_always_found(texts: list[str]) -> None:
    pairs = similar_pairs([*texts, texts[0]], 1.0)
    assert (0, len(texts)) in set(zip(pairs.a.tolist(), pairs.b.tolist(), strict=True))


def test_texts_shorter_than_a_shingle_are_compared_whole() -> None:
    rows = shingles(["ok", "ok", "no", ""])
    assert jaccard(rows, np.array([0, 0, 0]), np.array([1, 2, 3])).tolist() == [1.0, 0.0, 0.0]


def test_a_crowded_bucket_is_reported_and_still_connected() -> None:
    texts = [f"where is my parcel i wait for it since {number % 7} days" for number in range(600)]
    pairs = similar_pairs(texts, 0.6)
    assert pairs.crowded > 0
    seen, todo = {0}, [0]
    near: dict[int, list[int]] = {}
    for left, right in zip(pairs.a.tolist(), pairs.b.tolist(), strict=True):
        near.setdefault(left, []).append(right)
        near.setdefault(right, []).append(left)
    while todo:
        for other in near.get(todo.pop(), ()):
            if other not in seen:
                seen.add(other)
                todo.append(other)
    assert len(seen) == 600


def test_fewer_than_two_texts_have_no_pairs() -> None:
    assert len(similar_pairs(["alone"], 0.5).a) == 0
