"""The scripted provider's Anthropic shapes: requests read, answers and streams written, as bytes on the wire."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from proxy.provider_answer import Answer, Ask, Tool, count_tokens, pieces_of
from proxy.provider_openai import BadRequest
from proxy.provider_script import Script

MODELS = ("claude-opus-4-5", "claude-sonnet-4-5", "claude-haiku-4-5")
_SERVED = {
    "claude-opus-4-5": "claude-opus-4-5-20251101",
    "claude-sonnet-4-5": "claude-sonnet-4-5-20250929",
    "claude-haiku-4-5": "claude-haiku-4-5-20251001",
}
_FINISH = {"stop": "end_turn", "length": "max_tokens", "refusal": "refusal", "tools": "tool_use"}
_ERRORS = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    529: "overloaded_error",
}


def error_body(status: int, message: str, request_id: str) -> dict[str, Any]:
    """The body of an error with `status`."""
    return {"type": "error", "error": {"type": _ERRORS.get(status, "api_error"), "message": message}, "request_id": request_id}


def read_messages(body: Mapping[str, Any], *, is_count: bool = False) -> Ask:
    """The request in `body`, of `count_tokens` where `is_count`; BadRequest when a real provider would not take it."""
    for name in ("model", "messages") if is_count else ("model", "max_tokens", "messages"):
        if not body.get(name):
            raise BadRequest(f"{name}: Field required")
    messages = body["messages"]
    if not isinstance(messages, list) or not all(isinstance(each, dict) for each in messages):
        raise BadRequest("messages: Input should be a valid list")
    if any(each.get("role") not in ("user", "assistant") for each in messages):
        raise BadRequest("messages: Unexpected role. The Messages API accepts a top-level `system` parameter, not a role.")
    users = [_text(each.get("content")) for each in messages if each.get("role") == "user"]
    system, tools = _text(body.get("system")), body.get("tools") or []
    texts = [system, *(_text(each.get("content"), with_results=True) for each in messages)]
    return Ask(
        model=str(body["model"]),
        system=system,
        user_text=next((text for text in reversed(users) if text), ""),
        tool_result=_tool_result(messages[-1]),
        tools=tuple(Tool(str(each.get("name", "")), each.get("input_schema") or {}) for each in tools),
        tool_choice=_tool_choice(body.get("tool_choice")),
        max_tokens=body["max_tokens"] if isinstance(body.get("max_tokens"), int) else None,
        is_stream=body.get("stream") is True,
        wants_usage=True,
        choices=1,
        tokens_in=7 + sum(3 + count_tokens(text) for text in texts) + (count_tokens(json.dumps(tools)) if tools else 0),
    )


def message_body(ask: Ask, answer: Answer, script: Script, answer_id: str, request_id: str) -> bytes:
    """A whole answer."""
    if script.in_band_error:
        return _json(error_body(529, "Overloaded", request_id))
    content: list[dict[str, Any]] = [{"type": "text", "text": answer.text}] if answer.pieces else []
    for at, use in enumerate(answer.tool_uses):
        content.append({"type": "tool_use", "id": _tool_id(answer_id, at), "name": use.name, "input": json.loads(use.arguments)})
    message = _message(ask, answer_id) | {"content": content, "stop_reason": _FINISH[answer.finish]}
    return _json(message if script.usage == 0 else message | {"usage": _usage(ask, answer.tokens_out)})


def message_events(ask: Ask, answer: Answer, script: Script, answer_id: str, request_id: str) -> Iterator[bytes]:
    """The events of a streamed answer, each as its bytes."""
    opening = _message(ask, answer_id) if script.usage == 0 else _message(ask, answer_id) | {"usage": _usage(ask, 1)}
    yield _event("message_start", {"message": opening})
    block = 0
    if answer.pieces or not answer.tool_uses:
        yield _event("content_block_start", {"index": 0, "content_block": {"type": "text", "text": ""}})
        yield from (_event("ping", {}) for _ in range(script.pings))
        for at, piece in enumerate(answer.pieces):
            if script.in_band_error and at == 1:
                yield _event("error", error_body(529, "Overloaded", request_id))
                return
            yield _event("content_block_delta", {"index": 0, "delta": {"type": "text_delta", "text": piece}})
        yield _event("content_block_stop", {"index": 0})
        block = 1
    for at, use in enumerate(answer.tool_uses):
        start = {"type": "tool_use", "id": _tool_id(answer_id, at), "name": use.name, "input": {}}
        yield _event("content_block_start", {"index": block + at, "content_block": start})
        for piece in ("", *pieces_of(use.arguments)):
            yield _event(
                "content_block_delta", {"index": block + at, "delta": {"type": "input_json_delta", "partial_json": piece}}
            )
        yield _event("content_block_stop", {"index": block + at})
    closing: dict[str, Any] = {"delta": {"stop_reason": _FINISH[answer.finish], "stop_sequence": None}}
    yield _event("message_delta", closing if script.usage == 0 else closing | {"usage": {"output_tokens": answer.tokens_out}})
    if not script.no_done:
        yield _event("message_stop", {})


def models_body(model: str = "") -> dict[str, Any]:
    """The list of models, or the one named."""
    shown = [{"type": "model", "id": each, "display_name": each.title(), "created_at": "2025-10-01T00:00:00Z"} for each in MODELS]
    if model:
        return next(each for each in shown if each["id"] == model)
    return {"data": shown, "has_more": False, "first_id": MODELS[0], "last_id": MODELS[-1]}


def _text(content: Any, *, with_results: bool = False) -> str:
    if isinstance(content, str):
        return content
    blocks = [each for each in content or () if isinstance(each, dict)]
    texts = [each["text"] for each in blocks if isinstance(each.get("text"), str)]
    if with_results:
        texts += [_text(each.get("content")) for each in blocks if each.get("type") == "tool_result"]
    return "\n".join(texts)


def _tool_result(message: Mapping[str, Any]) -> str | None:
    content = message.get("content")
    blocks = [each for each in content if isinstance(each, dict)] if isinstance(content, list) else []
    results = [_text(each.get("content")) for each in blocks if each.get("type") == "tool_result"]
    return "\n".join(results) if results else None


def _tool_choice(choice: Any) -> str:
    kind = choice.get("type") if isinstance(choice, dict) else "auto"
    return str(choice.get("name", "any")) if kind == "tool" else kind if kind in ("any", "none") else "auto"


def _message(ask: Ask, answer_id: str) -> dict[str, Any]:
    return {
        "id": f"msg_01{answer_id[:22]}",
        "type": "message",
        "role": "assistant",
        "model": _SERVED.get(ask.model, ask.model),
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
    }


def _tool_id(answer_id: str, at: int) -> str:
    return f"toolu_01{answer_id[:20]}{at:02d}"


def _usage(ask: Ask, tokens_out: int) -> dict[str, Any]:
    return {
        "input_tokens": ask.tokens_in,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
        "output_tokens": tokens_out,
        "service_tier": "standard",
    }


def _json(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def _event(kind: str, value: Mapping[str, Any]) -> bytes:
    return b"event: " + kind.encode() + b"\ndata: " + _json({"type": kind} | dict(value)) + b"\n\n"
