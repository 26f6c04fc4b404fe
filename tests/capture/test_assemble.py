from __future__ import annotations

import gzip
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capture.assemble import Assembled, assemble, input_hash, output_text, rebuild, state_of
from capture.exchange import Conversation
from capture.messages import Message, ToolCall, Usage

CHAT, MESSAGES = ("openai", "/v1/chat/completions"), ("anthropic", "/v1/messages")
ASKED = b'{"messages":[{"role":"user","content":"hi"}]}'


def read(
    kind: tuple[str, str], response: bytes, *, is_stream: bool = False, request: bytes = ASKED, encoding: str = ""
) -> Assembled:
    return assemble(*kind, is_stream, request, response, encoding, 200)


def chat_stream(*bodies: Any, done: bool = True) -> bytes:
    lines = [f"data: {json.dumps(body)}\n\n" for body in bodies]
    return "".join([*lines, *(["data: [DONE]\n\n"] if done else [])]).encode()


def delta(finish_reason: str | None = None, index: int = 0, **fields: Any) -> dict[str, Any]:
    return {"model": "gpt-4o", "choices": [{"index": index, "delta": fields, "finish_reason": finish_reason}]}


def call(index: int, id: str | None, name: str | None, arguments: str | None) -> dict[str, Any]:
    return {"index": index, "id": id, "function": {"name": name, "arguments": arguments}}


def message_stream(*bodies: dict[str, Any]) -> bytes:
    return "".join(f"event: {body['type']}\ndata: {json.dumps(body)}\n\n" for body in bodies).encode()


def answer_of(assembled: Assembled) -> Message:
    assert assembled.conversation.answer is not None
    return assembled.conversation.answer


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
CALLS = st.lists(st.tuples(st.sampled_from(["find", "book"]), st.dictionaries(TEXTS, TEXTS, max_size=2)), max_size=3)


def split(text: str, at: int) -> list[str]:
    at = at % (len(text) + 1)
    return [text[:at], text[at:]]


def chat_pair(text: str, calls: list[tuple[str, dict[str, str]]], at: int) -> tuple[bytes, bytes]:
    """One answer of a chat completion, unstreamed and streamed."""
    written = [
        {"id": f"c{n}", "type": "function", "function": {"name": f, "arguments": json.dumps(a)}} for n, (f, a) in enumerate(calls)
    ]
    usage = {"prompt_tokens": 7, "completion_tokens": 3}
    message = {"role": "assistant", "content": text, "tool_calls": written}
    whole = {"model": "gpt-4o", "choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "usage": usage}
    chunks = [delta(role="assistant", content="")] + [delta(content=part) for part in split(text, at)]
    for number, (function, arguments) in enumerate(calls):
        first, second = split(json.dumps(arguments), at)
        chunks.append(delta(tool_calls=[call(number, f"c{number}", function, first)]))
        chunks.append(delta(tool_calls=[call(number, None, None, second)]))
    return json.dumps(whole).encode(), chat_stream(*chunks, delta("stop"), {"model": "gpt-4o", "choices": [], "usage": usage})


def message_pair(text: str, calls: list[tuple[str, dict[str, str]]], at: int) -> tuple[bytes, bytes]:
    """One answer of Anthropic messages, unstreamed and streamed."""
    content: list[dict[str, Any]] = [{"type": "thinking", "thinking": "hm", "signature": "s"}, {"type": "text", "text": text}]
    content += [
        {"type": "tool_use", "id": f"t{n}", "name": name, "input": arguments} for n, (name, arguments) in enumerate(calls)
    ]
    usage = {"input_tokens": 5, "cache_read_input_tokens": 2, "output_tokens": 3}
    whole = {"model": "claude", "role": "assistant", "content": content, "stop_reason": "end_turn", "usage": usage}
    started = {"model": "claude", "content": [], "usage": {**usage, "output_tokens": 1}}
    events: list[dict[str, Any]] = [{"type": "message_start", "message": started}, {"type": "ping"}]
    for index, block in enumerate(content):
        events.append(
            {"type": "content_block_start", "index": index, "content_block": {**block, "text": ""} if "text" in block else block}
        )
        kind, pieces = {
            "thinking": ("thinking_delta", [("thinking", "hm")]),
            "text": ("text_delta", [("text", part) for part in split(text, at)]),
            "tool_use": ("input_json_delta", [("partial_json", part) for part in split(json.dumps(block.get("input")), at)]),
        }[block["type"]]
        events += [{"type": "content_block_delta", "index": index, "delta": {"type": kind, key: part}} for key, part in pieces]
        events.append({"type": "content_block_stop", "index": index})
    events.append({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 3}})
    return json.dumps(whole).encode(), message_stream(*events, {"type": "message_stop"})


PAIRS = {CHAT: chat_pair, MESSAGES: message_pair}


@pytest.mark.parametrize("kind", [CHAT, MESSAGES])
@given(text=TEXTS, calls=CALLS, at=st.integers(0, 100))
def test_a_streamed_answer_reads_like_the_unstreamed_one(
    kind: tuple[str, str], text: str, calls: list[tuple[str, dict[str, str]]], at: int
) -> None:
    whole, stream = PAIRS[kind](text, calls, at)
    assert read(kind, stream, is_stream=True) == read(kind, whole)
    got = read(kind, whole)
    assert got.conversation.asked == (Message("user", "hi"),)
    assert answer_of(got).text == text
    assert [(c.name, json.loads(c.arguments)) for c in answer_of(got).tool_calls] == calls
    assert got.usage == Usage(7, 3, "reported")
    assert state_of("complete", 200, got) == "complete"


@pytest.mark.parametrize("kind", [CHAT, MESSAGES])
@pytest.mark.parametrize("is_stream", [True, False])
def test_an_answer_cut_at_any_byte_is_never_complete(kind: tuple[str, str], is_stream: bool) -> None:
    whole, stream = PAIRS[kind]("Grüße aus 東京", [("find", {"q": "x"})], 4)
    body = stream if is_stream else whole
    # The last thing a client needs: the finish reason of a chat, the message_stop of messages, the JSON's last brace.
    needed = (body.index(b'"stop"}]}\n\n') + len(b'"stop"}]}\n\n') if kind == CHAT else len(body) - 2) if is_stream else len(body)
    for cut in range(needed):
        got = read(kind, body[:cut], is_stream=is_stream)
        assert state_of("complete", 200, got) == "truncated", body[:cut]
        assert state_of("upstream_aborted", 200, got) == "upstream_aborted"
        assert state_of("client_closed", 200, got) == "client_closed"
    assert state_of("complete", 200, read(kind, body, is_stream=is_stream)) == "complete"


@pytest.mark.parametrize("kind", [CHAT, MESSAGES])
def test_a_client_that_hangs_up_after_the_last_event_had_it_all(kind: tuple[str, str]) -> None:
    _, stream = PAIRS[kind]("fine", [], 2)
    assert state_of("client_closed", 200, read(kind, stream, is_stream=True)) == "complete"


@pytest.mark.parametrize("kind", [CHAT, MESSAGES])
@given(
    data=st.binary(max_size=300),
    start=st.sampled_from([b"", b"data: ", b'data: {"choices":[', b'{"choices":', b'{"content":[{"type":']),
)
def test_any_bytes_are_assembled_without_an_error(kind: tuple[str, str], data: bytes, start: bytes) -> None:
    got = assemble(*kind, True, data, start + data, "", 200)
    assert isinstance(got.conversation, Conversation)


KEYS = ["choices", "delta", "message", "content", "index", "tool_calls", "function", "id", "type", "text", "usage", "error"]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4),
    max_leaves=12,
)


@pytest.mark.parametrize("kind", [CHAT, MESSAGES])
@given(request=JSON, response=JSON)
def test_any_json_is_assembled_without_an_error(kind: tuple[str, str], request: Any, response: Any) -> None:
    for body in (json.dumps(response).encode(), b"data: " + json.dumps(response).encode() + b"\n\n"):
        got = assemble(*kind, True, json.dumps({"messages": [request], "system": request}).encode(), body, "", 200)
        input_hash(got.conversation)
        output_text(got.conversation.answer)


@pytest.mark.parametrize(
    ("chunks", "calls"),
    [
        ([call(0, "a", "find", '{"q":'), call(1, "b", "book", "{"), call(0, None, None, "1}"), call(1, None, None, "}")],
         [ToolCall("find", '{"q":1}', "a"), ToolCall("book", "{}", "b")]),
        ([call(0, "a", "find", "{}"), call(0, "b", "book", "{}")], [ToolCall("find", "{}", "a"), ToolCall("book", "{}", "b")]),
        ([call(0, "a", "find", None), call(0, "", None, "{}")], [ToolCall("find", "{}", "a")]),
        ([call(0, "a", "find", '{"q": "par')], [ToolCall("find", '{"q": "par', "a", is_complete=False)]),
        ([{"id": "a", "function": {"name": "find", "arguments": {"q": 1}}},
          {"id": "b", "function": {"name": "book", "arguments": "{}"}}],
         [ToolCall("find", '{"q":1}', "a"), ToolCall("book", "{}", "b")]),
    ],
    ids=["interleaved", "same index, new id", "empty id", "cut arguments", "no index"],
)  # fmt: skip
def test_tool_calls_are_put_together_from_their_fragments(chunks: list[dict[str, Any]], calls: list[ToolCall]) -> None:
    stream = chat_stream(*[delta(tool_calls=[chunk]) for chunk in chunks], delta("tool_calls"))
    assert list(answer_of(read(CHAT, stream, is_stream=True)).tool_calls) == calls


def test_legacy_function_calls_are_tool_calls() -> None:
    stream = chat_stream(
        delta(function_call={"name": "find", "arguments": '{"q"'}), delta(function_call={"arguments": ":1}"}), delta("stop")
    )
    assert answer_of(read(CHAT, stream, is_stream=True)).tool_calls == (ToolCall("find", '{"q":1}'),)


def test_the_first_choice_of_several_is_the_answer() -> None:
    stream = chat_stream(delta(index=1, content="b"), delta(index=0, content="a"), delta("stop", 1), delta("stop", 0))
    assert answer_of(read(CHAT, stream, is_stream=True)).text == "a"


def test_an_unfinished_second_choice_makes_a_stream_without_done_truncated() -> None:
    stream = chat_stream(delta(index=0, content="a"), delta("stop", 0), delta(index=1, content="b"), done=False)
    assert state_of("complete", 200, read(CHAT, stream, is_stream=True)) == "truncated"


def test_a_provider_that_sends_no_done_is_complete_with_its_finish_reason() -> None:
    got = read(CHAT, chat_stream(delta(content="a"), delta("stop"), done=False), is_stream=True)
    assert state_of("complete", 200, got) == "complete"


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (CHAT, b'data: {"error":{"message":"overloaded"}}\n\n'),
        (CHAT, chat_stream(delta(content="a"), {"error": {"message": "overloaded"}})),
        (CHAT, chat_stream(delta(content="a"), done=False) + b'{"error": {"message": "overloaded"}}'),
        (CHAT, chat_stream(delta(content="a"), done=False) + b'event: error\ndata: {"message":"overloaded"}\n\n'),
        (CHAT, b'{"error":"overloaded"}'),
        (
            MESSAGES,
            message_stream({"type": "message_start", "message": {}}, {"type": "error", "error": {"message": "overloaded"}}),
        ),
        (MESSAGES, b'{"type":"error","error":{"type":"overloaded_error","message":"overloaded"}}'),
    ],
)
def test_an_error_inside_a_200_is_found(kind: tuple[str, str], body: bytes) -> None:
    got = read(kind, body, is_stream=True)
    assert "overloaded" in got.error_in_band
    assert state_of("complete", 200, got) == "error_in_band"
    assert state_of("client_closed", 200, got) == "client_closed"


def test_a_providers_error_that_arrived_whole_is_complete() -> None:
    got = assemble(*CHAT, True, ASKED, b'{"error":{"message":"slow down"}}', "", 429)
    assert (state_of("complete", 429, got), got.error_in_band) == ("complete", "slow down")


@pytest.mark.parametrize("body", [b"", b"\n", b"<html>bad gateway</html>"])
def test_a_200_without_an_answer_is_truncated(body: bytes) -> None:
    for is_stream in (True, False):
        assert state_of("complete", 200, read(CHAT, body, is_stream=is_stream)) == "truncated"


def test_halves_of_a_letter_in_two_events_are_joined() -> None:
    body = b"".join(b'data: {"choices":[{"index":0,"delta":{"content":"\\u%s"}}]}\n\n' % half for half in (b"d83d", b"de00"))
    assert answer_of(read(CHAT, body, is_stream=True)).text == "😀"
    lone = b'{"choices":[{"index":0,"message":{"content":"\\ud83d!"},"finish_reason":"stop"}]}'
    assert answer_of(read(CHAT, lone)).text == "\ufffd!"


def test_missing_usage_is_unknown_and_zero_is_zero() -> None:
    assert read(CHAT, chat_stream(delta("stop")), is_stream=True).usage == Usage(None, None, "missing")
    zero = b'{"choices":[],"usage":{"prompt_tokens":0,"completion_tokens":0}}'
    assert read(CHAT, zero).usage == Usage(0, 0, "reported")
    cut = message_stream({"type": "message_start", "message": {"usage": {"input_tokens": 4, "output_tokens": 1}}})
    assert read(MESSAGES, cut, is_stream=True).usage == Usage(4, None, "missing")


def test_both_protocols_ask_in_one_form() -> None:
    chat = {"messages": [
        {"role": "developer", "content": "Be kind."},
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        {"role": "assistant", "content": None, "tool_calls": [{"id": "1", "function": {"name": "find", "arguments": '{"q":1}'}}]},
        {"role": "tool", "tool_call_id": "1", "content": "found"},
        {"role": "user", "content": "c"}]}  # fmt: skip
    messages = {"system": [{"type": "text", "text": "Be kind."}], "messages": [
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "1", "name": "find", "input": {"q": 1}}]},
        {"role": "user", "content": [{"type": "tool_result", "content": "found"}, {"type": "text", "text": "c"}]}]}  # fmt: skip
    first = read(CHAT, b"", request=json.dumps(chat).encode()).conversation
    second = read(MESSAGES, b"", request=json.dumps(messages).encode()).conversation
    assert first.asked == second.asked
    assert [message.role for message in first.asked] == ["system", "user", "assistant", "tool", "user"]
    assert input_hash(first) == input_hash(second) != ""


def test_two_images_are_two_inputs() -> None:
    def hash_of(url: str) -> str:
        part = {"type": "image_url", "image_url": {"url": url}}
        conversation = read(
            CHAT, b"", request=json.dumps({"messages": [{"role": "user", "content": [part]}]}).encode()
        ).conversation
        assert conversation.asked[0].other_parts[0].startswith("image:")
        return input_hash(conversation)

    assert hash_of("data:a") != hash_of("data:b")
    assert hash_of("data:a") == hash_of("data:a")


def test_the_model_and_the_spelling_of_the_request_do_not_change_the_input() -> None:
    spelled = json.dumps({"messages": [{"content": "hi", "role": "user"}], "model": "other", "temperature": 0}, indent=2).encode()
    assert input_hash(read(CHAT, b"", request=spelled).conversation) == input_hash(read(CHAT, b"").conversation)
    assert input_hash(read(("raw", "/v1/models"), b"{}").conversation) == ""


def test_compressed_bodies_are_read() -> None:
    whole, _ = chat_pair("hello", [], 0)
    packed = gzip.compress(whole)
    assert answer_of(read(CHAT, packed, encoding="gzip")).text == "hello"
    assert not read(CHAT, packed[:-4], encoding="gzip").is_terminal
    got = assemble(*CHAT, False, gzip.compress(ASKED), whole, "", 200, request_encoding="gzip")
    assert got.conversation.asked == (Message("user", "hi"),)


def test_legacy_completions_and_unknown_paths() -> None:
    body = b'{"model":"m","choices":[{"index":0,"text":"you","finish_reason":"stop"}]}'
    got = read(("openai", "/v1/completions"), body, request=b'{"prompt":"how are"}')
    assert (got.conversation.asked, answer_of(got).text) == ((Message("user", "how are"),), "you")
    other = read(("openai", "/v1/embeddings"), b'{"data":[]}')
    assert (other.conversation, state_of("complete", 200, other)) == (Conversation((), None), "complete")


def test_a_refusal_is_the_answer_and_marked() -> None:
    got = read(CHAT, chat_stream(delta(refusal="I can"), delta(refusal="not."), delta("stop")), is_stream=True)
    assert answer_of(got) == Message("assistant", "I cannot.", (), ("refusal",))


def test_the_output_text_shows_tool_calls_too() -> None:
    assert output_text(Message("assistant", "Sure.", (ToolCall("find", '{"q":1}'),))) == 'Sure.\nfind({"q":1})'
    assert output_text(None) == ""


@pytest.mark.parametrize("kind", [CHAT, MESSAGES])
def test_a_rebuilt_answer_reads_like_the_stream_it_stands_for(kind: tuple[str, str]) -> None:
    got = read(kind, PAIRS[kind]("hello", [("find", {"q": "x"})], 3)[1], is_stream=True)
    again = read(kind, rebuild(kind[0], got), is_stream=True)
    assert (again.conversation, again.model, again.finish_reason) == (got.conversation, got.model, got.finish_reason)


def test_every_recorded_chat_assembles_to_an_answer(recordings: list[Any]) -> None:
    whole = [item for item in recordings if item.status == 200]
    assert {(item.protocol, item.is_stream) for item in whole} == {(p, s) for p in ("openai", "anthropic") for s in (True, False)}
    for item in whole:
        got = assemble(item.protocol, item.path, item.is_stream, item.request, item.response, item.encoding, item.status)
        assert state_of("complete", 200, got) == "complete", item.name
        assert got.finish_reason and input_hash(got.conversation), item.name
        # A model that thought until its limit has said nothing, and only then may the answer be empty.
        assert output_text(got.conversation.answer) or got.finish_reason == "length", item.name


def test_recorded_streams_cut_short_are_never_complete(recordings: list[Any]) -> None:
    streams = [item for item in recordings if item.status == 200 and item.is_stream and not item.encoding]
    assert len(streams) > 50
    for item in streams:
        for cut in range(0, len(item.response) * 3 // 4, max(1, len(item.response) // 16)):
            got = assemble(item.protocol, item.path, True, item.request, item.response[:cut], "", 200)
            assert state_of("complete", 200, got) == "truncated", (item.name, cut)
