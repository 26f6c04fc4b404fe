from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.likeness.local_engine import LOCAL
from curate.likeness.similarity import arrow_texts, jaccard
from curate.likeness.sketches import Sketches

WORDS = st.lists(st.sampled_from(["alpha", "beta", "gamma", "delta", "eps", "zeta", "öl", "🙂"]), max_size=12).map(" ".join)
THRESHOLDS = st.sampled_from([0.2, 0.45, 0.5, 0.6, 0.8, 1.0])


@settings(deadline=None, max_examples=80)
@given(st.lists(WORDS | st.text(max_size=40), min_size=2, max_size=10), THRESHOLDS)
def test_no_pair_as_similar_as_asked_for_is_ruled_out(said: list[str], threshold: float) -> None:
    texts = arrow_texts(said)
    a, b = np.array(list(combinations(range(len(said)), 2))).T
    similar = jaccard(texts.take(a), texts.take(b)) >= threshold
    assert not (similar & ~Sketches.of(texts, LOCAL).may_reach(threshold, a, b)).any()


def test_no_similar_pair_of_long_texts_is_ruled_out_though_sketches_are_full() -> None:
    words = [f"word{number}" for number in np.random.default_rng(1).integers(0, 900, 3000)]
    texts = arrow_texts([" ".join(words), " ".join(words[:2500]), " ".join(words[:2000] + ["other"] * 50)])
    a, b = np.array([0, 0, 1]), np.array([1, 2, 2])
    similarity = jaccard(texts.take(a), texts.take(b))
    sketches = Sketches.of(texts, LOCAL)
    for threshold in similarity.tolist():
        assert sketches.may_reach(threshold, a, b)[similarity >= threshold].all()


def test_texts_that_share_only_some_words_are_ruled_out_unread() -> None:
    rng = np.random.default_rng(1)
    words = [f"{number:x}" for number in rng.integers(1 << 20, 1 << 28, 400)]
    said = [" ".join(["where is my parcel", *rng.choice(words, 6)]) for _ in range(200)]
    texts = arrow_texts(said)
    a, b = np.array(list(combinations(range(len(said)), 2))).T
    passed = Sketches.of(texts, LOCAL).may_reach(0.6, a, b)
    assert passed.mean() < 0.02


@pytest.mark.parametrize("said", [[], ["one"]])
def test_no_pairs_are_no_flags(said: list[str]) -> None:
    none = np.empty(0, np.int64)
    assert Sketches.of(arrow_texts(said), LOCAL).may_reach(0.5, none, none).tolist() == []
