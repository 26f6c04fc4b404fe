"""`potstill dataset build` from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from potstill.cli import run_command
from tests.curate.sending import mails


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
        capsys.readouterr()
        assert run_command(["dataset", "build", "post", *more]) == 0
        return capsys.readouterr().out

    assert run_command(["dataset", "import", "post", "rows.jsonl"]) == 0
    assert "unchanged" not in build()
    assert "unchanged: v1\n" in build() and json.loads(build("--json"))["is_new"] is False
    assert run_command(["dataset", "import", "post", "more.jsonl"]) == 0
    assert json.loads(build("--json"))["is_new"] is True
