"""Reads a client's request: which of our calls it is, and with which arguments. Nothing that is not named here gets through.

Pure. litellm takes far more arguments than any protocol has fields: addresses, keys, callbacks, canned answers. So the
fields are named one by one; another one is refused with its name, never dropped in silence and never passed on. Nothing in a
request makes us fetch anything: media travel within the request, or as an id of the provider's own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from proxy.settings import ANTHROPIC, OPENAI

CHAT, COMPLETION, EMBEDDING, IMAGE, RESPONSES, MESSAGES, COUNT = (
    *("chat", "completion", "embedding", "image", "responses", "messages", "count_tokens"),
)

_SAMPLING = {"temperature", "top_p", "stop", "seed", "presence_penalty", "frequency_penalty", "logit_bias", "n", "user"}
_TOOLS = {"tools", "tool_choice", "parallel_tool_calls"}
_CLAUDE = {"messages", "system", "tools", "tool_choice", "thinking"}


@dataclass(frozen=True, slots=True)
class _Operation:
    """A path that is translated: `fields` are passed on, `idle` name the caller or change no answer and are left out."""

    name: str
    needed: str
    fields: frozenset[str]
    idle: frozenset[str] = frozenset()


_IDENTITY = frozenset({"metadata", "safety_identifier", "prompt_cache_key", "prompt_cache_retention", "store"})
_OPERATIONS: Mapping[str, _Operation] = {
    "/v1/chat/completions": _Operation(
        CHAT,
        "messages",
        frozenset(
            {"messages", "stream", "stream_options", "max_tokens", "max_completion_tokens", "functions", "function_call"}
            | {"modalities", "audio", "prediction", "response_format", "logprobs", "top_logprobs", "reasoning_effort"}
            | {"verbosity", "service_tier", "web_search_options", "thinking", "top_k", "safety_settings"}
            | _SAMPLING
            | _TOOLS
        ),
        _IDENTITY,
    ),
    "/v1/completions": _Operation(
        COMPLETION,
        "prompt",
        frozenset({"prompt", "suffix", "max_tokens", "stream", "stream_options", "logprobs", "echo", "best_of"} | _SAMPLING),
        _IDENTITY,
    ),
    "/v1/embeddings": _Operation(
        EMBEDDING, "input", frozenset({"input", "dimensions", "user", "input_type"}), _IDENTITY | {"encoding_format"}
    ),
    "/v1/images/generations": _Operation(
        IMAGE,
        "prompt",
        frozenset(
            {"prompt", "n", "size", "quality", "style", "response_format", "user"}
            | {"background", "moderation", "output_format", "output_compression"}
        ),
        _IDENTITY,
    ),
    "/v1/responses": _Operation(
        RESPONSES,
        "input",
        frozenset(
            {"input", "instructions", "include", "max_output_tokens", "max_tool_calls", "reasoning", "stream", "text"}
            | {"temperature", "top_p", "top_logprobs", "truncation", "user", "service_tier"}
            | _TOOLS
        ),
        _IDENTITY | {"stream_options"},
    ),
    "/v1/messages": _Operation(
        MESSAGES,
        "messages",
        frozenset(
            {"max_tokens", "stop_sequences", "stream", "temperature", "top_k", "top_p", "metadata", "cache_control"}
            | {"output_config", "output_format", "context_management", "service_tier"}
            | _CLAUDE
        ),
    ),
    "/v1/messages/count_tokens": _Operation(
        COUNT,
        "messages",
        frozenset({"messages", "system", "tools"}),
        frozenset({"tool_choice", "thinking", "output_config", "context_management", "cache_control"}),
    ),
}
PATHS = tuple(_OPERATIONS)
"""What can be asked here."""

_MODEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,255}")
_IN_PROCESS = frozenset(
    {"vllm", "petals", "custom", "litellm_proxy", "langfuse", "humanloop", "dotprompt", "bitbucket", "gitlab"}
)
"""Names that make litellm load a model itself, or ask a store of prompts, in place of asking a provider."""
_FALSE_MEANS_ABSENT = frozenset({"background"})
_MEDIA = frozenset({"image_url", "video_url", "audio_url", "file_url", "file", "source", "images", "input_audio"})
_OPAQUE = frozenset({"input", "arguments", "function", "parameters", "input_schema", "text", "output_text"})
_PLACES = ("url", "image_url", "video_url", "audio_url", "file_url", "file_id", "uri")
_ID = re.compile(r"[A-Za-z0-9_.-]{1,200}")
_DEEPEST = 100
_ROLES = ("user", "assistant", "system", "developer", "tool", "function")
_LONGEST_SCHEME = 40


@dataclass(frozen=True, slots=True)
class Question:
    """A request that can be asked of a provider."""

    operation: str
    family: str
    model: str
    arguments: Mapping[str, Any]
    is_stream: bool = False
    wants_base64: bool = False


@dataclass(frozen=True, slots=True)
class Refusal:
    """A request that cannot: HTTP status, what is wrong with which value and what to do, and the field at fault."""

    status: int
    message: str
    field: str = ""


def family_of(path: str, headers: Mapping[str, str]) -> str:
    """Whose words the client of `path` understands."""
    return ANTHROPIC if path.startswith("/v1/messages") or "anthropic-version" in headers else OPENAI


def read_question(method: str, path: str, body: bytes) -> Question | Refusal:
    """The call that `body`, sent to `path`, asks for."""
    operation = _OPERATIONS.get(path)
    if operation is None or method != "POST":
        return Refusal(404, f"{method} {path} has no translation. Translated are POST to: {', '.join(PATHS)}.")
    try:
        asked = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError) as error:
        return Refusal(400, f"The body is not JSON that can be read: {error}.")
    if not isinstance(asked, dict):
        return Refusal(400, "The body is not a JSON object.")
    return _question(operation, ANTHROPIC if path.startswith("/v1/messages") else OPENAI, asked)


def _question(operation: _Operation, family: str, asked: dict[str, Any]) -> Question | Refusal:
    model = asked.pop("model", None)
    if not isinstance(model, str) or not _MODEL.fullmatch(model) or "://" in model or ".." in model:
        return Refusal(400, f"model is {_short(model)}, not a name such as gemini/gemini-2.5-flash.", "model")
    if model.partition("/")[0] in _IN_PROCESS:
        return Refusal(400, f"model is {_short(model)}: {model.partition('/')[0]} is no provider that can be asked.", "model")
    given = {
        name: value
        for name, value in asked.items()
        if value is not None and name not in operation.idle and not (value is False and name in _FALSE_MEANS_ABSENT)
    }
    problem = _problem(operation, given)
    if problem is not None:
        return problem
    is_stream = given.get("stream", False)
    return Question(
        operation.name,
        family,
        model,
        given,
        is_stream=bool(is_stream),
        wants_base64=asked.get("encoding_format") == "base64",
    )


def _problem(operation: _Operation, given: dict[str, Any]) -> Refusal | None:
    for name in given:
        if name not in operation.fields:
            return Refusal(
                400, f"{_short(name)} has no translation. Leave it out, or ask a model of your own protocol.", name[:80]
            )
    if operation.needed not in given:
        return Refusal(400, f"{operation.needed} is missing.", operation.needed)
    if not isinstance(given.get("stream", False), bool):
        return Refusal(400, f"stream is {_short(given['stream'])}, not true or false.", "stream")
    if operation.name == MESSAGES and not isinstance(given.get("max_tokens"), int):
        return Refusal(400, f"max_tokens is {_short(given.get('max_tokens'))}, not a whole number.", "max_tokens")
    if _is_too_deep(given):
        return Refusal(400, f"The body is nested more than {_DEEPEST} levels deep.")
    return _wrong_messages(given) or _wrong_tools(given) or _remote_media(given)


def _wrong_messages(given: dict[str, Any]) -> Refusal | None:
    if "messages" not in given:
        return None
    messages = given["messages"]
    if not isinstance(messages, list) or not messages:
        return Refusal(400, f"messages is {_short(messages)}, not a list of messages.", "messages")
    for number, message in enumerate(messages):
        name = f"messages[{number}]"
        if not isinstance(message, dict) or message.get("role") not in _ROLES:
            return Refusal(400, f"{name} is not an object with a role out of {', '.join(_ROLES)}.", name)
        content = message.get("content")
        if not (content is None or isinstance(content, str) or _is_list_of_objects(content)):
            return Refusal(400, f"{name}.content is {_short(content)}, neither text nor a list of parts.", f"{name}.content")
        calls = message.get("tool_calls")
        if not (calls is None or _is_list_of_objects(calls)):
            return Refusal(400, f"{name}.tool_calls is {_short(calls)}, not a list of calls.", f"{name}.tool_calls")
    return None


def _wrong_tools(given: dict[str, Any]) -> Refusal | None:
    tools = given.get("tools")
    if tools is None:
        return None
    if not _is_list_of_objects(tools):
        return Refusal(400, f"tools is {_short(tools)}, not a list of tools.", "tools")
    for number, tool in enumerate(tools):
        name = f"tools[{number}]"
        if tool.get("type") == "mcp":
            return Refusal(400, f"{name} is of type mcp, which has no translation.", name)
        function = tool.get("function", tool)
        if not isinstance(function, dict) or not (
            tool.get("type", "function") != "function" or isinstance(function.get("name"), str)
        ):
            return Refusal(400, f"{name} has no name.", name)
    edits = given.get("context_management")
    if isinstance(edits, dict) and any("compact" in str(edit) for edit in edits.get("edits") or ()):
        return Refusal(400, "context_management asks for a summary, which has no translation.", "context_management")
    return None


def _remote_media(given: dict[str, Any]) -> Refusal | None:
    for field in ("messages", "input", "system", "prompt"):
        for place in _places(given.get(field)):
            if not (place.startswith("data:") or _ID.fullmatch(place)):
                what = f"{field} names {_short(place)}, which would have to be fetched."
                return Refusal(400, f"{what} Send the content itself, as a data: address or in base64.", field)
    return None


def _places(node: Any) -> Iterator[str]:
    """Every address that stands where litellm looks for media; text, and what tools are given, may hold any."""
    if isinstance(node, list):
        for each in node:
            yield from _places(each)
    elif isinstance(node, dict):
        for name, value in node.items():
            if name in _MEDIA and name != "source" and isinstance(value, str):
                yield value
            elif name in _MEDIA and isinstance(value, dict):
                yield from (value[key] for key in _PLACES if isinstance(value.get(key), str))
                data = value.get("file_data")
                if isinstance(data, str) and ":" in data[:_LONGEST_SCHEME]:  # else it is base64
                    yield data
                yield from _places(value)
            elif name == "file_id" and isinstance(value, str):
                yield value
            elif name not in _OPAQUE:
                yield from _places(value)


def _is_list_of_objects(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, dict) for each in value)


def _is_too_deep(value: Any) -> bool:
    level = [value]
    for _ in range(_DEEPEST):
        level = [
            inner
            for node in level
            for inner in (node.values() if isinstance(node, dict) else node)
            if isinstance(inner, dict | list)
        ]
        if not level:
            return False
    return True


def _short(value: Any) -> str:
    if isinstance(value, list | dict):
        return "a list" if isinstance(value, list) else "an object"
    shown = repr(value[:200] if isinstance(value, str) else value)
    return shown if len(shown) <= 80 else shown[:77] + "..."
