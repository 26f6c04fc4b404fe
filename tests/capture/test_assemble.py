from __future__ import annotations

import gzip
import json
from typing import Any

import brotli
import pytest
from hypothesis import given
from hypothesis import strategies as st

from capture.assemble import assemble, form_of, input_hash, output_text, rebuild, state_of
from capture.exchange import Conversation
from capture.ids import content_hash
from capture.messages import Message, ToolCall, Usage
from tests.capture.answers import (
    ASKED,
    CHAT,
    COMPLETIONS,
    EMBEDDINGS,
    MESSAGES,
    PAIRS,
    RESPONSES,
    SAYINGS,
    TEXTS,
    Said,
    answer_of,
    chat_pair,
    chat_stream,
    delta,
    read,
    typed_stream,
)  # fmt: skip

KINDS = [CHAT, COMPLETIONS, MESSAGES, RESPONSES]


def arguments_of(call: ToolCall) -> Any:
    return call.arguments if call.is_custom else json.loads(call.arguments)


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data(), at=st.integers(0, 100))
def test_a_streamed_answer_reads_like_the_unstreamed_one(kind: tuple[str, str], data: st.DataObject, at: int) -> None:
    said = data.draw(SAYINGS[kind])
    whole, stream = PAIRS[kind](said, at)
    got = read(kind, whole)
    assert read(kind, stream, is_stream=True) == got
    answer = answer_of(got)
    assert got.conversation.asked == (Message("user", "hi"),)
    assert (answer.text, answer.reasoning, answer.refusal) == (said.text or said.refusal, said.thought, said.refusal)
    assert answer.other_parts == (("refusal",) if said.refusal else ())
    assert tuple((call.name, arguments_of(call)) for call in answer.tool_calls) == said.calls
    assert [call.id for call in answer.tool_calls] == [f"c{number}" for number in range(len(said.calls))]
    assert all(call.is_complete for call in answer.tool_calls)
    assert got.usage == said.usage
    assert state_of("complete", 200, got) == "complete"


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
def test_a_rebuilt_answer_reads_like_the_stream_it_stands_for(kind: tuple[str, str], data: st.DataObject) -> None:
    got = read(kind, PAIRS[kind](data.draw(SAYINGS[kind]), 3)[1], is_stream=True)
    again = read(kind, rebuild(got), is_stream=True)
    assert again == got


@pytest.mark.parametrize("kind", KINDS)
def test_a_rebuilt_answer_does_not_pass_an_estimate_for_a_report(kind: tuple[str, str]) -> None:
    body = json.loads(PAIRS[kind](Said("fine"), 0)[0])
    del body["usage"]
    got = read(kind, json.dumps(body).encode())
    again = read(kind, rebuild(got))
    assert (got.usage.source, again.usage) == ("estimated", got.usage)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("is_stream", [True, False])
def test_an_answer_cut_at_any_byte_is_never_complete(kind: tuple[str, str], is_stream: bool) -> None:
    calls = () if kind == COMPLETIONS else (("find", {"q": "x"}),)
    whole, stream = PAIRS[kind](Said("Grüße aus 東京", calls=calls), 4)
    body = stream if is_stream else whole
    needed = len(body) - (2 if is_stream else 0)
    if is_stream and kind in (CHAT, COMPLETIONS):
        finish = b'"finish_reason": "stop"}]'
        needed = body.index(b"\n", body.index(finish)) + 2
    for cut in range(needed):
        got = read(kind, body[:cut], is_stream=is_stream)
        assert state_of("complete", 200, got) == "truncated", body[:cut]
        assert state_of("upstream_aborted", 200, got) == "upstream_aborted"
        assert state_of("timeout", 200, got) == "timeout"
        assert state_of("client_closed", 200, got) == "client_closed"
    assert state_of("complete", 200, read(kind, body, is_stream=is_stream)) == "complete"


@pytest.mark.parametrize("kind", KINDS)
def test_a_client_that_hangs_up_after_the_last_event_had_it_all(kind: tuple[str, str]) -> None:
    _, stream = PAIRS[kind](Said("fine"), 2)
    assert state_of("client_closed", 200, read(kind, stream, is_stream=True)) == "complete"


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (CHAT, b'data: {"error":{"message":"overloaded"}}\n\n'),
        (CHAT, chat_stream(delta(content="a"), {"error": {"message": "overloaded"}})),
        (CHAT, chat_stream(delta(content="a"), {"choices": [{"index": 0, "delta": {}, "error": {"message": "overloaded"}}]})),
        (CHAT, chat_stream(delta(content="a"), {"choices": [], "x_groq": {"error": "overloaded"}})),
        (CHAT, chat_stream(delta(content="a"), done=False) + b'{"error": {"message": "overloaded"}}'),
        (CHAT, chat_stream(delta(content="a"), done=False) + b'event: error\ndata: {"message":"overloaded"}\n\n'),
        (CHAT, b'{"error":"overloaded"}'),
        (EMBEDDINGS, b'{"error":"overloaded"}'),
        (MESSAGES, typed_stream({"type": "message_start", "message": {}}, {"type": "error", "error": {"message": "overloaded"}})),
        (MESSAGES, b'{"type":"error","error":{"type":"overloaded_error","message":"overloaded"}}'),
        (RESPONSES, typed_stream({"type": "error", "code": "server_error", "message": "overloaded"})),
        (RESPONSES, typed_stream({"type": "error", "error": {"message": "overloaded"}})),
        (
            RESPONSES,
            typed_stream({"type": "response.failed", "response": {"status": "failed", "error": {"message": "overloaded"}}}),
        ),
        (RESPONSES, b'event: response.created\ndata: {"response":{}}\n\n{"error":{"message":"overloaded"}}'),
        (RESPONSES, b'{"status":"failed","output":[],"error":{"message":"overloaded"}}'),
    ],
)
def test_an_error_inside_a_200_is_found(kind: tuple[str, str], body: bytes) -> None:
    got = read(kind, body, is_stream=True)
    assert "overloaded" in got.error_in_band
    assert state_of("complete", 200, got) == "error_in_band"
    assert state_of("client_closed", 200, got) == "client_closed"


@pytest.mark.parametrize("kind", [*KINDS, EMBEDDINGS])
def test_a_providers_error_that_arrived_whole_is_complete(kind: tuple[str, str]) -> None:
    got = assemble(*kind, True, ASKED, b'{"error":{"message":"slow down"}}', "", 429)
    assert (state_of("complete", 429, got), got.error_in_band) == ("complete", "slow down")
    assert got.usage == Usage(None, None, "missing")


@pytest.mark.parametrize("kind", [*KINDS, EMBEDDINGS])
@pytest.mark.parametrize("body", [b"", b"\n", b"<html>bad gateway</html>"])
def test_a_200_without_an_answer_is_truncated(kind: tuple[str, str], body: bytes) -> None:
    for is_stream in (True, False):
        got = read(kind, body, is_stream=is_stream)
        assert state_of("complete", 200, got) == "truncated"
        assert got.usage == Usage(None, None, "missing")


@pytest.mark.parametrize(
    ("protocol", "path", "form"),
    [
        ("openai", "/v1/chat/completions", "chat"),
        ("openai", "/openai/deployments/gpt-4o/chat/completions", "chat"),
        ("openai", "//openai/deployments/gpt-4o/completions/", "completions"),
        ("openai", "/v1/responses", "responses"),
        ("openai", "/openai/v1/embeddings", "embeddings"),
        ("openai", "/v1/responses/resp_1", "other"),
        ("openai", "/v1/messages", "other"),
        ("anthropic", "/v1/messages", "messages"),
        ("anthropic", "/v1/messages/count_tokens", "other"),
        ("anthropic", "/v1/responses", "other"),
        ("raw", "/v1/chat/completions", "other"),
    ],
)
def test_the_form_follows_from_protocol_and_path(protocol: str, path: str, form: str) -> None:
    assert form_of(protocol, path) == form


def test_what_is_not_known_is_complete_and_has_no_conversation() -> None:
    other = read(("openai", "/v1/models"), b'{"data":[]}')
    assert (other.conversation, state_of("complete", 200, other)) == (Conversation((), None), "complete")
    assert input_hash(other.conversation) == ""


def test_every_protocol_asks_in_one_form() -> None:
    chat = {"messages": [
        {"role": "developer", "content": "Be kind."},
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        {"role": "assistant", "content": None, "reasoning_content": "hm",
         "tool_calls": [{"id": "1", "function": {"name": "find", "arguments": '{"q":1}'}}]},
        {"role": "tool", "tool_call_id": "1", "content": "found"},
        {"role": "user", "content": "c"}]}  # fmt: skip
    messages = {"system": [{"type": "text", "text": "Be kind."}], "messages": [
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        {"role": "assistant", "content": [
            {"type": "thinking", "thinking": "hm"}, {"type": "tool_use", "id": "1", "name": "find", "input": {"q": 1}}]},
        {"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": "1", "content": "found"}, {"type": "text", "text": "c"}]}]}  # fmt: skip
    responses = {"instructions": "Be kind.", "input": [
        {"role": "user", "content": [{"type": "input_text", "text": "a"}, {"type": "input_text", "text": "b"}]},
        {"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}]},
        {"type": "function_call", "call_id": "1", "name": "find", "arguments": '{"q":1}'},
        {"type": "function_call_output", "call_id": "1", "output": "found"},
        {"role": "user", "content": "c"}]}  # fmt: skip
    read_as = [
        read(kind, b"", request=json.dumps(body).encode()).conversation
        for kind, body in ((CHAT, chat), (MESSAGES, messages), (RESPONSES, responses))
    ]
    assert read_as[0].asked == read_as[1].asked == read_as[2].asked
    assert [message.role for message in read_as[0].asked] == ["system", "user", "assistant", "tool", "user"]
    assert len({input_hash(conversation) for conversation in read_as}) == 1


def test_the_hash_of_an_input_is_the_one_that_stores_hold() -> None:
    body = {"messages": [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": [{"type": "text", "text": "what?"}, {"type": "image_url", "image_url": {"url": "data:a"}}]},
        {"role": "assistant", "reasoning": "hm", "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": "{}"}}]},
        {"role": "tool", "tool_call_id": "1", "content": "x"}]}  # fmt: skip
    hashed = input_hash(read(CHAT, b"", request=json.dumps(body).encode()).conversation)
    assert hashed == "b2:3bb491a120df6f73fbc7ee15f6ac077a"


@given(text=TEXTS, name=TEXTS, part=TEXTS)
def test_the_hash_of_an_input_is_made_of_roles_texts_calls_and_parts(text: str, name: str, part: str) -> None:
    message = Message("user", text, (ToolCall(name, text, "1"),), (part,), "hm", "no", tool_call_id="2")
    canonical = json.dumps([["user", text, [[name, text]], [part]]], ensure_ascii=False, separators=(",", ":"))
    assert input_hash(Conversation((message,), None)) == content_hash(canonical.encode())[:35]


def test_the_model_and_the_spelling_of_the_request_do_not_change_the_input() -> None:
    spelled = json.dumps({"messages": [{"content": "hi", "role": "user"}], "model": "other", "temperature": 0}, indent=2).encode()
    assert input_hash(read(CHAT, b"", request=spelled).conversation) == input_hash(read(CHAT, b"").conversation)


def test_compressed_bodies_are_read() -> None:
    whole, _ = chat_pair(Said("hello"), 0)
    packed = gzip.compress(whole)
    assert answer_of(read(CHAT, packed, encoding="gzip")).text == "hello"
    assert answer_of(read(CHAT, brotli.compress(whole), encoding="br")).text == "hello"
    assert not read(CHAT, packed[:-4], encoding="gzip").is_terminal
    got = assemble(*CHAT, False, gzip.compress(ASKED), whole, "", 200, request_encoding="gzip")
    assert got.conversation.asked == (Message("user", "hi"),)


def test_an_answer_that_cannot_be_decoded_leaves_what_was_asked() -> None:
    got = read(CHAT, b"\xff", encoding="br2")
    assert (got.conversation, got.is_terminal) == (Conversation((Message("user", "hi"),), None), True)


def test_the_output_text_shows_tool_calls_and_no_reasoning() -> None:
    said = Message("assistant", "Sure.", (ToolCall("find", '{"q":1}'),), reasoning="hm")
    assert output_text(said) == 'Sure.\nfind({"q":1})'
    assert output_text(None) == ""
