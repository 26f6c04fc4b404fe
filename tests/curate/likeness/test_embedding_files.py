from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from capture.errors import NotFoundError
from curate.likeness.embedding_files import read_vectors
from curate.likeness.semantic import EmbeddingError

IDS, ROWS = ["ex_1", "ex_2"], [[0.5, 1.0, -2.0], [1.0, 0.0, 0.25]]


def parquet(path: Path, **columns: Any) -> Path:
    import pyarrow
    from pyarrow import parquet as file

    file.write_table(pyarrow.table(columns), path)
    return path


def lines(path: Path, *rows: object) -> Path:
    path.write_text("".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows), "utf-8")
    return path


def test_parquet_json_lines_and_npz_hold_the_same(tmp_path: Path) -> None:
    np.savez(tmp_path / "vectors.npz", ids=np.array(IDS), vectors=np.array(ROWS))
    files = [
        tmp_path / "vectors.npz",
        parquet(tmp_path / "a.parquet", exchange_id=IDS, embedding=ROWS),
        lines(tmp_path / "a.jsonl", *({"id": id, "vector": row} for id, row in zip(IDS, ROWS, strict=True))),
    ]
    for path in files:
        ids, vectors = read_vectors(path)
        assert (ids, vectors.tolist(), vectors.dtype) == (IDS, ROWS, np.float32)


def test_an_empty_file_has_no_vectors(tmp_path: Path) -> None:
    ids, vectors = read_vectors(lines(tmp_path / "a.jsonl"))
    assert ids == [] and len(vectors) == 0


def strange(folder: Path) -> list[tuple[Path, str]]:
    """Files that only look like vectors, and what is said of them."""
    (folder / "empty.npz").write_bytes(b"")
    with (folder / "array.npz").open("wb") as file:
        np.save(file, np.zeros((2, 2)))
    np.savez(folder / "one.npz", ids=np.array("ex_1"), vectors=np.ones((4, 2)))
    np.savez(folder / "nan.npz", ids=np.array(IDS), vectors=np.array([[1.0], [np.nan]]))
    np.savez(folder / "changed.npz", ids=np.array(IDS), vectors=np.array(ROWS))
    data = bytearray((folder / "changed.npz").read_bytes())
    data[60] ^= 0xFF
    (folder / "changed.npz").write_bytes(data)
    numbers = {"digits": "1" + "0" * 400, "large": "1e39", "small": "-1e39", "none": "NaN"}
    files = {name: lines(folder / f"{name}.jsonl", f'{{"id":"ex_1","vector":[0.5,{each}]}}') for name, each in numbers.items()}
    return [
        (folder / "empty.npz", "no .npz archive"),
        (folder / "array.npz", "no .npz archive"),
        (folder / "one.npz", r"`ids` one of shape \(\)"),
        (folder / "nan.npz", "Row 2 .* infinite, none, or too large"),
        (folder / "changed.npz", "cannot be read"),
        (lines(folder / "deep.jsonl", '{"id":"ex_1","vector":' + "[" * 100_000), "Line 1 .* is not JSON"),
        (lines(folder / "yes.jsonl", {"id": "ex_1", "vector": [True, False]}), "Row 1 .* no vector of numbers"),
        *((path, "Row 1 .* infinite, none, or too large") for path in files.values()),
    ]


@pytest.mark.filterwarnings("error")
def test_what_is_no_file_of_vectors_is_refused_with_the_row(tmp_path: Path) -> None:
    good = {"id": "ex_1", "vector": [1, 2]}
    bad = [
        (lines(tmp_path / "a.jsonl", good, "{broken"), "Line 2 .* is not JSON"),
        (lines(tmp_path / "b.jsonl", good, [1]), "Line 2 .* is not an object"),
        (lines(tmp_path / "c.jsonl", good, {"id": "ex_2", "vector": [1]}), "Row 2 .* has 1 dimensions, the first has 2"),
        (lines(tmp_path / "d.jsonl", good, {"id": "ex_2", "vector": ["x", None]}), "Row 2 .* no vector of numbers"),
        (lines(tmp_path / "e.jsonl", {"name": "ex_1", "vector": [1]}), "no column id or exchange_id"),
        (lines(tmp_path / "f.parquet", good), "cannot be read"),
        (lines(tmp_path / "g.npz", good), "cannot be read"),
        (parquet(tmp_path / "h.parquet", id=["ex_1"], vector=["text"]), "Row 1 .* no vector of numbers"),
    ]
    np.savez(tmp_path / "i.npz", ids=np.array(IDS))
    np.savez(tmp_path / "j.npz", ids=np.array(IDS), vectors=np.array([1.0, 2.0]))
    bad += [(tmp_path / "i.npz", "no array 'vectors'"), (tmp_path / "j.npz", r"shape \(2,\)")]
    for path, problem in bad + strange(tmp_path):
        with pytest.raises(EmbeddingError, match=problem):
            read_vectors(path)
    with pytest.raises(NotFoundError, match="missing"):
        read_vectors(tmp_path / "missing.npz")


class Planted:
    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("planted"),))


def test_nothing_in_a_file_is_executed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    np.savez(tmp_path / "vectors.npz", ids=np.array(["ex_1"]), vectors=np.array([[Planted()]], dtype=object))
    with pytest.raises(EmbeddingError, match="cannot be read"):
        read_vectors(tmp_path / "vectors.npz")
    assert not (tmp_path / "planted").exists()
