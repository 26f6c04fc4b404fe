"""Puts an exchange together from its bytes: conversation, model, usage, how the answer ended.

Pure, and tolerant: whatever a provider sends gives an `Assembled`. A streamed and an unstreamed copy of one answer
give the same conversation.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from capture import (
    anthropic_messages,
    encoding,
    loose_json,
    openai_chat,
    openai_embeddings,
    openai_plain,
    openai_realtime,
    openai_responses,
    sse,
)
from capture.answer import NO_USAGE, Answer, error_text
from capture.estimate import estimated, estimated_input
from capture.exchange import CLIENT_CLOSED, COMPLETE, ERROR_IN_BAND, TRUNCATED, Conversation
from capture.ids import content_hash
from capture.messages import REPORTED, Message, Usage
from capture.transcript import SWITCHED, read_transcript

OPENAI, ANTHROPIC, RAW = "openai", "anthropic", "raw"
CHAT, COMPLETIONS, RESPONSES, EMBEDDINGS, MESSAGES, OTHER = (
    "chat", "completions", "responses", "embeddings", "messages", "other",
)  # fmt: skip

SESSION = "session"
"""The format of a transcript: a Realtime session, or Responses over a WebSocket."""

REQUEST, RESPONSE = "request", "response"
"""The sides of an exchange."""

INPUT_HASH_LETTERS = 35
"""`b2:` and 32 hex digits."""


@dataclass(frozen=True, slots=True)
class _Family:
    """How a format is read and written."""

    asked: Callable[[object], tuple[Message, ...]]
    read_whole: Callable[[object], Answer]
    read_events: Callable[[Iterable[sse.Event]], Answer]
    write_whole: Callable[[Message, str, Usage], dict[str, Any]]


_CHAT = _Family(openai_chat.asked, openai_chat.read_whole, openai_chat.read_events, openai_chat.write_whole)
_FAMILIES = {
    CHAT: _CHAT,
    COMPLETIONS: _CHAT,
    RESPONSES: _Family(
        openai_responses.asked, openai_responses.read_whole, openai_responses.read_events, openai_responses.write_whole
    ),
    MESSAGES: _Family(
        anthropic_messages.asked, anthropic_messages.read_whole, anthropic_messages.read_events, anthropic_messages.write_whole
    ),
}


@dataclass(frozen=True, slots=True)
class Assembled:
    """What the bytes of an exchange say.

    `form` is the format that they were read as. `is_terminal`: the stream's last event was seen, or the JSON is whole;
    always True where the format is not known. `finish_reason` is the provider's word, '' while any choice is unfinished.
    `error_in_band` is the provider's error text, '' without one. `unread` names the sides of a known format that could not be
    read whole, REQUEST and RESPONSE; the end of an answer that was cut is not missed there.
    """

    form: str
    conversation: Conversation
    model: str
    finish_reason: str
    usage: Usage
    is_terminal: bool
    error_in_band: str
    unread: tuple[str, ...] = ()


def form_of(protocol: str, path: str) -> str:
    """The format of an exchange by where it was sent, whatever stands before it in the path (Azure, Groq, OpenRouter)."""
    path = path.rstrip("/")
    if protocol == ANTHROPIC:
        return MESSAGES if path.endswith("/messages") else OTHER
    if protocol != OPENAI:
        return OTHER
    name = path.rpartition("/")[2]
    if name == "completions":
        return CHAT if path.endswith("/chat/completions") else COMPLETIONS
    return name if name in (RESPONSES, EMBEDDINGS) else OTHER


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
    if status == SWITCHED and protocol == OPENAI:
        return _assemble_session(response)
    form = form_of(protocol, path)
    asked, is_asked_whole = ((), True) if form == OTHER else _read_encoded_request(form, request, request_encoding)
    decoded = _decode(response, content_encoding)
    if decoded.is_known:
        answer = read_response(form, is_stream, status, decoded.data)
    else:
        answer = Answer(is_terminal=True, is_readable=form == OTHER)
    assembled = assemble_asked(form, asked, answer, status)
    if decoded.is_known and not decoded.is_whole:
        assembled = replace(assembled, is_terminal=False)
    if is_asked_whole and answer.is_readable:
        return assembled
    sides = ((REQUEST, is_asked_whole), (RESPONSE, answer.is_readable))
    return replace(assembled, unread=tuple(side for side, is_whole in sides if not is_whole))


def _assemble_session(transcript: bytes) -> Assembled:
    asked, answer = openai_realtime.read_session(read_transcript(transcript))
    assembled = assemble_asked(SESSION, asked, answer, SWITCHED)
    return assembled if answer.is_readable else replace(assembled, unread=(RESPONSE,))


def assemble_asked(form: str, asked: tuple[Message, ...], answer: Answer, status: int) -> Assembled:
    """Joins what was asked with its answer, and estimates the tokens that the provider did not report."""
    conversation = Conversation(asked, answer.message)
    usage = answer.usage
    if usage.source != REPORTED:
        if form != EMBEDDINGS:
            usage = estimated(conversation, usage)
        elif answer.is_terminal and not answer.error and 200 <= status < 300:
            usage = estimated_input(asked, usage)
    return Assembled(form, conversation, answer.model, answer.finish_reason, usage, answer.is_terminal, answer.error)


def read_request(form: str, body: bytes) -> tuple[Message, ...]:
    """What a request of this form asks; `body` without its content encoding."""
    return _read_request(form, body)[0]


def _read_encoded_request(form: str, request: bytes, encoding_name: str) -> tuple[tuple[Message, ...], bool]:
    decoded = _decode(request, encoding_name)
    asked, is_readable = _read_request(form, decoded.data)
    return asked, is_readable and decoded.is_whole


def _decode(body: bytes, encoding_name: str) -> encoding.Decoded:
    """`body` without its content encoding; as it is where it never had one, whatever its header says."""
    decoded = encoding.decode(body, encoding_name)
    is_plain = not decoded.is_whole and not decoded.data and _is_text(body)
    return encoding.Decoded(body) if is_plain else decoded


def _read_request(form: str, body: bytes) -> tuple[tuple[Message, ...], bool]:
    """What is asked, and whether all of `body` could be read; an empty one has nothing that could not."""
    if form == CHAT:
        plain = openai_plain.asked(body)
        if plain is not None:
            return plain, True
    try:
        value = loose_json.parse(body)
    except ValueError:
        return read_parsed_request(form, None), not body.strip()
    return read_parsed_request(form, value), _is_text(body)


def read_parsed_request(form: str, request: object) -> tuple[Message, ...]:
    """What a request of this form asks, from its JSON value."""
    if form == EMBEDDINGS:
        return openai_embeddings.asked(request)
    family = _FAMILIES.get(form)
    return () if family is None else family.asked(request)


def read_response(form: str, is_stream: bool, status: int, body: bytes) -> Answer:
    """What a response of this form says; `body` without its content encoding."""
    if form == CHAT:
        plain = openai_plain.read_events(body) if body.startswith(b"data") else openai_plain.read_whole(body)
        if plain is not None:
            return plain
    answer = _read_any_response(form, is_stream, status, body)
    return answer if form == OTHER or _is_text(body) else replace(answer, is_readable=False)


def _read_any_response(form: str, is_stream: bool, status: int, body: bytes) -> Answer:
    family = _FAMILIES.get(form)
    if family is None:
        return _read_wordless(form, status, body)
    if sse.looks_like_events(body) or (is_stream and sse.is_cut_early(body)):
        return family.read_events(sse.parse_events(body))
    whole = _parse(body)
    if whole is None:
        return _not_json(status, body)
    if error := _error_of(whole):
        return Answer(is_terminal=True, error=error)
    return family.read_whole(whole)


def state_of(wire_state: str, status: int, assembled: Assembled) -> str:
    """The state of an exchange that ended as `wire_state` on the wire.

    A whole answer of a provider that sends no [DONE] counts as complete when every choice has its finish reason. So does one
    whose client hung up after the last event, as SDKs do: they do not wait for the end of the connection.
    """
    if not 200 <= status < 300 and assembled.form != SESSION:
        return wire_state
    if wire_state == CLIENT_CLOSED and assembled.is_terminal and not assembled.error_in_band:
        return COMPLETE
    if wire_state != COMPLETE:
        return wire_state
    if assembled.error_in_band:
        return ERROR_IN_BAND
    return COMPLETE if assembled.is_terminal else TRUNCATED


def input_hash(conversation: Conversation) -> str:
    """The first 128 bits of the content hash of the asked messages, the same for every model and protocol.

    '' when nothing readable was asked.
    """
    if not conversation.asked:
        return ""
    canonical = [
        [message.role, message.text, [[call.name, call.arguments] for call in message.tool_calls], list(message.other_parts)]
        for message in conversation.asked
    ]
    return content_hash(msgspec.json.encode(canonical))[
        :INPUT_HASH_LETTERS
    ]  # spelled as `loose_json.compact` spells it, in a third of the time


def output_text(answer: Message | None) -> str:
    """The answer as one text for lists and comparisons: its words, then each tool call as name(arguments) on a line."""
    if answer is None:
        return ""
    calls = [f"{call.name}({call.arguments})" for call in answer.tool_calls]
    return "\n".join([*([answer.text] if answer.text else []), *calls])


def searched_text(assembled: Assembled) -> str:
    """What the full-text index holds beside the request: the answer, and all that was asked where it is in no request."""
    said = output_text(assembled.conversation.answer)
    if assembled.form != SESSION:
        return said
    return "\n".join([said, *(message.text for message in assembled.conversation.asked)]).strip("\n")


def _read_wordless(form: str, status: int, body: bytes) -> Answer:
    """Embeddings, and what is not known."""
    if form != EMBEDDINGS:
        return Answer(is_terminal=True, error=_error_of(_parse(body)) if status >= 400 else "")
    try:
        return openai_embeddings.read_whole(body)
    except ValueError:
        return _not_json(status, body)


def _not_json(status: int, body: bytes) -> Answer:
    error = body[:500].decode("utf-8", "replace") if status >= 400 else ""
    return Answer(error=error, is_readable=body.strip() == b"null" or loose_json.is_cut(body))


def _is_text(body: bytes) -> bool:
    """Whether `body` is UTF-8, as far as it goes: it may be cut inside a character."""
    if body.isascii():
        return True
    try:
        codecs.utf_8_decode(body, "strict", False)
    except UnicodeDecodeError:
        return False
    return True


def _error_of(body: Any) -> str:
    return error_text(loose_json.as_object(body).get("error"))


def _parse(body: bytes) -> Any:
    try:
        return loose_json.parse(body)
    except ValueError:
        return None


def rebuild(assembled: Assembled) -> bytes:
    """The answer as one unstreamed body of its format, for when the relayed events cannot be kept as they were."""
    answer = assembled.conversation.answer or Message("assistant", "")
    usage = assembled.usage if assembled.usage.source == REPORTED else NO_USAGE
    if assembled.form == SESSION:
        asked = assembled.conversation.asked
        return openai_realtime.write_session(asked, answer, assembled.model, assembled.finish_reason, usage)
    family = _FAMILIES.get(assembled.form, _CHAT)
    body = family.write_whole(answer, assembled.finish_reason, usage)
    return loose_json.compact({"model": assembled.model, **body}).encode()
