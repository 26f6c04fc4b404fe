"""Example: an input and the target that teaches it, as it lies in a dataset version's files."""

from __future__ import annotations

import json
from dataclasses import dataclass

from capture.errors import StoreError
from capture.messages import Message


@dataclass(frozen=True, slots=True)
class Example:
    """An input and its target with where they came from. `id` belongs to the exchange: `ex_1` teaches as `eg_1`."""

    id: str
    exchange_id: str
    task: str
    messages: tuple[Message, ...]
    target: str
    split: str
    input_key: str
    teacher_model: str
    protocol: str


def example_id(exchange_id: str) -> str:
    """The id of the example that `exchange_id` gives."""
    return "eg_" + exchange_id.partition("_")[2]


def to_line(example: Example) -> str:
    """`example` as one line of JSON, in the prompt and completion form of trainers; task and split are the file's."""
    return _compact({
        "id": example.id,
        "exchange_id": example.exchange_id,
        "prompt": prompt_of(example.messages),
        "completion": [{"role": "assistant", "content": example.target}],
        "input_key": example.input_key,
        "teacher_model": example.teacher_model,
        "protocol": example.protocol,
    })  # fmt: skip


def from_line(line: str, task: str, split: str) -> Example:
    """The example that `to_line` wrote; StoreError when the line is not one."""
    try:
        row = json.loads(line)
        return Example(
            row["id"], row["exchange_id"], task, messages_of(row["prompt"]), row["completion"][0]["content"], split,
            row["input_key"], row["teacher_model"], row["protocol"],
        )  # fmt: skip
    except (ValueError, KeyError, TypeError, IndexError) as error:
        what = f"A line of the {split} split of task {task!r} is not an example: {error!r}."
        raise StoreError(what, "Build the dataset again.") from error


def prompt_of(messages: tuple[Message, ...]) -> list[dict[str, str]]:
    """Messages as role and content."""
    return [{"role": message.role, "content": message.text} for message in messages]


def messages_of(prompt: list[dict[str, str]]) -> tuple[Message, ...]:
    """The messages that `prompt_of` wrote."""
    return tuple(Message(str(turn["role"]), str(turn["content"])) for turn in prompt)


def _compact(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
