"""`potstill key` from the first key to its end: shown once, stored as a hash, changed, rotated, revoked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from potstill.cli import run_command
from potstill.output import ExitCode

DATA = Path(".potstill")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("POTSTILL_CONFIG", raising=False)
    return tmp_path


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    assert run_command(["key", *arguments, "--json"]) == ExitCode.OK
    return json.loads(capsys.readouterr().out)


def fail(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert run_command(["key", *arguments]) == ExitCode.FAILED
    return capsys.readouterr().err


def test_a_key_is_shown_once_and_is_in_no_file(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = run(capsys, "add", "support app", "--task", "triage", "--usd-per-day", "2.5", "--requests-per-minute", "60")
    secret = made["key"].rpartition(f"ps-{made['id']}-")[2]
    assert len(secret) == 43
    assert (made["state"], made["scopes"], made["tasks"]) == ("active", ["relay"], ["triage"])
    assert (made["limits"]["day_microusd"], made["limits"]["requests_per_minute"]) == (2_500_000, 60)
    for shown in (run(capsys, "list")[0], run(capsys, "show", "support app")):
        assert shown["id"] == made["id"]
        assert not {"key", "hash", "previous_hash"} & set(shown)
    files = [path for path in here.rglob("*") if path.is_file()]
    assert (here / DATA / "keys" / "pepper").stat().st_mode & 0o777 == 0o600
    assert all(secret.encode() not in path.read_bytes() for path in files)


def test_limits_that_are_not_named_stay_and_0_takes_one_away(capsys: pytest.CaptureFixture[str]) -> None:
    run(capsys, "add", "a", "--concurrent", "3", "--tokens-per-minute", "500")
    changed = run(capsys, "limit", "a", "--usd-per-month", "0.1", "--concurrent", "0")["limits"]
    assert (changed["concurrent"], changed["tokens_per_minute"], changed["month_microusd"]) == (0, 500, 100_000)
    assert "between 0 and" in fail(capsys, "limit", "a", "--usd-per-day", "-1")


def test_a_revoked_key_is_gone_from_the_list_and_can_be_rotated_no_more(capsys: pytest.CaptureFixture[str]) -> None:
    made = run(capsys, "add", "a")
    assert run(capsys, "revoke", made["id"][:6])["state"] == "revoked"
    assert run(capsys, "list") == []
    assert [each["id"] for each in run(capsys, "list", "--all")] == [made["id"]]
    assert "revoked" in fail(capsys, "rotate", "a")


def test_a_rotated_key_keeps_its_id(capsys: pytest.CaptureFixture[str]) -> None:
    made = run(capsys, "add", "a", "--expires", "90d")
    again = run(capsys, "rotate", "a", "--grace", "24h")
    assert again["id"] == made["id"]
    assert again["key"] != made["key"]
    assert again["expires_us"] == made["expires_us"] > made["created_us"]


def test_a_key_that_is_not_one_is_refused_with_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    assert "potstill key list" in fail(capsys, "show", "nobody")
    assert "relay, read, label, admin" in fail(capsys, "add", "a", "--scope", "everything").replace("\n", " ")
    run(capsys, "add", "twin")
    run(capsys, "add", "twin")
    assert "2 keys" in fail(capsys, "revoke", "twin")


def test_a_pepper_that_others_may_read_is_refused(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(capsys, "add", "a")
    (here / DATA / "keys" / "pepper").chmod(0o644)
    assert "chmod 600" in fail(capsys, "add", "b")


def test_people_see_tables_and_next_steps(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["key", "list"]) == ExitCode.OK
    assert "potstill key add" in capsys.readouterr().out
    assert run_command(["key", "add", "support", "--usd-per-day", "5"]) == ExitCode.OK
    assert "only time" in capsys.readouterr().out
    assert run_command(["key", "list"]) == ExitCode.OK
    assert "$5 a day" in capsys.readouterr().out
    assert run_command(["key", "show", "support"]) == ExitCode.OK
    assert "spent this month" in capsys.readouterr().out
    assert run_command(["key", "revoke", "support"]) == ExitCode.OK


def test_a_budget_too_small_to_count_is_refused_as_it_would_be_none(capsys: pytest.CaptureFixture[str]) -> None:
    assert "less than the least budget" in fail(capsys, "add", "bad", "--usd-per-day", "0.0000001")
    assert run(capsys, "list") == []
    assert run(capsys, "add", "small", "--usd-per-day", "0.000001")["limits"]["day_microusd"] == 1
    assert "0 takes the budget away" in fail(capsys, "limit", "small", "--usd-per-month", "0.0000009")
    assert run(capsys, "limit", "small", "--usd-per-day", "0")["limits"]["day_microusd"] == 0


def warned(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[dict[str, Any], str]:
    assert run_command(["key", *arguments, "--json"]) == ExitCode.OK
    said = capsys.readouterr()
    return json.loads(said.out), said.err


def test_an_upstream_that_is_not_there_is_pointed_out(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "potstill.toml").write_text('[upstreams.azure-eu]\nurl = "https://example.invalid/v1"\n')
    made, said = warned(capsys, "add", "z", "--upstream", "nosuch", "--upstream", "azure*", "--task", "of-nobody")
    assert made["upstreams"] == ["nosuch", "azure*"]
    assert "warning: No upstream is named 'nosuch'" in said
    assert "azure-eu" in said
    assert "'azure*'" not in said
    assert "of-nobody" not in said
    assert warned(capsys, "add", "y", "--upstream", "azure-eu")[1] == ""


def test_a_second_key_of_a_name_is_made_and_both_ids_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    first, said = warned(capsys, "add", "support-app")
    assert said == ""
    second, said = warned(capsys, "add", "support-app")
    assert "'support-app' is the name of 2 keys now" in said
    assert f"Name this one by its id: {second['id']}" in said
    assert first["id"] in said
    assert "2 keys are called 'support-app'" in fail(capsys, "show", "support-app")
    assert run(capsys, "show", second["id"])["name"] == "support-app"
