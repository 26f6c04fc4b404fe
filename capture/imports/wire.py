"""Requests and answers, in whatever shape a log kept them, as bodies that a provider would have sent.

A body that is already in a wire form stays what it is. Bare messages and texts become a chat completion; counted tokens
that stand beside an answer are put where its provider reports them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from capture.assemble import ANTHROPIC, OPENAI
from capture.imports.values import body, json_text, unpacked
from capture.loose_json import as_list, as_object

CHAT, COMPLETIONS, EMBEDDINGS, RESPONSES = "/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses"
MESSAGES = "/v1/messages"
_PATHS = (CHAT, COMPLETIONS, EMBEDDINGS, RESPONSES, MESSAGES)
_ROLES = {"human": "user", "ai": "assistant", "model": "assistant", "function": "tool"}
_TYPES = {"human", "ai", "system", "tool", "user", "assistant", "developer"}


@dataclass(frozen=True, slots=True)
class LoggedUsage:
    """Tokens as a log counted them; None where it does not say. `cached` and `cache_written` are parts of `tokens_in`."""

    tokens_in: int | None = None
    tokens_out: int | None = None
    cached: int | None = None
    cache_written: int | None = None
    reasoning: int | None = None


@dataclass(frozen=True, slots=True)
class WireForm:
    """Both bodies with the protocol and path that they belong to."""

    protocol: str
    path: str
    request: bytes
    response: bytes
    is_stream: bool


def wire_form(
    asked: Any, told: Any, *, model: str, usage: LoggedUsage, path: str = "", parameters: Mapping[str, Any] | None = None
) -> WireForm:
    """The wire form of a logged request and answer.

    `asked` is None where the log kept no request; `path` is where it was sent; `parameters` are those that the log keeps
    apart from it (temperature and so on).
    """
    request, response = as_request(asked, model), as_response(told)
    if request and parameters:
        request = {**parameters, **request}
    protocol, known = _protocol_and_path(request, response, path)
    if isinstance(response, str):
        raw = response.encode("utf-8", "replace")
    else:
        raw = body(_with_figures(response, protocol, known, model, usage))
    return WireForm(protocol, known, body(request) if request else b"", raw, request.get("stream") is True)


def as_request(given: Any, model: str) -> dict[str, Any]:
    """A request body from a body, a list of messages, one message or a text; {} from nothing."""
    given = _known_or_text(given, is_answer=False)
    if given is None or given == {} or given == []:
        return {}
    if isinstance(given, str):
        made: dict[str, Any] = {"messages": [{"role": "user", "content": given}]}
    elif isinstance(given, dict) and _is_request(given):
        made = {**given, "messages": [chat_message(item) for item in given["messages"]]} if _has_messages(given) else given
    elif isinstance(given, dict) and is_message(given):
        made = {"messages": [chat_message(given)]}
    elif isinstance(given, list) and given and all(map(is_message, _flat(given))):
        made = {"messages": [chat_message(item) for item in _flat(given)]}
    else:
        made = {"messages": [{"role": "user", "content": json_text(given)}]}
    return made if "model" in made or not model else {"model": model, **made}


def as_response(given: Any) -> dict[str, Any] | str:
    """A response body from a body, one message, a list that ends with one, or a text; relayed events stay a text."""
    given = _known_or_text(given, is_answer=True)
    if isinstance(given, str) and given.lstrip()[:6] in ("data: ", "event:", "data:{"):
        return given
    if isinstance(given, dict) and _is_response(given):
        return given
    if isinstance(given, list) and given and is_message(_flat(given)[-1] if _flat(given) else None):
        given = _flat(given)[-1]
    if isinstance(given, dict) and is_message(given):
        message = {**chat_message(given), "role": "assistant"}
    else:
        text = given if isinstance(given, str) or given is None else json_text(given)
        message = {"role": "assistant", "content": text}
    return {"object": "chat.completion", "choices": [{"index": 0, "message": message, "finish_reason": None}]}


def error_response(message: str, kind: str = "") -> dict[str, Any]:
    """The body of a failure of which the log kept only the words."""
    return {"error": {"message": message or "The log says that it failed, and no more.", "type": kind or None}}


def is_message(item: Any) -> bool:
    """Whether `item` is one turn of a conversation, in OpenAI's, LangChain's or Gemini's words."""
    if not isinstance(item, dict):
        return False
    has_content = any(key in item for key in ("content", "parts", "tool_calls", "function_call"))
    return has_content and ("role" in item or item.get("type") in _TYPES)


def chat_message(item: Any) -> dict[str, Any]:
    """`item` as a chat message; one that is already in OpenAI's or Anthropic's words stays what it is."""
    if not isinstance(item, dict):
        return {"role": "user", "content": item if isinstance(item, str) else json_text(item)}
    made = dict(item)
    if "role" not in made and made.get("type") in _TYPES:
        made["role"] = made.pop("type")
    role = made.get("role")
    if isinstance(role, str) and role.lower() in _ROLES:
        made["role"] = _ROLES[role.lower()]
    if "parts" in made and "content" not in made:
        parts = [part.get("text", "") if isinstance(part, dict) else part for part in as_list(made.pop("parts"))]
        made["content"] = "\n".join(part for part in parts if isinstance(part, str))
    extra = as_object(made.pop("additional_kwargs", None))
    calls = as_list(made.get("tool_calls")) or as_list(extra.get("tool_calls"))
    if calls:
        made["tool_calls"] = [_tool_call(call) for call in calls]
    return made


def _tool_call(call: Any) -> Any:
    """LangChain's {name, args, id} as OpenAI writes it."""
    if not isinstance(call, dict) or "function" in call or "args" not in call:
        return call
    arguments = call["args"] if isinstance(call["args"], str) else json_text(call["args"])
    return {"id": call.get("id"), "type": "function", "function": {"name": call.get("name"), "arguments": arguments}}


def _known_or_text(given: Any, *, is_answer: bool) -> Any:
    """What a text holds when that is a known shape; else the text itself, for an answer may well be JSON."""
    if not isinstance(given, str):
        return given
    found = unpacked(given)
    if isinstance(found, str):
        return given if not given.startswith('"') else found
    if isinstance(found, dict):
        is_known = is_message(found) or (_is_response(found) if is_answer else _is_request(found))
        return found if is_known or not found else given
    flat = _flat(found)
    return found if flat and all(map(is_message, flat)) else given


def _flat(items: list[Any]) -> list[Any]:
    """The messages in `items`, which LangChain wraps in one more list."""
    return items[0] if len(items) == 1 and isinstance(items[0], list) else items


def _has_messages(given: Mapping[str, Any]) -> bool:
    return isinstance(given.get("messages"), list)


def _is_request(given: Mapping[str, Any]) -> bool:
    if _has_messages(given):
        return True
    return "model" in given and any(key in given for key in ("prompt", "input", "contents"))


def _is_response(given: Mapping[str, Any]) -> bool:
    if isinstance(given.get("choices"), list) or given.get("type") == "message" or given.get("object") == "response":
        return True
    is_error = isinstance(given.get("error"), dict) and (len(given) <= 2 or given.get("type") == "error")
    return is_error or (given.get("object") == "list" and isinstance(given.get("data"), list))


def _protocol_and_path(request: Mapping[str, Any], response: dict[str, Any] | str, path: str) -> tuple[str, str]:
    """By the path where it is known, else by the answer, else by the request."""
    clean = path.split("?")[0].rstrip("/")
    for known in _PATHS:  # longest first: chat completions end with /completions too
        if clean.endswith(known.removeprefix("/v1")):
            return (ANTHROPIC if known == MESSAGES else OPENAI), known
    if isinstance(response, str):
        is_anthropic = "event: message_start" in response[:200] or "event:message_start" in response[:200]
        return (ANTHROPIC, MESSAGES) if is_anthropic else (OPENAI, CHAT)
    if response.get("type") == "message" or (response.get("type") == "error" and "error" in response):
        return ANTHROPIC, MESSAGES
    if response.get("object") == "response":
        return OPENAI, RESPONSES
    if response.get("object") == "list":
        return OPENAI, EMBEDDINGS
    if "prompt" in request and "messages" not in request:
        return OPENAI, COMPLETIONS
    if "input" in request and "messages" not in request:
        return OPENAI, RESPONSES
    return OPENAI, CHAT


def _with_figures(response: dict[str, Any], protocol: str, path: str, model: str, usage: LoggedUsage) -> dict[str, Any]:
    """`response` with the model and the tokens that the log names beside it; what the body says itself stays."""
    if "error" in response and "choices" not in response:
        return response
    made = dict(response)
    if model and not made.get("model"):
        made["model"] = model
    is_counted = usage.tokens_in is not None or usage.tokens_out is not None
    if is_counted and not as_object(made.get("usage")):
        made["usage"] = _usage(usage, protocol, path)
    return made


def _usage(usage: LoggedUsage, protocol: str, path: str) -> dict[str, Any]:
    if protocol == ANTHROPIC:
        return _anthropic_usage(usage)
    asked, told = ("input", "output") if path == RESPONSES else ("prompt", "completion")
    made: dict[str, Any] = {f"{asked}_tokens": usage.tokens_in, f"{told}_tokens": usage.tokens_out}
    if usage.cached is not None:
        made[f"{asked}_tokens_details"] = {"cached_tokens": usage.cached}
    if usage.reasoning is not None:
        made[f"{told}_tokens_details"] = {"reasoning_tokens": usage.reasoning}
    return made


def _anthropic_usage(usage: LoggedUsage) -> dict[str, Any]:
    """Anthropic counts cached tokens apart from `input_tokens`."""
    cached, written = usage.cached or 0, usage.cache_written or 0
    fresh = None if usage.tokens_in is None else max(0, usage.tokens_in - cached - written)
    made: dict[str, Any] = {"input_tokens": fresh, "output_tokens": usage.tokens_out}
    if cached:
        made["cache_read_input_tokens"] = cached
    if written:
        made["cache_creation_input_tokens"] = written
    return made
