from __future__ import annotations

import subprocess
import sys

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.likeness.near import find_pairs
from curate.likeness.similarity import BANDS, arrow_texts, band_keys, blocks, grams, jaccard, running

WORDS = st.lists(st.sampled_from(["alpha", "beta", "gamma", "delta", "eps", "zeta", "öl", "🙂"]), min_size=0, max_size=8).map(
    " ".join
)


def shingles(text: str) -> set[str]:
    text = text.ljust(4, "\x00")
    return {text[start : start + 4] for start in range(len(text) - 3)}


def exact(left: str, right: str) -> float:
    return len(shingles(left) & shingles(right)) / len(shingles(left) | shingles(right))


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(WORDS, WORDS), min_size=1, max_size=12))
def test_similarity_is_what_comparing_the_grams_gives(pairs: list[tuple[str, str]]) -> None:
    found = jaccard(arrow_texts([left for left, _ in pairs]), arrow_texts([right for _, right in pairs]))
    assert found.tolist() == [exact(left, right) for left, right in pairs]


@settings(deadline=None, max_examples=40)
@given(st.lists(WORDS, min_size=2, max_size=12, unique=True), st.sampled_from([0.5, 0.8]))
def test_every_pair_found_is_as_similar_as_asked_for(texts: list[str], threshold: float) -> None:
    pairs = find_pairs(arrow_texts(texts), threshold)
    for left, right, similarity in zip(pairs.a.tolist(), pairs.b.tolist(), pairs.similarity.tolist(), strict=True):
        assert left < right
        assert similarity == exact(texts[left], texts[right]) >= threshold


@settings(deadline=None, max_examples=40)
@given(st.lists(WORDS, min_size=1, max_size=12))
def test_grams_and_keys_of_a_text_do_not_depend_on_its_neighbours(texts: list[str]) -> None:
    whole = grams(arrow_texts(texts))
    keys = band_keys(arrow_texts(texts))
    for row, text in enumerate(texts):
        alone = arrow_texts([text])
        assert whole.values[whole.starts[row] : whole.starts[row + 1]].tolist() == grams(alone).values.tolist()
        assert keys[row].tolist() == band_keys(alone)[0].tolist()


def test_keys_of_two_bands_never_agree() -> None:
    keys = band_keys(arrow_texts([f"text number {number}" for number in range(300)]))
    assert keys.shape == (300, BANDS)
    columns = [set(keys[:, band].tolist()) for band in range(BANDS)]
    assert len(set().union(*columns)) == sum(map(len, columns))


def test_keys_are_the_same_in_another_process() -> None:
    script = "from curate.likeness.similarity import *; print(band_keys(arrow_texts(['where is my parcel']))[0].tolist())"
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert said.strip() == str(band_keys(arrow_texts(["where is my parcel"]))[0].tolist())


def test_texts_shorter_than_a_gram_are_compared_whole() -> None:
    left, right = arrow_texts(["ok", "ok", "", ""]), arrow_texts(["ok", "no", "", "ok"])
    assert jaccard(left, right).tolist() == [1.0, 0.0, 1.0, 0.0]


def test_half_of_a_surrogate_pair_is_read_as_a_question_mark() -> None:
    assert arrow_texts(["broken \ud83d", "whole"]).to_pylist() == ["broken ?", "whole"]


def test_a_text_longer_than_a_block_is_compared_as_any_other() -> None:
    long = " ".join(f"word{number}" for number in range(30_000))
    shorter = long[: len(long) // 2]
    texts = arrow_texts([long, shorter, "short"])
    (similarity,) = jaccard(texts[:1], texts[1:2]).tolist()
    assert similarity == exact(long, shorter)
    assert band_keys(texts)[0].tolist() == band_keys(texts[:1])[0].tolist()


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 9)), min_size=1, max_size=20), st.integers(1, 12))
def test_blocks_cover_all_rows_once_and_stay_small_and_whole(rows: list[tuple[int, int]], size: int) -> None:
    rows.sort()
    groups = np.array([group for group, _ in rows])
    sizes = np.array([count for _, count in rows])
    for of_groups in (None, groups):
        found = list(blocks(running(sizes), size, of_groups))
        assert [row for first, end in found for row in range(first, end)] == list(range(len(rows)))
        if of_groups is None:
            assert all(end == first + 1 or sizes[first:end].sum() <= size for first, end in found)
        else:
            assert all(len(set(groups[first:end])) == 1 or sizes[first:end].sum() <= size for first, end in found)
            assert all(end == len(rows) or groups[end] != groups[end - 1] for _, end in found)


def test_nothing_has_no_pairs_and_no_grams() -> None:
    assert len(find_pairs(arrow_texts([]), 0.5).a) == 0
    assert len(find_pairs(arrow_texts(["alone"]), 0.5).a) == 0
    assert grams(arrow_texts([])).starts.tolist() == [0]
