"""What is erased goes out of every file that was exported, and nothing else does."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from capture.database import Database, open_database
from capture.errors import StoreError
from capture.exported import DATASET, JSONL, Exported, exported
from curate.formats.entries import entries
from curate.formats.erasing import erase_from, is_ours
from curate.formats.exporting import FORMATS, export
from curate.formats.openai import chat_row, to_line
from tests.curate.formats.making import frozen, mixed, preference


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    store = open_database(f"sqlite:///{tmp_path / 'store.db'}")
    yield store
    store.close()


@pytest.mark.parametrize("format", FORMATS)
def test_a_file_loses_exactly_the_rows_of_what_is_erased(format: str, database: Database, tmp_path: Path) -> None:
    given, pairs = mixed(), [preference(1), preference(2)]
    export(database, frozen(tmp_path / "v1", given, pairs), tmp_path / "out", format, skip=True)
    files = exported(database)
    assert files and all(is_ours(file) for file in files)
    gone = [given[0], given[2]]
    before = {file.path: [entry.record for entry in entries(file.path)] for file in files}
    removed = {file.path.stem: erase_from(file, gone, pairs[:1]) for file in files}
    is_pairs = format.endswith("preference")
    kept = {"alpaca": 0}.get(format, len(given) - 2)
    for file in files:
        left = [entry.record for entry in entries(file.path)]
        if file.path.stem == "preferences":
            assert left == before[file.path][1:] and removed["preferences"] == 1
        elif file.path.stem == "train":
            assert len(left) == kept and removed["train"] == (1 if format == "alpaca" else 2)
            assert left == [row for place, row in enumerate(before[file.path]) if place in (1, 3)]
        else:
            assert left == before[file.path] and removed[file.path.stem] == 0
    assert is_pairs == (set(removed) == {"preferences"})


def test_what_was_exported_before_answers_had_weights_is_found(tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    lines = [to_line(chat_row(each, with_weight=False)) for each in mixed()]
    path.write_text("".join(f"{line}\n" for line in lines), "utf-8", newline="\n")
    assert erase_from(Exported(path, DATASET, "mail/v1", 0), mixed()[1:2]) == 1
    assert path.read_text("utf-8") == "".join(f"{line}\n" for line in (lines[0], *lines[2:]))


@pytest.mark.parametrize("format", ["parquet", "parquet-plain", "hf", "csv", "argilla"])
@pytest.mark.parametrize("content", [b"\xff\xfe\x00 somebody's own", b"[{}]", b'{"records": [{"id": 1}]}', b"[" * 100_000])
def test_a_file_in_another_form_is_told_or_left_as_it_is(format: str, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "train.file"
    path.write_bytes(content)
    try:
        assert erase_from(Exported(path, f"{DATASET}:{format}", "", 0), mixed()) == 0
    except StoreError as error:
        assert re.search(rf"{path} cannot be rewritten \(\w+\)", error.what)
    assert path.read_bytes() == content


def test_a_file_that_is_gone_has_nothing_to_lose(tmp_path: Path) -> None:
    assert erase_from(Exported(tmp_path / "gone.csv", f"{DATASET}:csv", "", 0), mixed()) == 0


def test_a_file_of_exchanges_is_not_ours(tmp_path: Path) -> None:
    assert not is_ours(Exported(tmp_path / "x", JSONL, "", 0))
