from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.likeness.buckets import decode, edges
from curate.likeness.near import find_pairs, leaders
from curate.likeness.similarity import Pairs, arrow_texts, band_keys, jaccard


def test_texts_that_share_no_key_are_compared_when_both_are_similar_to_a_third() -> None:
    words = ["please", "tell", "me", "when", "the", "parcel", "that", "I", "ordered", "for", "my", "mother", "will", "be", "here"]
    texts = arrow_texts([
        " ".join(word[::-1] if place in (one, (one + step) % 15) else word for place, word in enumerate(words))
        for one in range(15)
        for step in (0, 2, 5)
    ])  # fmt: skip
    found = find_pairs(texts, 0.6)
    pairs = set(zip(found.a.tolist(), found.b.tolist(), strict=True))
    a, b = decode(edges(band_keys(texts))[0])
    direct = pairs & set(zip(a.tolist(), b.tolist(), strict=True))
    near = direct | {(b, a) for a, b in direct}
    bridged = {(a, c) for a, b in near for other, c in near if b == other and a < c} - direct
    left, right = (np.array([pair[side] for pair in sorted(bridged)]) for side in (0, 1))
    similar = jaccard(texts.take(left), texts.take(right)) >= 0.6
    assert similar.any()
    assert {pair for pair, alike in zip(sorted(bridged), similar, strict=True) if alike} == pairs - direct


def test_a_crowd_of_look_alikes_is_reported_and_still_one_group() -> None:
    texts = [f"where is my parcel i wait for it since {number} days" for number in range(600)]
    pairs = find_pairs(arrow_texts(texts), 0.6)
    assert pairs.crowded > 0
    reached = np.arange(600)
    for left, right in zip(pairs.a.tolist(), pairs.b.tolist(), strict=True):
        reached[reached == max(reached[left], reached[right])] = min(reached[left], reached[right])
    assert set(reached.tolist()) == {0}


def pairs_of(rows: list[tuple[int, int, float]]) -> Pairs:
    a, b = (np.array([row[side] for row in rows], np.int64) for side in (0, 1))
    return Pairs(a, b, np.array([similarity for _, _, similarity in rows], np.float64))


def test_what_goes_is_explained_by_the_kept_one_most_similar_to_it() -> None:
    found = leaders(6, pairs_of([(0, 1, 0.7), (1, 2, 0.9), (2, 3, 0.8), (2, 5, 0.9)]), [0, 2, 1, 3])
    assert found.tolist() == [0, 2, 2, 2, -1, -1]


@settings(deadline=None, max_examples=60)
@given(
    st.sets(st.tuples(st.integers(0, 9), st.integers(0, 9)).filter(lambda pair: pair[0] < pair[1])), st.permutations(range(10))
)
def test_the_leader_rule_keeps_no_two_neighbours_and_explains_all(edges: set[tuple[int, int]], order: list[int]) -> None:
    leader = leaders(10, pairs_of([(a, b, 0.6 + (a + b) % 3 / 10) for a, b in sorted(edges)]), order).tolist()
    kept = {node for node in range(10) if leader[node] == node}
    neighbours = edges | {(b, a) for a, b in edges}
    assert not [pair for pair in edges if set(pair) <= kept]
    assert all(leader[node] in kept and (node, leader[node]) in neighbours for node in range(10) if node not in kept)
