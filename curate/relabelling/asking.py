"""Asks a model the question of an example through our own relay: with the parameters of the captured request, never as the app.

Keys come from the environment. The relay's response cache is passed by, so that n answers are n answers.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import httpx

from capture import feed
from capture.assemble import ANTHROPIC, OPENAI, assemble
from capture.database import Database
from capture.encoding import decode
from capture.errors import NotFoundError, UpstreamError
from capture.exchange import Content
from capture.loose_json import as_object, parse
from capture.messages import Message, ToolCall, Usage
from capture.offered import Tool
from capture.subject import COPY_TAG
from curate.examples import prompt_of, tools_of

EXCHANGE_HEADER = "x-potstill-exchange-id"
"""Where the relay says which exchange it made of a request."""

_PATHS = {OPENAI: "/v1/chat/completions", ANTHROPIC: "/v1/messages"}
_MOST_TOKENS = 1024
_LEFT_OUT = (
    "messages", "system", "stream", "stream_options", "tools", "tool_choice", "functions", "function_call", "metadata", "user",
    "store", "n",
)  # fmt: skip
_WITH_TOOLS = ("tool_choice", "parallel_tool_calls")
_LIMITS = ("max_completion_tokens", "max_tokens", "max_output_tokens")
_OTHER_FORMS = {"input", "prompt"}  # of Responses, and of completions without a chat
_MADE_BY = ((ANTHROPIC, ("claude",)), (OPENAI, ("gpt-", "chatgpt-", "o1", "o3", "o4")))
_NO_KEY = 401
_FINAL = (_NO_KEY, 403, 404)
_KEYS = {OPENAI: "OPENAI_API_KEY", ANTHROPIC: "ANTHROPIC_API_KEY"}
_LONGEST_ERROR = 300


@dataclass(frozen=True, slots=True)
class Question:
    """An input as it is asked again. `protocol` is openai or anthropic; `model` '' asks the one of the captured request."""

    exchange_id: str
    task: str
    protocol: str
    messages: tuple[Message, ...]
    tools: tuple[Tool, ...] = ()
    model: str = ""


@dataclass(frozen=True, slots=True)
class Told:
    """What came back: the answer, the exchange that the relay made of it ('' when it did not say), why it ended, the usage."""

    message: Message
    exchange_id: str
    model: str
    finish_reason: str
    usage: Usage


class AskError(UpstreamError):
    """A question that got no answer. `is_final`: no other question will get one (no relay, no key, no such model)."""

    def __init__(self, what: str, next_step: str, *, is_final: bool) -> None:
        super().__init__(what, next_step)
        self.is_final = is_final


def protocol_of(model: str, captured: str) -> str:
    """The protocol to ask `model` in: its maker's where the name tells, else the one that was captured."""
    return next((protocol for protocol, starts in _MADE_BY if model.startswith(starts)), captured)


def captured_request(database: Database, exchange_id: str) -> dict[str, Any]:
    """The body of the request behind `exchange_id`; empty when it is gone with its retention or is no JSON object."""
    try:
        return parameters_of(feed.content(database, feed.get(database, exchange_id)))
    except NotFoundError:
        return {}


def parameters_of(content: Content) -> dict[str, Any]:
    """The body of a captured request; empty where it is no JSON object."""
    try:
        return as_object(parse(decode(content.request_body, content.request_headers.get("content-encoding", "")).data))
    except ValueError:
        return {}


def request_of(question: Question, captured: Mapping[str, Any], captured_protocol: str = "") -> tuple[str, dict[str, Any]]:
    """Path and body of `question`, with the parameters of the `captured` request.

    All of them where it was of the same form; of another one (`captured_protocol`, or the Responses API) what both know:
    temperature, top_p and the limit of the answer. AskError where Anthropic's form cannot say a call whose arguments are broken.
    """
    is_same = (captured_protocol or question.protocol) == question.protocol and not captured.keys() & _OTHER_FORMS
    body = _all_parameters(captured, bool(question.tools)) if is_same else _shared_parameters(captured, question.protocol)
    if question.model:
        body["model"] = question.model
    if question.protocol == ANTHROPIC:
        body.setdefault("max_tokens", _MOST_TOKENS)
        body |= _anthropic_turns(question.messages)
        if question.tools:
            body["tools"] = [_anthropic_tool(tool) for tool in question.tools]
        return _PATHS[ANTHROPIC], body
    body["messages"] = prompt_of(question.messages)
    if question.tools:
        body["tools"] = tools_of(question.tools)
    return _PATHS[OPENAI], body


def ask(
    client: httpx.Client, relay_url: str, path: str, body: Mapping[str, Any], *, purpose: str, task: str, copy_of: str
) -> Told:
    """Sends one request and reads its answer; AskError when there is none.

    A model that refuses the temperature is asked once more without it. The exchange is tagged as a copy of `copy_of`, so that
    an erasure of that one reaches it.
    """
    protocol = ANTHROPIC if path == _PATHS[ANTHROPIC] else OPENAI
    headers = _headers(protocol, purpose, task, copy_of)
    response = _post(client, relay_url, path, body, headers)
    if response.status_code == 400 and "temperature" in body and "temperature" in response.text:
        body = {name: value for name, value in body.items() if name != "temperature"}
        response = _post(client, relay_url, path, body, headers)
    status = response.status_code
    if status != 200:
        next_step = "See potstill exchanges list."
        if status == _NO_KEY:
            next_step = f"Run the same command with a key that is good for it: {_KEYS[protocol]}=... potstill ..."
        raise AskError(f"The model answered {status}: {_error_in(response)}", next_step, is_final=status in _FINAL)
    assembled = assemble(protocol, path, False, response.request.content, response.content, "", status)
    answer = assembled.conversation.answer
    if answer is None:
        raise AskError(f"The answer has no text: {response.text[:200]}", "See potstill exchanges list.", is_final=False)
    exchange_id = response.headers.get(EXCHANGE_HEADER, "")
    return Told(answer, exchange_id, assembled.model, assembled.finish_reason, assembled.usage)


def _error_in(response: httpx.Response) -> str:
    """The message of an error as both makers write it, else the beginning of what came."""
    try:
        said = as_object(as_object(parse(response.content)).get("error")).get("message")
    except ValueError:
        said = None
    return (said if isinstance(said, str) and said else response.text)[:_LONGEST_ERROR]


def _post(client: httpx.Client, relay_url: str, path: str, body: Mapping[str, Any], headers: Mapping[str, str]) -> httpx.Response:
    try:
        return client.post(relay_url.rstrip("/") + path, json=body, headers=headers)
    except httpx.ReadTimeout as error:
        raise AskError("The model did not answer in time.", "See potstill exchanges list.", is_final=False) from error
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        what = f"the relay at {relay_url} cannot be asked: {type(error).__name__}"
        raise AskError(what, "Start it: potstill up", is_final=True) from error


def _headers(protocol: str, purpose: str, task: str, copy_of: str) -> dict[str, str]:
    headers = {
        "x-potstill-purpose": purpose,
        "x-potstill-task": task,
        f"x-potstill-tag-{COPY_TAG}": copy_of,
        "accept-encoding": "identity",
        "cache-control": "no-cache",
    }
    key = os.environ.get(_KEYS[protocol], "")
    if protocol == ANTHROPIC:
        headers |= {"anthropic-version": "2023-06-01", "x-api-key": key}
    elif key:
        headers["authorization"] = f"Bearer {key}"
    return {name: value for name, value in headers.items() if value}


def _all_parameters(captured: Mapping[str, Any], has_tools: bool) -> dict[str, Any]:
    body = {name: value for name, value in captured.items() if name not in _LEFT_OUT}
    if not has_tools:
        return {name: value for name, value in body.items() if name not in _WITH_TOOLS}
    return body | ({"tool_choice": captured["tool_choice"]} if "tool_choice" in captured else {})


def _shared_parameters(captured: Mapping[str, Any], protocol: str) -> dict[str, Any]:
    body = {name: captured[name] for name in ("model", "temperature", "top_p") if name in captured}
    limit = next((captured[name] for name in _LIMITS if captured.get(name)), None)
    if limit is not None:
        body["max_tokens" if protocol == ANTHROPIC else "max_completion_tokens"] = limit
    return body


def _anthropic_turns(messages: Sequence[Message]) -> dict[str, Any]:
    system = "\n".join(message.text for message in messages if message.role == "system")
    turns: list[dict[str, Any]] = []
    for message in messages:
        if message.role == "tool":
            result = {"type": "tool_result", "tool_use_id": message.tool_call_id, "content": message.text}
            if turns and turns[-1]["role"] == "user" and isinstance(turns[-1]["content"], list):
                turns[-1]["content"].append(result)  # results of one turn's calls stand together
            else:
                turns.append({"role": "user", "content": [result]})
        elif message.tool_calls:
            said = [{"type": "text", "text": message.text}] if message.text else []
            turns.append({"role": "assistant", "content": [*said, *map(_tool_use, message.tool_calls)]})
        elif message.role != "system":
            turns.append({"role": message.role, "content": message.text})
    return {"messages": turns, **({"system": system} if system else {})}


def _tool_use(call: ToolCall) -> dict[str, Any]:
    try:
        arguments = parse(call.arguments.encode("utf-8", "replace") or b"{}")
    except ValueError as error:
        what = f"The conversation calls {call.name[:100]!r} with arguments that are no JSON."
        raise AskError(what, "Ask in OpenAI's protocol, which carries them as text.", is_final=False) from error
    return {"type": "tool_use", "id": call.id, "name": call.name, "input": arguments}


def _anthropic_tool(tool: Tool) -> dict[str, Any]:
    schema = parse(tool.parameters.encode()) if tool.parameters else {"type": "object", "properties": {}}
    return {"name": tool.name, "description": tool.description, "input_schema": schema}
