"""Flat rows: CSV, and whatever else has a column for the question and one for the answer.

What we write is safe to open in a spreadsheet: a cell that it would take for a formula gets an apostrophe in front, as OWASP
advises (https://owasp.org/www-community/attacks/CSV_Injection), and loses it when it is read again.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from capture.imports.imported import LineError
from capture.imports.values import unpacked
from capture.loose_json import as_list, as_object, compact
from capture.messages import Message
from curate.examples import Example, prompt_of, tools_of
from curate.formats.row import ASSISTANT, SYSTEM, USER, Row, Taught, conversation, one_answer, text_turn, tools_in, turn

OWN = ("input", "answer", "messages_json", "tools_json")
"""The columns that we write. `input` is for people: the last question; `messages_json` is the whole input."""
INPUTS = ("input", "text", "question", "instruction", "prompt", "query", "utterance", "sentence", "x", "0")
ANSWERS = ("answer", "label", "category", "output", "completion", "response", "target", "intent", "y", "1")
"""Names of the columns with question and answer, the first that is there counting."""
_MOST_EXACT = 2.0**53
_FORMULA = re.compile("'*[=+\\-@\t\r\n＝＋－＠]")


def to_csv(examples: Iterable[Example]) -> str:
    """Examples as CSV in UTF-8: a header, every field in quotes, lines of a text inside its field."""
    return write_cells([OWN, *([safe(cell) for cell in row(example)] for example in examples)])


def write_cells(rows: Iterable[Sequence[str]]) -> str:
    """Rows of cells as they are, in the form of `to_csv`."""
    out = io.StringIO()
    csv.writer(out, quoting=csv.QUOTE_ALL, lineterminator="\n").writerows(rows)
    return out.getvalue()


def row(example: Example) -> tuple[str, ...]:
    """The cells of `example`, not yet safe."""
    asked = next((message.text for message in reversed(example.messages) if message.role == USER), "")
    tools = compact(tools_of(example.tools)) if example.tools else ""
    return asked, answer_text(example.answer), compact(prompt_of(example.messages)), tools


def safe(cell: str) -> str:
    """`cell` so that no spreadsheet takes it for a formula."""
    return f"'{cell}" if _FORMULA.match(cell) else cell


def unsafe(cell: str) -> str:
    """The cell that `safe` was given."""
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell


def answer_text(answer: Message) -> str:
    """`answer` as one text: its words, or the whole message as JSON where it calls tools (or reads as if it were one)."""
    is_plain = not answer.tool_calls and _as_message(answer.text) is None
    return answer.text if is_plain else compact(prompt_of([answer])[0])


def answer_from(text: str) -> dict[str, Any]:
    """The answer that `answer_text` wrote."""
    return turn(_as_message(text) or text_turn(ASSISTANT, text))


def read(record: Mapping[str, Any]) -> Row:
    """The answer of a flat row; LineError."""
    if "messages_json" in record:
        return _read_own(record)
    asked, answer = _cell(record, INPUTS, "question"), _cell(record, ANSWERS, "answer")
    system = [text_turn(SYSTEM, record["system"])] if record.get("system") else []
    tools = tools_in(record.get("tools"))
    return Row((Taught((*system, text_turn(USER, asked)), one_answer(answer, "")),), tools)


def _read_own(record: Mapping[str, Any]) -> Row:
    messages = unpacked(record["messages_json"])
    tools = tools_in(record.get("tools_json"))
    if "answer" not in record:
        return Row(conversation(messages), tools)
    answer = record["answer"]
    if not isinstance(answer, str):
        raise LineError("its answer is not a text")
    asked = tuple(turn(message) for message in as_list(messages))
    if not asked:
        raise LineError("its messages_json holds no messages")
    return Row((Taught(asked, answer_from(unsafe(answer))),), tools)


def _cell(record: Mapping[str, Any], names: Iterable[str], what: str) -> str:
    value = next((record[name] for name in names if record.get(name) is not None), None)
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        there = ", ".join(list(record)[:8])
        raise LineError(f"has no column with the {what} (columns: {there}); name it with --column")
    if value == "":
        raise LineError(f"its {what} is empty")
    if isinstance(value, float):
        return _written(value, what)
    return str(value)


def _written(value: float, what: str) -> str:
    """A number of a column that others read as floats: `1.0` was 1 before a table with gaps made floats of its whole numbers."""
    if not math.isfinite(value):
        raise LineError(f"its {what} is {value}, which is no value")
    return str(int(value)) if value.is_integer() and abs(value) < _MOST_EXACT else str(value)


def _as_message(text: str) -> dict[str, Any] | None:
    if not text.startswith('{"role":"assistant"'):
        return None
    found = as_object(unpacked(text))
    return found if found.get("role") == ASSISTANT and "content" in found else None
