"""OpenAI chat completions and legacy completions, as OpenAI and its many imitators write them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from capture.answer import Answer, error_text, openai_usage
from capture.loose_json import as_count, as_list, as_object, as_text, compact, is_valid, parse, whole
from capture.media import media_of, named_part, part_name
from capture.messages import Media, Message, ToolCall, Usage
from capture.sse import Event, is_garbage

ROLES = {"developer": "system", "function": "tool", "model": "assistant"}
_TEXT_PARTS = ("text", "input_text", "output_text")
_REASONING_PARTS = ("thinking", "reasoning")
_CUT = ("length", "max_tokens")


@dataclass(slots=True)
class Call:
    """A tool call, as far as it has been read."""

    id: str = ""
    name: str = ""
    arguments: list[str] = field(default_factory=list)
    is_custom: bool = False


@dataclass(slots=True)
class Choice:
    """One of the answers, as far as it has been read; `is_whole` when it did not come in deltas."""

    is_whole: bool = False
    text: list[str] = field(default_factory=list)
    refusal: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    reasoning: list[str] = field(default_factory=list)
    transcript: list[str] = field(default_factory=list)
    other: list[str] = field(default_factory=list)
    media: list[Media] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    call_at: dict[int, Call] = field(default_factory=dict)
    finish_reason: str = ""


def asked(request: object) -> tuple[Message, ...]:
    """The messages of a chat request, or the prompt of a legacy one."""
    body = as_object(request)
    if "messages" not in body:
        return asked_texts(body.get("prompt"))
    return tuple(_asked_message(item) for item in as_list(body.get("messages")) if isinstance(item, dict))


def asked_texts(prompt: object) -> tuple[Message, ...]:
    """A prompt or several, each a text or tokens, which stand as a part of their own."""
    if isinstance(prompt, list) and any(isinstance(item, int) for item in prompt):
        prompt = [prompt]
    prompts = prompt if isinstance(prompt, list) else [] if prompt is None else [prompt]
    return tuple(
        Message("user", whole(item)) if isinstance(item, str) else Message("user", "", other_parts=(named_part("tokens", item),))
        for item in prompts
    )


def read_whole(body: object) -> Answer:
    """An unstreamed response."""
    reader = _Reader()
    reader.read(as_object(body), is_delta=False)
    answer = reader.answer()
    return replace(answer, is_terminal=bool(reader.choices) or bool(answer.error))


def read_events(events: Iterable[Event]) -> Answer:
    """A streamed response. It is whole with [DONE]; or, from providers that send none, when every choice has finished."""
    reader = _Reader()
    is_done = is_torn = is_lost = False
    for event in events:
        if event.data.strip() == b"[DONE]":
            is_done = True
            continue
        try:
            body = as_object(parse(event.data))
        except ValueError:
            is_torn = is_torn or event.is_torn
            is_lost = is_lost or is_garbage(event)
            continue
        is_torn = is_torn or (event.is_torn and not event.is_stray)
        reader.read(body, is_delta=True)
        if event.name == "error" and not reader.error:
            reader.error = error_text(body) or "error"
    answer = reader.answer()
    is_terminal = is_done or (bool(answer.finish_reason) and not is_torn)
    return replace(answer, is_terminal=is_terminal, is_readable=not is_lost)


def write_whole(message: Message, finish_reason: str, usage: Usage) -> dict[str, Any]:
    """The body of an unstreamed response that says `message`, without its model."""
    calls = [_written_call(call) for call in message.tool_calls]
    said: dict[str, Any] = {"role": "assistant", "content": message.text}
    if message.refusal:
        said |= {"content": message.text if message.text != message.refusal else "", "refusal": message.refusal}
    said |= ({"reasoning_content": message.reasoning} if message.reasoning else {}) | ({"tool_calls": calls} if calls else {})
    counts = {
        "prompt_tokens": usage.tokens_in,
        "completion_tokens": usage.tokens_out,
        "prompt_tokens_details": {"cached_tokens": usage.tokens_cached, "cache_write_tokens": usage.tokens_cache_written},
        "completion_tokens_details": {"reasoning_tokens": usage.tokens_reasoning},
    }
    return {"choices": [{"index": 0, "message": said, "finish_reason": finish_reason or None}], "usage": counts}


def _written_call(call: ToolCall) -> dict[str, Any]:
    if call.is_custom:
        return {"id": call.id, "type": "custom", "custom": {"name": call.name, "input": call.arguments}}
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}


class _Reader:
    """Collects choices by (choice index, call index); a whole message is read as one large delta."""

    def __init__(self) -> None:
        self.choices: dict[int, Choice] = {}
        self.model = self.error = ""
        self.usage: Mapping[str, Any] = {}

    def read(self, body: Mapping[str, Any], is_delta: bool) -> None:
        self.model = as_text(body.get("model")) or self.model
        groq = as_object(body.get("x_groq"))
        self.error = self.error or error_text(body.get("error")) or error_text(groq.get("error"))
        self.usage = as_object(body.get("usage")) or as_object(groq.get("usage")) or self.usage
        for position, item in enumerate(as_list(body.get("choices"))):
            entry = as_object(item)
            index = as_count(entry.get("index"))
            choice = self.choices.setdefault(position if index is None else index, Choice(is_whole=not is_delta))
            self.error = self.error or error_text(entry.get("error"))
            choice.finish_reason = as_text(entry.get("finish_reason")) or choice.finish_reason
            delta = as_object(entry.get("delta") if is_delta and "delta" in entry else entry.get("message"))
            if not delta.get("content"):  # Together sends what it says in both places
                choice.text.append(as_text(entry.get("text")))
            _read_delta(choice, delta, is_delta)

    def answer(self) -> Answer:
        choice = self.choices[min(self.choices)] if self.choices else None
        is_finished = bool(self.choices) and all(item.finish_reason for item in self.choices.values())
        return Answer(
            message=message_of(choice) if choice else None,
            model=whole(self.model),
            finish_reason=whole(choice.finish_reason) if choice and is_finished else "",
            usage=openai_usage(self.usage),
            error=self.error,
        )


def _read_delta(choice: Choice, delta: Mapping[str, Any], is_delta: bool) -> None:
    _read_content(choice, delta.get("content"), "" if is_delta else "\n")
    choice.refusal.append(as_text(delta.get("refusal")))
    # The two names of the same; who sends both sends it twice.
    choice.reasoning.append(as_text(delta.get("reasoning_content")) or as_text(delta.get("reasoning")))
    _read_audio(choice, as_object(delta.get("audio")))
    for image in as_list(delta.get("images")):
        _read_other(choice, as_object(image))
    for position, item in enumerate(as_list(delta.get("tool_calls"))):
        entry = as_object(item)
        index = as_count(entry.get("index")) if is_delta else position
        call = find_call(choice, index, as_text(entry.get("id")))
        custom = as_object(entry.get("custom"))
        call.is_custom = call.is_custom or (bool(custom) and not entry.get("function"))
        _read_function(call, as_object(entry.get("function")) or custom)
    legacy = as_object(delta.get("function_call"))
    if legacy.get("name") or legacy.get("arguments"):
        _read_function(find_call(choice, -1, ""), legacy)


def _read_content(choice: Choice, content: object, joint: str) -> None:
    if isinstance(content, str):
        choice.text.append(content)
        return
    texts = []
    for item in as_list(content):
        part = as_object(item)
        kind = as_text(part.get("type"))
        if kind in _TEXT_PARTS:
            texts.append(as_text(part.get("text")))
        elif kind == "refusal":
            texts.append(as_text(part.get("refusal")))
            choice.refused.append(texts[-1])
            choice.other.append("refusal")
        elif kind in _REASONING_PARTS:
            choice.reasoning.append(_thought(part.get(kind, part.get("text"))))
        else:
            _read_other(choice, part)
    choice.text.append(joint.join(texts))


def _read_other(choice: Choice, part: Mapping[str, Any]) -> None:
    kind = as_text(part.get("type"))
    content = part.get(kind, part)
    choice.other.append(named_part(part_name(kind), content))
    choice.media.extend(media_of(kind, content))


def _thought(content: object) -> str:
    if isinstance(content, str):
        return content
    return "".join(as_text(as_object(item).get("text")) for item in as_list(content))


def _read_audio(choice: Choice, audio: Mapping[str, Any]) -> None:
    """Spoken words: their transcript stands for the text. Some imitators send an audio object with nothing in it."""
    if any(audio.get(key) for key in ("id", "data", "transcript")):
        choice.transcript.append(as_text(audio.get("transcript")))
        if "audio" not in choice.other:
            choice.other.append("audio")


def find_call(choice: Choice, index: int | None, id: str) -> Call:
    """The call that a fragment continues; another id at the same index starts a new one (Groq, Bedrock)."""
    known = choice.call_at.get(index) if index is not None else choice.calls[-1] if choice.calls and not id else None
    if known is not None and not (id and known.id and id != known.id):
        known.id = known.id or id
        return known
    call = Call(id)
    choice.calls.append(call)
    if index is not None:
        choice.call_at[index] = call
    return call


def _read_function(call: Call, function: Mapping[str, Any]) -> None:
    call.name += as_text(function.get("name"))
    arguments = function.get("arguments", function.get("input"))
    if arguments is not None:
        call.arguments.append(arguments if isinstance(arguments, str) else compact(arguments))


def message_of(choice: Choice) -> Message:
    """What a choice says."""
    text, refusal = whole("".join(choice.text)), whole("".join(choice.refusal))
    return Message(
        "assistant",
        text or refusal or whole("".join(choice.transcript)),
        tuple(_tool_call(call, choice) for call in choice.calls),
        (*choice.other, *(["refusal"] if refusal else [])),
        whole("".join(choice.reasoning)),
        refusal or whole("".join(choice.refused)),
        tuple(choice.media),
    )


def _tool_call(call: Call, choice: Choice) -> ToolCall:
    arguments = whole("".join(call.arguments))
    is_ended = bool(choice.finish_reason) or choice.is_whole
    is_complete = is_valid(arguments) if arguments and not call.is_custom else is_ended and choice.finish_reason not in _CUT
    return ToolCall(whole(call.name), arguments, whole(call.id), is_complete, call.is_custom)


def _asked_message(item: Mapping[str, Any]) -> Message:
    choice = Choice(is_whole=True)
    _read_delta(choice, item, is_delta=False)
    role = whole(as_text(item.get("role")))
    return replace(message_of(choice), role=ROLES.get(role, role), tool_call_id=whole(as_text(item.get("tool_call_id"))))
