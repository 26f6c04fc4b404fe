"""`potstill exchanges untagged`."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

import pytest

from capture.database import open_database
from capture.settings import load_settings
from potstill.cli import run_command
from tests.curate.sending import SYSTEM, Sent, Traffic


def test_what_has_no_task_is_shown_with_a_name_and_how_to_tag_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("POTSTILL_CONFIG", raising=False)
    with closing(open_database(load_settings(environ={}).database_url)) as database:
        assert run_command(["exchanges", "untagged"]) == 0
        assert capsys.readouterr().out == "No exchange of an app is without a task.\n"
        Traffic(database, tmp_path / "data" / "spool").send(
            [Sent(f"where is {number}", "parcel", task="") for number in range(6)]
        )
    assert run_command(["exchanges", "untagged", "--json"]) == 0
    (suggestion,) = json.loads(capsys.readouterr().out)["suggestions"]
    assert (suggestion["name"], suggestion["exchanges"]) == ("sort-mail-choose", 6)
    assert run_command(["exchanges", "untagged", "--least", "6"]) == 0
    shown = capsys.readouterr().out
    assert SYSTEM[:50] in shown
    assert "x-potstill-task: sort-mail-choose" in shown
    assert run_command(["exchanges", "untagged", "--least", "7"]) == 0
    assert "6 of them in no group" in capsys.readouterr().out
