"""Golden sets from files: each row an input with the answer of an expert, in any format that a data set may have.

Rows are cleaned like traffic: personal data is treated as [curate] says, and what cannot be an example is told by its number.
Columns `grade` and `note` are kept.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from capture import clock, openai_chat
from capture.database import Database
from capture.errors import NotEnoughError, NotFoundError
from capture.exchange import COMPLETE, Conversation, Exchange
from capture.imports.imported import LineError
from capture.messages import Message
from capture.offered import read_offered
from capture.progress import Progress, tell_nobody
from curate.cleaning.clean import clean
from curate.formats.entries import entries
from curate.formats.reading import detect, read_row
from curate.golden import Golden, without_prompt
from curate.golden_pins import Pinned, pin
from curate.selection import input_key
from curate.settings import CurateSettings
from curate.tasks.kept_templates import template_versions
from curate.uploads import renamed, with_system

_TELL_EVERY = 100


@dataclass(frozen=True, slots=True)
class GoldenImport:
    """What came of a file: pins, and for every bad row its number and what is wrong with it.

    `without_prompt` are the pins without a system prompt though the task's app writes one.
    """

    pinned: tuple[Pinned, ...]
    bad: tuple[tuple[int, str], ...]
    without_prompt: tuple[str, ...] = ()


def import_golden(
    database: Database, task: str, path: Path, settings: CurateSettings, *, who: str,
    on_progress: Progress = tell_nobody, columns: Mapping[str, str] | None = None, system: str = "",
    tools: Sequence[dict[str, Any]] = (),
) -> GoldenImport:  # fmt: skip
    """Pins every row of `path`; bad ones are reported by number, good ones kept.

    A row that answers an input otherwise than one before it is a bad one, as a whole: which is right is for the expert to say.

    `columns`, `system` and `tools` are as in an upload: a row says and offers here what it does when it is uploaded.
    NotEnoughError, naming the first problem, when no row can be pinned; NotFoundError when there is no such file.
    """
    if not path.is_file():
        raise NotFoundError(f"There is no file {path}.", "Name an existing file.")
    made: dict[str, tuple[Golden, int]] = {}
    bad: list[tuple[int, str]] = []
    size, stage = path.stat().st_size, f"bytes of {path.name}"
    for place, entry in enumerate(entries(path)):
        if place % _TELL_EVERY == 0:
            on_progress(stage, entry.position, size)
        try:
            if entry.problem:
                raise LineError(entry.problem)
            row: dict[str, tuple[Golden, int]] = {}
            for golden in _read(renamed(entry.record, columns or {}), task, settings, who, system, tools):
                first, line = made.get(golden.input_key) or row.setdefault(golden.input_key, (golden, entry.line))
                if first.answer.said != golden.answer.said:
                    raise LineError(f"answers its input otherwise than line {line} does")
            made |= row
        except LineError as error:
            bad.append((entry.line, error.reason))
    on_progress(stage, size, size)
    if not made:
        problem = f" Line {bad[0][0]} {bad[0][1]}." if bad else ""
        raise NotEnoughError(f"{path} has no row that can be pinned.{problem}", "See `potstill dataset golden import --help`.")
    chosen = [made[key][0] for key in sorted(made)]
    templates = template_versions(database, task)
    bare = without_prompt(chosen, templates[-1].template) if templates else []
    return GoldenImport(tuple(pin(database, chosen)), tuple(bad), tuple(one.id for one in bare))


def _read(
    record: Mapping[str, Any], task: str, settings: CurateSettings, who: str, system: str, tools: Sequence[dict[str, Any]]
) -> list[Golden]:
    format = detect(record)
    if not format:
        raise LineError(f"is in no format that we know (columns: {', '.join(map(str, list(record)[:8]))})")
    row = read_row(format, record, {})
    offered = row.tools or tuple(tools)
    grade, note = (str(record.get(name) or "") for name in ("grade", "note"))
    asked = [with_system(taught.asked, system) for taught in row.taught]
    return [
        _golden(turns, taught.answer, offered, task, settings, (grade, who, note))
        for turns, taught in zip(asked, row.taught, strict=True)
    ]


def _golden(
    asked: list[dict[str, Any]], answered: dict[str, Any], tools: tuple[dict[str, Any], ...], task: str, settings: CurateSettings,
    said: tuple[str, str, str],
) -> Golden:  # fmt: skip
    conversation = Conversation(openai_chat.asked({"messages": asked}), None)
    (answer,) = openai_chat.asked({"messages": [answered]})
    offered = read_offered(json.dumps({"tools": list(tools)}).encode("utf-8", "replace"))
    cleaned = clean(_exchange(task), conversation, settings, answer, offered)
    if cleaned.reason:
        raise LineError(f"cannot be an example: {cleaned.reason}")
    key = input_key(conversation.asked, offered.tools)
    target = Message("assistant", cleaned.target, cleaned.calls)
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
