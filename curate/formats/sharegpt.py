"""ShareGPT's conversations: turns with from and value, calls of tools as `function_call`, their results as `observation`.

Format: https://llamafactory.readthedocs.io/en/latest/getting_started/data_preparation.html. It has no ids of calls: when it is
read, results answer the calls before them in their order.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from capture import loose_json
from capture.imports.imported import LineError
from capture.imports.values import unpacked
from capture.loose_json import as_list, as_text, compact
from capture.messages import Message
from curate.examples import Example, tools_of
from curate.formats.row import ASSISTANT, SYSTEM, TOOL, USER, Row, call, conversation, tools_in
from curate.formats.trl import as_object

_FROM = {SYSTEM: "system", "developer": "system", USER: "human", ASSISTANT: "gpt", TOOL: "observation"}
_ROLES = {
    "system": SYSTEM, "human": USER, "user": USER, "gpt": ASSISTANT, "chatgpt": ASSISTANT, "bing": ASSISTANT, "bard": ASSISTANT,
    "assistant": ASSISTANT, "model": ASSISTANT, "observation": TOOL, "tool": TOOL, "function_response": TOOL,
}  # fmt: skip
_CALLS = ("function_call", "tool_call")


def refusal(example: Example) -> str:
    """Why the format cannot carry `example`, '' when it can."""
    turns = (*example.messages, example.answer)
    if any(turn.text and turn.tool_calls for turn in turns):
        return "text beside a call of a tool"
    return "calls whose arguments are no JSON object" if any(_is_free(turn) for turn in turns) else ""


def row(example: Example) -> dict[str, Any]:
    """`example` as a conversation. Earlier answers get the weight 0; trainers that know none learn them too."""
    said = [_turn(message, is_target=False) for message in example.messages]
    given: dict[str, Any] = {"conversations": [*said, _turn(example.answer, is_target=True)]}
    return given | ({"tools": compact(tools_of(example.tools))} if example.tools else {})


def read(record: Mapping[str, Any]) -> Row:
    """The answers of a conversation; LineError."""
    turns: list[dict[str, Any]] = []
    waiting: list[str] = []
    if system := as_text(record.get("system")):
        turns.append({"role": SYSTEM, "content": system})
    for number, given in enumerate(as_list(unpacked(record.get("conversations")))):
        _take(loose_json.as_object(given), number, turns, waiting)
    return Row(conversation(turns), tools_in(record.get("tools")))


def _take(given: Mapping[str, Any], number: int, turns: list[dict[str, Any]], waiting: list[str]) -> None:
    """Puts one turn behind `turns`; `waiting` are the ids of calls that nothing has answered yet."""
    speaker, value = as_text(given.get("from") or given.get("role")), given.get("value", given.get("content"))
    weight = {} if given.get("weight") is None else {"weight": given["weight"]}
    if speaker in _CALLS:
        calls = [call(each["name"], each.get("arguments", {}), f"call_{number}_{place}") for place, each in _calls(value)]
        waiting[:] = [each["id"] for each in calls]
        if turns and turns[-1]["role"] == ASSISTANT and "tool_calls" not in turns[-1]:
            turns[-1]["tool_calls"] = calls  # said beside its words
        else:
            turns.append({"role": ASSISTANT, "content": "", "tool_calls": calls, **weight})
        return
    if speaker not in _ROLES:
        raise LineError(f"has a turn from {speaker[:40]!r}")
    if not isinstance(value, str):
        raise LineError(f"has a turn from {speaker} without text")
    role = _ROLES[speaker]
    answers = {"tool_call_id": waiting.pop(0)} if role == TOOL and waiting else {}
    turns.append({"role": role, "content": value, **answers, **weight})


def _calls(value: object) -> list[tuple[int, dict[str, Any]]]:
    found = unpacked(value)
    calls = found if isinstance(found, list) else [found]
    if not calls or not all(isinstance(each, dict) and as_text(each.get("name")) for each in calls):
        raise LineError("has a function_call that is not JSON with a name and arguments")
    return list(enumerate(calls))


def _turn(message: Message, *, is_target: bool) -> dict[str, Any]:
    weight = {"weight": 0} if message.role == ASSISTANT and not is_target else {}
    if message.tool_calls:
        calls = [{"name": each.name, "arguments": as_object(each.arguments or "{}")} for each in message.tool_calls]
        return {"from": "function_call", "value": compact(calls[0] if len(calls) == 1 else calls), **weight}
    return {"from": _FROM.get(message.role, message.role), "value": message.text, **weight}


def _is_free(message: Message) -> bool:
    return any(isinstance(as_object(each.arguments or "{}"), str) for each in message.tool_calls)
