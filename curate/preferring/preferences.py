"""Preference: two answers to one input of which one is better, as it lies in a dataset version's files."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from capture.errors import StoreError
from capture.messages import Message
from capture.offered import Tool
from curate.examples import messages_of, prompt_of, tools_from, tools_of
from curate.freeze import PREFERENCES as PREFERENCES
from curate.freeze import read_file

EDIT, REJECTION, AB, BEST_OF_N, IMPORTED = "edit", "rejection", "ab", "best_of_n", "import"
"""Who preferred: a reviewer's edit over the answer, an answer over one that was rejected, the winner of an A/B test, a judge
among several answers, a data set of the team."""


@dataclass(frozen=True, slots=True)
class Preference:
    """An input (`messages`, the `tools` it offers), the answer to prefer and the one to avoid; `source` says who preferred."""

    id: str
    exchange_id: str
    task: str
    messages: tuple[Message, ...]
    tools: tuple[Tool, ...]
    chosen: Message
    rejected: Message
    source: str
    note: str = ""


def preference_id(exchange_id: str, source: str, number: int = 1) -> str:
    """The id of the `number`th pair that `source` gives for an exchange: `ex_1` prefers as `pr_1_edit_1`."""
    return f"pr_{exchange_id.partition('_')[2]}_{source}_{number}"


def to_line(preference: Preference) -> str:
    """`preference` as one line of JSON, in the prompt, chosen and rejected form of trainers; the task is the file's."""
    row = {
        "id": preference.id,
        "exchange_id": preference.exchange_id,
        "prompt": prompt_of(preference.messages),
        "chosen": prompt_of([preference.chosen]),
        "rejected": prompt_of([preference.rejected]),
        "source": preference.source,
    }
    if preference.tools:
        row["tools"] = tools_of(preference.tools)
    if preference.note:
        row["note"] = preference.note
    return json.dumps(row, ensure_ascii=False, separators=(",", ":"))


def from_line(line: str, task: str) -> Preference:
    """The preference that `to_line` wrote; StoreError when the line is not one."""
    try:
        row = json.loads(line)
        (chosen,), (rejected,) = messages_of(row["chosen"]), messages_of(row["rejected"])
        return Preference(
            row["id"], row["exchange_id"], task, messages_of(row["prompt"]), tools_from(row.get("tools", ())), chosen, rejected,
            row["source"], row.get("note", ""),
        )  # fmt: skip
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        what = f"A line of the preferences of task {task!r} is not a preference: {error!r}."
        raise StoreError(what, "Build the dataset again.") from error


def read_preferences(folder: Path, manifest: Mapping[str, Any], task: str) -> list[Preference]:
    """The preferences of the version in `folder`; StoreError when the file was changed or is gone."""
    if PREFERENCES not in manifest["files"]:
        return []
    return [from_line(line, task) for line in read_file(folder, manifest, PREFERENCES).split("\n") if line]


def erased_preferences(folder: Path, task: str, exchange_ids: Iterable[str]) -> list[Preference]:
    """The preferences in `folder` that were made of these exchanges, whether or not the file is as it was frozen."""
    path, wanted = folder / PREFERENCES, set(exchange_ids)
    lines = path.read_text("utf-8").split("\n") if path.is_file() else []
    return [found for line in lines if line and (found := from_line(line, task)).exchange_id in wanted]
