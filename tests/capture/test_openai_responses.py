from __future__ import annotations

import json
from typing import Any

import pytest

from capture.assemble import input_hash, state_of
from capture.messages import Media, Message, ToolCall, Usage
from tests.capture.answers import RESPONSES, Said, answer_of, read, response_output, response_pair, typed_stream


def asked(**body: Any) -> tuple[Message, ...]:
    return read(RESPONSES, b"", request=json.dumps(body).encode()).conversation.asked


def added(place: int, item: dict[str, Any]) -> dict[str, Any]:
    return {"type": "response.output_item.added", "output_index": place, "item": item}


def arguments(place: int, id: str, piece: str) -> dict[str, Any]:
    return {"type": "response.function_call_arguments.delta", "output_index": place, "item_id": id, "delta": piece}


def words(piece: str, **place: Any) -> dict[str, Any]:
    return {"type": "response.output_text.delta", "content_index": 0, "delta": piece, **place}


FIND = {"type": "function_call", "id": "i1", "call_id": "c1", "name": "find", "arguments": "", "status": "in_progress"}
BOOK = {**FIND, "id": "i2", "call_id": "c2", "name": "book"}


def test_an_input_is_a_text_or_items() -> None:
    said = (Message("system", "Be kind."), Message("user", "hi"))
    assert asked(instructions="Be kind.", input="hi") == said
    assert (
        asked(input=[{"role": "developer", "content": "Be kind."}, {"type": "message", "role": "user", "content": "hi"}]) == said
    )
    assert asked(instructions=[{"role": "system", "content": "Be kind."}], input="hi") == said


def test_items_of_one_turn_are_one_message() -> None:
    turns = asked(input=[
        {"role": "user", "content": "hi"},
        {"type": "reasoning", "summary": [{"type": "summary_text", "text": "a"}], "encrypted_content": "x"},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Sure."}]},
        {"type": "function_call", "call_id": "c1", "name": "find", "arguments": "{}"},
        {"type": "custom_tool_call", "call_id": "c2", "name": "run", "input": "ls"},
        {"type": "function_call_output", "call_id": "c1", "output": [{"type": "input_text", "text": "found"}]},
        {"type": "custom_tool_call_output", "call_id": "c2", "output": "files"},
        {"type": "message", "role": "assistant", "content": "Done."}])  # fmt: skip
    calls = (ToolCall("find", "{}", "c1"), ToolCall("run", "ls", "c2", is_custom=True))
    assert turns == (
        Message("user", "hi"),
        Message("assistant", "Sure.", calls, reasoning="a"),
        Message("tool", "found", tool_call_id="c1"),
        Message("tool", "files", tool_call_id="c2"),
        Message("assistant", "Done."),
    )


def test_what_the_provider_keeps_stands_as_a_reference() -> None:
    turns = asked(instructions="Be kind.", input="go on", previous_response_id="resp_1")
    assert [turn.role for turn in turns] == ["system", "assistant", "user"]
    assert turns[1] == Message("assistant", "", other_parts=("previous_response:resp_1",))
    assert asked(input="x", conversation={"id": "conv_1"})[0].other_parts == ("conversation:conv_1",)
    assert asked(input=[{"type": "item_reference", "id": "msg_1"}])[0].other_parts == ("item_reference:msg_1",)
    hashes = {
        input_hash(read(RESPONSES, b"", request=json.dumps({"input": "go on", **more}).encode()).conversation)
        for more in ({}, {"previous_response_id": "resp_1"}, {"previous_response_id": "resp_2"}, {"prompt": {"id": "p"}})
    }
    assert len(hashes) == 4


def test_pictures_and_files_are_kept_by_reference() -> None:
    parts = [
        {"type": "input_image", "image_url": "https://x/y.png"},
        {"type": "input_file", "file_id": "file_1"},
        {"type": "input_text", "text": "what?"},
    ]
    turn = asked(input=[{"role": "user", "content": parts}])[0]
    assert turn.media == (Media("image", "https://x/y.png"), Media("document", "file:file_1"))
    assert [part.partition(":")[0] for part in turn.other_parts] == ["image", "document"]
    assert turn.text == "what?"


def test_the_work_of_hosted_tools_is_named() -> None:
    said = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "4"}]}
    items = [{"type": "web_search_call", "id": "ws", "action": {}}, said]
    got = answer_of(read(RESPONSES, json.dumps({"status": "completed", "output": items}).encode()))
    assert got == Message("assistant", "4", (), ("web_search_call",))
    shown = asked(input=[*items, {"type": "computer_call_output", "call_id": "c", "output": {"type": "computer_screenshot"}}])
    assert [turn.role for turn in shown] == ["assistant", "tool"]
    assert shown[1].other_parts[0].startswith("computer_call_output:")


def test_calls_that_interleave_are_told_apart() -> None:
    events = [arguments(0, "i1", '{"q":'), arguments(1, "i2", "{"), arguments(0, "i1", "1}"), arguments(1, "i2", "}")]
    got = answer_of(read(RESPONSES, typed_stream(added(0, FIND), added(1, BOOK), *events), is_stream=True))
    assert got.tool_calls == (ToolCall("find", '{"q":1}', "c1"), ToolCall("book", "{}", "c2"))


def test_two_calls_at_one_place_are_two() -> None:
    stream = typed_stream(added(0, FIND), arguments(0, "i1", "{}"), added(0, BOOK), arguments(0, "i2", '{"a":1}'))
    assert [call.arguments for call in answer_of(read(RESPONSES, stream)).tool_calls] == ["{}", '{"a":1}']


def test_ids_that_change_with_every_event_are_known_by_their_place() -> None:
    message = {"type": "message", "id": "a", "role": "assistant", "content": []}
    stream = typed_stream(added(0, message), words("o", output_index=0, item_id="b"), words("k", output_index=0, item_id="c"))
    assert answer_of(read(RESPONSES, stream)).text == "ok"


def test_deltas_without_an_item_are_read() -> None:
    assert answer_of(read(RESPONSES, typed_stream(words("o"), words("k")))).text == "ok"
    done = {"type": "response.output_text.done", "output_index": 0, "item_id": "m", "content_index": 0, "text": "okay"}
    assert answer_of(read(RESPONSES, typed_stream(words("o", output_index=0, item_id="m"), done))).text == "okay"


def test_cut_arguments_are_flagged() -> None:
    created = {"type": "response.created", "response": {"status": "in_progress"}}
    stream = typed_stream(created, added(0, FIND), arguments(0, "i1", '{"q'))
    got = read(RESPONSES, stream, is_stream=True)
    assert answer_of(got).tool_calls == (ToolCall("find", '{"q', "c1", is_complete=False),)
    assert state_of("complete", 200, got) == "truncated"
    assert (got.usage.source, got.finish_reason) == ("estimated", "")


@pytest.mark.parametrize("end", ["completed", "incomplete", "failed"])
def test_each_of_the_last_events_ends_a_stream(end: str) -> None:
    details = {"incomplete": {"reason": "max_output_tokens"}}.get(end)
    error = {"message": "boom"} if end == "failed" else None
    response = {"status": end, "incomplete_details": details, "error": error, "output": response_output(Said("hi"))}
    got = read(RESPONSES, typed_stream({"type": f"response.{end}", "response": response}), is_stream=True)
    assert got.is_terminal
    assert got.finish_reason == ("max_output_tokens" if details else end)
    assert got.error_in_band == ("boom" if error else "")
    assert answer_of(got).text == "hi"
    whole = json.dumps(response).encode()
    assert read(RESPONSES, whole).error_in_band == got.error_in_band


def test_a_last_event_without_output_leaves_what_was_streamed() -> None:
    _, stream = response_pair(Said("hello"), 2)
    *events, _ = stream.split(b"\n\n")[:-1]
    ended = b"\n\n".join(events) + b"\n\n" + typed_stream({"type": "response.completed", "response": {"status": "completed"}})
    assert answer_of(read(RESPONSES, ended)).text == "hello"


def test_a_response_that_is_still_worked_on_has_no_answer() -> None:
    got = read(RESPONSES, b'{"status":"queued","background":true,"output":[],"error":null,"usage":null}')
    assert (got.conversation.answer, got.finish_reason, got.error_in_band) == (None, "", "")
    assert state_of("complete", 200, got) == "complete"
    assert got.usage == Usage(None, None, "missing")


def test_reasoning_is_its_text_or_its_summary() -> None:
    said = {"type": "reasoning", "summary": [{"type": "summary_text", "text": "short"}]}
    full = {**said, "content": [{"type": "reasoning_text", "text": "long"}]}
    for item, thought in ((said, "short"), (full, "long"), ({"type": "reasoning", "summary": []}, "")):
        body = {"status": "completed", "output": [item, {"type": "message", "content": [{"type": "output_text", "text": "4"}]}]}
        assert answer_of(read(RESPONSES, json.dumps(body).encode())) == Message("assistant", "4", reasoning=thought)


def test_a_made_picture_is_kept_by_its_hash() -> None:
    item = {"type": "image_generation_call", "id": "ig", "result": "aGk=", "status": "completed"}
    got = answer_of(read(RESPONSES, json.dumps({"status": "completed", "output": [item]}).encode()))
    assert got.other_parts == ("image_generation_call",)
    assert got.media[0].reference.startswith("b2:")
