"""The command line: exit codes, messages that name the next step, JSON that programs can read."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

from potstill.cli import run_command
from potstill.commands.flag import parse_share
from potstill.output import ExitCode, one_line, safe


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a potstill.toml of its own, as the current folder."""
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as two:
        ports = one.getsockname()[1], two.getsockname()[1]
    (tmp_path / "potstill.toml").write_text(
        f'[relay]\nport = {ports[0]}\nadmin_port = {ports[1]}\n[upstreams.local]\nurl = "http://127.0.0.1:9"\n', "utf-8"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("POTSTILL_CONFIG", raising=False)
    return tmp_path


def test_help_answers_and_names_the_loop(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        run_command(["--help"])
    assert ended.value.code == 0
    told = capsys.readouterr().out
    for word in ("up", "exchanges", "dataset", "train", "release", "flag", "ab", "rollback", "demo", "doctor"):
        assert word in told


def test_a_wrong_word_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        run_command(["exchange"])
    assert ended.value.code == ExitCode.USAGE
    assert "invalid choice" in capsys.readouterr().err


def test_an_empty_store_says_what_to_do(house: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["exchanges", "list"]) == ExitCode.OK
    assert "potstill up" in capsys.readouterr().out
    assert run_command(["exchanges", "list", "--json"]) == ExitCode.OK
    assert json.loads(capsys.readouterr().out) == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["dataset", "build", "nosuch"], "nosuch"),
        (["dataset", "show", "nosuch"], "nosuch"),
        (["train", "nosuch"], "nosuch"),
        (["release", "nosuch"], "nosuch"),
        (["flag", "set", "nosuch", "--share", "30%"], "nosuch"),
        (["flag", "rollback", "nosuch"], "nosuch"),
        (["ab", "nosuch"], "nosuch"),
        (["runs", "show", "7"], "7"),
        (["exchanges", "show", "ex_nosuch"], "ex_nosuch"),
        (["exchanges", "list", "stauts:200"], "status"),
    ],
    ids=" ".join,
)
def test_what_does_not_exist_is_named_with_a_next_step(
    house: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    assert run_command(arguments) == ExitCode.FAILED
    lines = capsys.readouterr().err.strip().splitlines()
    assert said in lines[0] or said in lines[-1]
    assert len(lines) >= 2, "the next step stands on a line of its own"
    assert "Traceback" not in "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[relya]\nport = 1\n", "relay"),
        ("[relay]\nprot = 1\n", "port"),
        ('[relay]\nport = "many"\n', "port"),
        ("[relay\n", "TOML"),
        ("[train]\nthreads = -1\n", "threads"),
        ("[curate]\nnear = 3\n", "near_threshold"),
        ('[engine]\nbase_modle = "x"\n', "base_model"),
        ("[prices]\nstudent_usd_per_hr = 1\n", "student_usd_per_hour"),
        ('[upstreams.a]\nurl = "http://127.0.0.1:9"\nprotcol = "openai"\n', "protocol"),
    ],
)
def test_a_slip_in_the_configuration_is_refused_and_the_nearest_key_named(
    house: Path, capsys: pytest.CaptureFixture[str], text: str, named: str
) -> None:
    (house / "potstill.toml").write_text(text, "utf-8")
    for command in (["config"], ["doctor"], ["exchanges", "list"], ["up"], ["engine"]):
        assert run_command(command) == ExitCode.FAILED
        told = capsys.readouterr().err
        assert "potstill.toml" in told
        assert named in told


def test_config_explains_every_setting_and_init_writes_a_file_that_loads(house: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["config", "--json"]) == ExitCode.OK
    explained = {entry["name"]: entry for entry in json.loads(capsys.readouterr().out)}
    assert explained["relay.port"]["source"] == "set"
    assert explained["relay.workers"] == {**explained["relay.workers"], "value": 1, "source": "default"}
    assert all(entry["meaning"] for entry in explained.values())
    assert run_command(["config", "--init"]) == ExitCode.FAILED, "a file that is there is not overwritten"
    (house / "potstill.toml").unlink()
    assert run_command(["config", "--init"]) == ExitCode.OK
    every_key = "\n".join(
        line.removeprefix("# ") if " = " in line else line for line in (house / "potstill.toml").read_text("utf-8").splitlines()
    )
    (house / "potstill.toml").write_text(every_key.split("# One table")[0], "utf-8")
    assert run_command(["config"]) == ExitCode.OK


def test_the_environment_wins_over_the_file(
    house: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POTSTILL_RELAY__WORKERS", "3")
    assert run_command(["config", "--json"]) == ExitCode.OK
    assert {entry["name"]: entry["value"] for entry in json.loads(capsys.readouterr().out)}["relay.workers"] == 3


def test_doctor_names_an_unreachable_upstream_and_what_to_do(house: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["doctor", "--json"]) == ExitCode.FAILED
    findings = {finding["check"]: finding for finding in json.loads(capsys.readouterr().out)}
    assert findings["upstream local"]["verdict"] == "bad"
    assert "[upstreams.local]" in findings["upstream local"]["next_step"]
    assert findings["store"]["verdict"] == "ok"
    assert findings["relay"]["verdict"] == "note"


def test_doctor_names_a_key_that_is_not_set(
    house: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    (house / "potstill.toml").write_text('[upstreams.local]\nurl = "http://127.0.0.1:9"\nkey = "env:NO_SUCH_KEY"\n', "utf-8")
    assert run_command(["doctor"]) == ExitCode.FAILED
    assert "export NO_SUCH_KEY=" in capsys.readouterr().out


def test_up_names_a_taken_port_and_the_setting(house: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        (house / "potstill.toml").write_text(f"[relay]\nport = {port}\n", "utf-8")
        assert run_command(["up"]) == ExitCode.FAILED
    told = capsys.readouterr().err
    assert str(port) in told
    assert "port" in told.splitlines()[-1]


@pytest.mark.parametrize(("text", "share_bp"), [("30%", 3000), ("2.5%", 250), ("0.3", 3000), ("0%", 0), ("100%", 10_000)])
def test_a_share_is_read_in_percent_or_as_a_fraction(text: str, share_bp: int) -> None:
    assert parse_share(text) == share_bp


@pytest.mark.parametrize("text", ["101%", "-1%", "30", "much", ""])
def test_a_share_outside_0_to_100_percent_is_refused(house: Path, capsys: pytest.CaptureFixture[str], text: str) -> None:
    assert run_command(["flag", "set", "triage", f"--share={text}"]) == ExitCode.FAILED
    assert "--share" in capsys.readouterr().err


def test_captured_text_cannot_move_the_cursor_or_turn_the_line() -> None:
    assert safe("a\x1b[31mb\u202ec\x00") == "a\\x1b[31mb\\u202ec\\x00"
    assert one_line("a\nb\tc", 20) == "a b c"
    assert one_line("x" * 30, 10) == "x" * 9 + "…"
