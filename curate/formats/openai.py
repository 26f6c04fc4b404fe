"""OpenAI's files for fine-tuning: chat, and preferences between two answers.

Formats: https://platform.openai.com/docs/guides/supervised-fine-tuning and
https://platform.openai.com/docs/guides/direct-preference-optimization
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from capture.imports.imported import LineError
from capture.loose_json import as_list, as_object
from capture.messages import Message
from curate.examples import Example, prompt_of, tools_of
from curate.formats.row import ASSISTANT, Row, Taught, conversation, one_answer, same_answer, tools_in, turn
from curate.preferring.preferences import Preference


def chat_row(example: Example, *, with_weight: bool = True) -> dict[str, Any]:
    """`example` as a chat to learn. Earlier answers get the weight 0, so that only the target is learnt."""
    row: dict[str, Any] = {"messages": [*turns_before(example.messages, with_weight=with_weight), *prompt_of([example.answer])]}
    return row | ({"tools": tools_of(example.tools)} if example.tools else {})


def turns_before(messages: Sequence[Message], *, with_weight: bool = True) -> list[dict[str, Any]]:
    """The turns of an input; answers among them are not to be learnt."""
    turns = prompt_of(messages)
    return [{**given, "weight": 0} if with_weight and given["role"] == ASSISTANT else given for given in turns]


def preference_row(preference: Preference) -> dict[str, Any]:
    """`preference` with the input apart from the two answers."""
    asked: dict[str, Any] = {"messages": prompt_of(preference.messages)}
    if preference.tools:
        asked["tools"] = tools_of(preference.tools)
    return {
        "input": asked,
        "preferred_output": prompt_of([preference.chosen]),
        "non_preferred_output": prompt_of([preference.rejected]),
    }


def read_chat(record: Mapping[str, Any]) -> Row:
    """The answers of a chat; LineError."""
    tools = tools_in(record.get("tools") or [{"function": each} for each in as_list(record.get("functions"))])
    return Row(conversation(record.get("messages")), tools, _parallel(record))


def read_preference(record: Mapping[str, Any]) -> Row:
    """The two answers to an input; LineError."""
    asked = as_object(record.get("input"))
    messages = tuple(turn(each) for each in as_list(asked.get("messages")))
    if not messages:
        raise LineError("its input has no messages")
    chosen = one_answer(record.get("preferred_output"), "preferred")
    rejected = one_answer(record.get("non_preferred_output"), "non-preferred")
    return Row((pair(messages, chosen, rejected),), tools_in(asked.get("tools")), _parallel(asked))


def pair(asked: tuple[dict[str, Any], ...], chosen: dict[str, Any], rejected: dict[str, Any]) -> Taught:
    """Two answers to one input; LineError when they say the same."""
    if same_answer(chosen, rejected):
        raise LineError("its two answers are the same, so that none is preferred")
    return Taught(asked, chosen, rejected)


def to_line(row: Mapping[str, Any]) -> str:
    """A row as one line of JSON."""
    return json.dumps(row, ensure_ascii=False, separators=(",", ":"))


def _parallel(record: Mapping[str, Any]) -> bool | None:
    value = record.get("parallel_tool_calls")
    return value if isinstance(value, bool) else None
