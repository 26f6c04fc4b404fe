from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.payloads import answer_template, event_templates, request_body
from capture import openai_chat, openai_plain, sse
from capture.answer import Answer
from capture.loose_json import parse
from capture.messages import Message
from tests.capture.answers import ANYTHING, TOOLS, Said, chat_pair, chat_stream, delta


def tolerant(body: bytes) -> Answer:
    """What the tolerant reader makes of a stream."""
    return openai_chat.read_events(sse.parse_events(body))


def agrees(body: bytes) -> None:
    """Whatever is read as plain is read as the tolerant readers read it."""
    read = openai_plain.read_events(body)
    assert read is None or read == tolerant(body)
    whole = openai_plain.read_whole(body)
    assert whole is None or whole == openai_chat.read_whole(parse(body))
    asked = openai_plain.asked(body)
    assert asked is None or asked == openai_chat.asked(parse(body))


@given(said=TOOLS, at=st.integers(0, 100))
def test_plain_answers_are_read_at_once(said: Said, at: int) -> None:
    whole, stream = chat_pair(said, at)
    read = openai_plain.read_events(stream.replace(b'"refusal": ""', b'"refusal": null'))
    assert read is not None
    assert read == tolerant(stream)
    assert openai_plain.read_whole(whole) == openai_chat.read_whole(json.loads(whole))


def test_the_bodies_of_the_benchmark_are_plain() -> None:
    assert openai_plain.read_events(b"".join(event_templates(20))) is not None
    assert openai_plain.read_whole(answer_template()) is not None
    assert openai_plain.asked(request_body(1, is_stream=True)) is not None


def test_a_vllm_answer_is_plain() -> None:
    message = {"role": "assistant", "content": "hi", "refusal": None, "audio": None, "function_call": None, "tool_calls": []}
    body = json.dumps({"model": "m", "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}).encode()
    read = openai_plain.read_whole(body)
    assert read is not None
    assert read.message == Message("assistant", "hi")


@given(said=ANYTHING, at=st.integers(0, 100), data=st.data())
def test_damaged_bodies_are_read_as_the_tolerant_readers_read_them(said: Said, at: int, data: st.DataObject) -> None:
    body = data.draw(st.sampled_from(chat_pair(said, at)))
    for _ in range(data.draw(st.integers(0, 3))):
        start = data.draw(st.integers(0, len(body)))
        end = data.draw(st.integers(start, min(len(body), start + 12)))
        marks = [
            b"",
            b"\n",
            b"\n\n",
            b"\r",
            b"{",
            b"}",
            b"[",
            b",",
            b'"',
            b"data: ",
            b"}{",
            b"\xff",
            b"\\ud800",
            b"0",
            b"1.0",
            b"null",
        ]
        body = body[:start] + data.draw(st.sampled_from(marks)) + body[end:]
    agrees(body)


FIELDS = (
    "index", "delta", "message", "content", "finish_reason", "model", "usage", "text", "tool_calls", "error", "x_groq", "refusal",
    "reasoning", "choices", "function", "id", "name", "arguments",
)  # fmt: skip
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 3) | st.sampled_from(["", "a", "stop"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(FIELDS), inner, max_size=3),
    max_leaves=5,
)
FORMS = st.dictionaries(st.sampled_from(FIELDS), VALUES, max_size=3)


@given(frames=st.lists(st.tuples(FORMS, FORMS, FORMS, FORMS), max_size=3), done=st.booleans())
def test_fields_of_any_form_are_read_as_the_tolerant_readers_read_them(
    frames: list[tuple[Any, Any, Any, Any]], done: bool
) -> None:
    bodies = [
        {"choices": [{"delta": said, "message": said, **choice}], "messages": [{"role": "user", "content": "x", **said}], **frame}
        for frame, choice, said in (
            (frame, choice, {**said, "tool_calls": [{"index": 0, "function": {}, **calls}]} if calls else said)
            for frame, choice, said, calls in frames
        )
    ]
    agrees(chat_stream(*bodies, done=done))
    for body in bodies:
        agrees(json.dumps(body).encode())


@pytest.mark.parametrize(
    "body",
    [
        chat_stream(delta(content="a")) + b": ping\n\n",
        b": ping\n\n" + chat_stream(delta(content="a")),
        chat_stream(delta(content="a")).replace(b"\n\n", b"\r\n\r\n"),
        chat_stream(delta(content="a"), done=False)[:-1],
        chat_stream(delta(index=1, content="a")),
        chat_stream(delta(tool_calls=[{"index": 0}])),
        chat_stream(delta(tool_calls=[{"function": {"name": "f"}}])),
        chat_stream(delta(tool_calls=[{"index": 0, "custom": {"name": "f"}}])),
        chat_stream({"error": {"message": "overloaded"}}),
        b'data: {"choices":[]}{"choices":[]}\n\n',
        b'data: {"choices":[{"delta":{}\n\ndata: {}]}\n\n',
        b'data: {"choices":[]}\ndata: {"choices":[]}\n\n',
        b"data: [DONE]\n\n",
        b"",
    ],
)
def test_whatever_is_out_of_the_ordinary_is_left_to_the_tolerant_reader(body: bytes) -> None:
    assert openai_plain.read_events(body) is None


def test_a_request_with_parts_or_tools_is_left_to_the_tolerant_reader() -> None:
    for message in ({"content": None}, {"content": [{"type": "text", "text": "a"}]}, {"content": "a", "tool_calls": [{}]}):
        assert openai_plain.asked(json.dumps({"messages": [{"role": "user", **message}]}).encode()) is None
