"""The scripted provider's OpenAI shapes: requests read, answers and streams written, as bytes on the wire."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from proxy.provider_answer import Answer, Ask, Tool, count_tokens, embed, pieces_of
from proxy.provider_script import Script

MODELS = ("gpt-4o", "gpt-4o-mini", "gpt-4.1-mini", "text-embedding-3-small", "text-embedding-3-large")
_SERVED = {
    "gpt-4o": "gpt-4o-2024-08-06",
    "gpt-4o-mini": "gpt-4o-mini-2024-07-18",
    "gpt-4.1-mini": "gpt-4.1-mini-2025-04-14",
}
_FINISH = {"stop": "stop", "length": "length", "refusal": "content_filter", "tools": "tool_calls"}
_ERRORS = {
    400: ("invalid_request_error", None),
    401: ("invalid_request_error", "invalid_api_key"),
    404: ("invalid_request_error", "unknown_url"),
    429: ("requests", "rate_limit_exceeded"),
    503: ("server_error", "service_unavailable"),
}


class BadRequest(ValueError):
    """The request's body is refused; the message is what the client is told."""


def error_body(status: int, message: str, code: str | None = None) -> dict[str, Any]:
    """The body of an error with `status`."""
    kind, usual = _ERRORS.get(status, ("server_error", None))
    return {"error": {"message": message, "type": kind, "param": None, "code": code or usual}}


def read_chat(body: Mapping[str, Any]) -> Ask:
    """The request in `body`; BadRequest when a real provider would not take it."""
    if not isinstance(body.get("model"), str):
        raise BadRequest("you must provide a model parameter")
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages or not all(isinstance(each, dict) for each in messages):
        raise BadRequest("Missing required parameter: 'messages'.")
    users = [_content(each) for each in messages if each.get("role") == "user"]
    results = [_content(each) for each in messages if each.get("role") == "tool"]
    system = "\n".join(_content(each) for each in messages if each.get("role") in ("system", "developer"))
    tools = [each.get("function") or {} for each in body.get("tools") or ()]
    limit = body.get("max_completion_tokens") or body.get("max_tokens")
    return Ask(
        model=body["model"],
        system=system,
        user_text=users[-1] if users else "",
        tool_result="\n".join(results) if messages[-1].get("role") == "tool" else None,
        tools=tuple(Tool(str(each.get("name", "")), each.get("parameters") or {}) for each in tools),
        tool_choice=_tool_choice(body.get("tool_choice")),
        max_tokens=limit if isinstance(limit, int) else None,
        is_stream=body.get("stream") is True,
        wants_usage=(body.get("stream_options") or {}).get("include_usage") is True,
        choices=body["n"] if isinstance(body.get("n"), int) else 1,
        tokens_in=3
        + sum(4 + count_tokens(_content(each)) for each in messages)
        + (count_tokens(json.dumps(tools)) if tools else 0),
    )


def chat_body(ask: Ask, answers: Sequence[Answer], script: Script, answer_id: str, created: int) -> bytes:
    """A whole answer; `created` is in seconds since 1970."""
    choices = [
        {
            "index": index,
            "message": _message(answer, answer_id, index),
            "logprobs": None,
            "finish_reason": _FINISH[answer.finish],
        }
        for index, answer in enumerate(answers)
    ]
    body = {**_frame("chat.completion", ask, answer_id, created), "choices": choices}
    if script.in_band_error:
        return _json(error_body(500, "The server had an error while processing your request."))
    return _json(body if script.usage == 0 else body | {"usage": _usage(ask, answers), "service_tier": "default"})


def chat_events(ask: Ask, answers: Sequence[Answer], script: Script, answer_id: str, created: int) -> Iterator[bytes]:
    """The events of a streamed answer, each as its bytes; the choices take turns."""
    shows_usage = (ask.wants_usage or script.usage == 1) and script.usage != 0
    frame = _frame("chat.completion.chunk", ask, answer_id, created) | {"service_tier": "default"}
    spare: dict[str, Any] = {"usage": None} if shows_usage else {}
    queues = [list(_deltas(answer, answer_id, index)) for index, answer in enumerate(answers)]
    for turn in range(max(map(len, queues), default=0)):
        for index, queue in enumerate(queues):
            if turn < len(queue):
                delta, finish = queue[turn]
                choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish}
                yield _event(frame | {"choices": [choice]} | spare)
        if script.in_band_error and turn == 1:
            yield _event(error_body(500, "The server had an error while processing your request."))
            return
    if shows_usage:
        yield _event(frame | {"choices": [], "usage": _usage(ask, answers)})
    if not script.no_done:
        yield b"data: [DONE]\n\n"


def models_body(created: int, model: str = "") -> dict[str, Any]:
    """The list of models, or the one named."""
    shown = [{"id": each, "object": "model", "created": created, "owned_by": "system"} for each in MODELS]
    return next(each for each in shown if each["id"] == model) if model else {"object": "list", "data": shown}


def embeddings_body(body: Mapping[str, Any]) -> bytes:
    """Embeddings of every input, as floats or base64 as asked; BadRequest when a real provider would not take it."""
    model, inputs = body.get("model"), body.get("input")
    if not isinstance(model, str):
        raise BadRequest("you must provide a model parameter")
    if not inputs or not isinstance(inputs, str | list):
        raise BadRequest("'$.input' is invalid. Please check the API reference: https://platform.openai.com/docs/api-reference.")
    if isinstance(inputs, str) or isinstance(inputs[0], int):
        inputs = [inputs]
    texts = [each if isinstance(each, str) else " ".join(map(str, each)) for each in inputs]
    dimensions = body.get("dimensions") or (3072 if "large" in model else 1536)
    vectors = [embed(text, dimensions) for text in texts]
    shown = [_base64(vector) if body.get("encoding_format") == "base64" else vector for vector in vectors]
    data = [{"object": "embedding", "index": index, "embedding": each} for index, each in enumerate(shown)]
    tokens = sum(map(count_tokens, texts))
    return _json({"object": "list", "data": data, "model": model, "usage": {"prompt_tokens": tokens, "total_tokens": tokens}})


def _content(message: Mapping[str, Any]) -> str:
    content = message.get("content")
    if isinstance(content, list):
        return "\n".join(part["text"] for part in content if isinstance(part, dict) and isinstance(part.get("text"), str))
    return content if isinstance(content, str) else ""


def _tool_choice(choice: Any) -> str:
    if isinstance(choice, dict):
        return str((choice.get("function") or {}).get("name", "any"))
    return {"required": "any", "none": "none"}.get(str(choice), "auto")


def _frame(kind: str, ask: Ask, answer_id: str, created: int) -> dict[str, Any]:
    served = _SERVED.get(ask.model, ask.model)
    return {
        "id": f"chatcmpl-{answer_id}",
        "object": kind,
        "created": created,
        "model": served,
        "system_fingerprint": "fp_5cr1p7ed00",
    }


def _message(answer: Answer, answer_id: str, index: int) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": answer.text, "refusal": None, "annotations": []}
    if answer.tool_uses:
        message["content"] = None
        message["tool_calls"] = [
            {"id": _tool_id(answer_id, index, at), "type": "function", "function": {"name": use.name, "arguments": use.arguments}}
            for at, use in enumerate(answer.tool_uses)
        ]
    return message


def _deltas(answer: Answer, answer_id: str, index: int) -> Iterator[tuple[dict[str, Any], str | None]]:
    """(delta, finish reason) of one choice, in order."""
    if not answer.tool_uses:
        yield {"role": "assistant", "content": "", "refusal": None}, None
        for piece in answer.pieces:
            yield {"content": piece}, None
    for at, use in enumerate(answer.tool_uses):
        opening = {"id": _tool_id(answer_id, index, at), "type": "function", "function": {"name": use.name, "arguments": ""}}
        first = {"role": "assistant", "content": None} if at == 0 else {}
        yield first | {"tool_calls": [{"index": at} | opening]}, None
        for piece in pieces_of(use.arguments):
            yield {"tool_calls": [{"index": at, "function": {"arguments": piece}}]}, None
    yield {}, _FINISH[answer.finish]


def _tool_id(answer_id: str, index: int, at: int) -> str:
    return f"call_{answer_id[:20]}{index:02d}{at:02d}"


def _usage(ask: Ask, answers: Sequence[Answer]) -> dict[str, Any]:
    tokens_out = sum(answer.tokens_out for answer in answers)
    return {
        "prompt_tokens": ask.tokens_in,
        "completion_tokens": tokens_out,
        "total_tokens": ask.tokens_in + tokens_out,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": 0,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def _base64(vector: Sequence[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()


def _json(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, ensure_ascii=False, indent=2).encode() + b"\n"


def _event(value: Mapping[str, Any]) -> bytes:
    return b"data: " + json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode() + b"\n\n"
