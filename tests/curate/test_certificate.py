from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from curate.certificate import Overlap, find_overlap
from curate.duplicates import Wording
from curate.settings import CurateSettings

WORD = st.sampled_from(["alpha", "beta", "gam", "delta", "eps", "ze", "eta", "theta", "io"])
TEXTS = st.lists(st.lists(WORD, max_size=12).map(" ".join), min_size=1, max_size=20)


def overlap_of(train: list[str], held_out: list[str], settings: CurateSettings) -> Overlap:
    def worded(texts: list[str]) -> list[Wording]:
        return [Wording(text, text, ((), 0)) for text in texts]

    return find_overlap(worded(train), worded(held_out), settings)


def grams(text: str) -> set[str]:
    text = text.ljust(4, "\x00")
    return {text[start : start + 4] for start in range(len(text) - 3)}


def eights(text: str) -> set[tuple[str, ...]]:
    words = text.split()
    return {tuple(words[start : start + 8]) for start in range(len(words) - 7)}


@settings(deadline=None, max_examples=60)
@given(TEXTS, TEXTS, st.sampled_from([0.5, 0.6, 0.9, 1.0]))
def test_the_join_finds_exactly_what_comparing_all_with_all_finds(
    train: list[str], held_out: list[str], threshold: float
) -> None:
    chosen = CurateSettings(split_threshold=threshold, near_threshold=1.0, contradiction_threshold=1.0)
    found = overlap_of(train, held_out, chosen)
    near, shared = set(), set()
    distinct = {*train, *held_out}
    common = {
        gram for text in held_out for gram in eights(text) if sum(gram in eights(other) for other in distinct) >= 5
    }
    for row, text in enumerate(train):
        for other in held_out:
            if len(grams(text) & grams(other)) >= threshold * len(grams(text) | grams(other)):
                near.add(row)
            mine, theirs = eights(text) - common, eights(other) - common
            if not mine or not theirs:
                mine, theirs = eights(text), eights(other)
            if len(mine & theirs) > 0.3 * min(len(mine), len(theirs)):
                shared.add(row)
    assert found.exact == {row for row, text in enumerate(train) if text in held_out}
    assert found.near == near
    assert found.ngram8 == shared


def test_a_quoted_eval_text_is_found_by_its_words_alone() -> None:
    quoted = " ".join(f"word{number}" for number in range(12))
    filler = " ".join(f"other{number}" for number in range(60))
    found = overlap_of([f"{filler} {quoted}", filler], [quoted], CurateSettings())
    assert (found.exact, found.near, found.ngram8) == (frozenset(), frozenset(), frozenset({0}))
    assert found.counts() == {"exact": 0, "near": 0, "ngram8": 1}


def test_an_empty_side_overlaps_with_nothing() -> None:
    assert not overlap_of([], ["a"], CurateSettings()).rows
    assert not overlap_of(["a"], [], CurateSettings()).rows


def test_equal_questions_overlap_even_when_the_template_was_cut_in_different_places() -> None:
    train, held_out = [Wording("parcel", "hello parcel", ((), 0))], [Wording("hello parcel late", "hello parcel", ((), 0))]
    assert find_overlap(train, held_out, CurateSettings()).exact == {0}
