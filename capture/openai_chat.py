"""OpenAI chat completions and legacy completions, as OpenAI and its many imitators write them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from capture.answer import Answer, error_text, named_part
from capture.loose_json import as_count, as_list, as_object, as_text, compact, is_valid, parse, whole
from capture.messages import Message, ToolCall
from capture.sse import Event

_ROLES = {"developer": "system", "function": "tool", "model": "assistant"}
_PART_NAMES = {"image_url": "image", "input_image": "image", "input_audio": "audio", "file": "document", "input_file": "document"}
_TEXT_PARTS = ("text", "input_text", "output_text")
_HIDDEN_PARTS = ("thinking", "reasoning")


@dataclass(slots=True)
class _Call:
    id: str = ""
    name: str = ""
    arguments: list[str] = field(default_factory=list)


@dataclass(slots=True)
class _Choice:
    text: list[str] = field(default_factory=list)
    refusal: list[str] = field(default_factory=list)
    other: list[str] = field(default_factory=list)
    calls: list[_Call] = field(default_factory=list)
    call_at: dict[int, _Call] = field(default_factory=dict)
    finish_reason: str = ""


def asked(request: object) -> tuple[Message, ...]:
    """The messages of a chat request, or the prompt of a legacy one."""
    body = as_object(request)
    prompt = body.get("prompt")
    if "messages" not in body and prompt is not None:
        prompts = [prompt] if isinstance(prompt, str) else [item for item in as_list(prompt) if isinstance(item, str)]
        return tuple(Message("user", whole(item)) for item in prompts)
    return tuple(_asked_message(item) for item in as_list(body.get("messages")) if isinstance(item, dict))


def read_whole(body: object) -> Answer:
    """An unstreamed response."""
    reader = _Reader()
    reader.read(as_object(body), is_delta=False)
    answer = reader.answer()
    return replace(answer, is_terminal=bool(reader.choices) or bool(answer.error))


def read_events(events: Iterable[Event]) -> Answer:
    """A streamed response. It is whole with [DONE]; or, from providers that send none, when every choice has finished."""
    reader = _Reader()
    is_done = is_torn = False
    for event in events:
        if event.data.strip() == b"[DONE]":
            is_done = True
            continue
        try:
            body = as_object(parse(event.data))
        except ValueError:
            is_torn = is_torn or event.is_torn
            continue
        is_torn = is_torn or (event.is_torn and not event.is_stray)
        reader.read(body, is_delta=True)
        if event.name == "error" and not reader.error:
            reader.error = error_text(body) or "error"
    answer = reader.answer()
    return replace(answer, is_terminal=is_done or (bool(answer.finish_reason) and not is_torn))


def write_whole(message: Message, finish_reason: str) -> dict[str, Any]:
    """The choices of an unstreamed response that says `message`."""
    calls = [{"id": c.id, "type": "function", "function": {"name": c.name, "arguments": c.arguments}} for c in message.tool_calls]
    said = {"role": "assistant", "content": message.text, **({"tool_calls": calls} if calls else {})}
    return {"choices": [{"index": 0, "message": said, "finish_reason": finish_reason or None}]}


class _Reader:
    """Collects choices by (choice index, call index); a whole message is read as one large delta."""

    def __init__(self) -> None:
        self.choices: dict[int, _Choice] = {}
        self.model = self.error = ""
        self.usage: Mapping[str, Any] = {}

    def read(self, body: Mapping[str, Any], is_delta: bool) -> None:
        self.model = as_text(body.get("model")) or self.model
        self.error = self.error or error_text(body.get("error"))
        self.usage = as_object(body.get("usage")) or as_object(as_object(body.get("x_groq")).get("usage")) or self.usage
        for position, item in enumerate(as_list(body.get("choices"))):
            entry = as_object(item)
            index = as_count(entry.get("index"))
            choice = self.choices.setdefault(position if index is None else index, _Choice())
            self.error = self.error or error_text(entry.get("error"))
            choice.finish_reason = as_text(entry.get("finish_reason")) or choice.finish_reason
            choice.text.append(as_text(entry.get("text")))
            delta = as_object(entry.get("delta") if is_delta and "delta" in entry else entry.get("message"))
            _read_delta(choice, delta, is_delta)

    def answer(self) -> Answer:
        prompt_details = as_object(self.usage.get("prompt_tokens_details"))
        choice = self.choices[min(self.choices)] if self.choices else None
        is_finished = bool(self.choices) and all(item.finish_reason for item in self.choices.values())
        return Answer(
            message=_message(choice) if choice else None,
            model=whole(self.model),
            finish_reason=whole(choice.finish_reason) if choice and is_finished else "",
            tokens_in=as_count(self.usage.get("prompt_tokens")),
            tokens_out=as_count(self.usage.get("completion_tokens")),
            tokens_cached=as_count(prompt_details.get("cached_tokens")) or 0,
            error=self.error,
        )


def _read_delta(choice: _Choice, delta: Mapping[str, Any], is_delta: bool) -> None:
    text, other = _content(delta.get("content"), "" if is_delta else "\n")
    choice.text.append(text)
    choice.other.extend(other)
    choice.refusal.append(as_text(delta.get("refusal")))
    if delta.get("audio") and "audio" not in choice.other:
        choice.other.append("audio")
    for position, item in enumerate(as_list(delta.get("tool_calls"))):
        entry = as_object(item)
        index = as_count(entry.get("index")) if is_delta else position
        call = _call(choice, index, as_text(entry.get("id")))
        _read_function(call, as_object(entry.get("function") or entry.get("custom")))
    legacy = as_object(delta.get("function_call"))
    if legacy:
        _read_function(_call(choice, -1, ""), legacy)


def _call(choice: _Choice, index: int | None, id: str) -> _Call:
    """The call that a fragment continues; another id at the same index starts a new one (Groq, Bedrock)."""
    known = choice.call_at.get(index) if index is not None else choice.calls[-1] if choice.calls and not id else None
    if known is not None and not (id and known.id and id != known.id):
        known.id = known.id or id
        return known
    call = _Call(id)
    choice.calls.append(call)
    if index is not None:
        choice.call_at[index] = call
    return call


def _read_function(call: _Call, function: Mapping[str, Any]) -> None:
    call.name += as_text(function.get("name"))
    arguments = function.get("arguments", function.get("input"))
    if arguments is not None:
        call.arguments.append(arguments if isinstance(arguments, str) else compact(arguments))


def _message(choice: _Choice) -> Message:
    text, refusal = whole("".join(choice.text)), whole("".join(choice.refusal))
    other = [*choice.other, *(["refusal"] if refusal else [])]
    return Message("assistant", text or refusal, tuple(_tool_call(call, choice) for call in choice.calls), tuple(other))


def _tool_call(call: _Call, choice: _Choice) -> ToolCall:
    arguments = whole("".join(call.arguments))
    is_complete = is_valid(arguments) if arguments else bool(choice.finish_reason)
    return ToolCall(whole(call.name), arguments, call.id, is_complete)


def _asked_message(item: Mapping[str, Any]) -> Message:
    choice = _Choice(finish_reason="asked")
    _read_delta(choice, item, is_delta=False)
    message = _message(choice)
    role = as_text(item.get("role"))
    return replace(message, role=_ROLES.get(role, role))


def _content(content: object, joint: str) -> tuple[str, list[str]]:
    if isinstance(content, str):
        return content, []
    texts, other = [], []
    for item in as_list(content):
        part = as_object(item)
        kind = as_text(part.get("type"))
        if kind in _TEXT_PARTS:
            texts.append(as_text(part.get("text")))
        elif kind == "refusal":
            texts.append(as_text(part.get("refusal")))
            other.append("refusal")
        elif kind not in _HIDDEN_PARTS:
            other.append(named_part(_PART_NAMES.get(kind, kind or "part"), part.get(kind, part)))
    return joint.join(texts), other
