from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from curate.likeness.certificate import Overlap, find_overlap
from curate.likeness.duplicates import Wording
from curate.settings import CurateSettings

PASSAGE = st.sampled_from([" ".join(f"{letter}{number}" for number in range(9)) for letter in "pq"])
WORD = st.sampled_from(["alpha", "beta", "gam", "delta", "eps", "ze", "eta", "theta", "io"])
TEXTS = st.lists(st.lists(WORD, max_size=12).map(" ".join), min_size=1, max_size=20)


PROMPTS = st.lists(st.lists(PASSAGE | WORD, max_size=12).map(" ".join), min_size=1, max_size=20)


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
    chosen = CurateSettings(
        overlap_threshold=threshold, split_threshold=threshold, near_threshold=1.0, contradiction_threshold=1.0
    )
    found = overlap_of(train, held_out, chosen)
    near = {
        row
        for row, text in enumerate(train)
        if any(len(grams(text) & grams(other)) >= threshold * len(grams(text) | grams(other)) for other in held_out)
    }
    assert found.exact == {row for row, text in enumerate(train) if text in held_out}
    assert found.near == near


def own(text: str, common: set[tuple[str, ...]]) -> set[tuple[str, ...]]:
    """The 8-grams of what is left without common ones; a rest of 4 words or more that has none counts as one."""
    words = text.split()
    cut = {start + step for start in range(len(words) - 7) if tuple(words[start : start + 8]) in common for step in range(8)}
    found = {tuple(words[start : start + 8]) for start in range(len(words) - 7) if not cut & set(range(start, start + 8))}
    rest = tuple(word for place, word in enumerate(words) if place not in cut)
    return found or ({rest} if cut and len(rest) >= 4 else set())


@settings(deadline=None, max_examples=50)
@given(PROMPTS, PROMPTS)
def test_shared_words_are_counted_without_what_many_inputs_say(train: list[str], held_out: list[str]) -> None:
    distinct = {*train, *held_out}
    of_eval = {gram for text in held_out for gram in eights(text)}
    common = {gram for gram in of_eval if sum(gram in eights(text) for text in distinct) >= 5}
    shared = set()
    for row, text in enumerate(train):
        for other in held_out:
            mine, theirs = own(text, common), own(other, common)
            if not mine or not theirs:
                mine, theirs = eights(text), eights(other)
            if len(mine & theirs) > 0.3 * min(len(mine), len(theirs)):
                shared.add(row)
    assert overlap_of(train, held_out, CurateSettings()).ngram8 == shared


def test_prompts_that_quote_the_same_passages_overlap_only_when_they_ask_the_same() -> None:
    passages = [" ".join(f"passage{number}word{place}" for place in range(60)) for number in range(6)]

    def prompt(number: int, question: str) -> str:
        return f"{passages[number % 6]} {passages[(number + 1) % 6]} {question}"

    train = [prompt(number, " ".join(f"asked{number}as{place}" for place in range(6 + number % 9))) for number in range(60)]
    held_out = [prompt(number, " ".join(f"eval{number}as{place}" for place in range(6 + number % 9))) for number in range(6)]
    leaked = f"{passages[3]} {passages[5]} " + " ".join(f"eval2as{place}" for place in range(8))
    assert overlap_of(
        [*train, leaked],
        held_out,
        CurateSettings(overlap_threshold=0.95, split_threshold=0.95, near_threshold=1.0, contradiction_threshold=1.0),
    ).ngram8 == {60}


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
