"""TRL's conversational data sets: prompt and completion, and prompt, chosen and rejected.

Format: https://huggingface.co/docs/trl/dataset_formats. Arguments of calls are objects, as chat templates want them. `tools`
is JSON text, which TRL reads as well: as objects, the schemas of different tools would be merged into one by Arrow.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from capture.imports.imported import LineError
from capture.imports.values import unpacked
from capture.loose_json import as_list, compact
from capture.messages import Message
from capture.offered import Tool
from curate.examples import Example, prompt_of, tools_of
from curate.formats.openai import pair
from curate.formats.row import USER, Row, conversation, one_answer, text_turn, tools_in, turn
from curate.preferring.preferences import Preference


def completion_row(example: Example) -> dict[str, Any]:
    """`example` as prompt and completion: only the completion is learnt."""
    return {"prompt": templated(example.messages), "completion": templated([example.answer]), **_tools(example.tools)}


def preference_row(preference: Preference) -> dict[str, Any]:
    """`preference` as prompt, chosen and rejected."""
    return {
        "prompt": templated(preference.messages),
        "chosen": templated([preference.chosen]),
        "rejected": templated([preference.rejected]),
        **_tools(preference.tools),
    }


def templated(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """Messages as chat templates read them: the arguments of calls are objects wherever nothing is lost by it."""
    turns = prompt_of(messages)
    for given in turns:
        for called in given.get("tool_calls", ()):
            called["function"]["arguments"] = as_object(called["function"]["arguments"])
    return turns


def as_object(arguments: str) -> Any:
    """The object in `arguments`; the text itself where it holds none, or one that would not come back as it was."""
    try:
        found = json.loads(arguments, object_pairs_hook=_without_repeats, parse_constant=_refuse)
        is_safe = isinstance(found, dict) and json.loads(json.dumps(found, allow_nan=False)) == found
    except (ValueError, RecursionError):
        return arguments
    return found if is_safe else arguments


def read(record: Mapping[str, Any]) -> Row:
    """The answers of a row, conversational or of plain texts; LineError."""
    tools = tools_in(record.get("tools"))
    if "chosen" in record or "rejected" in record:
        prompt, chosen, rejected = _sides(record)
        return Row((pair(prompt, one_answer(chosen, "chosen"), one_answer(rejected, "rejected")),), tools)
    prompt, completion = _prompt(record.get("prompt")), unpacked_turns(record.get("completion"))
    if isinstance(completion, str):
        return Row(conversation([*prompt, one_answer(completion, "")], len(prompt)), tools)
    return Row(conversation([*prompt, *as_list(completion)], len(prompt)), tools)


def unpacked_turns(given: Any) -> Any:
    """A list of messages, where it stands as JSON text; a text that is none stays a text."""
    found = unpacked(given)
    is_list = isinstance(found, list) and all(isinstance(each, dict) and "role" in each for each in found)
    return found if is_list and found else given


def _prompt(given: Any) -> tuple[dict[str, Any], ...]:
    found = unpacked_turns(given)
    messages = (text_turn(USER, found),) if isinstance(found, str) else tuple(turn(each) for each in as_list(found))
    if not messages:
        raise LineError("has no prompt")
    return messages


def _sides(record: Mapping[str, Any]) -> tuple[tuple[dict[str, Any], ...], Any, Any]:
    """Prompt and both answers; without a prompt of its own it is what both sides begin with."""
    chosen, rejected = unpacked_turns(record.get("chosen")), unpacked_turns(record.get("rejected"))
    if record.get("prompt"):
        return _prompt(record["prompt"]), chosen, rejected
    one, other = as_list(chosen), as_list(rejected)
    same = next((place for place, sides in enumerate(zip(one, other, strict=False)) if sides[0] != sides[1]), 0)
    if not same:
        raise LineError("has neither a prompt nor two conversations with the same beginning")
    return _prompt(one[:same]), one[same:], other[same:]


def _tools(tools: Sequence[Tool]) -> dict[str, str]:
    return {"tools": compact(tools_of(tools))} if tools else {}


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name stands twice")
    return found


def _refuse(constant: str) -> Any:
    raise ValueError(constant)
