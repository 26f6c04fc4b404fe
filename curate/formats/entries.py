"""The rows of a file, whatever holds them: JSON lines, a JSON array, CSV, Parquet, or an object with a list for each split."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from capture.errors import NotFoundError
from capture.imports.sources import MOST_BYTES, Entry, read_entries
from curate.formats import parquet
from curate.formats.reading import split_name
from curate.splits import SPLITS

ENDINGS = (".jsonl", ".json", ".csv", ".parquet", ".jsonl.gz", ".json.gz", ".csv.gz")
"""Files that are looked for in a folder."""
_PEEK = 64 * 1024
_FIRST_KEY = re.compile(rb'(?:\xef\xbb\xbf)?\s*\{\s*"([^"\\]{1,100})"\s*:\s*\[')


def files_in(path: Path) -> list[Path]:
    """`path`, or the data files in the folder that it is; NotFoundError when there are none."""
    if not path.is_dir():
        if not path.is_file():
            raise NotFoundError(f"There is no file {path}.", "Name an existing file or folder.")
        return [path]
    found = sorted(each for each in path.rglob("*") if each.is_file() and each.name.lower().endswith(ENDINGS))
    if not found:
        raise NotFoundError(f"{path} has no data files.", f"Files end with {', '.join(ENDINGS)}.")
    return found


def entries(path: Path) -> Iterator[Entry]:
    """The rows of `path` in order; what is damaged is a problem of an entry. The line of a row without lines is its number."""
    if parquet.is_parquet(path):
        yield from _of_parquet(path)
    elif _has_splits(path):
        yield from _of_splits(path)
    else:
        yield from read_entries(path)


def _of_parquet(path: Path) -> Iterator[Entry]:
    number = 0
    try:
        for number, record in enumerate(parquet.rows(path), 1):
            yield Entry(number, 0, record)
    except (OSError, ValueError, RecursionError) as error:  # pyarrow's errors are among these
        yield Entry(number + 1, 0, problem=f"the file cannot be read any further: {str(error)[:200]}")


def _has_splits(path: Path) -> bool:
    """Whether the file is one object with a list for each split: {"train": [["text", "label"], ...], "test": [...]}."""
    with path.open("rb") as file:
        first = _FIRST_KEY.match(file.read(_PEEK))
    if not first or not _is_split(first.group(1).decode("utf-8", "replace")) or path.stat().st_size > MOST_BYTES:
        return False
    value = _parsed(path)
    return isinstance(value, dict) and all(_is_split(name) and isinstance(rows, list) for name, rows in value.items())


def _is_split(name: str) -> bool:
    return split_name(name) in SPLITS


def _of_splits(path: Path) -> Iterator[Entry]:
    number = 0
    for split, rows in _parsed(path).items():
        for row in rows:
            number += 1
            record = dict(enumerate(row)) if isinstance(row, list) else row
            if not isinstance(record, dict):
                yield Entry(number, 0, problem=f"(of {split}) is neither a list nor an object")
                continue
            yield Entry(number, 0, {"split": split, **{str(key): value for key, value in record.items()}})


def _parsed(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes().decode("utf-8-sig", "replace"))
    except (ValueError, RecursionError):
        return None
