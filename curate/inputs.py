"""New inputs to compare with what a version holds: from a file, or captured ones. One at a time, so a file may be of any size."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from capture import feed, openai_chat
from capture.database import Database
from capture.errors import NotFoundError
from capture.filters import Filter, parse_filter, quote
from capture.imports.imported import LineError
from capture.imports.sources import Entry
from capture.imports.values import as_text, pick
from capture.messages import Message
from capture.offered import Tool, tool_from_openai
from capture.progress import Progress
from curate.formats import columns
from curate.formats.entries import entries
from curate.formats.reading import detect, read_row
from curate.formats.row import SYSTEM, tools_in
from curate.tasks.aliases import expand
from curate.uploads import renamed

Input = tuple[Sequence[Message], Sequence[Tool]]
"""Messages, and the tools that they may call."""
_STAGE, _TELL_EVERY, _COUNT_CAP = "compare inputs", 100, 10_000_000


@dataclass(frozen=True, slots=True)
class Asking:
    """What holds for every row of a file: its columns by the names that formats know, the prompt and tools of rows without."""

    columns: Mapping[str, str]
    system: str = ""
    tools: Sequence[dict[str, Any]] = ()


def read_inputs(path: Path, asking: Asking, on_progress: Progress) -> Iterator[tuple[str, Input | str]]:
    """The place of each row of `path` with its input, or with what is wrong with it.

    A place is "line 3", or "line 1, row 2" where a line has several. A row is what `dataset import` reads, or an input alone:
    `{"messages": [...], "tools": [...]}` in OpenAI's form, whose last answer does not count, `{"text": "..."}`, or a column
    with the question. NotFoundError when there is no such file.
    """
    if not path.is_file():
        raise NotFoundError(f"There is no file {path}.", "Name an existing file.")
    size, line = path.stat().st_size, 0
    for place, entry in enumerate(entries(path)):
        if place % _TELL_EVERY == 0:
            on_progress(f"bytes of {path.name}", entry.position, size)
        row = f", row {place + 1}" if entry.line == line else ""
        line = entry.line
        yield f"line {line}{row}", _of_entry(entry, asking)
    on_progress(f"bytes of {path.name}", size, size)


def captured(database: Database, task: str, words: str, on_progress: Progress) -> Iterator[tuple[str, Input | str]]:
    """Id and input of each of the task's captured exchanges that match the filter `words`, or why it has none."""
    chosen = _filter(expand(database, task), words)
    total = feed.count(database, chosen, _COUNT_CAP, longest_s=feed.PATIENT_S)
    for place, (exchange, content) in enumerate(feed.with_readable(database, chosen)):
        if place % _TELL_EVERY == 0:
            on_progress(_STAGE, place, total)
        if content is None:
            yield exchange.id, "is damaged in the store: see potstill verify"
            continue
        conversation, offered = feed.asked_of(exchange, content)
        if conversation.asked:
            yield exchange.id, (conversation.asked, offered.tools)
    on_progress(_STAGE, total, total)


def _filter(tags: Sequence[str], words: str) -> Filter:
    return parse_filter(f"task:{','.join(map(quote, tags))} purpose:app {words}")


def _of_entry(entry: Entry, asking: Asking) -> Input | str:
    try:
        if entry.problem:
            raise LineError(entry.problem)
        messages, tools = _asked(renamed(entry.record, asking.columns))
    except LineError as error:
        return error.reason
    if asking.system and all(message.role not in (SYSTEM, "developer") for message in messages):
        messages = (Message(SYSTEM, asking.system), *messages)
    return messages, tuple(tool_from_openai(tool) for tool in tools or asking.tools)


def _asked(record: Mapping[str, Any]) -> tuple[tuple[Message, ...], Sequence[dict[str, Any]]]:
    """Messages of the last answer that `record` teaches, or of the input that it is, and tools in OpenAI's form; LineError."""
    if isinstance(record.get("messages"), list):
        messages = openai_chat.asked({"messages": record["messages"]})
        if messages and messages[-1].role == "assistant":
            messages = messages[:-1]
        if not messages:
            raise LineError("has no messages")
        return messages, tools_in(record.get("tools"))
    if format := detect(record):
        row = read_row(format, record, {})
        return openai_chat.asked({"messages": list(row.taught[-1].asked)}), row.tools
    question = as_text(pick(record, *columns.INPUTS))
    if not question:
        raise LineError(f"has neither messages nor a question (columns: {', '.join(map(str, list(record)[:8]))})")
    return (Message("user", question),), tools_in(record.get("tools"))
