"""Streamed answers as the three APIs write them: each function gives the events of one whole answer, in order."""

from __future__ import annotations

import json
from typing import Any

from tests.proxy.conformance.sdks import CHAT, MESSAGES, RESPONSES

DONE = b"data: [DONE]\n\n"


def data(value: object) -> bytes:
    """An event without a name."""
    return b"data: " + json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode() + b"\n\n"


def named(kind: str, **fields: Any) -> bytes:
    """An event whose name is the type in its data."""
    return f"event: {kind}\n".encode() + data({"type": kind, **fields})


def delta(index: int = 0, finish_reason: str | None = None, **fields: Any) -> bytes:
    """An event of a chat: what choice `index` says next."""
    choice = {"index": index, "delta": fields, "finish_reason": finish_reason}
    return chat_event(choices=[choice])


def chat_event(**fields: Any) -> bytes:
    """An event of a chat with these fields beside those that every event has."""
    return data({"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m-1", **fields})


def chat(texts: list[str], finish_reason: str = "stop") -> list[bytes]:
    """A chat that says `texts`."""
    return [delta(role="assistant", content=""), *(delta(content=text) for text in texts), delta(0, finish_reason), DONE]


def started(**usage: int) -> bytes:
    """How every streamed message starts."""
    message = {"id": "msg_1", "type": "message", "role": "assistant", "model": "m-1", "content": [], "stop_reason": None}
    counts = {"input_tokens": 11, "output_tokens": 1, **usage}
    return named("message_start", message={**message, "stop_sequence": None, "usage": counts})


def block(index: int, content: dict[str, Any], *deltas: dict[str, Any]) -> list[bytes]:
    """One block of a message: its start, its deltas, its end."""
    return [
        named("content_block_start", index=index, content_block=content),
        *(named("content_block_delta", index=index, delta=each) for each in deltas),
        named("content_block_stop", index=index),
    ]


def ended(stop_reason: str = "end_turn", **usage: int) -> list[bytes]:
    """How every streamed message ends."""
    reason = {"stop_reason": stop_reason, "stop_sequence": None}
    return [named("message_delta", delta=reason, usage={"output_tokens": 7, **usage}), named("message_stop")]


def messages(texts: list[str]) -> list[bytes]:
    """A message that says `texts`."""
    deltas = [{"type": "text_delta", "text": text} for text in texts]
    return [started(), *block(0, {"type": "text", "text": ""}, *deltas), *ended()]


def response(status: str, output: list[dict[str, Any]] | None = None, **fields: Any) -> dict[str, Any]:
    """The response that events of the Responses API carry."""
    known = {"id": "resp_1", "object": "response", "created_at": 1, "model": "m-1", "status": status, "output": output or []}
    return {**known, "parallel_tool_calls": True, "tool_choice": "auto", "tools": [], **fields}


def numbered(events: list[tuple[str, dict[str, Any]]]) -> list[bytes]:
    """Events of the Responses API, counted from 0 on."""
    return [named(kind, sequence_number=number, **fields) for number, (kind, fields) in enumerate(events)]


def responses(texts: list[str]) -> list[bytes]:
    """A response that says `texts`: the whole lifecycle."""
    text = "".join(texts)
    place = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
    part = {"type": "output_text", "text": text, "annotations": []}
    item = {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed", "content": [part]}
    usage = {
        "input_tokens": 11,
        "output_tokens": 7,
        "total_tokens": 18,
        "input_tokens_details": {"cached_tokens": 3},
        "output_tokens_details": {"reasoning_tokens": 2},
    }
    return numbered(
        [
            ("response.created", {"response": response("in_progress")}),
            ("response.in_progress", {"response": response("in_progress")}),
            ("response.output_item.added", {"output_index": 0, "item": {**item, "status": "in_progress", "content": []}}),
            ("response.content_part.added", {**place, "part": {**part, "text": ""}}),
            *(("response.output_text.delta", {**place, "delta": each}) for each in texts),
            ("response.output_text.done", {**place, "text": text}),
            ("response.content_part.done", {**place, "part": part}),
            ("response.output_item.done", {"output_index": 0, "item": item}),
            ("response.completed", {"response": response("completed", [item], usage=usage)}),
        ]
    )


FAMILIES = {CHAT: chat, MESSAGES: messages, RESPONSES: responses}
"""How each API streams an answer, by where it is asked."""
