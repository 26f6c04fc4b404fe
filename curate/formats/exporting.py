"""Writes a dataset version in the formats of others. The same version gives the same bytes."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from capture.database import Database
from capture.errors import GateError, NotEnoughError, SettingsError, StoreError
from capture.exported import DATASET, exported, remember
from capture.progress import Progress, tell_nobody
from curate.datasets import DatasetVersion, load_split
from curate.examples import Example
from curate.formats import alpaca, argilla, columns, hugging_face, openai, parquet, sharegpt, trl
from curate.preferring.preferences import Preference, read_preferences
from curate.splits import SPLITS

OPENAI, OPENAI_PREFERENCE, TRL, TRL_PREFERENCE = "openai", "openai-preference", "trl", "trl-preference"
SHAREGPT, ALPACA, PARQUET, PARQUET_PLAIN, HF, CSV, ARGILLA = (
    "sharegpt", "alpaca", "parquet", "parquet-plain", "hf", "csv", "argilla",
)  # fmt: skip
FORMATS = (OPENAI, OPENAI_PREFERENCE, TRL, TRL_PREFERENCE, SHAREGPT, ALPACA, PARQUET, PARQUET_PLAIN, HF, CSV, ARGILLA)
"""Formats that are written."""
PREFERENCES = "preferences"
HF_CARD = "hf-card"
"""What the README.md of a Hugging Face folder is remembered as. It holds no example."""

ToRow = Callable[[Example], Mapping[str, Any]]
_LINES: Mapping[str, ToRow] = {
    OPENAI: openai.chat_row,
    TRL: trl.completion_row,
    SHAREGPT: sharegpt.row,
    ALPACA: alpaca.row,
}
_PAIRS: Mapping[str, Callable[[Preference], Mapping[str, Any]]] = {
    OPENAI_PREFERENCE: openai.preference_row,
    TRL_PREFERENCE: trl.preference_row,
}
REFUSALS: Mapping[str, Callable[[Example], str]] = {SHAREGPT: sharegpt.refusal, ALPACA: alpaca.refusal}
"""Why a format cannot carry an example, for those that cannot carry all."""


@dataclass(frozen=True, slots=True)
class ExportReport:
    """What was written: rows by file, and how many examples were left out because the format cannot carry them, by reason."""

    format: str
    folder: Path
    files: Mapping[str, int]
    left_out: Mapping[str, int]

    @property
    def rows(self) -> int:
        """How many rows were written."""
        return sum(self.files.values())


def export(
    database: Database,
    version: DatasetVersion,
    out: Path,
    format: str = OPENAI,
    *,
    skip: bool = False,
    force: bool = False,
    on_progress: Progress = tell_nobody,
) -> ExportReport:
    """Writes `version` into folder `out`, a file for each split; the store remembers each, so that an erasure reaches it.

    GateError when the format cannot carry some examples, unless they are to be left out (`skip`), or when it would replace files
    that no export wrote, unless that is wanted (`force`): then nothing is written. NotEnoughError when the format can carry
    none, or when preferences are asked for and the version has none. StoreError when a file cannot be written.
    """
    if format not in FORMATS:
        raise SettingsError(f"There is no format {format!r}.", f"Formats: {', '.join(FORMATS)}.")
    try:
        if not force:
            _require_free(database, out, _names(format))
        return _export(database, version, out, format, on_progress, skip=skip)
    except OSError as error:
        what = f"{error.filename or out} cannot be written: {error.strerror or error}."
        raise StoreError(what, "Name with --out a folder that you may write into, with room for the files.") from error


def _export(database: Database, version: DatasetVersion, out: Path, format: str, tell: Progress, *, skip: bool) -> ExportReport:
    if format in _PAIRS:
        return _export_pairs(database, version, out, format, tell)
    splits, left_out = _carried(version, format, skip=skip)
    counts = {}
    tell("write", 0, len(SPLITS))
    for done, (split, examples) in enumerate(splits.items()):
        name = file_name(format, split)
        _write(database, version, out, name, format, to_bytes(format, examples))
        counts[name] = len(examples)
        tell("write", done + 1, len(SPLITS))
    if format == HF:
        counts |= _complete_folder(database, version, out)
    return ExportReport(format, out, counts, left_out)


def file_name(format: str, split: str) -> str:
    """Where a split lies in the folder of an export."""
    if format == HF:
        return hugging_face.file_name(split)
    endings = {PARQUET: "parquet", PARQUET_PLAIN: "parquet", CSV: "csv", ARGILLA: "json"}
    return f"{split}.{endings.get(format, 'jsonl')}"


def to_bytes(format: str, examples: Sequence[Example]) -> bytes:
    """A file of examples in `format`."""
    if format == CSV:
        return columns.to_csv(examples).encode()
    if format == ARGILLA:
        return records_to_bytes([argilla.record_of(example) for example in examples])
    if format in (PARQUET, HF):
        return parquet.to_bytes(parquet.columns(examples))
    if format == PARQUET_PLAIN:
        return parquet.to_bytes(parquet.plain_columns(examples))
    return "".join(f"{line}\n" for line in to_lines(format, examples)).encode()


def to_lines(format: str, examples: Iterable[Example]) -> list[str]:
    """Examples in a format of JSON lines."""
    return [openai.to_line(_LINES[format](example)) for example in examples]


def pairs_to_lines(format: str, preferences: Iterable[Preference]) -> list[str]:
    """Preferences in a format of JSON lines."""
    return [openai.to_line(_PAIRS[format](preference)) for preference in preferences]


def records_to_bytes(records: Sequence[Mapping[str, Any]]) -> bytes:
    """A list of records as JSON, one on each line."""
    lines = ",\n".join(json.dumps(record, ensure_ascii=False, separators=(",", ":")) for record in records)
    return f"[\n{lines}\n]\n".encode()


def replace_file(path: Path, data: bytes) -> None:
    """Writes `data` beside `path` and renames it into place, with the rights that the file had."""
    part = path.with_name(f".{path.name}.part")
    with part.open("wb") as file:
        if path.is_file():
            os.fchmod(file.fileno(), path.stat().st_mode & 0o777)
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def _carried(version: DatasetVersion, format: str, *, skip: bool) -> tuple[dict[str, list[Example]], dict[str, int]]:
    """The examples of each split that `format` can carry, and how many it cannot, by reason."""
    refusal = REFUSALS.get(format, _carries_all)
    splits: dict[str, list[Example]] = {}
    left_out: Counter[str] = Counter()
    total = 0
    for split in SPLITS:
        reasons = [(example, refusal(example)) for example in load_split(version, split)]
        total += len(reasons)
        left_out.update(reason for _, reason in reasons if reason)
        splits[split] = [example for example, reason in reasons if not reason]
    if left_out and not skip:
        told = ", ".join(f"{count} {reason}" for reason, count in sorted(left_out.items()))
        raise GateError(
            f"{format} cannot carry {left_out.total()} of the {total} examples of {version.task}/v{version.number}: {told}.",
            f"Export them as {OPENAI}, {TRL} or {HF}, or leave them out with --skip.",
        )
    if left_out and not any(splits.values()):
        raise NotEnoughError(
            f"{format} can carry none of the {total} examples of {version.task}/v{version.number}.",
            f"Export them as {OPENAI}, {TRL} or {HF}.",
        )
    return splits, dict(left_out)


def _export_pairs(database: Database, version: DatasetVersion, out: Path, format: str, tell: Progress) -> ExportReport:
    pairs = read_preferences(version.folder, version.manifest, version.task)
    if not pairs:
        raise NotEnoughError(
            f"{version.task}/v{version.number} has no preferences.",
            "They come from edits, rejections, A/B tests, relabelling and imported pairs: build the dataset again after these.",
        )
    name = f"{PREFERENCES}.jsonl"
    tell("write", 0, 1)
    data = "".join(f"{line}\n" for line in pairs_to_lines(format, pairs)).encode()
    _write(database, version, out, name, format, data)
    tell("write", 1, 1)
    return ExportReport(format, out, {name: len(pairs)}, {})


def _complete_folder(database: Database, version: DatasetVersion, out: Path) -> dict[str, int]:
    """Preferences, where there are any, and the card of a Hugging Face data set. Without any, those of an earlier export go."""
    pairs = read_preferences(version.folder, version.manifest, version.task)
    written = {}
    name = hugging_face.file_name(PREFERENCES)
    if pairs:
        data = parquet.to_bytes(parquet.preference_columns(pairs))
        _write(database, version, out, name, f"{HF}-{PREFERENCES}", data)
        written[name] = len(pairs)
    elif (out / name).resolve() in _ours(database):
        (out / name).unlink(missing_ok=True)
    card = hugging_face.card(version.task, version.number, version.hash, has_preferences=bool(pairs))
    _write(database, version, out, hugging_face.CARD, HF_CARD, card.encode())
    return written


def _names(format: str) -> list[str]:
    """Every file that an export may write."""
    if format in _PAIRS:
        return [f"{PREFERENCES}.jsonl"]
    more = [hugging_face.file_name(PREFERENCES), hugging_face.CARD] if format == HF else []
    return [*(file_name(format, split) for split in SPLITS), *more]


def _require_free(database: Database, out: Path, names: Iterable[str]) -> None:
    """GateError where one of these files is there and no export wrote it."""
    ours = _ours(database)
    foreign = [str(out / name) for name in names if os.path.lexists(out / name) and (out / name).resolve() not in ours]
    if foreign:
        what = f"No export wrote what would be replaced: {', '.join(foreign)}."
        raise GateError(what, "Name another folder with --out, or replace the files with --force.")


def _ours(database: Database) -> set[Path]:
    """The files that exports wrote."""
    return {file.path for file in exported(database)}


def _write(database: Database, version: DatasetVersion, out: Path, name: str, format: str, data: bytes) -> None:
    path = out / name
    path.parent.mkdir(parents=True, exist_ok=True)
    remember(database, path, f"{DATASET}:{format}", f"{version.task}/v{version.number}")
    replace_file(path, data)


def _carries_all(_example: Example) -> str:
    return ""
