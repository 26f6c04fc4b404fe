"""`potstill dataset check` on a dataset built from real traffic."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest

from capture.database import open_database
from capture.errors import NotEnoughError, NotFoundError
from capture.settings import Settings, load_settings
from curate.datasets import build, get_version, load_split
from curate.settings import CurateSettings
from potstill.commands import add_noun, dataset_check
from potstill.output import Output
from tests.curate.sending import SYSTEM, Traffic, mails


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A store in the current folder with a dataset version of 60 mails, and 5 mails that came later."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("POTSTILL_CONFIG", raising=False)
    settings = load_settings(environ={})
    (settings.data_folder / "spool").mkdir(parents=True)
    database = open_database(settings.database_url, is_checkpointer=True)
    traffic = Traffic(database, settings.data_folder / "spool")
    traffic.send(mails(60))
    build(database, settings.data_folder, "mail", CurateSettings())
    traffic.send(mails(5, first=100))
    database.close()
    return settings


def check(settings: Settings, *arguments: str) -> None:
    parser = argparse.ArgumentParser()
    dataset_check.add_commands(add_noun(parser.add_subparsers(), "dataset", help="curated"))
    found = parser.parse_args(["dataset", "check", "mail", *arguments])
    assert found.run(found, settings, Output(as_json="--json" in arguments)) == 0


def test_a_file_is_checked_line_by_line_and_bad_lines_are_told(
    house: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    database = open_database(house.database_url)
    held = load_split(get_version(database, "mail"), "val")[0]
    database.close()
    rows = [{"text": held.messages[-1].text}, {"text": "what is the weather in rome"}]
    path = tmp_path / "new.jsonl"
    path.write_text("\n".join([*map(json.dumps, rows), "{broken"]), "utf-8")
    check(house, str(path), "--json")
    said = json.loads(capsys.readouterr().out)
    assert (said["task"], said["version"], said["checked"]) == ("mail", 1, 2)
    assert said["matches"] == {"line 1": {"kind": "exact", "split": "val", "exchange_id": held.exchange_id, "similarity": 1.0}}
    assert said["bad_lines"]["3"].startswith("is not JSON")
    check(house, str(path))
    shown = capsys.readouterr()
    assert "1 of 2 inputs are in mail/v1 already (0 in train, 1 in val, 0 in test); 1 input left out" in shown.out
    assert held.exchange_id in shown.out, "which is what review and golden take"
    assert "line 3 was left out: it is not JSON" in shown.out + shown.err


def test_captured_exchanges_are_checked_by_filter(house: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    check(house, "--filter", "", "--json")
    said = json.loads(capsys.readouterr().out)
    assert said["checked"] == 65
    assert len(said["matches"]) == 60
    assert {match["kind"] for match in said["matches"].values()} == {"exact"}


def test_a_damaged_exchange_is_named_and_the_others_are_checked(house: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    database = open_database(house.database_url)
    id = load_split(get_version(database, "mail"), "train")[0].exchange_id
    Traffic(database, house.data_folder / "spool").damage(id)
    database.close()
    check(house, "--filter", "", "--json")
    said = json.loads(capsys.readouterr().out)
    assert said["checked"] == 64 and said["bad_lines"] == {id: "is damaged in the store: see potstill verify"}


def test_a_file_is_read_as_an_import_reads_it(house: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    database = open_database(house.database_url)
    held = [example.messages[-1].text for example in load_split(get_version(database, "mail"), "test")[:3]]
    database.close()
    (tmp_path / "new.csv").write_text("text,label\n" + "".join(f"{text},parcel\n" for text in held), "utf-8")
    (tmp_path / "other.csv").write_text("said,n\n" + "".join(f"{text},1\n" for text in held), "utf-8")
    (tmp_path / "chats.json").write_text(
        json.dumps([{"messages": [{"role": "user", "content": text}]} for text in held]), "utf-8"
    )
    for file, *more in (("new.csv",), ("other.csv", "--column", "input=said", "--system", SYSTEM), ("chats.json",)):
        check(house, str(tmp_path / file), *more, "--json")
        said = json.loads(capsys.readouterr().out)
        assert (said["checked"], [match["kind"] for match in said["matches"].values()]) == (3, ["exact"] * 3), file


@pytest.mark.parametrize(("text", "why"), [("", ""), ("a,b\n1,2\n", "Line 2 has neither messages nor a question")])
def test_a_file_without_an_input_is_an_error(house: Settings, tmp_path: Path, text: str, why: str) -> None:
    (tmp_path / "new.csv").write_text(text, "utf-8")
    with pytest.raises(NotEnoughError, match=f"new.csv has no row with an input.*{why}"):
        check(house, str(tmp_path / "new.csv"))


def test_a_file_that_is_not_there_is_named(house: Settings) -> None:
    with pytest.raises(NotFoundError, match=r"no file nowhere\.jsonl"):
        check(house, "nowhere.jsonl")
