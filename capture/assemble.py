"""Puts an exchange together from its bytes: conversation, model, usage, how the answer ended.

Pure, and tolerant: whatever a provider sends gives an `Assembled`. A streamed and an unstreamed copy of one answer
give the same conversation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from capture import anthropic_messages, encoding, loose_json, openai_chat, sse
from capture.answer import Answer, error_text
from capture.exchange import CLIENT_CLOSED, COMPLETE, ERROR_IN_BAND, TRUNCATED, Conversation
from capture.ids import content_hash
from capture.messages import Message, Usage

OPENAI, ANTHROPIC, RAW = "openai", "anthropic", "raw"
_CHAT, _COMPLETIONS, _MESSAGES, _OTHER = "chat", "completions", "messages", "other"


@dataclass(frozen=True, slots=True)
class Assembled:
    """What the bytes of an exchange say.

    `is_terminal`: the stream's last event was seen, or the JSON is whole; always True where the format is not known.
    `finish_reason` is the provider's word, '' while any choice is unfinished. `error_in_band` is the provider's error
    text, '' without one. `tokens_cached` and `tokens_cache_written` are parts of `usage.tokens_in`.
    """

    conversation: Conversation
    model: str
    finish_reason: str
    usage: Usage
    is_terminal: bool
    error_in_band: str
    tokens_cached: int = 0
    tokens_cache_written: int = 0


def assemble(
    protocol: str,
    path: str,
    is_stream: bool,
    request: bytes,
    response: bytes,
    content_encoding: str,
    status: int,
    *,
    request_encoding: str = "",
) -> Assembled:
    """Reads both bodies of an exchange; they may be cut anywhere, in any content encoding, or empty."""
    kind = _kind(protocol, path)
    asked = _asked(kind, _parse(encoding.decode(request, request_encoding).data)) if kind != _OTHER else ()
    decoded = encoding.decode(response, content_encoding)
    answer = _answer(kind, is_stream, status, decoded.data) if decoded.is_known else Answer(is_terminal=True)
    return Assembled(
        Conversation(asked, answer.message),
        answer.model,
        answer.finish_reason,
        Usage(answer.tokens_in, answer.tokens_out, _source(answer)),
        answer.is_terminal and (decoded.is_whole or not decoded.is_known),
        answer.error,
        answer.tokens_cached,
        answer.tokens_cache_written,
    )


def state_of(wire_state: str, status: int, assembled: Assembled) -> str:
    """The state of an exchange that ended as `wire_state` on the wire.

    A whole answer of a provider that sends no [DONE] counts as complete when every choice has its finish reason. So does one
    whose client hung up after the last event, as SDKs do: they do not wait for the end of the connection.
    """
    if not 200 <= status < 300:
        return wire_state
    if wire_state == CLIENT_CLOSED and assembled.is_terminal and not assembled.error_in_band:
        return COMPLETE
    if wire_state != COMPLETE:
        return wire_state
    if assembled.error_in_band:
        return ERROR_IN_BAND
    return COMPLETE if assembled.is_terminal else TRUNCATED


def input_hash(conversation: Conversation) -> str:
    """Content hash of the asked messages, the same for every model and protocol; '' when nothing readable was asked."""
    if not conversation.asked:
        return ""
    canonical = [
        [message.role, message.text, [[call.name, call.arguments] for call in message.tool_calls], list(message.other_parts)]
        for message in conversation.asked
    ]
    return content_hash(loose_json.compact(canonical).encode())


def output_text(answer: Message | None) -> str:
    """The answer as one text for lists and comparisons: its words, then each tool call as name(arguments) on a line."""
    if answer is None:
        return ""
    calls = [f"{call.name}({call.arguments})" for call in answer.tool_calls]
    return "\n".join([*([answer.text] if answer.text else []), *calls])


def _kind(protocol: str, path: str) -> str:
    path = path.rstrip("/")
    if protocol == OPENAI and path.endswith("/chat/completions"):
        return _CHAT
    if protocol == OPENAI and path.endswith("/completions"):
        return _COMPLETIONS
    return _MESSAGES if protocol == ANTHROPIC and path.endswith("/messages") else _OTHER


def _asked(kind: str, request: Any) -> tuple[Message, ...]:
    if kind == _MESSAGES:
        return anthropic_messages.asked(request)
    return openai_chat.asked(request)


def _answer(kind: str, is_stream: bool, status: int, body: bytes) -> Answer:
    if kind == _OTHER:
        return Answer(is_terminal=True, error=_error_of(_parse(body)) if status >= 400 else "")
    if sse.looks_like_events(body) or (is_stream and not body.strip()):
        read_events = anthropic_messages.read_events if kind == _MESSAGES else openai_chat.read_events
        return read_events(sse.parse_events(body))
    whole = _parse(body)
    if whole is None:
        return Answer(error=body[:500].decode("utf-8", "replace") if status >= 400 else "")
    if error := _error_of(whole):
        return Answer(is_terminal=True, error=error)
    return anthropic_messages.read_whole(whole) if kind == _MESSAGES else openai_chat.read_whole(whole)


def _error_of(body: Any) -> str:
    return error_text(loose_json.as_object(body).get("error"))


def _parse(body: bytes) -> Any:
    try:
        return loose_json.parse(body)
    except ValueError:
        return None


def _source(answer: Answer) -> str:
    return "missing" if answer.tokens_in is None or answer.tokens_out is None else "reported"


def rebuild(protocol: str, assembled: Assembled) -> bytes:
    """The answer as one unstreamed body of its protocol, for when the relayed events cannot be kept as they were."""
    answer = assembled.conversation.answer or Message("assistant", "")
    if protocol == ANTHROPIC:
        body = anthropic_messages.write_whole(answer, assembled.finish_reason)
        usage = {"input_tokens": assembled.usage.tokens_in, "output_tokens": assembled.usage.tokens_out}
    else:
        body = openai_chat.write_whole(answer, assembled.finish_reason)
        usage = {"prompt_tokens": assembled.usage.tokens_in, "completion_tokens": assembled.usage.tokens_out}
    return loose_json.compact({"model": assembled.model, **body, "usage": usage}).encode()
