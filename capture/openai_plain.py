"""Plain chat bodies, which most are, read in one go: text, reasoning and function calls of one choice.

Each function gives exactly what `capture.openai_chat` gives for the same bytes, or None for whatever is not plain. Fields
that `openai_chat` heeds and that are not plain are declared as None, so that any value of theirs is refused.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from capture.answer import NO_USAGE, Answer, openai_usage
from capture.messages import Message, Usage
from capture.openai_chat import ROLES, Choice, find_call, message_of

_FIRST, _NEXT, _END, _DONE = b"data: {", b"}\n\ndata: {", b"}\n\n", b"data: [DONE]\n\n"


_Nothing = Annotated[list[None], msgspec.Meta(max_length=0)] | None


class _Groq(msgspec.Struct, gc=False):
    usage: dict[str, object] | None = None
    error: None = None


class _Function(msgspec.Struct, gc=False):
    name: str | None = None
    arguments: str | None = None
    input: None = None


class _Fragment(msgspec.Struct, gc=False):
    function: _Function
    index: int = -1
    id: str | None = None
    custom: None = None


class _Said(msgspec.Struct, gc=False):
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    refusal: None = None
    tool_calls: list[_Fragment] | None = None
    function_call: None = None
    audio: None = None
    images: _Nothing = None


class _Delta(msgspec.Struct, gc=False):
    delta: _Said
    index: int = 0
    finish_reason: str | None = None
    text: None = None
    error: None = None


class _Chunk(msgspec.Struct, gc=False):
    choices: list[_Delta]
    model: str = ""
    usage: dict[str, object] | None = None
    error: None = None
    x_groq: _Groq | None = None


class _Choice(msgspec.Struct, gc=False):
    message: _Said
    index: int = 0
    finish_reason: str | None = None
    text: None = None
    error: None = None


class _Body(msgspec.Struct, gc=False):
    choices: list[_Choice]
    model: str = ""
    usage: dict[str, object] | None = None
    error: None = None
    x_groq: _Groq | None = None


class _Turn(msgspec.Struct, gc=False):
    role: str
    content: str
    tool_call_id: str = ""
    reasoning_content: None = None
    reasoning: None = None
    refusal: None = None
    tool_calls: None = None
    function_call: None = None
    audio: None = None
    images: None = None


class _Request(msgspec.Struct, gc=False):
    messages: list[_Turn]


_chunks = msgspec.json.Decoder(_Chunk)
_body = msgspec.json.Decoder(_Body)
_request = msgspec.json.Decoder(_Request)


def asked(request: bytes) -> tuple[Message, ...] | None:
    """The messages of a request in which every turn is one text."""
    try:
        turns = _request.decode(request).messages
    except (ValueError, RecursionError):
        return None
    return tuple([Message(ROLES.get(turn.role, turn.role), turn.content, tool_call_id=turn.tool_call_id) for turn in turns])


def read_whole(body: bytes) -> Answer | None:
    """An unstreamed response with one choice."""
    try:
        response = _body.decode(body)
    except (ValueError, RecursionError):
        return None
    if len(response.choices) != 1:
        return None
    choice = response.choices[0]
    said = choice.message
    usage = response.usage or (response.x_groq.usage if response.x_groq else None)
    finish_reason = choice.finish_reason or ""
    read = Choice(is_whole=True, finish_reason=finish_reason)
    for position, fragment in enumerate(said.tool_calls or ()):
        _read_fragment(read, position, fragment)
    message = _message([said.content or ""], [said.reasoning_content or said.reasoning or ""], read)
    return Answer(message, response.model, finish_reason, _usage(usage), is_terminal=True)


def read_events(body: bytes) -> Answer | None:
    """A streamed response of one choice, in whole events of one line each."""
    chunks = _read_chunks(body)
    if chunks is None:
        return None
    texts: list[str] = []
    thoughts: list[str] = []
    usage: dict[str, object] | None = None
    read = Choice()
    is_begun = False
    for chunk in chunks:
        usage = chunk.usage or (chunk.x_groq and chunk.x_groq.usage) or usage
        choices = chunk.choices
        if not choices:
            continue
        choice = choices[0]
        if choice.index or len(choices) > 1:
            return None
        is_begun = True
        read.finish_reason = choice.finish_reason or read.finish_reason
        said = choice.delta
        if said.content:
            texts.append(said.content)
        if thought := said.reasoning_content or said.reasoning:
            thoughts.append(thought)
        for fragment in said.tool_calls or ():
            if fragment.index < 0:
                return None
            _read_fragment(read, fragment.index, fragment)
    message = _message(texts, thoughts, read) if is_begun else None
    model = next((chunk.model for chunk in reversed(chunks) if chunk.model), "")
    is_terminal = bool(read.finish_reason) or body.endswith(_DONE)
    return Answer(message, model, read.finish_reason, _usage(usage), is_terminal)


def _read_fragment(choice: Choice, index: int, fragment: _Fragment) -> None:
    call = find_call(choice, index, fragment.id or "")
    function = fragment.function
    if function.name:
        call.name += function.name
    if function.arguments:
        call.arguments.append(function.arguments)


def _message(texts: list[str], thoughts: list[str], choice: Choice) -> Message:
    if not choice.calls:
        return Message("assistant", "".join(texts), reasoning="".join(thoughts))
    choice.text, choice.reasoning = texts, thoughts
    return message_of(choice)


def _read_chunks(body: bytes) -> list[_Chunk] | None:
    """The events of `body`, when each is a line of JSON.

    They are decoded at once, as lines. A line break between } and { is never inside a JSON value, and a line of two values
    makes the counts differ, so nothing can pass as an event that is none.
    """
    end = len(body) - (len(_DONE) if body.endswith(_DONE) else 0)
    if not body.startswith(_FIRST) or not body.endswith(_END, 0, end) or b"\r" in body:
        return None
    events = body[len(_FIRST) - 1 : end - len(_END) + 1].split(_NEXT)
    lines = b"}\n{".join(events)
    if lines.count(b"\n") != len(events) - 1:
        return None
    try:
        chunks = _chunks.decode_lines(lines)
    except (ValueError, RecursionError):
        return None
    return chunks if len(chunks) == len(events) else None


def _usage(usage: dict[str, object] | None) -> Usage:
    return openai_usage(usage) if usage else NO_USAGE
