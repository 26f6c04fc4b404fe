"""Examples and frozen versions for the tests of formats, and what Hypothesis makes of them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from capture.imports.imported import LineError
from capture.messages import Message, ToolCall
from capture.offered import Tool
from curate.datasets import DatasetVersion
from curate.examples import Example, to_line
from curate.formats.reading import read_row
from curate.formats.row import Row
from curate.freeze import MANIFEST, hashed, to_json
from curate.preferring.preferences import PREFERENCES, Preference
from curate.preferring.preferences import to_line as preference_line
from curate.splits import SPLITS

WEATHER = Tool("weather", "Tells the weather", '{"properties":{"city":{"type":"string"}},"required":["city"],"type":"object"}')
CLOCK = Tool("clock", "", '{"properties":{"zone":{"default":null,"type":"string"}},"type":"object"}')
ASKED = Message("user", "How warm is it in Bonn?")
CALLED = Message("assistant", "", (ToolCall("weather", '{"city":"Bonn"}', "call_0_0"),))
TOLD = Message("tool", "21 degrees", tool_call_id="call_0_0")


def example(
    number: int = 1,
    messages: Sequence[Message] = (ASKED,),
    target: str = "21 degrees",
    calls: Sequence[ToolCall] = (),
    tools: Sequence[Tool] = (),
    split: str = "train",
) -> Example:
    """One example of task `mail`."""
    return Example(
        f"eg_{number}", f"ex_{number}", "mail", tuple(messages), target, split, f"k{number}", "teacher-1", "openai",
        tuple(calls), tuple(tools),
    )  # fmt: skip


VAL, TEST = example(901, target="In val.", split="val"), example(902, target="In test.", split="test")


def mixed() -> list[Example]:
    """A plain question, a conversation, a call of a tool and an answer to one, with different tools."""
    system = Message("system", "Be brief.")
    talk = (system, Message("user", "Hi"), Message("assistant", "Hello, what can I do?"), ASKED)
    return [
        example(1),
        example(2, talk, "It is\r\nwarm \u2028 \U0001f600"),
        example(3, (system, ASKED), "", CALLED.tool_calls, (WEATHER, CLOCK)),
        example(4, (ASKED, CALLED, TOLD), "Warm.", (), (CLOCK,)),
    ]


def preference(number: int = 1, tools: Sequence[Tool] = ()) -> Preference:
    """One preference of task `mail`."""
    chosen, rejected = Message("assistant", f"better {number}"), Message("assistant", f"worse {number}")
    return Preference(f"pr_{number}_edit_1", f"ex_{number}", "mail", (ASKED,), tuple(tools), chosen, rejected, "edit")


def frozen(
    folder: Path, examples: Sequence[Example], preferences: Sequence[Preference] = (), *, val: Example = VAL, test: Example = TEST
) -> DatasetVersion:
    """A version whose train split has `examples`."""
    splits = {"train": list(examples), "val": [val], "test": [test]}
    files = {f"{split}.jsonl": "".join(f"{to_line(each)}\n" for each in splits[split]) for split in SPLITS}
    if preferences:
        files[PREFERENCES] = "".join(f"{preference_line(each)}\n" for each in preferences)
    manifest = hashed({"task": "mail"}, files)
    folder.mkdir(parents=True)
    for name, text in {**files, MANIFEST: to_json(manifest)}.items():
        (folder / name).write_text(text, "utf-8", newline="\n")
    counts = [len(splits[split]) for split in SPLITS]
    return DatasetVersion("dsv_1", "mail", 1, str(manifest["hash"]), *counts, folder, manifest, 0)


def read(format: str, record: Mapping[str, Any]) -> Row:
    """What a row teaches, after a trip through JSON."""
    return read_row(format, json.loads(json.dumps(record)), {})


def refused(format: str, record: Mapping[str, Any]) -> str:
    """Why a row teaches nothing."""
    try:
        read(format, record)
    except LineError as error:
        return error.reason
    return ""


def said(messages: Sequence[Mapping[str, Any]]) -> list[Any]:
    """Messages by what they say: ids of calls and blanks in arguments do not count."""
    return [
        (
            message["role"],
            message.get("content") or "",
            [(call["function"]["name"], _value(call["function"]["arguments"])) for call in message.get("tool_calls", ())],
        )
        for message in messages
    ]


def _value(arguments: str) -> Any:
    try:
        return json.loads(arguments or "{}")
    except ValueError:
        return arguments


texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
words = texts.filter(lambda text: bool(text.strip()))
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(texts, inner, max_size=2),
    max_leaves=4,
)
arguments = st.dictionaries(texts, json_values, max_size=3).map(lambda value: json.dumps(value, ensure_ascii=False))
_free = st.sampled_from(['{"a":1,"a":2}', '{"a":NaN}', "[1]", "cat file", ""])
_names = st.sampled_from(["weather", "clock", "find_user"])
_schemas = st.dictionaries(words, json_values, max_size=3).map(
    lambda value: json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
)
tools = st.lists(st.builds(Tool, _names, texts, st.just("") | _schemas), max_size=2)


@st.composite
def examples(draw: st.DrawFn, calls: bool = True, beside_calls: bool = True) -> Example:
    """Any example: with or without a system prompt, turns before, calls and tools."""
    number = 0
    messages: list[Message] = [Message("system", draw(words))] if draw(st.booleans()) else []
    for _ in range(draw(st.integers(0, 2))):
        messages.append(Message("user", draw(words)))
        if calls and draw(st.booleans()):
            number += 1
            made = ToolCall(draw(_names), draw(arguments | _free if beside_calls else arguments), f"call_{number}")
            beside = draw(texts) if beside_calls else ""
            messages += [Message("assistant", beside, (made,)), Message("tool", draw(texts), tool_call_id=f"call_{number}")]
        messages.append(Message("assistant", draw(words)))
    messages.append(Message("user", draw(words)))
    if calls and draw(st.booleans()):
        made = ToolCall(draw(_names), draw(arguments | _free if beside_calls else arguments), "call_last")
        return example(1, messages, draw(texts) if beside_calls else "", (made,), draw(tools))
    return example(1, messages, draw(words), (), draw(tools) if calls else ())
