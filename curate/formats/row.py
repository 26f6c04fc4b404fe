"""Row: what one row of somebody's data set teaches, whatever format it was written in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

from capture.imports.imported import LineError
from capture.imports.values import json_text, unpacked
from capture.imports.wire import chat_message, is_message
from capture.loose_json import as_list, as_object, as_text, compact

SYSTEM, USER, ASSISTANT, TOOL = "system", "user", "assistant", "tool"
_ROLES = (SYSTEM, "developer", USER, ASSISTANT, TOOL)
MOST_BYTES = 64 << 20
"""How much a row may teach: each of its answers is stored with all that was said before it, and with the tools."""


@dataclass(frozen=True, slots=True)
class Taught:
    """An answer to learn and the turns before it, as OpenAI Chat writes them; `rejected` is an answer that was liked less."""

    asked: tuple[dict[str, Any], ...]
    answer: dict[str, Any]
    rejected: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """The answers that a row teaches; several where it is a conversation. `tools` are offered in each of them.

    `scores` are numbers that the row gives its answers, by name. What the row does not say is '' or None.
    """

    taught: tuple[Taught, ...]
    tools: tuple[dict[str, Any], ...] = ()
    parallel_tool_calls: bool | None = None
    id: str = ""
    split: str = ""
    terms: str = ""
    scores: Mapping[str, float] = field(default_factory=dict)


def conversation(given: object, first: int = 1) -> tuple[Taught, ...]:
    """One answer for each turn of the assistant from place `first` on that is to be learnt: its `weight` is not 0.

    LineError when `given` is no list of messages, nothing in it is to be learnt, or the answers are too much: see MOST_BYTES.
    """
    messages = as_list(unpacked(given))
    turns = [turn(message) for message in messages]
    places = [
        place
        for place in range(max(first, 1), len(turns))
        if turns[place]["role"] == ASSISTANT and messages[place].get("weight") != 0
    ]
    if not places:
        raise LineError("has no answer of the assistant that is to be learnt")
    said = list(accumulate(map(_size, turns)))
    _require_room(len(places), sum(said[place] for place in places))
    return tuple(Taught(tuple(turns[:place]), turns[place]) for place in places)


def require_room_for_tools(row: Row) -> None:
    """LineError when the tools, stored with each answer of `row`, are more than MOST_BYTES."""
    _require_room(len(row.taught), len(row.taught) * _size(row.tools))


def _require_room(answers: int, size: int) -> None:
    """LineError when a row teaches more than MOST_BYTES: `size` bytes in all its `answers`."""
    if size > MOST_BYTES:
        raise LineError(
            f"teaches {answers} answers which, each with all before it, are {size / 1e6:,.0f} MB; a row may teach "
            f"{MOST_BYTES / 1e6:.0f} MB: split it, or give turns that are not to be learnt the weight 0"
        )


def turn(given: object) -> dict[str, Any]:
    """`given` as a message of OpenAI Chat, without its weight; LineError."""
    if not is_message(given):
        raise LineError("has a turn that is no message with role and content")
    message = chat_message(given)
    if message.get("role") not in _ROLES:
        raise LineError(f"has a message of role {as_text(message.get('role'))[:40]!r}")
    if not isinstance(message.get("content"), str | list | None):
        raise LineError("has a message whose content is neither text nor a list of parts")
    kept = {key: value for key, value in message.items() if key != "weight" and value is not None}
    kept.setdefault("content", "")
    if "tool_calls" in kept:
        kept["tool_calls"] = [_call(call) for call in as_list(kept["tool_calls"])]
        if not kept["tool_calls"]:
            del kept["tool_calls"]
    return kept


def text_turn(role: str, text: object) -> dict[str, Any]:
    """A message of plain text; LineError when it is none."""
    if not isinstance(text, str):
        raise LineError(f"has no text for the {role}")
    return {"role": role, "content": text}


def tools_in(given: object) -> tuple[dict[str, Any], ...]:
    """Tools from a list, or from a list as JSON text; bare functions get OpenAI's wrapping. LineError."""
    found = unpacked(given)
    if found is None or found == "":
        return ()
    if not isinstance(found, list) or not all(isinstance(tool, dict) for tool in found):
        raise LineError("its tools are not a list of objects")
    return tuple(tool if "function" in tool or "name" not in tool else {"type": "function", "function": tool} for tool in found)


def call(name: str, arguments: object, id: str) -> dict[str, Any]:
    """A call of a tool as OpenAI Chat writes it."""
    text = arguments if isinstance(arguments, str) else json_text(arguments)
    return {"id": id, "type": "function", "function": {"name": name, "arguments": text}}


def same_answer(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two answers say the same, word by word."""
    return (one.get("content"), one.get("tool_calls")) == (other.get("content"), other.get("tool_calls"))


def one_answer(given: object, what: str) -> dict[str, Any]:
    """The only message of `given`, a list of one message, a message or a text; LineError."""
    if isinstance(given, str):
        return text_turn(ASSISTANT, given)
    messages: Sequence[Any] = given if isinstance(given, list) else [given]
    if len(messages) != 1:
        raise LineError(f"its {what} answer has {len(messages)} turns, and one can be learnt")
    answer = turn(messages[0])
    if answer["role"] != ASSISTANT:
        raise LineError(f"its {what} answer is of role {answer['role']}")
    return answer


def _size(value: object) -> int:
    return len(compact(value).encode("utf-8", "replace"))


def _call(given: object) -> dict[str, Any]:
    outer = as_object(given)
    function = as_object(outer.get("function")) or outer
    if not as_text(function.get("name")):
        raise LineError("has a call of a tool without a name")
    return call(function["name"], function.get("arguments", ""), as_text(outer.get("id")))
