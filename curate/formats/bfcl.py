"""Berkeley's function calling leaderboard: questions with functions in one file, the calls that answer them in another.

Format: https://github.com/ShishirPatil/gorilla (bfcl_eval/data). Of the values that a gold call accepts the first counts; a
parameter that may be left out is left out where that stands first and its function does not require it. Types and names that
are no JSON Schema, or no function name for OpenAI, become such, as the leaderboard itself does it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from capture.imports.imported import LineError
from capture.imports.values import as_text
from capture.loose_json import as_list, as_object
from curate.formats.row import ASSISTANT, Row, Taught, call, turn

_TYPES = {"dict": "object", "float": "number", "tuple": "array", "any": "string"}


def is_gold(record: Mapping[str, Any]) -> bool:
    """Whether `record` is a line of the file with the answers."""
    return "ground_truth" in record and "question" not in record


def read(record: Mapping[str, Any], gold: Mapping[str, Sequence[Any]]) -> Row:
    """A question with the calls that answer it; LineError."""
    id = as_text(record.get("id"))
    if is_gold(record):
        raise LineError("a gold call; it is stored with its question", is_bad=False)
    calls = as_list(record.get("ground_truth")) or gold.get(id)
    if not calls:
        raise LineError(f"the calls that answer {id!r} are not in the files given; name the file in possible_answer too")
    rounds = as_list(record.get("question"))
    if len(rounds) != 1 or not isinstance(rounds[0], list):
        raise LineError(f"has {len(rounds)} rounds of questions, and gold calls answer one")
    asked = tuple(turn(message) for message in rounds[0])
    required = {
        as_text(each.get("name")): as_list(as_object(each.get("parameters")).get("required"))
        for each in map(as_object, as_list(record.get("function")))
    }
    made = [_call(given, place, required) for place, given in enumerate(calls)]
    tools = tuple(_tool(each) for each in as_list(record.get("function")))
    return Row((Taught(asked, {"role": ASSISTANT, "content": "", "tool_calls": made}),), tools, id=id)


def _call(given: object, place: int, required: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
    named = as_object(given)
    if len(named) != 1:
        raise LineError("has a gold call that is not one name with its arguments")
    ((name, arguments),) = named.items()
    return call(_name(name), _first_of(as_object(arguments), required.get(name, ())), f"call_{place}")


def _first_of(arguments: Mapping[str, Any], required: Sequence[Any] = ()) -> dict[str, Any]:
    """The first accepted value of each argument; '' is the sign for one that may be left out."""
    firsts = {name: _first(values, name in required) for name, values in arguments.items()}
    return {name: _value(value) for name, value in firsts.items() if value != ""}


def _first(values: Any, is_required: bool) -> Any:
    if not isinstance(values, list) or not values:
        return values
    return next((value for value in values if value != ""), "") if is_required else values[0]


def _value(value: Any) -> Any:
    if isinstance(value, dict):
        return _first_of(value)
    return [_value(item) for item in value] if isinstance(value, list) else value


def _tool(given: object) -> dict[str, Any]:
    function = as_object(given)
    parameters = _schema(as_object(function.get("parameters")))
    named = {"name": _name(as_text(function.get("name"))), "description": as_text(function.get("description"))}
    return {"type": "function", "function": {**named, "parameters": parameters}}


def _schema(value: Any, *, is_names: bool = False) -> Any:
    """`value` with JSON Schema's types; `is_names`: its keys are the names of properties, not words of a schema."""
    if isinstance(value, list):
        return [_schema(item) for item in value]
    if not isinstance(value, dict):
        return value
    made = {}
    for key, inner in value.items():
        if is_names:
            made[key] = _schema(inner)
        elif key == "type" and isinstance(inner, str):
            made[key] = _TYPES.get(inner, inner)
        elif key in ("default", "enum", "description"):
            made[key] = inner
        else:
            made[key] = _schema(inner, is_names=key == "properties")
    return made


def _name(name: str) -> str:
    return re.sub("[^A-Za-z0-9_-]", "_", name)
