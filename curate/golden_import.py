"""Golden sets from files: each row an input with the answer of an expert, in any format that a data set may have.

Rows are cleaned like traffic: personal data is treated as [curate] says, and what cannot be an example is told by its number.
Columns `grade` and `note` are kept.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from capture import clock, openai_chat
from capture.database import Database
from capture.errors import NotEnoughError, NotFoundError
from capture.exchange import COMPLETE, Conversation, Exchange
from capture.imports.imported import LineError
from capture.offered import read_offered
from capture.progress import Progress, tell_nobody
from curate.cleaning.clean import clean
from curate.formats.entries import entries
from curate.formats.reading import detect, read_row
from curate.formats.row import Row, Taught
from curate.golden import Golden
from curate.golden_pins import Pinned, pin
from curate.selection import input_key
from curate.settings import CurateSettings
from curate.uploads import renamed

_TELL_EVERY = 100


@dataclass(frozen=True, slots=True)
class GoldenImport:
    """What came of a file: pins, and for every bad row its number and what is wrong with it."""

    pinned: tuple[Pinned, ...]
    bad: tuple[tuple[int, str], ...]


def import_golden(
    database: Database, task: str, path: Path, settings: CurateSettings, *, who: str,
    on_progress: Progress = tell_nobody, columns: Mapping[str, str] | None = None,
) -> GoldenImport:  # fmt: skip
    """Pins every row of `path`; bad ones are reported by number, good ones kept.

    A row that answers an input otherwise than one before it is a bad one: which is right is for the expert to say.

    `columns` gives columns the names that formats know, as in an upload: {"input": "utterance"}.
    NotEnoughError, naming the first problem, when no row can be pinned; NotFoundError when there is no such file.
    """
    if not path.is_file():
        raise NotFoundError(f"There is no file {path}.", "Name an existing file.")
    made: dict[str, tuple[Golden, int]] = {}
    bad: list[tuple[int, str]] = []
    size = path.stat().st_size
    for place, entry in enumerate(entries(path)):
        if place % _TELL_EVERY == 0:
            on_progress("read rows", entry.position, size)
        try:
            if entry.problem:
                raise LineError(entry.problem)
            for golden in _read(renamed(entry.record, columns or {}), task, settings, who):
                first = made.setdefault(golden.input_key, (golden, entry.line))
                if first[0].answer.said != golden.answer.said:
                    raise LineError(f"answers its input otherwise than line {first[1]} does")
        except LineError as error:
            bad.append((entry.line, error.reason))
    on_progress("read rows", size, size)
    if not made:
        problem = f" Line {bad[0][0]} {bad[0][1]}." if bad else ""
        raise NotEnoughError(f"{path} has no row that can be pinned.{problem}", "See `potstill dataset golden import --help`.")
    return GoldenImport(tuple(pin(database, [made[key][0] for key in sorted(made)])), tuple(bad))


def _read(record: Mapping[str, Any], task: str, settings: CurateSettings, who: str) -> list[Golden]:
    format = detect(record)
    if not format:
        raise LineError(f"is in no format that we know (columns: {', '.join(map(str, list(record)[:8]))})")
    row = read_row(format, record, {})
    grade, note = (str(record.get(name) or "") for name in ("grade", "note"))
    return [_golden(row, taught, task, settings, (grade, who, note)) for taught in row.taught]


def _golden(row: Row, taught: Taught, task: str, settings: CurateSettings, said: tuple[str, str, str]) -> Golden:
    conversation = Conversation(openai_chat.asked({"messages": list(taught.asked)}), None)
    (answer,) = openai_chat.asked({"messages": [taught.answer]})
    offered = read_offered(json.dumps({"tools": list(row.tools)}).encode("utf-8", "replace"))
    cleaned = clean(_exchange(task), conversation, settings, answer, offered)
    if cleaned.reason:
        raise LineError(f"cannot be an example: {cleaned.reason}")
    key = input_key(conversation.asked, offered.tools)
    target = type(answer)("assistant", cleaned.target, cleaned.calls)
    grade, who, note = said
    return Golden(task, key, "", cleaned.messages, cleaned.tools, target, grade, who, note, clock.now_us())


def _exchange(task: str) -> Exchange:
    """What a row of a file is as an exchange, so that it is cleaned by the same rules."""
    return Exchange(
        number=0, id="", started_us=0, ended_us=0, method="POST", path="/v1/chat/completions", query="", protocol="openai",
        purpose="app", task=task, unit="", unit_source="", user_name="", session_name="", environment="", tags={}, model_asked="",
        model_served="", upstream="", variant="", release_id="", flag_revision=0, fallback_reason="", is_stream=False, status=200,
        state=COMPLETE, error_kind="", error_message="", finish_reason="stop", latency_us=None, first_byte_us=None,
        overhead_us=None, tokens_in=None, tokens_out=None, tokens_cached=0, tokens_cache_written=0, tokens_reasoning=0,
        usage_source="", cost_microusd=None, input_hash="", output_text="", content="", body_bytes=0, redactions=0,
    )  # fmt: skip
