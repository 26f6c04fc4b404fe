"""Alpaca's rows: instruction, input and output, with a system prompt beside them where there is one.

Format: https://github.com/tatsu-lab/stanford_alpaca#data-release; `system` and `history` as LLaMA-Factory and Axolotl read them.
One question and one answer is all that it can say: conversations and tools would be flattened, so they are refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from capture.imports.imported import LineError
from capture.loose_json import as_list, as_text
from curate.examples import Example
from curate.formats.row import ASSISTANT, SYSTEM, USER, Row, conversation, text_turn


def refusal(example: Example) -> str:
    """Why the format cannot carry `example`, '' when it can."""
    if example.speaks_of_tools:
        return "tools"
    roles = [message.role for message in example.messages]
    return "" if roles in ([USER], [SYSTEM, USER]) else "several turns"


def row(example: Example) -> dict[str, Any]:
    """`example` as instruction and output; its input stays empty, for a chat does not say where an instruction ends."""
    *system, asked = example.messages
    given = {"instruction": asked.text, "input": "", "output": example.target}
    return given | ({"system": system[0].text} if system else {})


def read(record: Mapping[str, Any]) -> Row:
    """The answer of a row, and those of its history; LineError."""
    turns = [text_turn(SYSTEM, record["system"])] if record.get("system") else []
    for earlier in as_list(record.get("history")):
        if not isinstance(earlier, list) or len(earlier) != 2:
            raise LineError("its history is not a list of questions with answers")
        turns += [text_turn(USER, earlier[0]), text_turn(ASSISTANT, earlier[1])]
    asked = "\n\n".join(part for part in (as_text(record.get("instruction")), as_text(record.get("input"))) if part)
    if not asked:
        raise LineError("has neither instruction nor input")
    return Row(conversation([*turns, text_turn(USER, asked), text_turn(ASSISTANT, record.get("output"))]))
