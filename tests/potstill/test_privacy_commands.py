"""Forgetting, retention and pseudonyms from the command line, on a real store."""

from __future__ import annotations

import io
import json
from hashlib import sha256
from pathlib import Path

import pytest

from capture.capture_settings import CaptureSettings
from capture.database import open_database
from capture.pseudonyms import read_policy
from capture.settings import Settings, load_settings
from potstill.cli import run_command
from potstill.output import ExitCode
from tests.capture.planting import MARK, answer, chat, drain, raw_bytes, send

KEY = "0123456789abcdef" * 4


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "potstill.toml"
    path.write_text('[store]\ndata_folder = "data"\n[capture]\nretention_exchanges = 9\npersonal_data = "pseudonyms"\n', "utf-8")
    return path


@pytest.fixture
def filled(config: Path) -> Settings:
    """Ten exchanges of ten users, the mail address of each behind a pseudonym."""
    settings = load_settings(config, environ={})
    policy = read_policy(settings.section("capture", CaptureSettings), {"POTSTILL_PERSONAL_DATA_KEY": KEY})
    for number in range(10):
        question = chat(f"{MARK} {number}: write to user{number}@example.org")
        send(settings.data_folder / "spool", question, answer("ok"), user_name=f"u{number}")
    database = open_database(settings.database_url)
    drain(database, settings.data_folder / "spool", policy)
    database.close()
    return settings


def said(capsys: pytest.CaptureFixture[str]) -> dict[str, object]:
    return dict(json.loads(capsys.readouterr().out.splitlines()[-1]))


def test_forget_plans_erases_and_keeps_a_receipt(filled: Settings, config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    forget = ["--config", str(config), "forget"]
    assert run_command([*forget, "--user", "u3", "--dry-run", "--json"]) == 0
    planned = said(capsys)
    assert planned["is_dry_run"] is True and planned["places"]["exchanges"] == 1  # type: ignore[index]
    assert run_command([*forget, "--user", "u3", "--yes", "--json"]) == 0
    receipt = said(capsys)
    assert receipt["places"]["exchanges"] == 1 and "u3" not in json.dumps(receipt)  # type: ignore[index]
    assert run_command([*forget, "--receipts"]) == 0
    assert str(receipt["id"]) in capsys.readouterr().out
    assert run_command([*forget, "--user", "u3", "--yes"]) == 0
    assert "Nothing of that was stored." in capsys.readouterr().out
    assert run_command([*forget, "--yes"]) == 1
    assert "Nobody is named" in capsys.readouterr().err


@pytest.mark.parametrize("also", [[], ["--json"]])
def test_nothing_is_erased_where_nobody_can_be_asked(
    filled: Settings, config: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, also: list[str]
) -> None:
    stdin = io.StringIO("yes\n")
    monkeypatch.setattr(stdin, "isatty", lambda: bool(also))  # JSON is for programs, even at a terminal
    monkeypatch.setattr("sys.stdin", stdin)
    assert run_command(["--config", str(config), "forget", "--user", "u3", *also]) == ExitCode.USAGE
    assert "Give --yes" in capsys.readouterr().err
    database = open_database(filled.database_url)
    with database.read() as connection:
        assert connection.exec_driver_sql("SELECT COUNT(*) FROM exchanges").scalar_one() == 10
    database.close()


def test_retention_plans_refuses_and_runs(filled: Settings, config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    retention = ["--config", str(config), "retention"]
    assert run_command([*retention, "plan", "--json"]) == 0
    assert said(capsys)["tasks"][0]["exchanges"] == 1  # type: ignore[index]
    assert run_command([*retention, "run", "--dry-run"]) == 0
    assert "1 of 10 exchanges would go" in capsys.readouterr().out
    assert run_command([*retention, "run", "--json"]) == 0
    assert said(capsys)["removed"] == 1
    config.write_text(config.read_text("utf-8").replace("= 9", "= 2"), "utf-8")
    assert run_command([*retention, "run"]) == 1
    assert "--force" in capsys.readouterr().err
    assert run_command([*retention, "run", "--force", "--json"]) == 0
    assert said(capsys)["removed"] == 7


def test_a_pseudonym_is_revealed_with_the_key(
    filled: Settings, config: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert b"user3@example.org" not in raw_bytes(filled.folder)
    policy = read_policy(filled.section("capture", CaptureSettings), {"POTSTILL_PERSONAL_DATA_KEY": KEY})
    assert policy.keys is not None
    reveal = ["--config", str(config), "privacy", "reveal", policy.keys.token("email", "user3@example.org")]
    monkeypatch.delenv("POTSTILL_PERSONAL_DATA_KEY", raising=False)
    assert run_command(reveal) == 1
    assert "POTSTILL_PERSONAL_DATA_KEY is not set" in capsys.readouterr().err
    monkeypatch.setenv("POTSTILL_PERSONAL_DATA_KEY", KEY)
    assert run_command(reveal) == 0
    assert capsys.readouterr().out == "user3@example.org\n"


def test_nothing_starts_with_pseudonyms_and_no_key(
    config: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("POTSTILL_PERSONAL_DATA_KEY", raising=False)
    assert run_command(["--config", str(config), "up"]) == 1
    assert "openssl rand -hex 32" in capsys.readouterr().err


def test_a_key_is_hashed_and_never_shown(
    config: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("sk-client\n"))
    assert run_command(["--config", str(config), "privacy", "hash-key"]) == 0
    shown = capsys.readouterr()
    assert shown.out.strip() == sha256(b"sk-client").hexdigest() and "sk-client" not in shown.out + shown.err
