"""Reads vectors from files: Parquet or JSON lines with an id and a vector in each row, or an .npz with `ids` and `vectors`."""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from capture.errors import NotFoundError
from curate.likeness.semantic import EmbeddingError, Vectors

ID_COLUMNS = ("id", "exchange_id")
VECTOR_COLUMNS = ("vector", "embedding")


def read_vectors(path: Path) -> tuple[list[str], Vectors]:
    """The ids of `path` and their vectors, one row each. Nothing in the file is executed: an .npz with objects is refused.

    NotFoundError when it is missing, EmbeddingError, naming the row, when it does not hold vectors of one length.
    """
    if not path.is_file():
        raise NotFoundError(
            f"There is no file {path}.", "Name a Parquet, JSONL or .npz file with an id and a vector in each row."
        )
    if path.suffix == ".npz":
        return _from_npz(path)
    return _from_parquet(path) if path.suffix == ".parquet" else _from_lines(path)


def _from_npz(path: Path) -> tuple[list[str], Vectors]:
    if not zipfile.is_zipfile(path):
        raise EmbeddingError(f"{path} cannot be read: it is no .npz archive.", _NEXT)
    try:
        with np.load(path, allow_pickle=False) as file:
            if missing := [name for name in ("ids", "vectors") if name not in file.files]:
                raise EmbeddingError(f"{path} has no array {missing[0]!r} (it has: {', '.join(file.files)}).", _NEXT)
            ids, vectors = file["ids"], file["vectors"]
    except (ValueError, OSError, EOFError, KeyError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise EmbeddingError(f"{path} cannot be read: {str(error)[:200]}", _NEXT) from error
    if ids.ndim != 1 or vectors.ndim != 2 or vectors.dtype.kind not in "fiu" or len(vectors) != len(ids):
        what = f"`vectors` of {path} is an array of {vectors.dtype} and shape {vectors.shape}, `ids` one of shape {ids.shape}."
        raise EmbeddingError(what, "It takes one row of numbers for each id.")
    with np.errstate(over="ignore"):
        made = vectors.astype(np.float32)
    _require_finite(made, range(1, len(made) + 1), path)
    return [str(id) for id in ids.tolist()], made


def _from_parquet(path: Path) -> tuple[list[str], Vectors]:
    import pyarrow
    from pyarrow import parquet

    try:
        names = parquet.read_schema(path).names
        chosen = [_column(names, ID_COLUMNS, path), _column(names, VECTOR_COLUMNS, path)]
        table = parquet.read_table(path, columns=chosen)
    except (pyarrow.ArrowException, OSError) as error:
        raise EmbeddingError(f"{path} cannot be read: {str(error)[:200]}", _NEXT) from error
    ids = [str(id) for id in table.column(chosen[0]).to_pylist()]
    return _stacked(ids, [(row, values.as_py()) for row, values in enumerate(table.column(chosen[1]), 1)], path)


def _from_lines(path: Path) -> tuple[list[str], Vectors]:
    ids: list[str] = []
    rows: list[tuple[int, Any]] = []
    with path.open(encoding="utf-8", errors="replace") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise EmbeddingError(f"Line {number} of {path} is not JSON.", _NEXT) from error
            if not isinstance(row, dict):
                raise EmbeddingError(f"Line {number} of {path} is not an object.", _NEXT)
            ids.append(str(row[_column(list(row), ID_COLUMNS, path)]))
            rows.append((number, row[_column(list(row), VECTOR_COLUMNS, path)]))
    return _stacked(ids, rows, path)


_NEXT = 'A row is {"id": "ex_...", "vector": [0.1, ...]}; an .npz has the arrays ids and vectors.'


def _column(names: Sequence[str], known: Sequence[str], path: Path) -> str:
    found = [name for name in known if name in names]
    if not found:
        raise EmbeddingError(f"{path} has no column {' or '.join(known)} (it has: {', '.join(map(str, names))[:200]}).", _NEXT)
    return found[0]


def _stacked(ids: list[str], rows: Sequence[tuple[int, Any]], path: Path) -> tuple[list[str], Vectors]:
    made = np.zeros((len(rows), len(rows[0][1]) if rows and isinstance(rows[0][1], list) else 0), np.float32)
    for place, (number, values) in enumerate(rows):
        if not isinstance(values, list) or not values or not all(type(value) in (int, float) for value in values):
            raise EmbeddingError(f"Row {number} of {path} has no vector of numbers.", _NEXT)
        if len(values) != made.shape[1]:
            what = f"Row {number} of {path} has {len(values)} dimensions, the first has {made.shape[1]}."
            raise EmbeddingError(what, "Embed all with the same model.")
        with np.errstate(over="ignore"):
            try:
                made[place] = values
            except OverflowError:  # a whole number beyond every float
                made[place] = np.inf
    _require_finite(made, [number for number, _ in rows], path)
    return ids, made


def _require_finite(vectors: Vectors, numbers: Sequence[int], path: Path) -> None:
    wrong = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    if len(wrong):
        what = f"Row {numbers[wrong[0]]} of {path} holds a number that is infinite, none, or too large for 32 bits."
        raise EmbeddingError(what, "Embed its text again.")
