"""`potstill dataset build` from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from potstill.cli import run_command
from tests.curate.sending import mails


def shown(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    capsys.readouterr()
    assert run_command(["dataset", *arguments]) == 0
    return capsys.readouterr().out


def test_a_build_that_changed_nothing_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("POTSTILL_CONFIG", raising=False)
    rows = [json.dumps({"text": mail.question, "label": mail.answer}) for mail in mails(40)]
    (tmp_path / "potstill.toml").write_text("[curate]\nminimum_examples = 3\n", "utf-8")
    (tmp_path / "rows.jsonl").write_text("\n".join(rows[:39]), "utf-8")
    (tmp_path / "more.jsonl").write_text(rows[39], "utf-8")

    def build(*more: str) -> str:
        return shown(capsys, "build", "post", *more)

    assert run_command(["dataset", "import", "post", "rows.jsonl"]) == 0
    assert "unchanged" not in build()
    assert "unchanged: v1\n" in build() and json.loads(build("--json"))["is_new"] is False
    assert run_command(["dataset", "import", "post", "more.jsonl"]) == 0
    assert json.loads(build("--json"))["is_new"] is True


def test_a_diff_says_how_many_changes_it_does_not_list(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("POTSTILL_CONFIG", raising=False)
    rows = [json.dumps({"text": mail.question, "label": mail.answer}) for mail in mails(70)]
    for name, some in (("rows.jsonl", rows[:40]), ("more.jsonl", rows[40:])):
        (tmp_path / name).write_text("\n".join(some), "utf-8")
        assert run_command(["dataset", "import", "post", name]) == 0
        assert "card.md" in shown(capsys, "build", "post"), "where to read on"
    version = json.loads(shown(capsys, "show", "post", "--json"))
    edited = json.loads((Path(version["folder"]) / "val.jsonl").read_text("utf-8").splitlines()[0])["exchange_id"]
    assert run_command(["review", "edit", "post", edited, "--target", "another"]) == 0
    shown(capsys, "build", "post")
    told = shown(capsys, "diff", "post", "--from", "1").splitlines()
    assert sum(line.startswith("  added") for line in told) == 20 and "  ... and 10 more added" in told
    assert [line.split()[:2] for line in told if edited in line] == [["target", "changed"]]
