from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from capture.messages import Message, ToolCall
from capture.offered import Tool
from curate.relabelling.asking import AskError, Question, Told, ask, protocol_of, request_of
from tests.curate.answering import Reply, answering

LOOK = Tool("look_up", "Finds an order.", '{"properties":{"order":{"type":"integer"}},"type":"object"}')
TURNS = (
    Message("system", "Help."),
    Message("user", "Where are 7 and 8?"),
    Message("assistant", "", (ToolCall("look_up", '{"order": 7}', "c7"), ToolCall("look_up", '{"order": 8}', "c8"))),
    Message("tool", "sent", tool_call_id="c7"),
    Message("tool", "lost", tool_call_id="c8"),
)
CAPTURED: dict[str, Any] = {
    "model": "gpt-y", "temperature": 0.3, "top_p": 0.9, "stream": True, "stream_options": {"include_usage": True}, "user": "u1",
    "messages": [], "tools": [], "tool_choice": "required", "parallel_tool_calls": False, "max_completion_tokens": 50, "n": 3,
}  # fmt: skip


def question(protocol: str = "openai", model: str = "", tools: tuple[Tool, ...] = (LOOK,)) -> Question:
    return Question("ex_1", "mail", protocol, TURNS, tools, model)


def told_by(reply: Reply, body: dict[str, Any], path: str = "/v1/chat/completions", timeout_s: float = 10) -> Told:
    with answering(reply) as url, httpx.Client(timeout=timeout_s) as client:
        return ask(client, url + "/", path, body, purpose="relabel", task="mail", copy_of="ex_1")


def test_a_question_keeps_the_captured_parameters_the_tools_and_the_calls_of_before() -> None:
    path, body = request_of(question(), CAPTURED)
    assert path == "/v1/chat/completions"
    assert {name: body[name] for name in ("model", "temperature", "top_p", "max_completion_tokens", "tool_choice")} == {
        "model": "gpt-y", "temperature": 0.3, "top_p": 0.9, "max_completion_tokens": 50, "tool_choice": "required",
    }  # fmt: skip
    assert not body.keys() & {"stream", "stream_options", "user", "n"}
    assert body["tools"][0]["function"]["parameters"]["properties"] == {"order": {"type": "integer"}}
    assert [turn.get("tool_call_id", "") for turn in body["messages"]] == ["", "", "", "c7", "c8"]
    assert [call["id"] for call in body["messages"][2]["tool_calls"]] == ["c7", "c8"]


def test_without_tools_nothing_is_said_of_them() -> None:
    _, body = request_of(question(tools=()), CAPTURED)
    assert not body.keys() & {"tools", "tool_choice", "parallel_tool_calls"}


def test_in_anthropics_form_calls_and_their_results_are_blocks_and_the_results_of_one_turn_stand_together() -> None:
    path, body = request_of(question("anthropic", "claude-x"), CAPTURED, "openai")
    assert path == "/v1/messages"
    assert (body["model"], body["system"], body["temperature"], body["max_tokens"]) == ("claude-x", "Help.", 0.3, 50)
    assert [turn["role"] for turn in body["messages"]] == ["user", "assistant", "user"]
    assert body["messages"][1]["content"][0] == {"type": "tool_use", "id": "c7", "name": "look_up", "input": {"order": 7}}
    assert [block["tool_use_id"] for block in body["messages"][2]["content"]] == ["c7", "c8"]
    assert body["tools"][0]["input_schema"]["type"] == "object"
    assert "parallel_tool_calls" not in body


def test_a_request_of_the_responses_api_gives_only_what_chat_knows_too() -> None:
    captured = {"model": "gpt-y", "input": "x", "instructions": "y", "temperature": 1, "max_output_tokens": 9, "text": {}}
    _, body = request_of(question(tools=()), captured)
    assert {name for name in body if name != "messages"} == {"model", "temperature", "max_completion_tokens"}


def test_calls_with_broken_arguments_cannot_be_said_to_anthropic() -> None:
    broken = Question("ex_1", "mail", "anthropic", (Message("assistant", "", (ToolCall("f", '{"a": ', "c"),)),))
    with pytest.raises(AskError, match="no JSON"):
        request_of(broken, {})


@pytest.mark.parametrize(
    ("model", "captured", "protocol"),
    [
        ("claude-sonnet-4", "openai", "anthropic"),
        ("gpt-4.1", "anthropic", "openai"),
        ("o3", "anthropic", "openai"),
        ("house-7", "anthropic", "anthropic"),
        ("house-7", "openai", "openai"),
    ],
)
def test_a_model_is_asked_in_its_makers_protocol_else_as_captured(model: str, captured: str, protocol: str) -> None:
    assert protocol_of(model, captured) == protocol


def test_a_model_that_refuses_the_temperature_is_asked_once_more_without_it() -> None:
    seen: list[dict[str, Any]] = []

    def reply(path: str, body: dict[str, Any]) -> tuple[int, Any]:
        seen.append(body)
        return (400, "Unsupported value: 'temperature'") if "temperature" in body else (200, "yes")

    assert told_by(reply, {"model": "m", "messages": [], "temperature": 0}).message == Message("assistant", "yes")
    assert ["temperature" in body for body in seen] == [True, False]


def test_an_answer_may_call_tools_and_its_usage_and_end_are_told() -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "look_up", "arguments": '{"order": 7}'}}
    answer = {"role": "assistant", "content": None, "tool_calls": [call], "finish": "tool_calls"}
    told = told_by(lambda path, body: (200, dict(answer)), {"model": "m", "messages": []})
    assert told.message.tool_calls == (ToolCall("look_up", '{"order": 7}', "c1"),)
    assert (told.finish_reason, told.usage.tokens_in, told.usage.tokens_out) == ("tool_calls", 100, 10)
    assert told.exchange_id == "", "this server is no relay"


@pytest.mark.parametrize(
    ("status", "is_final"), [(400, False), (401, True), (403, True), (404, True), (429, False), (500, False)]
)
def test_an_error_tells_whether_other_questions_have_a_chance(status: int, is_final: bool) -> None:
    with pytest.raises(AskError, match=f"answered {status}.*sorry") as caught:
        told_by(lambda path, body: (status, "sorry"), {"model": "m", "messages": []})
    assert caught.value.is_final is is_final


@pytest.mark.parametrize(("path", "name"), [("/v1/chat/completions", "OPENAI_API_KEY"), ("/v1/messages", "ANTHROPIC_API_KEY")])
def test_a_missing_key_is_told_in_the_makers_words_with_how_to_give_one(path: str, name: str) -> None:
    words = f"No key was given. {'You must give one. ' * 12}See the docs."
    error = {"error": {"type": "invalid_request_error", "param": None, "message": words}}
    relay = httpx.MockTransport(lambda request: httpx.Response(401, json=error))
    with httpx.Client(transport=relay) as client, pytest.raises(AskError) as caught:
        ask(client, "http://relay", path, {"model": "m"}, purpose="relabel", task="mail", copy_of="ex_1")
    assert caught.value.what == f"The model answered 401: {words}"
    assert f"{name}=... potstill" in caught.value.next_step


def test_headers_say_what_the_question_is_for_and_whose_copy_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    seen: list[httpx.Request] = []

    def look(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, content=json.dumps({"choices": [{"message": {"content": "a"}, "finish_reason": "stop"}]}))

    with httpx.Client(transport=httpx.MockTransport(look)) as client:
        ask(client, "http://relay", "/v1/chat/completions", {"model": "m"}, purpose="judge", task="mail", copy_of="ex_1")
    (request,) = seen
    assert request.headers["x-potstill-purpose"] == "judge"
    assert request.headers["x-potstill-task"] == "mail"
    assert request.headers["x-potstill-tag-exchange"] == "ex_1"
    assert request.headers["cache-control"] == "no-cache", "n answers are n answers, whatever the relay keeps"
    assert "authorization" not in request.headers
