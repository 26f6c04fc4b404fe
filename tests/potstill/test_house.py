"""`verify`, `losses` and `import` as commands: exit codes, JSON, and words with a next step."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from capture import ids, store_rows
from capture.database import open_database
from capture.records import Gap
from capture.settings import load_settings
from capture.spool_reader import SpooledGap
from potstill.cli import run_command
from potstill.output import ExitCode


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("POTSTILL_CONFIG", raising=False)
    (tmp_path / "potstill.toml").write_text("[relay]\nadmin_port = 1\n")  # where nobody listens
    return tmp_path


def write(path: Path, count: int) -> Path:
    rows: list[dict[str, Any]] = []
    for number in range(count):
        asked = {"model": "gpt-4o", "messages": [{"role": "user", "content": f"question {number} " + "and more " * 20}]}
        message = {"role": "assistant", "content": f"answer {number}"}
        told = {"model": "gpt-4o", "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
        rows.append({"timestamp": 1_716_990_000 + number, "request": asked, "response": told, "task": "triage"})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def output_of(capsys: pytest.CaptureFixture[str]) -> Any:
    return json.loads(capsys.readouterr().out)


def test_import_stores_counts_and_is_idempotent(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(here / "calls.jsonl", 5)
    assert run_command(["import", str(path), "--dry-run", "--json"]) == ExitCode.OK
    dry = output_of(capsys)
    assert (dry["is_dry_run"], dry["read"], dry["stored"]) == (True, 5, 0)
    assert dry["groups"] == [{"task": "triage", "model": "gpt-4o", "exchanges": 5, "new": 0}]
    assert not (here / ".potstill" / "potstill.db").exists()
    assert run_command(["import", str(path), "--json"]) == ExitCode.OK
    first = output_of(capsys)
    assert (first["stored"], first["groups"][0]["new"]) == (5, 5)
    assert run_command(["import", str(path)]) == ExitCode.OK
    shown = capsys.readouterr().out
    assert "0 exchanges imported, 5 known already, 0 bad lines" in shown
    assert shown.split()[:4] == ["TASK", "MODEL", "NEW", "KNOWN"] and shown.splitlines()[1].split()[-2:] == ["0", "5"]


def test_import_tells_bad_lines_and_keeps_the_good_ones(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(here / "calls.jsonl", 2)
    path.write_text(path.read_text() + "broken\n")
    assert run_command(["import", str(path)]) == ExitCode.OK
    told = capsys.readouterr().out
    assert "line 3: is not JSON" in told and "2 exchanges imported" in told


def test_import_of_nothing_readable_fails_with_a_next_step(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "odd.jsonl").write_text('{"name": "Ada"}\n')
    assert run_command(["import", "odd.jsonl"]) == ExitCode.FAILED
    assert "--format" in capsys.readouterr().err.splitlines()[-1]
    assert run_command(["import", "odd.jsonl", "--format", "litellm"]) == ExitCode.FAILED
    assert "line 1" in capsys.readouterr().err


def test_verify_is_content_with_a_whole_store_and_fails_on_a_broken_one(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_command(["import", str(write(here / "calls.jsonl", 5))])
    capsys.readouterr()
    assert run_command(["verify"]) == ExitCode.OK
    assert "5 exchanges: 5 byte for byte as relayed" in capsys.readouterr().out
    database = open_database(load_settings(environ={}).database_url)
    with database.write() as connection:
        connection.execute(text("DELETE FROM pieces WHERE number = 1"))
    database.close()
    assert run_command(["verify", "--json"]) == ExitCode.FAILED
    report = output_of(capsys)
    assert report["fault_count"] == 2 and {fault["kind"] for fault in report["faults"]} == {"body", "use"}
    assert run_command(["verify"]) == ExitCode.FAILED
    assert "backup" in capsys.readouterr().out


def test_verify_takes_an_age_and_a_limit_and_refuses_others(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_command(["import", str(write(here / "calls.jsonl", 5))])
    capsys.readouterr()
    assert run_command(["verify", "--since", "7d", "--json"]) == ExitCode.OK
    assert output_of(capsys)["exchanges"] == 0
    assert run_command(["verify", "--limit", "3", "--json"]) == ExitCode.OK
    assert output_of(capsys)["exchanges"] == 3
    assert run_command(["verify", "--since", "yesterday"]) == ExitCode.FAILED
    assert "7d" in capsys.readouterr().err


def test_a_filter_that_begins_with_a_dash_goes_after_two(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_command(["import", str(write(here / "calls.jsonl", 5)), "--json"])
    capsys.readouterr()
    assert run_command(["exchanges", "list", "--json", "--", "-question"]) == ExitCode.OK
    assert output_of(capsys) == []
    with pytest.raises(SystemExit, match="2"):
        run_command(["exchanges", "list", "-walrus"])
    assert "-walrus (what begins with - and is no option goes last, after --)" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        ["exchanges", "list"],
        ["exchanges", "stats"],
        ["feedback", "list"],
        ["losses"],
        ["verify"],
        ["review", "next", "triage"],
        ["dataset", "contradictions", "triage"],
        ["dataset", "similar", "triage"],
    ],
    ids=" ".join,
)
def test_no_limit_that_shows_nothing_is_taken(words: list[str], here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in ("0", "-1"):
        with pytest.raises(SystemExit, match="2"):
            run_command([*words, f"--limit={number}"])
        assert f"'{number}' is no whole number of at most 15 digits, 1 or more" in capsys.readouterr().err


def test_a_number_to_go_on_from_may_be_zero(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["exchanges", "list", "--before", "0"]) == ExitCode.OK
    assert run_command(["exchanges", "export", "--after", "0"]) == ExitCode.OK
    with pytest.raises(SystemExit, match="2"):
        run_command(["exchanges", "export", "--after=-1"])


@pytest.mark.parametrize(
    "words",
    [
        ["exchanges", "list", "--limit"],
        ["exchanges", "list", "--before"],
        ["exchanges", "stats", "--limit"],
        ["exchanges", "export", "--after"],
        ["feedback", "list", "--limit"],
        ["feedback", "list", "--before"],
        ["losses", "--limit"],
        ["verify", "--limit"],
    ],
)
def test_numbers_that_no_store_can_compare_are_refused(words: list[str], here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in ("9" * 21, "-" + "9" * 20, "9" * 6_000, "few"):
        with pytest.raises(SystemExit, match="2"):
            run_command([*words[:-1], f"{words[-1]}={number}"])
        assert "is no whole number of at most 15 digits" in capsys.readouterr().err
    assert run_command([*words, "9" * 15]) == ExitCode.OK


@pytest.mark.parametrize(("said", "code"), [({"workers": [{"dropped": 2}, {"dropped": 1}]}, 1), ({"workers": [{}]}, 0), ([], 0)])
def test_losses_ask_the_relay_that_is_up(said: object, code: int, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/status" else 404)
            self.end_headers()
            self.wfile.write(json.dumps(said).encode())

        def log_message(self, format: str, *args: object) -> None:
            return None

    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        (here / "potstill.toml").write_text(f"[relay]\nadmin_port = {server.server_port}\n")
        assert run_command(["losses"]) == code
        told = capsys.readouterr().out
        assert run_command(["losses", "--json"]) == code
        server.shutdown()
    assert ("dropped 3 exchanges" in told) == bool(code) and ("Nothing was ever dropped" in told) == (not code)
    assert output_of(capsys)["dropped_by_relay"] == (3 if code else 0)


def test_losses_are_told_and_tried_again(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["losses"]) == ExitCode.OK
    assert "Nothing was ever dropped" in capsys.readouterr().out
    database = open_database(load_settings(environ={}).database_url)
    letter = store_rows.DeadLetter(ids.new_id("ex"), "no place for it", b"")
    store_rows.write(database, (), [letter], [("sp_a", SpooledGap("gap_1", Gap(1, 2, 5, "disk full")))])
    database.close()
    assert run_command(["losses"]) == ExitCode.OK
    told = capsys.readouterr().out
    assert "5 exchanges dropped" in told and "disk full" in told and "no place for it" in told
    assert run_command(["losses", "--retry", "--json"]) == ExitCode.OK
    losses = output_of(capsys)
    assert losses["retried"]["stored"] == 0 and len(losses["retried"]["refused"]) == 1
    assert (losses["lost"], losses["dead_letter_count"]) == (5, 1)


def test_config_check_tells_everything_that_is_wrong_at_once(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sections = (
        '[relay]\nprot = 1\nworkers = "many"',
        '[logs]\nformat = "xml"',
        '[upstreams.a]\nurl = "https://a.example"\nkye = "none"',
    )
    (here / "potstill.toml").write_text("\n".join((*sections, "[lgos]")))
    assert run_command(["config", "check", "--json"]) == ExitCode.FAILED
    told = output_of(capsys)
    assert [error["next_step"] for error in told] == [
        "Did you mean logs?",
        "Did you mean port?",
        "Give a number.",
        "Mend the value.",
        "Did you mean key?",
    ]
    assert "format is 'xml'" in told[3]["what"]
    assert run_command(["config", "check"]) == ExitCode.FAILED
    assert len(capsys.readouterr().out.splitlines()) == 5


def test_config_check_hides_no_fault_behind_another(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sections = (
        "[relay]\nworkres = 2\nworkers = 0\nidle_timeout_s = -1\nconnect_timeout_s = nan",
        '[upstreams.a]\nurl = "gopher://a"\nprotocol = "smoke"\nretries = -1',
        '[upstreams.b]\nulr = "https://b.example"',
        '[otel]\nwhere = "tsk:a"',
    )
    (here / "potstill.toml").write_text("\n".join(sections))
    assert run_command(["config", "check", "--json"]) == ExitCode.FAILED
    told = [error["what"] for error in output_of(capsys)]
    expected = (
        *("'workres' is unknown", "workers is 0", "connect_timeout_s is nan", "idle_timeout_s is -1"),
        *("protocol is 'smoke'", "retries is -1", "url is 'gopher://a'", "'ulr' is unknown", "tsk"),
    )
    assert [word for word in expected if not any(word in what for what in told)] == []
    assert len(told) == len(expected)
    (here / "potstill.toml").write_text(
        '[upstreams.A]\nurl = "https://a.example"\nca_file = "no.pem"\nfallbacks = ["c"]\n[otel]\nwhere = "tsk:a"\n'
    )
    assert run_command(["config", "check", "--json"]) == ExitCode.FAILED
    told = [error["what"] for error in output_of(capsys)]
    assert len(told) == 4, told
    for word, what in zip(("not usable in a path", "no.pem cannot be read", "no other upstream", "tsk"), told, strict=True):
        assert word in what


@pytest.mark.parametrize(("key", "words"), [("env:POTSTILL_TEST_UNSET", "is not set"), ("file:openai.key", "cannot be read")])
def test_config_check_warns_of_a_key_that_is_not_there_yet(
    key: str, words: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "potstill.toml").write_text(f'[upstreams.openai]\nurl = "https://api.openai.com/v1"\nkey = "{key}"\n')
    assert run_command(["config", "check", "--json"]) == ExitCode.OK
    (warning,) = output_of(capsys)
    assert warning["kind"] == "warning"
    assert words in warning["what"]
    assert "change key in [upstreams.openai]" in warning["next_step"]
    assert (str(here / "openai.key") in warning["next_step"]) is key.startswith("file:")
    assert run_command(["config", "check"]) == ExitCode.OK
    said = capsys.readouterr()
    assert said.out.startswith("Warning: ")
    assert "has no error, and 1 warning." in said.out
    assert "in order" not in said.out
    assert said.err == ""


def test_config_check_says_in_its_help_what_it_does_and_how_it_ends(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        run_command(["config", "check", "--help"])
    assert caught.value.code == 0
    said = " ".join(capsys.readouterr().out.split())
    for words in ("starts nothing", "every fault", "impossible values", "status 0 when there is no fault", "else with 1"):
        assert words in said


def test_config_check_looks_at_what_the_file_points_to(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "potstill.toml").write_text('[relay]\nadmin_token_file = "token"\n[otel]\nwhere = "tsk:a"\n')
    assert run_command(["config", "check", "--json"]) == ExitCode.FAILED
    missing, unknown = output_of(capsys)
    assert "token cannot be read" in missing["what"]
    assert "tsk" in unknown["what"]
    (here / "token").write_text("0123456789abcdef")
    (here / "token").chmod(0o600)
    (here / "potstill.toml").write_text('[relay]\nadmin_token_file = "token"\n')
    assert run_command(["config", "check", "--json"]) == ExitCode.OK
    assert output_of(capsys) == []
    assert run_command(["config", "check"]) == ExitCode.OK
    assert "is in order" in capsys.readouterr().out
