"""Argilla's records, for people to look at and correct.

A file holds what `Dataset.records.from_json` of Argilla 2 reads: a list of records with fields, suggestions and metadata. The
dataset needs the fields `chat` (ChatField), `messages_json` and `tools_json` (TextField, not required) and the question
`answer` (TextQuestion); the metadata properties are `split` and `teacher`. What comes back may hold responses: the first
response to `answer` goes before the suggestion.
Formats: https://docs.argilla.io/latest/how_to_guides/import_export and https://docs.argilla.io/latest/how_to_guides/record
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from capture.imports.imported import LineError
from capture.imports.values import unpacked
from capture.loose_json import as_list, as_object, compact
from curate.examples import Example, prompt_of, tools_of
from curate.formats.columns import answer_from, answer_text
from curate.formats.row import USER, Row, Taught, text_turn, tools_in, turn


def record_of(example: Example) -> dict[str, Any]:
    """`example` as a record; its target is a suggestion of its teacher."""
    fields: dict[str, Any] = {
        "chat": [{"role": message.role, "content": message.said} for message in example.messages],
        "messages_json": compact(prompt_of(example.messages)),
        "tools_json": compact(tools_of(example.tools)) if example.tools else "",
    }
    return {
        "id": example.id,
        "fields": fields,
        "metadata": {"split": example.split, "teacher": example.teacher_model},
        "suggestions": {"answer": {"value": answer_text(example.answer), "score": None, "agent": example.teacher_model}},
        "responses": {},
        "vectors": {},
    }


def read(record: Mapping[str, Any]) -> Row:
    """The answer of a record, a person's before a suggestion; LineError."""
    fields = as_object(record.get("fields"))
    messages = as_list(unpacked(fields.get("messages_json"))) or as_list(fields.get("chat"))
    if messages:
        asked = tuple(turn(message) for message in messages)
    else:
        given = [value for value in fields.values() if isinstance(value, str) and value]
        if len(given) != 1:
            raise LineError("its fields are neither messages_json, nor a chat, nor a single text")
        asked = (text_turn(USER, given[0]),)
    return Row((Taught(asked, answer_from(_answer(record))),), tools_in(fields.get("tools_json")))


def _answer(record: Mapping[str, Any]) -> str:
    responses, suggestions = as_object(record.get("responses")), as_object(record.get("suggestions"))
    names = ["answer"] if "answer" in responses or "answer" in suggestions else list({**responses, **suggestions})
    if len(names) != 1:
        raise LineError(f"has {len(names)} questions and none is called answer")
    said = [as_object(each).get("value") for each in as_list(responses.get(names[0]))]
    said.append(as_object(suggestions.get(names[0])).get("value"))
    value = next((each for each in said if isinstance(each, str) and each), None)
    if value is None:
        raise LineError(f"has no text as an answer to {names[0]!r}")
    return value
