"""Which format a row of a team's own data set is in, and what it teaches."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from capture.imports.imported import LineError
from capture.imports.values import as_text, pick
from capture.loose_json import as_object
from curate.formats import alpaca, argilla, bfcl, columns, openai, sharegpt, trajectories, trl
from curate.formats.row import Row, require_room_for_tools

OPENAI, OPENAI_PREFERENCE, TRL, SHAREGPT, ALPACA = "openai", "openai-preference", "trl", "sharegpt", "alpaca"
CSV, PARQUET, ARGILLA, TRAJECTORIES, BFCL = "csv", "parquet", "argilla", "trajectories", "bfcl"
FORMATS = (OPENAI, OPENAI_PREFERENCE, TRL, SHAREGPT, ALPACA, CSV, PARQUET, ARGILLA, TRAJECTORIES, BFCL)
"""Formats that are read. Rows of csv are flat; those of parquet are in any of the others."""

_SCORES = ("reward", "score")
_SPLITS = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "dev": "val", "test": "test"}
_READ: Mapping[str, Callable[[Mapping[str, Any]], Row]] = {
    OPENAI: openai.read_chat,
    OPENAI_PREFERENCE: openai.read_preference,
    TRL: trl.read,
    SHAREGPT: sharegpt.read,
    ALPACA: alpaca.read,
    CSV: columns.read,
    ARGILLA: argilla.read,
    TRAJECTORIES: trajectories.read,
}


def detect(record: Mapping[str, Any]) -> str:
    """The format that `record` is in; '' when it is none of ours."""
    has = record.keys().__contains__
    if isinstance(record.get("input"), dict) and has("preferred_output"):
        return OPENAI_PREFERENCE
    if has("chosen") and has("rejected"):
        return TRL
    if has("conversations"):
        return SHAREGPT
    if has("traj"):
        return TRAJECTORIES
    if has("ground_truth") or (has("question") and has("function")):
        return BFCL
    if isinstance(record.get("fields"), dict):
        return ARGILLA
    if has("messages"):
        return OPENAI
    if has("prompt") and has("completion"):
        return TRL
    if has("instruction") and has("output"):
        return ALPACA
    is_flat = has("messages_json") or any(map(has, columns.INPUTS))
    return CSV if is_flat and (has("messages_json") or any(map(has, columns.ANSWERS))) else ""


def read_row(format: str, record: Mapping[str, Any], gold: Mapping[str, Sequence[Any]]) -> Row:
    """What `record` teaches; LineError, whatever it holds. `gold` are the calls that answer BFCL's questions, by id."""
    try:
        found = bfcl.read(record, gold) if format == BFCL else _READ[format](record)
    except RecursionError as error:
        raise LineError("is nested too deep") from error
    require_room_for_tools(found)
    given = {**as_object(record.get("metadata")), **record}
    scores = {name: float(given[name]) for name in _SCORES if _is_number(given.get(name))}
    return replace(
        found,
        id=found.id or as_text(pick(record, "id")),
        split=found.split or split_name(as_text(pick(given, "split", "subset", "part"))),
        terms=as_text(pick(given, "terms", "license", "licence")),
        scores={**scores, **found.scores},
    )


def split_name(text: str) -> str:
    """train, val or test where `text` names one of them (`oos_train`, `validation`, `test-00000-of-00001`), else `text`."""
    names = [_SPLITS[word] for word in re.split("[^a-z]+", text.lower()) if word in _SPLITS]
    return names[0] if names else text


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e15
