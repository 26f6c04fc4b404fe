"""Reading log files: lines, arrays and CSV, whole and damaged."""

from __future__ import annotations

import gzip
import io
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capture.errors import NotFoundError
from capture.imports import sources
from capture.imports.json_stream import pieces
from capture.imports.sources import Entry, read_entries

ROWS: list[dict[str, Any]] = [
    {"id": 1, "text": 'a "quoted", [odd] {text} \\'},
    {"id": 2, "inner": {"list": [1, [2, {}]]}},
    {"id": 3},
]


def write(folder: Path, text: str | bytes, name: str = "log") -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def records(path: Path) -> list[dict[str, Any]]:
    return [entry.record for entry in read_entries(path) if not entry.problem]


def problems(path: Path) -> list[tuple[int, str]]:
    return [(entry.line, entry.problem) for entry in read_entries(path) if entry.problem]


@pytest.mark.parametrize(
    "text",
    [
        "\n".join(map(json.dumps, ROWS)),
        "\ufeff" + "\r\n\r\n".join(map(json.dumps, ROWS)) + "\r\n",
        json.dumps(ROWS),
        json.dumps(ROWS, indent=2),
        json.dumps({"data": ROWS, "meta": {"page": 1, "items": [4, 5]}}),
        json.dumps({"data": ROWS}, indent=1),
    ],
    ids=["lines", "lines with a mark and empty ones", "array", "indented array", "data", "indented data"],
)
def test_records_are_found_in_lines_arrays_and_under_data(tmp_path: Path, text: str) -> None:
    assert records(write(tmp_path, text)) == ROWS
    assert records(write(tmp_path, gzip.compress(text.encode()), "packed")) == ROWS


def test_a_bad_line_is_told_by_number_and_the_others_are_kept(tmp_path: Path) -> None:
    path = write(tmp_path, '{"id":1}\n\nnot json\n[1]\n{"id":2}\n{"id":')
    assert records(path) == [{"id": 1}, {"id": 2}]
    found = problems(path)
    assert [line for line, _ in found] == [3, 4, 6]
    assert found[1][1] == "is not an object"


def test_an_element_of_an_array_is_told_by_the_line_it_begins_on(tmp_path: Path) -> None:
    assert [entry.line for entry in read_entries(write(tmp_path, json.dumps(ROWS, indent=2)))] == [2, 6, 18]
    path = write(tmp_path, '[\n{"id":1},\n{"id":,},\n{"id":3}]')
    assert [line for line, _ in problems(path)] == [3]
    assert records(path) == [{"id": 1}, {"id": 3}]


def test_an_array_that_ends_early_gives_what_is_whole(tmp_path: Path) -> None:
    path = write(tmp_path, json.dumps(ROWS)[:-6])
    assert records(path) == ROWS[:2]
    assert "the file ends within it" in problems(path)[0][1]


def test_csv_gives_objects_of_texts(tmp_path: Path) -> None:
    path = write(tmp_path, 'id,text\n1,"two\nlines, ""quoted"""\n2,plain\n')
    assert records(path) == [{"id": "1", "text": 'two\nlines, "quoted"'}, {"id": "2", "text": "plain"}]
    assert [entry.line for entry in read_entries(path)] == [2, 4]


def test_a_csv_row_with_too_many_fields_is_told(tmp_path: Path) -> None:
    path = write(tmp_path, "id,text\n1,a,b\n2,c\n")
    assert problems(path) == [(2, "has 3 fields under 2 columns")]
    assert records(path) == [{"id": "2", "text": "c"}]


def test_a_line_and_a_field_beyond_the_limit_are_told_and_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "MOST_BYTES", 1000)
    monkeypatch.setattr(sources, "MOST_CSV_BYTES", 1000)
    long = json.dumps({"text": "x" * 5000})
    lines = write(tmp_path, f'{{"id":1}}\n{long}\n{{"id":2}}\n')
    assert records(lines) == [{"id": 1}, {"id": 2}]
    assert [line for line, _ in problems(lines)] == [2]
    array = write(tmp_path, f'[{{"id":1}},{long},{{"id":2}}]')
    assert records(array) == [{"id": 1}, {"id": 2}]
    assert len(problems(array)) == 1
    never_closed = write(tmp_path, 'id,text\n1,ok\n2,"' + "many words\n" * 400)
    assert records(never_closed)[0] == {"id": "1", "text": "ok"}
    assert "larger than field limit" in problems(never_closed)[0][1]


def test_a_csv_of_countless_columns_is_refused(tmp_path: Path) -> None:
    assert problems(write(tmp_path, "a" + "," * 2000 + "\n1,2\n")) == [(1, "has 2001 columns, more than 1000")]


def test_a_cut_gzip_gives_what_could_be_unpacked(tmp_path: Path) -> None:
    packed = gzip.compress("\n".join(json.dumps({"id": n, "noise": str(hash(n))}) for n in range(5000)).encode())
    path = write(tmp_path, packed[: len(packed) // 2])
    assert len(records(path)) > 100
    assert any("cannot be read any further" in problem for _, problem in problems(path))


def test_utf_16_is_named(tmp_path: Path) -> None:
    assert problems(write(tmp_path, '{"id":1}'.encode("utf-16"))) == [(1, "is not UTF-8 text; convert the file first")]


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"missing\.jsonl"):
        list(read_entries(tmp_path / "missing.jsonl"))


def test_an_empty_file_has_no_records(tmp_path: Path) -> None:
    assert list(read_entries(write(tmp_path, ""))) == []


values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=10,
)


@settings(max_examples=200, deadline=None)
@given(rows=st.lists(values, max_size=6), indent=st.sampled_from([None, 1]), step=st.integers(1, 40))
def test_an_array_is_cut_alike_however_it_arrives(rows: list[Any], indent: int | None, step: int) -> None:
    stream = io.BytesIO(json.dumps(rows, indent=indent).encode())
    found = [piece.data for piece in pieces(lambda _size: stream.read(step), 1, 10_000)]
    assert [json.loads(data or b"") for data in found] == rows


@settings(max_examples=300, deadline=None)
@given(data=st.binary(max_size=200), start=st.sampled_from([b"", b"[", b'{"data":[', b"{", b"id,text\n", b"\x1f\x8b\x08"]))
def test_any_bytes_give_entries_and_no_exception(tmp_path_factory: pytest.TempPathFactory, data: bytes, start: bytes) -> None:
    path = tmp_path_factory.mktemp("any") / "log"
    path.write_bytes(start + data)
    assert all(isinstance(entry, Entry) for entry in read_entries(path))
