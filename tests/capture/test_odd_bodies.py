"""Bodies that no provider should send: they are read as far as possible, and nothing is raised."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capture.assemble import assemble, input_hash, output_text, rebuild
from capture.exchange import Conversation
from tests.capture.answers import ASKED, CHAT, COMPLETIONS, EMBEDDINGS, MESSAGES, PAIRS, RESPONSES, TEXTS, Said, answer_of, read

KINDS = [CHAT, COMPLETIONS, MESSAGES, RESPONSES]


@pytest.mark.parametrize("kind", [*KINDS, EMBEDDINGS])
@given(
    data=st.binary(max_size=300),
    start=st.sampled_from(
        [b"", b"data: ", b'data: {"choices":[', b'{"choices":', b'{"content":[{"type":', b'{"output":[{', b'{"data":']
    ),
)
def test_any_bytes_are_assembled_without_an_error(kind: tuple[str, str], data: bytes, start: bytes) -> None:
    got = assemble(*kind, True, data, start + data, "", 200)
    assert isinstance(got.conversation, Conversation)


KEYS = [
    "choices",
    "delta",
    "message",
    "content",
    "index",
    "tool_calls",
    "function",
    "id",
    "type",
    "text",
    "usage",
    "error",
    "output",
    "item",
    "item_id",
    "output_index",
    "summary",
    "arguments",
    "reasoning",
    "image_url",
    "url",
    "source",
    "data",
    "audio",
    "response",
    "status",
]
TYPES = [
    "message",
    "text",
    "image",
    "thinking",
    "tool_use",
    "content_block_start",
    "content_block_delta",
    "message_delta",
    "reasoning",
    "function_call",
    "refusal",
    "response.completed",
    "response.output_item.added",
    "response.output_item.done",
    "response.output_text.delta",
    "input_image",
    "error",
    "response.function_call_arguments.done",
    "function_call_output",
]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS | st.sampled_from(TYPES),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=5),
    max_leaves=15,
)


@pytest.mark.parametrize("kind", [*KINDS, EMBEDDINGS])
@given(request=JSON, response=JSON)
def test_any_json_is_assembled_without_an_error(kind: tuple[str, str], request: Any, response: Any) -> None:
    asked = json.dumps({"messages": [request], "system": request, "input": [request], "instructions": request}).encode()
    for body in (json.dumps(response).encode(), b"data: " + json.dumps(response).encode() + b"\n\n"):
        got = assemble(*kind, True, asked, body, "", 200)
        input_hash(got.conversation)
        output_text(got.conversation.answer)
        rebuild(got)


DEEP = b"[" * 100_000 + b"]" * 100_000
ODD = [
    b'"\\ud83d"',
    b'"a\\u0000b"',
    b'"\xff\xfe"',
    b"1" * 5_000,
    b"1e999",
    b"NaN",
    b"-Infinity",
    b"-1",
    b"true",
    b"[]",
    b"{}",
    DEEP,
]


@pytest.mark.parametrize("kind", [*KINDS, EMBEDDINGS])
@pytest.mark.parametrize("is_stream", [True, False])
@pytest.mark.parametrize("odd", ODD, ids=[value[:12].decode("ascii", "replace") for value in ODD])
def test_odd_values_at_any_place_leave_the_rest_readable(kind: tuple[str, str], is_stream: bool, odd: bytes) -> None:
    """Each value in the answer in turn is replaced by an odd one; whatever comes of it, nothing is raised and texts are texts."""
    if kind == EMBEDDINGS:
        body = b'{"data": ["a"], "model": "m", "usage": {"prompt_tokens": 7}}'
    else:
        calls = () if kind == COMPLETIONS else (("find", {"q": "x"}),)
        body = PAIRS[kind](Said("hello", calls=calls), 2)[is_stream]
    places = [at for at in range(len(body)) if body[at : at + 2] == b": " and body[at - 1 : at] == b'"']
    for at in places if odd != DEEP else places[:: max(1, len(places) // 4)]:
        end = min(found for mark in (b",", b"}") if (found := body.find(mark, at)) > 0)
        got = assemble(*kind, is_stream, ASKED, body[: at + 2] + odd + body[end:], "", 200)
        input_hash(got.conversation).encode()
        output_text(got.conversation.answer).encode()
        rebuild(got).decode()


REQUESTS = {
    CHAT: b'{"messages": [{"role": "user", "tool_call_id": "a", "content": [{"type": "image_url", "image_url": {"url": "b"}}]}]}',
    COMPLETIONS: b'{"prompt": "a"}',
    EMBEDDINGS: b'{"input": "a"}',
    MESSAGES: b'{"system": "a", "messages": [{"role": "user", "content": [{"type": "image", "source": {"data": "b"}}]}]}',
    RESPONSES: b'{"instructions": "a", "previous_response_id": "r", "input": [{"type": "x"}, {"role": "user", "content": "c"}]}',
}


@pytest.mark.parametrize("kind", REQUESTS)
@pytest.mark.parametrize("odd", ODD, ids=[value[:12].decode("ascii", "replace") for value in ODD])
def test_odd_values_in_a_request_leave_texts_texts(kind: tuple[str, str], odd: bytes) -> None:
    body = REQUESTS[kind]
    for at in [at for at in range(len(body)) if body[at - 2 : at] == b": "]:
        end = min(found for mark in (b",", b"}", b"]") if (found := body.find(mark, at)) > 0)
        conversation = read(kind, b"", request=body[:at] + odd + body[end:]).conversation
        input_hash(conversation).encode()
        str(conversation).encode()


def test_whatever_can_just_be_read_can_be_written() -> None:
    for depth in range(960, 1005):
        deep = b"[" * depth + b"]" * depth
        part = b'{"messages":[{"role":"user","content":[{"type":"image_url","image_url":%s}]}]}' % deep
        call = b'{"choices":[{"message":{"tool_calls":[{"function":{"name":"f","arguments":%s}}]}}]}' % deep
        got = read(CHAT, call, request=part)
        input_hash(got.conversation)
        rebuild(got)


def test_a_field_nobody_needs_may_hold_anything() -> None:
    for odd in ODD[:-1]:
        body = b'{"x":%s,"choices":[{"index":0,"message":{"content":"hello"},"finish_reason":"stop"}]}' % odd
        assert answer_of(read(CHAT, body)).text == "hello", odd
