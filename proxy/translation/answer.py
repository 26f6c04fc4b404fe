"""Writes litellm's answers down as the client's protocol has them. Pure.

litellm's objects are near the protocols but not of them: empty fields of one provider, a usage chunk with a choice in it,
Responses events without their number. A client must not be able to tell.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Mapping
from typing import Any

import msgspec

from proxy.translation import question
from proxy.translation.question import Question

DONE = b"data: [DONE]\n\n"
_EMPTY_EXTRAS = (
    "vertex_ai_",
    "thinking_blocks",
    "images",
    "annotations",
    "reasoning_items",
    "citations",
    "provider_specific_fields",
)


def whole(asked: Question, answer: Any) -> bytes:
    """The body of an answer that is not a stream."""
    found = as_data(answer)
    match asked.operation:
        case question.CHAT:
            found = _without_empty_extras(found)
            for choice in found.get("choices", ()):
                message = _without_empty_extras(choice["message"])
                for call in message.get("tool_calls") or ():
                    call.pop("index", None)
                choice["message"] = {"role": "assistant", "content": None, **message}
        case question.EMBEDDING if asked.wants_base64:
            for each in found.get("data", ()):
                each["embedding"] = _packed(each["embedding"])
        case question.MESSAGES:
            found = {"stop_sequence": None, **found}
        case question.COUNT:
            found = {"input_tokens": found["total_tokens"]}
        case _:
            pass
    return msgspec.json.encode(found)


def chat_event(piece: Any) -> bytes:
    """One chunk of a chat or a completion."""
    found = _without_empty_extras(as_data(piece))
    choices = found.get("choices", [])
    if found.get("usage") is not None and not any(_says_something(choice) for choice in choices):
        found["choices"] = []
    else:
        found["choices"] = [_choice(choice, is_text=found.get("object") == "text_completion") for choice in choices]
        found.pop("usage", None)  # it has a chunk of its own, where it was asked for
    return b"data: " + msgspec.json.encode(found) + b"\n\n"


def responses_event(piece: Any, number: int) -> bytes:
    """One event of the Responses API, with its number in the stream."""
    found = as_data(piece)
    found["sequence_number"] = number
    return b"event: " + str(found["type"]).encode() + b"\ndata: " + msgspec.json.encode(found) + b"\n\n"


def messages_event(piece: Any) -> bytes:
    """One event of Anthropic's, which litellm hands out as bytes, or as an object where the provider is Anthropic's own."""
    if isinstance(piece, bytes):
        return piece
    if isinstance(piece, str):
        return piece.encode()
    found = as_data(piece)
    return b"event: " + str(found["type"]).encode() + b"\ndata: " + msgspec.json.encode(found) + b"\n\n"


def says_finished(asked: Question, event: bytes) -> bool:
    """True for an event that tells the client why the answer ended; litellm invents one where the provider gave none."""
    match asked.operation:
        case question.MESSAGES:
            return event.startswith(b"event: message_delta")
        case question.RESPONSES:
            return event.startswith(b"event: response.completed")
        case _:
            return b'"finish_reason":"' in event


def as_data(answer: Any) -> dict[str, Any]:
    """What an answer of litellm's is made of, as plain data without absent fields."""
    if isinstance(answer, Mapping):
        return dict(answer)
    dumped = answer.model_dump(mode="json", exclude_none=True)
    return dict(dumped)


def _choice(choice: dict[str, Any], *, is_text: bool) -> dict[str, Any]:
    if is_text:
        choice.setdefault("text", "")
    if "delta" in choice:
        choice["delta"] = _without_empty_extras(choice["delta"])
    return {**choice, "finish_reason": choice.get("finish_reason")}


def _says_something(choice: dict[str, Any]) -> bool:
    return bool(choice.get("delta") or choice.get("text") or choice.get("finish_reason"))


def _without_empty_extras(found: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in found.items() if value not in ([], {}) or not name.startswith(_EMPTY_EXTRAS)}


def _packed(numbers: Any) -> Any:
    """Base64 of little-endian floats, as OpenAI's SDK asks for by default."""
    if not isinstance(numbers, list):
        return numbers
    return base64.b64encode(struct.pack(f"<{len(numbers)}f", *numbers)).decode()
