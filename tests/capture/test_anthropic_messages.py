from __future__ import annotations

import json
from typing import Any

from capture.assemble import state_of
from capture.messages import Media, Message, ToolCall, Usage
from tests.capture.answers import MESSAGES, answer_of, read, typed_stream


def block(index: int, start: dict[str, Any], *deltas: dict[str, Any]) -> list[dict[str, Any]]:
    events: list[dict[str, Any]] = [{"type": "content_block_start", "index": index, "content_block": start}]
    return events + [{"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas]


def started(**usage: Any) -> dict[str, Any]:
    return {"type": "message_start", "message": {"model": "claude", "usage": usage}}


def test_thinking_is_kept_apart_and_hidden_thinking_is_nothing() -> None:
    content = [
        {"type": "thinking", "thinking": "hm", "signature": "s"},
        {"type": "redacted_thinking", "data": "x"},
        {"type": "text", "text": "4"},
    ]
    whole = json.dumps({"content": content, "stop_reason": "end_turn"}).encode()
    assert answer_of(read(MESSAGES, whole)) == Message("assistant", "4", reasoning="hm")
    stream = typed_stream(
        started(),
        *block(0, {"type": "thinking", "thinking": "", "signature": ""}, {"type": "thinking_delta", "thinking": "hm"},
               {"type": "signature_delta", "signature": "s"}),
        *block(1, {"type": "text", "text": ""}, {"type": "text_delta", "text": "4"}),
    )  # fmt: skip
    assert answer_of(read(MESSAGES, stream)) == Message("assistant", "4", reasoning="hm")


def test_blocks_are_told_apart_by_their_index() -> None:
    tool = {"type": "tool_use", "id": "t1", "name": "find", "input": {}}
    first, second = block(0, tool, {"partial_json": '{"q"'}), block(1, {**tool, "id": "t2"}, {"partial_json": "{}"})
    rest = {"type": "content_block_delta", "index": 0, "delta": {"partial_json": ": 1}"}}
    got = answer_of(read(MESSAGES, typed_stream(started(), *first, *second, rest)))
    assert got.tool_calls == (ToolCall("find", '{"q":1}', "t1"), ToolCall("find", "{}", "t2"))


def test_cut_arguments_are_flagged() -> None:
    tool = {"type": "tool_use", "id": "t1", "name": "find", "input": {}}
    got = read(MESSAGES, typed_stream(started(), *block(0, tool, {"partial_json": '{"q": "par'})))
    assert answer_of(got).tool_calls == (ToolCall("find", '{"q": "par', "t1", is_complete=False),)
    assert state_of("complete", 200, got) == "truncated"


def test_usage_is_the_last_word_of_each_count() -> None:
    final = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 12, "input_tokens": None}}
    thought = {"output_tokens_details": {"thinking_tokens": 8}}
    final["usage"] |= thought  # type: ignore[operator]
    start = started(input_tokens=4, cache_read_input_tokens=100, cache_creation_input_tokens=20, output_tokens=1)
    got = read(MESSAGES, typed_stream(start, final, {"type": "message_stop"}))
    assert got.usage == Usage(124, 12, "reported", 100, 20, 8)


def test_a_stream_cut_before_its_final_count_is_estimated() -> None:
    text = block(0, {"type": "text", "text": ""}, {"text": "12345678"})
    got = read(MESSAGES, typed_stream(started(input_tokens=4, output_tokens=1), *text))
    assert got.usage == Usage(4, 2, "estimated")


def test_unknown_events_and_pings_are_passed_over() -> None:
    stream = typed_stream({"type": "ping"}, started(), {"type": "new_event"}, *block(0, {"type": "text", "text": "a"}))
    assert answer_of(read(MESSAGES, stream)).text == "a"


def test_results_of_tools_come_before_what_else_was_said() -> None:
    content = [
        {"type": "text", "text": "here"},
        {"type": "tool_result", "tool_use_id": "t1", "content": [{"type": "text", "text": "found"}]},
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGk="}},
        {"type": "document", "source": {"type": "url", "url": "https://x/y.pdf"}},
    ]
    asked = read(
        MESSAGES, b"", request=json.dumps({"messages": [{"role": "user", "content": content}]}).encode()
    ).conversation.asked
    assert asked[0] == Message("tool", "found", tool_call_id="t1")
    assert (asked[1].text, [media.kind for media in asked[1].media]) == ("here", ["image", "document"])
    assert asked[1].media[1] == Media("document", "https://x/y.pdf")
    assert [part.partition(":")[0] for part in asked[1].other_parts] == ["image", "document"]


def test_the_work_of_hosted_tools_is_named() -> None:
    content = [
        {"type": "server_tool_use", "name": "web_search"},
        {"type": "web_search_tool_result"},
        {"type": "text", "text": "4"},
    ]
    got = answer_of(read(MESSAGES, json.dumps({"content": content}).encode()))
    assert got == Message("assistant", "4", (), ("server_tool_use", "web_search_tool_result"))
