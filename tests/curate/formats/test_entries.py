"""Rows come out of every kind of file, and damage is told by its place."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from capture.errors import NotFoundError
from curate.formats import parquet
from curate.formats.entries import entries, files_in
from tests.curate.formats.making import mixed, refused

ROWS = [{"text": "a", "label": "x"}, {"text": "b\nc", "label": "y"}]


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("rows.jsonl", "".join(json.dumps(row) + "\n" for row in ROWS).encode()),
        ("rows.json", json.dumps(ROWS, indent=2).encode()),
        ("rows.csv", b'text,label\na,x\n"b\nc",y\n'),
        ("rows.csv.gz", gzip.compress(b'text,label\na,x\n"b\nc",y\n', mtime=0)),
    ],
)
def test_lines_arrays_and_csv_give_the_same_rows(name: str, data: bytes, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    assert [entry.record for entry in entries(path)] == ROWS


def test_an_object_with_a_list_for_each_split_gives_its_rows_with_their_split(tmp_path: Path) -> None:
    path = tmp_path / "data.json"
    path.write_text(json.dumps({"oos_train": [["hi", "oos"]], "test": [{"text": "b"}, 7]}, indent=1), "utf-8")
    found = list(entries(path))
    assert [entry.record for entry in found[:2]] == [
        {"split": "oos_train", "0": "hi", "1": "oos"},
        {"split": "test", "text": "b"},
    ]
    assert (found[2].line, found[2].problem) == (3, "(of test) is neither a list nor an object")


def test_a_single_chat_is_not_taken_for_a_file_of_splits(tmp_path: Path) -> None:
    path = tmp_path / "chat.jsonl"
    path.write_text('{"messages": [{"role": "user", "content": "x"}]}\n', "utf-8")
    assert [list(entry.record) for entry in entries(path)] == [["messages"]]


def test_parquet_without_json_columns_loses_the_nulls_that_arrow_put_there(tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    path = tmp_path / "other.parquet"
    tools = [[{"name": "a", "properties": {"x": "1"}}], [{"name": "b", "properties": {"y": "2"}}]]
    pyarrow.parquet.write_table(pyarrow.table({"tools": tools, "text": ["p", None]}), path)
    assert [entry.record for entry in entries(path)] == [{"tools": tools[0], "text": "p"}, {"tools": tools[1]}]


@pytest.mark.parametrize("damage", ["[" * 100_000, "nonsense", None])
def test_damage_in_a_json_column_of_parquet_costs_its_row_only(damage: str | None, tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    good = '[{"role":"user","content":"Hi"},{"role":"assistant","content":"Hello"}]'
    path = tmp_path / "damaged.parquet"
    chats = pyarrow.array([good, damage, good], pyarrow.json_(pyarrow.string()))
    lists = pyarrow.array([[0], [0], [0]])
    turns = pyarrow.ExtensionArray.from_storage(
        pyarrow.json_(pyarrow.string()), pyarrow.array(['{"a":1}', damage, '{"a":1}'], pyarrow.string())
    )
    tools = pyarrow.ListArray.from_arrays(lists.offsets, turns)
    pyarrow.parquet.write_table(pyarrow.table({"messages": chats, "tools": tools}), path)
    first, bad, last = entries(path)
    assert first.record == last.record == {"messages": json.loads(good), "tools": [{"a": 1}]} and not bad.problem
    assert refused("openai", bad.record) == "its tools are not a list of objects"


def test_a_cut_parquet_file_is_told(tmp_path: Path) -> None:
    path = tmp_path / "cut.parquet"
    path.write_bytes(parquet.to_bytes(parquet.columns(mixed()))[:-9])
    (entry,) = entries(path)
    assert entry.line == 1 and entry.problem.startswith("the file cannot be read any further")


def test_a_place_without_data_is_told(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="There is no file"):
        files_in(tmp_path / "none.csv")
    with pytest.raises(NotFoundError, match="has no data files"):
        files_in(tmp_path)


def test_a_table_with_two_columns_of_one_name_is_refused_at_its_first_line(tmp_path: Path) -> None:
    path = tmp_path / "twice.csv"
    path.write_text("text,label,label\na,b,c\n", "utf-8")
    (entry,) = entries(path)
    assert entry.line == 1 and entry.problem.startswith("has several columns 'label'")
    path.write_text("text,label,,\na,b,c,\n", "utf-8")
    assert [(entry.record["label"], entry.problem) for entry in entries(path)] == [("b", "")], "no name is no name twice"
