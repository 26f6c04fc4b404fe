"""Anthropic messages, streamed and not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from capture.answer import Answer, error_text, usage_of
from capture.loose_json import as_count, as_list, as_object, as_text, compact, parse, whole
from capture.media import media_of, named_part
from capture.messages import Media, Message, ToolCall, Usage
from capture.sse import Event, is_garbage


@dataclass(slots=True)
class _Block:
    start: Mapping[str, Any]
    text: list[str] = field(default_factory=list)
    thought: list[str] = field(default_factory=list)
    arguments: list[str] = field(default_factory=list)


@dataclass(slots=True)
class _Reader:
    model: str = ""
    stop_reason: str = ""
    error: str = ""
    is_started: bool = False
    is_stopped: bool = False
    is_readable: bool = True
    has_final_usage: bool = False
    usage: dict[str, Any] = field(default_factory=dict)
    blocks: dict[int, _Block] = field(default_factory=dict)


def asked(request: object) -> tuple[Message, ...]:
    """System prompt and messages of a request; tool results become messages of role tool, before what else was said."""
    body = as_object(request)
    messages: list[Message] = []
    if body.get("system"):
        messages.append(_from_blocks("system", body["system"]))
    for item in as_list(body.get("messages")):
        entry = as_object(item)
        content = entry.get("content")
        results = [part for part in as_list(content) if as_object(part).get("type") == "tool_result"]
        rest = [part for part in as_list(content) if as_object(part).get("type") != "tool_result"]
        messages += [_tool_result(as_object(part)) for part in results]
        if rest or not results:
            messages.append(_from_blocks(whole(as_text(entry.get("role"))), content if isinstance(content, str) else rest))
    return tuple(messages)


def read_whole(body: object) -> Answer:
    """An unstreamed response."""
    reader = _Reader()
    message = as_object(body)
    _start(reader, message)
    reader.is_stopped = "content" in message
    reader.stop_reason = as_text(message.get("stop_reason"))
    return _answer(reader)


def read_events(events: Iterable[Event]) -> Answer:
    """A streamed response; it is whole with message_stop. Unknown events are passed over."""
    reader = _Reader()
    for event in events:
        try:
            body = as_object(parse(event.data))
        except ValueError:
            reader.is_readable = reader.is_readable and not is_garbage(event)
            continue
        _read_event(reader, as_text(body.get("type")) or event.name, body)
    if not reader.has_final_usage:
        reader.usage.pop("output_tokens", None)  # message_start only guesses it
    return _answer(reader)


def write_whole(message: Message, finish_reason: str, usage: Usage) -> dict[str, Any]:
    """The body of an unstreamed response that says `message`, without its model."""
    blocks: list[dict[str, Any]] = [{"type": "thinking", "thinking": message.reasoning}] if message.reasoning else []
    blocks += [{"type": "text", "text": message.text}] if message.text else []
    blocks += [{"type": "tool_use", "id": c.id, "name": c.name, "input": _input(c)} for c in message.tool_calls]
    cached, written = usage.tokens_cached, usage.tokens_cache_written
    counts = {
        "input_tokens": None if usage.tokens_in is None else usage.tokens_in - cached - written,
        "cache_read_input_tokens": cached,
        "cache_creation_input_tokens": written,
        "output_tokens": usage.tokens_out,
        "output_tokens_details": {"thinking_tokens": usage.tokens_reasoning},
    }
    return {"role": "assistant", "content": blocks, "stop_reason": finish_reason or None, "usage": counts}


def _input(call: ToolCall) -> Any:
    return parse(call.arguments.encode()) if call.is_complete else call.arguments


def _read_event(reader: _Reader, kind: str, body: Mapping[str, Any]) -> None:
    if kind == "content_block_delta":
        _read_delta(reader, as_count(body.get("index")) or 0, as_object(body.get("delta")))
    elif kind == "content_block_start":
        reader.blocks[as_count(body.get("index")) or 0] = _Block(as_object(body.get("content_block")))
    elif kind == "message_start":
        _start(reader, as_object(body.get("message")))
    elif kind == "message_delta":
        reader.stop_reason = as_text(as_object(body.get("delta")).get("stop_reason")) or reader.stop_reason
        final = {key: value for key, value in as_object(body.get("usage")).items() if value is not None}
        reader.usage.update(final)
        reader.has_final_usage = reader.has_final_usage or "output_tokens" in final
    elif kind == "message_stop":
        reader.is_stopped = True
    elif kind == "error" or body.get("error"):
        reader.error = reader.error or error_text(body.get("error")) or "error"


def _read_delta(reader: _Reader, index: int, delta: Mapping[str, Any]) -> None:
    block = reader.blocks.get(index)
    if block is None:
        block = reader.blocks[index] = _Block({"type": "text"})
    for key, texts in (("text", block.text), ("thinking", block.thought), ("partial_json", block.arguments)):
        if key in delta:
            texts.append(as_text(delta[key]))


def _start(reader: _Reader, message: Mapping[str, Any]) -> None:
    reader.is_started = True
    reader.model = as_text(message.get("model"))
    reader.usage.update(as_object(message.get("usage")))
    for index, block in enumerate(as_list(message.get("content"))):
        reader.blocks[index] = _Block(as_object(block))


def _answer(reader: _Reader) -> Answer:
    is_said = reader.is_started or bool(reader.blocks)
    read, written = (as_count(reader.usage.get(f"cache_{part}_input_tokens")) or 0 for part in ("read", "creation"))
    fresh = as_count(reader.usage.get("input_tokens"))
    tokens_in = None if fresh is None else fresh + read + written
    thought = as_count(as_object(reader.usage.get("output_tokens_details")).get("thinking_tokens")) or 0
    return Answer(
        message=_message("assistant", [reader.blocks[index] for index in sorted(reader.blocks)]) if is_said else None,
        model=whole(reader.model),
        finish_reason=whole(reader.stop_reason),
        usage=usage_of(tokens_in, as_count(reader.usage.get("output_tokens")), read, written, thought),
        is_terminal=reader.is_stopped,
        error=reader.error,
        is_readable=reader.is_readable,
    )


def _tool_result(part: Mapping[str, Any]) -> Message:
    return replace(_from_blocks("tool", part.get("content")), tool_call_id=whole(as_text(part.get("tool_use_id"))))


def _from_blocks(role: str, content: object) -> Message:
    if isinstance(content, str):
        return Message(role, whole(content))
    return _message(role, [_Block(as_object(item)) for item in as_list(content)])


def _message(role: str, blocks: list[_Block]) -> Message:
    texts, thoughts, calls, other = list[str](), list[str](), list[ToolCall](), list[str]()
    media: list[Media] = []
    for block in blocks:
        kind = as_text(block.start.get("type"))
        if kind == "text":
            texts.append(as_text(block.start.get("text")) + "".join(block.text))
        elif kind == "tool_use":
            calls.append(_tool_call(block))
        elif kind == "thinking":
            thoughts.append(as_text(block.start.get("thinking")) + "".join(block.thought))
        elif kind != "redacted_thinking":
            source = block.start.get("source", block.start.get("content", block.start))
            other.append(named_part(kind or "part", source) if role != "assistant" else whole(kind) or "part")
            media += media_of(kind, source) if "source" in block.start else ()
    text, thought = whole("\n".join(texts)), whole("\n".join(thoughts))
    return Message(role, text, tuple(calls), tuple(other), thought, media=tuple(media))


def _tool_call(block: _Block) -> ToolCall:
    """Streamed arguments are respaced like unstreamed ones, so that both copies of an answer are the same."""
    text, is_complete = whole("".join(block.arguments)), True
    try:
        arguments = compact(parse(text.encode())) if text else compact(block.start.get("input", {}))
    except ValueError:
        arguments, is_complete = text, False
    return ToolCall(whole(as_text(block.start.get("name"))), whole(arguments), whole(as_text(block.start.get("id"))), is_complete)
