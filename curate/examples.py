"""Example: an input and the target that teaches it, as it lies in a dataset version's files."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from capture.errors import StoreError
from capture.messages import Message, ToolCall
from capture.offered import Tool, tool_as_openai, tool_from_openai

ANSWER, EDIT, DEMONSTRATION, RELABEL, IMPORTED = "answer", "edit", "demonstration", "relabel", "import"
"""Where a target came from: the teacher's answer in production, a reviewer, feedback of an app, another teacher's answer, a
data set of the team."""


@dataclass(frozen=True, slots=True)
class Example:
    """An input and its target with where they came from. `id` belongs to the exchange: `ex_1` teaches as `eg_1`.

    The target is `target` (its text, '' when it only calls tools) and `calls`; `tools` are those that the input offers.
    `target_source` says who gave the target, `terms` under which terms it came.
    """

    id: str
    exchange_id: str
    task: str
    messages: tuple[Message, ...]
    target: str
    split: str
    input_key: str
    teacher_model: str
    protocol: str
    calls: tuple[ToolCall, ...] = ()
    tools: tuple[Tool, ...] = ()
    target_source: str = ANSWER
    terms: str = ""

    @property
    def answer(self) -> Message:
        """The target as a message."""
        return Message("assistant", self.target, self.calls)

    @property
    def speaks_of_tools(self) -> bool:
        """True when tools are offered, were called before, or are called by the target."""
        turned = any(message.tool_calls or message.role == "tool" for message in self.messages)
        return bool(self.calls or self.tools) or turned


def example_id(exchange_id: str) -> str:
    """The id of the example that `exchange_id` gives."""
    return "eg_" + exchange_id.partition("_")[2]


def to_line(example: Example, task: str = "") -> str:
    """`example` as one line of JSON, in the prompt and completion form of trainers.

    Task and split are the file's; an example that was mixed in from a task other than `task` names its own.
    """
    row: dict[str, Any] = {
        "id": example.id,
        "exchange_id": example.exchange_id,
        "prompt": prompt_of(example.messages),
        "completion": prompt_of([example.answer]),
        "input_key": example.input_key,
        "teacher_model": example.teacher_model,
        "protocol": example.protocol,
    }
    if example.tools:
        row["tools"] = tools_of(example.tools)
    if example.target_source != ANSWER:
        row["target_source"] = example.target_source
    if task and example.task != task:
        row["task"] = example.task
    if example.terms:
        row["terms"] = example.terms
    return _compact(row)


def from_line(line: str, task: str, split: str) -> Example:
    """The example that `to_line` wrote; StoreError when the line is not one."""
    try:
        row = json.loads(line)
        (answer,) = messages_of(row["completion"])
        return Example(
            row["id"], row["exchange_id"], row.get("task", task), messages_of(row["prompt"]), answer.text, split,
            row["input_key"], row["teacher_model"], row["protocol"], answer.tool_calls, tools_from(row.get("tools", ())),
            row.get("target_source", ANSWER), row.get("terms", ""),
        )  # fmt: skip
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        what = f"A line of the {split} split of task {task!r} is not an example: {error!r}."
        raise StoreError(what, "Build the dataset again.") from error


def prompt_of(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """Messages in OpenAI's form: role, content, and what concerns tools."""
    return [_turn(message) for message in messages]


def messages_of(prompt: Sequence[Mapping[str, Any]]) -> tuple[Message, ...]:
    """The messages that `prompt_of` wrote."""
    return tuple(
        Message(
            str(turn["role"]),
            str(turn["content"]),
            tuple(map(_call, turn.get("tool_calls", ()))),
            tool_call_id=str(turn.get("tool_call_id", "")),
        )
        for turn in prompt
    )


def tools_of(tools: Sequence[Tool]) -> list[dict[str, Any]]:
    """Tools in OpenAI's form."""
    return [tool_as_openai(tool) for tool in tools]


def tools_from(given: Sequence[Mapping[str, Any]]) -> tuple[Tool, ...]:
    """The tools that `tools_of` wrote."""
    return tuple(tool_from_openai(each) for each in given)


def _turn(message: Message) -> dict[str, Any]:
    turn: dict[str, Any] = {"role": message.role, "content": message.text}
    if message.tool_calls:
        turn["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in message.tool_calls
        ]
    if message.tool_call_id:
        turn["tool_call_id"] = message.tool_call_id
    return turn


def _call(given: Mapping[str, Any]) -> ToolCall:
    return ToolCall(str(given["function"]["name"]), str(given["function"]["arguments"]), str(given.get("id", "")))


def _compact(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
