"""`potstill dataset export|import` from the command line."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import pytest

from capture.errors import GateError, NotFoundError, SettingsError
from capture.settings import load_settings
from potstill.commands import add_noun, dataset_transfer
from potstill.output import Output
from tests.curate.sending import mails

PAIRS = [[{"role": "user", "content": mail.question}, {"role": "assistant", "content": mail.answer}] for mail in mails(31)]
CHATS = [{"messages": pair} for pair in PAIRS[:30]]
GREETING = [{"role": "user", "content": "Good day"}, {"role": "assistant", "content": "How can I help?"}]
TALK = {"messages": [*GREETING, *PAIRS[30]]}


def run(*given: str) -> int:
    parser = argparse.ArgumentParser()
    dataset_transfer.add_commands(add_noun(parser.add_subparsers(), "dataset", help=""))
    parsed = parser.parse_args(["dataset", *given])
    code: int = parsed.run(parsed, load_settings(environ={}), Output(as_json=parsed.json))
    return code


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty house in the current folder, with a file of chats and one bad line."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("POTSTILL_CONFIG", raising=False)
    (tmp_path / "potstill.toml").write_text("[curate]\nminimum_examples = 3\n", "utf-8")
    rows = [*map(json.dumps, [*CHATS, TALK]), "broken"]
    (tmp_path / "chats.jsonl").write_text("\n".join(rows) + "\n", "utf-8")
    return tmp_path


def said(capsys: pytest.CaptureFixture[str]) -> Any:
    return json.loads(capsys.readouterr().out)


def build() -> None:
    from contextlib import closing

    from capture.database import open_database
    from curate import datasets
    from curate.settings import CurateSettings

    settings = load_settings(environ={})
    with closing(open_database(settings.database_url)) as database:
        datasets.build(database, settings.data_folder, "post", settings.section("curate", CurateSettings))


def test_a_file_is_imported_and_a_version_of_it_exported(house: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("import", "post", "chats.jsonl", "--dry-run") == 0
    assert "32 answers can be imported; 1 bad row. Nothing was stored." in " ".join(capsys.readouterr().out.split())
    assert run("import", "post", "chats.jsonl", "--teacher", "gpt-4o", "--terms", "own") == 0
    shown, progress = capsys.readouterr()
    assert "bytes of chats.jsonl" in progress, "what is counted"
    assert "chats.jsonl, line 32: is not JSON" in shown
    assert "32 answers imported, 0 known already; 1 bad row." in shown and "Next: potstill dataset build post" in shown
    assert run("import", "post", "chats.jsonl", "--json") == 0
    again = said(capsys)["exchanges"]
    assert (again["stored"], again["known"], again["bad"]) == (0, 32, 1)
    assert again["groups"] == [{"task": "post", "model": "import:post", "exchanges": 32, "new": 0}]
    assert run("import", "post", "chats.jsonl", "--terms", "allowed: contract") == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "32 answers of import:gpt-4o keep the terms with which they were imported before." in shown
    assert '[curate.teacher_terms] in potstill.toml: "import:gpt-4o" = "allowed: why"' in shown
    build()
    assert run("export", "post", "--out", "out", "--json") == 0
    report = said(capsys)
    assert (report["task"], report["version"], report["format"], report["left_out"]) == ("post", 1, "openai", {})
    assert report["examples"] == sum(report["files"].values()) >= 25
    assert sorted(path.name for path in (house / "out").iterdir()) == ["test.jsonl", "train.jsonl", "val.jsonl"]
    assert run("export", "post", "--out", "plain", "--format", "parquet", "--plain") == 0
    assert "train.parquet" in capsys.readouterr().out
    (house / "train.csv").write_text("mine", "utf-8")
    with pytest.raises(GateError, match=r"train\.csv"):
        run("export", "post", "--out", ".", "--format", "csv")
    assert (house / "train.csv").read_text("utf-8") == "mine"
    assert run("export", "post", "--out", ".", "--format", "csv", "--force") == 0


def test_what_a_format_cannot_carry_is_refused_or_counted(house: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("import", "post", "chats.jsonl")
    build()
    with pytest.raises(GateError, match="1 several turns"):
        run("export", "post", "--out", "out", "--format", "alpaca")
    capsys.readouterr()
    assert run("export", "post", "--out", "out", "--format", "alpaca", "--skip") == 0
    assert "left out: 1 several turns" in capsys.readouterr().out


def test_columns_and_tools_are_named_on_the_command_line(house: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (house / "rows.csv").write_text("words,intent\nHi,hello\n", "utf-8")
    (house / "tools.json").write_text('[{"name": "clock", "parameters": {"type": "object"}}]', "utf-8")
    given = ("import", "post", "rows.csv", "--column", "input=words", "--tools", "tools.json", "--json")
    assert run(*given) == 0
    assert said(capsys)["exchanges"]["stored"] == 1
    with pytest.raises(SettingsError, match="is not NAME=COLUMN"):
        run("import", "post", "rows.csv", "--column", "words")
    with pytest.raises(NotFoundError, match=r"none\.json cannot be read"):
        run("import", "post", "rows.csv", "--tools", "none.json")
    (house / "tools.json").write_text("7", "utf-8")
    with pytest.raises(SettingsError, match="its tools are not a list"):
        run("import", "post", "rows.csv", "--tools", "tools.json")


def test_plain_goes_with_parquet_only(house: Path) -> None:
    with pytest.raises(SettingsError, match="--plain goes with --format parquet"):
        run("export", "post", "--out", "out", "--plain")
