"""What is exported says the same when it is read again, and other tools read it too."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings

from capture.database import Database, open_database
from capture.errors import GateError, NotEnoughError, SettingsError, StoreError
from capture.exported import exported
from curate.examples import Example, prompt_of, tools_of
from curate.formats import alpaca, argilla, columns, openai, sharegpt, trl
from curate.formats.entries import entries, files_in
from curate.formats.erasing import erase_from
from curate.formats.exporting import FORMATS, export
from curate.formats.reading import detect, read_row
from curate.formats.row import Row
from tests.curate.formats.making import ASKED, TEST, VAL, WEATHER, example, examples, frozen, mixed, preference, read, said

PREFERENCES = ("openai-preference", "trl-preference")


@pytest.fixture
def database(tmp_path: Path) -> Database:
    store = open_database(f"sqlite:///{tmp_path / 'store.db'}")
    yield store
    store.close()


def assert_teaches(row: Row, given: Example, *, with_tools: bool = True) -> None:
    (taught,) = row.taught
    assert said(taught.asked) == said(prompt_of(given.messages))
    assert said([taught.answer]) == said(prompt_of([given.answer]))
    if with_tools:
        assert list(row.tools) == tools_of(given.tools)


@settings(max_examples=50)
@given(examples())
def test_a_chat_of_openai_comes_back_as_it_was(given: Example) -> None:
    assert_teaches(read("openai", openai.chat_row(given)), given)


@settings(max_examples=50)
@given(examples())
def test_prompt_and_completion_of_trl_come_back_as_they_were(given: Example) -> None:
    assert_teaches(read("trl", trl.completion_row(given)), given)


@settings(max_examples=50)
@given(examples(beside_calls=False))
def test_a_conversation_of_sharegpt_comes_back_as_it_was(given: Example) -> None:
    assert sharegpt.refusal(given) == ""
    assert_teaches(read("sharegpt", sharegpt.row(given)), given)


@settings(max_examples=50)
@given(examples())
def test_sharegpt_carries_an_example_whole_or_refuses_it(given: Example) -> None:
    if not sharegpt.refusal(given):
        assert_teaches(read("sharegpt", sharegpt.row(given)), given)


@settings(max_examples=50)
@given(examples())
def test_alpaca_carries_an_example_whole_or_refuses_it(given: Example) -> None:
    if not alpaca.refusal(given):
        assert_teaches(read("alpaca", alpaca.row(given)), given)


@settings(max_examples=50)
@given(examples())
def test_a_record_of_argilla_comes_back_as_it_was(given: Example) -> None:
    assert_teaches(read("argilla", argilla.record_of(given)), given)


@settings(max_examples=50)
@given(examples())
def test_cells_of_csv_come_back_as_they_were(given: Example) -> None:
    cells = [columns.safe(cell) for cell in columns.row(given)]
    assert not any(cell.startswith(("=", "+", "-", "@", "\t", "\r", "\n")) for cell in cells)
    assert_teaches(read("csv", dict(zip(columns.OWN, cells, strict=True))), given)


@pytest.mark.parametrize("format", [name for name in FORMATS if name not in (*PREFERENCES, "alpaca")])
def test_every_format_is_recognised_and_gives_the_examples_back(format: str, database: Database, tmp_path: Path) -> None:
    given = mixed()
    version = frozen(tmp_path / "v1", given)
    first = export(database, version, tmp_path / "out", format)
    assert first.rows == len(given) + 2 and not first.left_out
    for name, want in zip(first.files, (given, [VAL], [TEST]), strict=True):
        found = [(entry.problem, entry.record) for entry in entries(tmp_path / "out" / name)]
        assert len(found) == len(want)
        for (problem, record), each in zip(found, want, strict=True):
            assert problem == ""
            assert_teaches(read_row(detect(record), record, {}), each)
    export(database, version, tmp_path / "again", format)
    for name in first.files:
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "again" / name).read_bytes()
    remembered = {file.path: file.filter for file in exported(database)}
    assert all(remembered[(tmp_path / "out" / name).resolve()] == "mail/v1" for name in first.files)


@pytest.mark.parametrize("format", PREFERENCES)
def test_preferences_are_recognised_and_come_back(format: str, database: Database, tmp_path: Path) -> None:
    pairs = [preference(1), preference(2, (WEATHER,))]
    report = export(database, frozen(tmp_path / "v1", mixed(), pairs), tmp_path / "out", format)
    assert report.files == {"preferences.jsonl": 2}
    for entry, pair in zip(entries(tmp_path / "out" / "preferences.jsonl"), pairs, strict=True):
        row = read_row(detect(entry.record), entry.record, {})
        (taught,) = row.taught
        assert said(taught.asked) == said(prompt_of([ASKED])) and list(row.tools) == tools_of(pair.tools)
        assert (taught.answer["content"], (taught.rejected or {})["content"]) == (pair.chosen.text, pair.rejected.text)


def test_a_version_without_preferences_says_where_they_come_from(database: Database, tmp_path: Path) -> None:
    with pytest.raises(NotEnoughError, match="has no preferences"):
        export(database, frozen(tmp_path / "v1", mixed()), tmp_path / "out", "trl-preference")


def test_alpaca_is_refused_with_a_count_or_leaves_out_with_a_count(database: Database, tmp_path: Path) -> None:
    version = frozen(tmp_path / "v1", mixed())
    with pytest.raises(GateError) as refusal:
        export(database, version, tmp_path / "out", "alpaca")
    assert refusal.value.what == "alpaca cannot carry 3 of the 6 examples of mail/v1: 1 several turns, 2 tools."
    assert not (tmp_path / "out").exists() and exported(database) == []
    report = export(database, version, tmp_path / "out", "alpaca", skip=True)
    assert report.left_out == {"several turns": 1, "tools": 2} and report.rows == 3
    (line,) = (tmp_path / "out" / "train.jsonl").read_text("utf-8").splitlines()
    assert json.loads(line) == {"instruction": ASKED.text, "input": "", "output": "21 degrees"}


def test_a_format_that_can_carry_nothing_writes_nothing(database: Database, tmp_path: Path) -> None:
    version = frozen(tmp_path / "v1", mixed()[2:3], val=mixed()[3], test=mixed()[3])
    with pytest.raises(NotEnoughError, match="alpaca can carry none of the 3 examples of mail/v1"):
        export(database, version, tmp_path / "out", "alpaca", skip=True)
    assert not (tmp_path / "out").exists()


def test_an_unknown_format_is_refused(database: Database, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="There is no format 'xml'"):
        export(database, frozen(tmp_path / "v1", mixed()), tmp_path / "out", "xml")


def test_a_version_whose_files_were_changed_is_not_exported(database: Database, tmp_path: Path) -> None:
    version = frozen(tmp_path / "v1", mixed())
    (version.folder / "train.jsonl").write_text("", "utf-8")
    with pytest.raises(StoreError, match="was changed after it was frozen"):
        export(database, version, tmp_path / "out")


def test_openai_chats_have_the_documented_shape(database: Database, tmp_path: Path) -> None:
    export(database, frozen(tmp_path / "v1", mixed()), tmp_path / "out")
    rows = [json.loads(line) for line in (tmp_path / "out" / "train.jsonl").read_text("utf-8").split("\n") if line]
    assert [list(row) for row in rows] == [["messages"], ["messages"], ["messages", "tools"], ["messages", "tools"]]
    assert [turn.get("weight") for turn in rows[1]["messages"]] == [None, None, 0, None, None]
    assert rows[2]["messages"][-1]["tool_calls"][0]["function"] == {"name": "weather", "arguments": '{"city":"Bonn"}'}
    assert rows[2]["tools"][0]["function"]["parameters"]["required"] == ["city"]
    assert rows[3]["messages"][2] == {"role": "tool", "content": "21 degrees", "tool_call_id": "call_0_0"}


def test_a_spreadsheet_takes_no_cell_for_a_formula(database: Database, tmp_path: Path) -> None:
    hostile = ['=HYPERLINK("http://x")', "+1", "-2", "@SUM(A1)", "\tx", "\rx", "'=1", "＝1", 'fine, "quoted"\nand long']
    given = [example(number, target=text) for number, text in enumerate(hostile)]
    export(database, frozen(tmp_path / "v1", given), tmp_path / "out", "csv")
    with (tmp_path / "out" / "train.csv").open(encoding="utf-8", newline="") as file:
        cells = [row["answer"] for row in csv.DictReader(file)]
    assert cells == [f"'{text}" for text in hostile[:-1]] + hostile[-1:]


def _features(record: Mapping[str, Any]) -> list[Any]:
    return [record["prompt"], record["completion"], record["tools"]]


def test_hugging_face_datasets_read_folder_parquet_and_lines_without_harm_to_tools(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    datasets.disable_progress_bars()
    given = mixed()
    version = frozen(tmp_path / "v1", given, [preference(2, (WEATHER,))])
    export(database, version, tmp_path / "hf", "hf")
    export(database, version, tmp_path / "parquet", "parquet")
    export(database, version, tmp_path / "trl", "trl")
    want = [[trl.templated(each.messages), trl.templated([each.answer]), tools_of(each.tools)] for each in given]
    cache = str(tmp_path / "cache")
    folder = datasets.load_dataset(str(tmp_path / "hf"), cache_dir=cache)
    assert {name: len(rows) for name, rows in folder.items()} == {"train": 4, "validation": 1, "test": 1}
    assert [_features(row) for row in folder["train"]] == want
    assert folder["train"][2]["teacher_model"] == "teacher-1"
    pairs = datasets.load_dataset(str(tmp_path / "hf"), "preferences", cache_dir=cache)["train"]
    assert pairs[0]["chosen"] == [{"role": "assistant", "content": "better 2"}] and pairs[0]["tools"] == tools_of((WEATHER,))
    single = datasets.load_dataset("parquet", data_files=str(tmp_path / "parquet" / "train.parquet"), cache_dir=cache)["train"]
    assert [_features(row) for row in single] == want
    lines = datasets.load_dataset("json", data_files=str(tmp_path / "trl" / "train.jsonl"), cache_dir=cache)["train"]
    assert [json.loads(row["tools"] or "[]") for row in lines] == [tools for _, _, tools in want]
    assert [row["completion"] for row in lines] == [completion for _, completion, _ in want]


def test_a_folder_stands_for_the_data_files_in_it(database: Database, tmp_path: Path) -> None:
    export(database, frozen(tmp_path / "v1", mixed()), tmp_path / "hf", "hf")
    assert [path.name for path in files_in(tmp_path / "hf")] == ["test.parquet", "train.parquet", "validation.parquet"]


def test_a_folder_for_hugging_face_keeps_no_preferences_of_the_version_before(database: Database, tmp_path: Path) -> None:
    out = tmp_path / "hf"
    export(database, frozen(tmp_path / "v2", mixed(), [preference(1)]), out, "hf")
    assert (out / "data" / "preferences.parquet").is_file()
    export(database, frozen(tmp_path / "v1", mixed()), out, "hf")
    assert [path.name for path in files_in(out)] == ["test.parquet", "train.parquet", "validation.parquet"]
    (tmp_path / "other" / "data").mkdir(parents=True)
    (tmp_path / "other" / "data" / "preferences.parquet").write_bytes(b"mine")
    export(database, frozen(tmp_path / "v1b", mixed()), tmp_path / "other", "hf", force=True)
    assert (tmp_path / "other" / "data" / "preferences.parquet").read_bytes() == b"mine", "no export wrote it"


def test_files_that_no_export_wrote_are_replaced_only_by_force(database: Database, tmp_path: Path) -> None:
    version, out = frozen(tmp_path / "v1", mixed()), tmp_path / "out"
    out.mkdir()
    (out / "test.csv").write_text("mine", "utf-8")
    with pytest.raises(GateError, match="No export wrote") as refusal:
        export(database, version, out, "csv")
    assert str(out / "test.csv") in refusal.value.what and "--force" in refusal.value.next_step
    assert [path.name for path in out.iterdir()] == ["test.csv"] and exported(database) == []
    assert export(database, version, out, "csv", force=True).rows == len(mixed()) + 2
    assert (out / "test.csv").read_text("utf-8") != "mine"
    assert export(database, version, out, "csv").rows == len(mixed()) + 2


def test_a_readme_of_somebody_is_not_replaced_by_a_card(database: Database, tmp_path: Path) -> None:
    version, out = frozen(tmp_path / "v1", mixed()), tmp_path / "out"
    out.mkdir()
    (out / "README.md").write_text("# Mine", "utf-8")
    with pytest.raises(GateError, match=r"README\.md"):
        export(database, version, out, "hf")
    assert (out / "README.md").read_text("utf-8") == "# Mine" and not (out / "data").exists()
    for folder in (tmp_path / "other", tmp_path / "other"):
        assert export(database, version, folder, "hf").rows == len(mixed()) + 2
    assert {erase_from(file, mixed()[:1]) for file in exported(database) if file.path.name == "README.md"} == {0}


@pytest.mark.parametrize("format", ["openai", "hf", "trl-preference"])
def test_a_folder_that_cannot_be_written_is_named(format: str, database: Database, tmp_path: Path) -> None:
    version = frozen(tmp_path / "v1", mixed(), [preference(1)])
    (tmp_path / "file").write_text("mine", "utf-8")
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(StoreError, match="cannot be written") as refusal:
            export(database, version, out, format)
        assert str(tmp_path / "file") in refusal.value.what and "--out" in refusal.value.next_step
    assert (tmp_path / "file").read_text("utf-8") == "mine" and exported(database) == []
