"""Prompts fall into pieces that fillings do not change."""

from __future__ import annotations

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capture.messages import Message
from capture.offered import Tool
from curate.tasks.prompts import SYSTEM, TALK, PromptReader, segments_of, word_count

TURNS = st.lists(
    st.tuples(st.sampled_from(["system", "developer", "user", "assistant", "tool"]), st.text(max_size=60)), max_size=4
)


def said(system: str, user: str = "hello") -> bytes:
    return PromptReader().read([Message("system", system), Message("user", user)]).key


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("It is Monday, 3 March 2026 now.", "It is Friday, 29 October 2027 now."),
        ("Request 3f2b8c1e-1111-4222-8333-444455556666 of today", "Request 00000000-1111-4222-8333-abcdefabcdef of today"),
        ("Answer in at most 100 words, please.", "Answer in at most 250 words, please!"),
        ("First line.\nSecond line.", "Second line.\n\n\nFirst line."),
    ],
)
def test_dates_numbers_identifiers_and_order_do_not_count(one: str, other: str) -> None:
    assert said(one) == said(other)


def test_what_the_system_says_is_not_what_a_user_says() -> None:
    prompt = PromptReader().read(
        [Message("system", "sort the mail"), Message("user", "sort the mail"), Message("assistant", "done")]
    )
    assert len(prompt.pieces) == 2
    assert (word_count(prompt, SYSTEM), word_count(prompt, TALK)) == (3, 3)


def test_the_names_of_tools_belong_to_the_instructions() -> None:
    asked = [Message("user", "book a flight")]
    with_tools = PromptReader().read(asked, [Tool("search_flights", "", "{}"), Tool("book", "", "{}")])
    assert word_count(with_tools, SYSTEM) == 2
    assert with_tools.key != PromptReader().read(asked).key


def test_a_script_without_spaces_counts_a_few_letters_as_a_word() -> None:
    prompt = PromptReader().read([Message("user", "次の文章を要約してください。短く答えてください")])
    assert word_count(prompt, TALK) >= 2


@given(TURNS)
def test_any_conversation_can_be_read(turns: list[tuple[str, str]]) -> None:
    prompt = PromptReader().read([Message(role, text) for role, text in turns])
    assert prompt.pieces.tolist() == sorted(set(prompt.pieces.tolist()))
    assert len(prompt.pieces) == len(prompt.words) == len(prompt.part)
    assert set(prompt.opening) <= set(prompt.pieces.tolist())
    assert (prompt.words >= 1).all()


@given(st.text(max_size=200))
def test_every_segment_has_words_and_a_piece_for_each_run_of_four(text: str) -> None:
    for segment in segments_of(text, TALK):
        assert segment.words
        assert len(segment.pieces) == max(1, len(segment.words) - 3)
        assert segment.text in text


def test_a_captured_text_is_forgotten_with_the_reader_that_read_it() -> None:
    text = " ".join(["Sort the mail.", *map(str, range(100))])
    before = sys.getrefcount(text)
    PromptReader().read([Message("system", text)])
    assert sys.getrefcount(text) == before
