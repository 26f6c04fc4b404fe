from __future__ import annotations

import json
from typing import Any

import pytest

from capture.assemble import input_hash, output_text, state_of
from capture.exchange import Conversation
from capture.messages import Message, Usage
from tests.capture.answers import EMBEDDINGS, read

BODY = b'{"object":"list","data":[{"index":0,"embedding":[0.1,-2e-3]}],"model":"e","usage":{"prompt_tokens":5,"total_tokens":5}}'


def test_what_was_embedded_is_asked_and_nothing_is_answered() -> None:
    got = read(EMBEDDINGS, BODY, request=b'{"input":["a","b"]}')
    assert got.conversation == Conversation((Message("user", "a"), Message("user", "b")), None)
    assert (got.model, got.usage, state_of("complete", 200, got)) == ("e", Usage(5, 0, "reported"), "complete")
    assert (input_hash(got.conversation) != "", output_text(got.conversation.answer)) == (True, "")


@pytest.mark.parametrize(("input", "parts"), [("a", 0), ([1, 2], 1), ([[1], [2, 3]], 2), ([{"text": "a"}], 1), (None, 0)])
def test_inputs_are_texts_tokens_or_something_else(input: Any, parts: int) -> None:
    asked = read(EMBEDDINGS, BODY, request=json.dumps({"input": input}).encode()).conversation.asked
    assert sum(len(message.other_parts) for message in asked) == parts


def test_tokens_are_estimated_where_none_are_reported() -> None:
    got = read(EMBEDDINGS, b'{"data":[],"usage":{"total_tokens":3}}', request=b'{"input":"four"}')
    assert got.usage == Usage(1, 0, "estimated")
    assert read(EMBEDDINGS, b'{"data":[]}', request=b"").usage == Usage(None, None, "missing")


def test_other_vectors_are_whole_too() -> None:
    assert read(EMBEDDINGS, b'{"embedding":[0.1]}').is_terminal
    assert not read(EMBEDDINGS, b"[0.1]").is_terminal


def test_a_cut_answer_is_truncated() -> None:
    for cut in range(len(BODY)):
        got = read(EMBEDDINGS, BODY[:cut])
        assert (state_of("complete", 200, got), got.usage.source) == ("truncated", "missing")


def test_odd_numbers_in_vectors_do_no_harm() -> None:
    got = read(EMBEDDINGS, BODY.replace(b"-2e-3", b"NaN"))
    assert (got.is_terminal, got.usage) == (True, Usage(5, 0, "reported"))
