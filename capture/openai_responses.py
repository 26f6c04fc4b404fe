"""OpenAI Responses, streamed and not. Its items become the turns of a chat; a stream ends with its last `response.*` event.

What the provider keeps is not resolved: `previous_response_id`, a conversation, a stored prompt and references to items
stand as parts named `previous_response:<id>` and the like, so that an incomplete conversation shows as one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from capture.answer import Answer, error_text, openai_usage
from capture.loose_json import as_list, as_object, as_text, compact, is_valid, parse, whole
from capture.media import media_of, named_part, part_name
from capture.messages import Media, Message, ToolCall, Usage
from capture.openai_chat import ROLES
from capture.responses_stream import Stream
from capture.sse import Event, is_garbage

_TEXT_PARTS = ("input_text", "output_text", "text", "summary_text", "reasoning_text")
_UNFINISHED = ("queued", "in_progress", "")
_FROM_CLIENT = ("_output", "_response")
_CALLS = {"function_call": "arguments", "custom_tool_call": "input"}


@dataclass(slots=True)
class _Turn:
    """The items of one assistant turn, which a chat would send as one message."""

    texts: list[str] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)
    thoughts: list[str] = field(default_factory=list)
    calls: list[ToolCall] = field(default_factory=list)
    other: list[str] = field(default_factory=list)
    media: list[Media] = field(default_factory=list)


def asked(request: object) -> tuple[Message, ...]:
    """The instructions, what the provider is to add, and the input, which is a text or items."""
    body = as_object(request)
    messages: list[Message] = []
    instructions = body.get("instructions")
    if isinstance(instructions, str) and instructions:
        messages.append(Message("system", whole(instructions)))
    messages += _from_items(as_list(instructions))
    kept = tuple(_references(body))
    if kept:
        messages.append(Message("assistant", "", other_parts=kept))
    given = body.get("input")
    if isinstance(given, str):
        return (*messages, Message("user", whole(given)))
    return (*messages, *_from_items(as_list(given)))


def read_whole(body: object) -> Answer:
    """An unstreamed response; one that is still worked on has no answer yet."""
    response = as_object(body)
    return _answer(response, as_list(response.get("output")), is_terminal="output" in response or "status" in response)


def read_events(events: Iterable[Event]) -> Answer:
    """A streamed response. Unknown events are passed over."""
    stream, is_readable = Stream(), True
    for event in events:
        try:
            body = as_object(parse(event.data))
        except ValueError:
            is_readable = is_readable and not is_garbage(event)
            continue
        stream.read(as_text(body.get("type")) or event.name, body)
    return replace(_answer(stream.response, stream.items(), stream.is_ended, stream.error), is_readable=is_readable)


def write_whole(message: Message, finish_reason: str, usage: Usage) -> dict[str, Any]:
    """The body of an unstreamed response that says `message`, without its model."""
    output: list[dict[str, Any]] = []
    if message.reasoning:
        output.append({"type": "reasoning", "summary": [{"type": "summary_text", "text": message.reasoning}]})
    parts = [{"type": "output_text", "text": message.text}] if message.text and message.text != message.refusal else []
    parts += [{"type": "refusal", "refusal": message.refusal}] if message.refusal else []
    output += [{"type": "message", "role": "assistant", "content": parts}] if parts else []
    for call in message.tool_calls:
        kind = "custom_tool_call" if call.is_custom else "function_call"
        output.append({"type": kind, "call_id": call.id, "name": call.name, _CALLS[kind]: call.arguments})
    is_status = finish_reason in ("completed", "failed", "cancelled", *_UNFINISHED)
    counts = {
        "input_tokens": usage.tokens_in,
        "input_tokens_details": {"cached_tokens": usage.tokens_cached, "cache_write_tokens": usage.tokens_cache_written},
        "output_tokens": usage.tokens_out,
        "output_tokens_details": {"reasoning_tokens": usage.tokens_reasoning},
    }
    return {
        "object": "response",
        "status": finish_reason if is_status else "incomplete",
        "incomplete_details": None if is_status else {"reason": finish_reason},
        "output": output,
        "usage": counts,
    }


def _answer(response: Mapping[str, Any], items: list[Any], is_terminal: bool, error: str = "") -> Answer:
    status = as_text(response.get("status"))
    turn = _Turn()
    for item in items:
        _read_item(turn, as_object(item), is_answer=True)
    error = error or error_text(response.get("error")) or ("failed" if status == "failed" else "")
    is_said = bool(items) or (bool(response) and status not in _UNFINISHED and not error)
    reason = as_text(as_object(response.get("incomplete_details")).get("reason"))
    finish_reason = "" if status in _UNFINISHED else reason if status == "incomplete" and reason else status
    return Answer(
        message=_message(turn) if is_said else None,
        model=whole(as_text(response.get("model"))),
        finish_reason=whole(finish_reason),
        usage=openai_usage(as_object(response.get("usage"))),
        is_terminal=is_terminal,
        error=error,
    )


def _references(body: Mapping[str, Any]) -> list[str]:
    """What the provider adds to the input from what it keeps."""
    found = {"previous_response": body.get("previous_response_id"), "conversation": body.get("conversation")}
    names = [f"{name}:{as_text(value) or as_text(as_object(value).get('id'))}" for name, value in found.items() if value]
    prompt = body.get("prompt")
    return [whole(name) for name in names] + ([named_part("prompt", prompt)] if isinstance(prompt, dict) else [])


def _from_items(items: list[Any]) -> list[Message]:
    messages: list[Message] = []
    turn: _Turn | None = None
    for value in items:
        item = as_object(value)
        message = _said_to_model(item)
        if message is None:
            turn = turn or _Turn()
            _read_item(turn, item, is_answer=False)
            continue
        if turn is not None:
            messages.append(_message(turn))
            turn = None
        messages.append(message)
    return [*messages, _message(turn)] if turn is not None else messages


def _said_to_model(item: Mapping[str, Any]) -> Message | None:
    """The message of an item that the model did not make; None for its own."""
    kind, role = as_text(item.get("type")), whole(as_text(item.get("role")))
    role = ROLES.get(role, role)
    if (kind or "message") == "message" and role != "assistant":
        turn = _Turn()
        _read_content(turn, item.get("content"))
        return Message(role, whole("\n".join(turn.texts)), other_parts=tuple(turn.other), media=tuple(turn.media))
    if kind.endswith(_FROM_CLIENT):
        turn = _Turn()
        output = item.get("output")
        if isinstance(output, str | list):
            _read_content(turn, output)
        else:
            turn.other.append(named_part(kind, item))
        id = whole(as_text(item.get("call_id")))
        return Message("tool", whole("\n".join(turn.texts)), (), tuple(turn.other), media=tuple(turn.media), tool_call_id=id)
    return None


def _read_item(turn: _Turn, item: Mapping[str, Any], is_answer: bool) -> None:
    kind = as_text(item.get("type")) or "message"
    if kind == "message":
        _read_content(turn, item.get("content"))
    elif kind == "reasoning":
        thought = _Turn()
        _read_content(thought, item.get("content") or item.get("summary"))
        turn.thoughts += thought.texts
    elif kind in _CALLS:
        turn.calls.append(_tool_call(item, kind))
    elif kind == "item_reference":
        turn.other.append(whole(f"{kind}:{as_text(item.get('id'))}"))
    else:
        turn.other.append(whole(kind) if is_answer else named_part(kind, item))
        turn.media += media_of(kind, item) if kind == "image_generation_call" else ()


def _read_content(turn: _Turn, content: object) -> None:
    if isinstance(content, str):
        turn.texts.append(content)
        return
    for value in as_list(content):
        part = as_object(value)
        kind = as_text(part.get("type"))
        if kind in _TEXT_PARTS:
            turn.texts.append(as_text(part.get("text")))
        elif kind == "refusal":
            turn.refusals.append(as_text(part.get("refusal")))
        else:
            turn.other.append(named_part(part_name(kind), part.get(kind, part)))
            turn.media += media_of(kind, part.get(kind, part))


def _tool_call(item: Mapping[str, Any], kind: str) -> ToolCall:
    is_custom = kind == "custom_tool_call"
    value = item.get(_CALLS[kind])
    arguments = whole(value if isinstance(value, str) else "" if value is None else compact(value))
    is_ended = as_text(item.get("status")) not in ("in_progress", "incomplete")
    is_complete = is_valid(arguments) if arguments and not is_custom else is_ended
    id = whole(as_text(item.get("call_id")) or as_text(item.get("id")))
    return ToolCall(whole(as_text(item.get("name"))), arguments, id, is_complete, is_custom)


def _message(turn: _Turn) -> Message:
    text, refusal = whole("\n".join(turn.texts)), whole("\n".join(turn.refusals))
    other = (*turn.other, *(["refusal"] if refusal else []))
    thoughts = whole("\n".join(turn.thoughts))
    return Message("assistant", text or refusal, tuple(turn.calls), other, thoughts, refusal, tuple(turn.media))
