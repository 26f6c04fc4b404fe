"""Reading what was captured, from the command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from capture import clock, feedback, ids
from capture.database import open_database
from capture.feedback_forms import make_feedback
from capture.pricing import PriceSettings, load_price_table
from capture.records import OMIT, Begin, End, Head
from capture.settings import load_settings
from capture.spool import SpoolWriter
from capture.writer import StoreWriter
from potstill.cli import run_command


class Capture:
    """A spool and a store writer in the current folder."""

    def __init__(self) -> None:
        settings = load_settings(environ={})
        self.spool = SpoolWriter(settings.data_folder / "spool")
        self.database = open_database(settings.database_url, is_checkpointer=True)
        self.writer = StoreWriter(self.database, settings.data_folder / "spool", load_price_table(PriceSettings()))

    def begin(self, body: bytes = b"{}", **begin: Any) -> bytes:
        raw_id = ids.new_raw_id()
        fields = {"task": "triage", "purpose": "app", **begin}
        self.spool.begin(raw_id, Begin("POST", "/v1/chat/completions", "", "openai", body=body, **fields))
        return raw_id

    def end(self, raw_id: bytes, message: dict[str, Any] | None = None, *, status: int = 200, **answer: Any) -> str:
        message = message or {"role": "assistant", "content": "fine"}
        answer = {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}], **answer}
        self.spool.head(raw_id, Head(status, {"content-type": "application/json"}, "openai", "", "", 1))
        self.spool.part(raw_id, json.dumps(answer).encode())
        self.spool.end(raw_id, End(status, "complete"))
        self.writer.drain()
        return ids.format_id("ex", raw_id)

    def close(self) -> None:
        self.spool.close()
        self.writer.close()
        self.database.close()


@pytest.fixture
def capture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Capture]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("POTSTILL_CONFIG", raising=False)
    opened = Capture()
    yield opened
    opened.close()


def test_tail_shows_a_slow_exchange_that_began_before_a_fast_one(capture: Capture) -> None:
    slow = capture.begin()
    command = [sys.executable, "-m", "potstill", "exchanges", "tail", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"}) as tail:
        assert tail.stdout is not None
        has_begun = threading.Event()
        shown: list[str] = []

        def read() -> None:
            assert tail.stdout is not None
            for line in tail.stdout:
                shown.append(json.loads(line)["id"])
                has_begun.set()
                if shown[-1] == ids.format_id("ex", slow):
                    return

        reader = threading.Thread(target=read)
        reader.start()
        for _ in range(300):
            capture.end(capture.begin())
            if has_begun.wait(0.1):
                break
        capture.end(slow)
        reader.join(20)
        tail.terminate()
    assert ids.format_id("ex", slow) in shown
    assert len(shown) == len(set(shown))


def test_list_shows_the_newest_first_and_says_when_there_are_more(capture: Capture, capsys: pytest.CaptureFixture[str]) -> None:
    stored = [capture.end(capture.begin()) for _ in range(5)]
    assert run_command(["exchanges", "list", "task:triage", "--limit", "3", "--json"]) == 0
    assert [exchange["id"] for exchange in json.loads(capsys.readouterr().out)] == stored[:1:-1]
    assert run_command(["exchanges", "list", "--limit", "3"]) == 0
    assert "--limit 30" in capsys.readouterr().out


def test_show_prints_the_conversation_and_the_raw_body(capture: Capture, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    stored = capture.end(capture.begin())
    assert run_command(["exchanges", "show", stored[:20]]) == 0
    assert b"fine" in capfdbinary.readouterr().out
    assert run_command(["exchanges", "show", stored, "--raw", "request"]) == 0
    assert capfdbinary.readouterr().out == b"{}"


def test_show_tells_reasoning_tags_cost_and_feedback_without_escape_codes(
    capture: Capture, capsys: pytest.CaptureFixture[str]
) -> None:
    body = json.dumps({"messages": [{"role": "user", "content": "Hi \x1b[31m\x07 \u202e there"}]}).encode() + b" "
    raw_id = capture.begin(body=body.replace(b"there", b"\\ud800"), tags={"team": "search"}, model_asked="gpt-4o")
    message = {"role": "assistant", "content": "fine", "reasoning_content": "Let me think."}
    usage = {"prompt_tokens": 1000, "completion_tokens": 100, "completion_tokens_details": {"reasoning_tokens": 40}}
    id = capture.end(raw_id, message, usage=usage)
    feedback.add(
        capture.database,
        make_feedback({"value": False, "comment": "too short", "who": "ann"}, exchange_id=id, source="api").notes,
    )
    assert run_command(["exchanges", "show", id]) == 0
    shown = capsys.readouterr().out
    for words in ("Let me think.", "team=search", "tokens_reasoning", "reported", "$0.00", "too short", "by ann", "bad"):
        assert words in shown, words
    assert not any(letter in shown for letter in "\x1b\x07\u202e")
    assert run_command(["exchanges", "show", id, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["answer"]["reasoning"] == "Let me think."
    assert [said["kind"] for said in found["feedback"]] == ["boolean", "comment"]
    assert len(found["request_sha256"]) == 64


def test_words_of_prompts_and_answers_are_found(capture: Capture, capsys: pytest.CaptureFixture[str]) -> None:
    id = capture.end(capture.begin(body=b'{"messages":[{"role":"user","content":"Where is my R\xc3\xa9fund?"}]}'))
    capture.end(capture.begin())
    for filter in ("refund", "ref*", '"my refund" fine', "refund task:triage -status>=400"):
        assert run_command(["exchanges", "list", filter, "--json"]) == 0
        assert [exchange["id"] for exchange in json.loads(capsys.readouterr().out)] == [id], filter
    assert run_command(["exchanges", "list", "refund -fine"]) == 0
    assert "No exchange matches the filter" in capsys.readouterr().out


def test_the_next_page_begins_before_a_number(capture: Capture, capsys: pytest.CaptureFixture[str]) -> None:
    stored = [capture.end(capture.begin()) for _ in range(4)]
    assert run_command(["exchanges", "list", "--limit", "2"]) == 0
    assert "--before 3" in capsys.readouterr().out
    assert run_command(["exchanges", "list", "--before", "3", "--json"]) == 0
    assert [exchange["id"] for exchange in json.loads(capsys.readouterr().out)] == stored[1::-1]


def test_stats_add_up_in_groups(capture: Capture, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(3):
        capture.end(capture.begin())
    capture.end(capture.begin(), status=429)
    assert run_command(["exchanges", "stats", "task:triage", "--by", "task"]) == 0
    shown = capsys.readouterr().out
    assert "triage" in shown and "75.0%" in shown and "The store takes" in shown
    assert run_command(["exchanges", "stats", "--by", "status", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [(group["key"], group["exchanges"]) for group in found["groups"]] == [("200", 3), ("429", 1)]
    assert run_command(["exchanges", "stats", "--by", "colour"]) == 1
    assert "task, model" in capsys.readouterr().err


def test_export_writes_a_file_or_stdout(capture: Capture, capfdbinary: pytest.CaptureFixture[bytes], tmp_path: Path) -> None:
    stored = [capture.end(capture.begin()) for _ in range(3)]
    assert run_command(["exchanges", "export", "task:triage", "--raw"]) == 0
    lines = [json.loads(line) for line in capfdbinary.readouterr().out.splitlines()]
    assert [line["id"] for line in lines] == stored
    assert lines[0]["request"]["body"] == "{}"
    assert run_command(["exchanges", "export", "--out", "out.jsonl", "--json"]) == 0
    assert json.loads(capfdbinary.readouterr().out) == {
        "exchanges": 3, "bytes": (tmp_path / "out.jsonl").stat().st_size, "last_number": 3, "to": "out.jsonl",
    }  # fmt: skip
    assert run_command(["exchanges", "export", "--after", "2", "--out", "rest.jsonl"]) == 0
    assert b"1 exchange," in capfdbinary.readouterr().out
    assert run_command(["exchanges", "export", "--format", "otlp", "--out", "spans.json"]) == 0
    assert stored[0] in (tmp_path / "spans.json").read_text()


def test_a_file_that_is_there_is_replaced_only_by_force(capture: Capture, capsys: pytest.CaptureFixture[str]) -> None:
    capture.end(capture.begin())
    for arguments, code in (([], 0), ([], 1), (["--force"], 0)):
        assert run_command(["exchanges", "export", "--out", "out.jsonl", *arguments]) == code
    assert "--force" in capsys.readouterr().err


def test_a_list_shows_what_day_it_was_and_that_content_is_not_stored(
    capture: Capture, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    capture.end(capture.begin(content=OMIT))
    now_us = clock.now_us()
    assert run_command(["exchanges", "list"]) == 0
    shown = capsys.readouterr().out
    assert "(not stored)" in shown
    monkeypatch.setattr(clock, "now_us", lambda: now_us + 2 * 86_400_000_000)
    assert run_command(["exchanges", "list"]) == 0
    assert clock.iso(now_us)[:10] in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--json"], "--out FILE"),
        (["--endpoint", "http://127.0.0.1:1"], "--format otlp"),
        (["--format", "otlp"], "OTEL_EXPORTER_OTLP_ENDPOINT"),
        (["--format", "otlp", "--raw", "--out", "x"], "--format jsonl"),
        (["--format", "otlp", "--endpoint", "http://h", "--out", "x"], "Give one"),
        (["--out", "none/x"], "folder"),
        (["taks:x"], "Did you mean task?"),
    ],
)
def test_an_export_that_makes_no_sense_says_what_to_do(
    capture: Capture, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, arguments: list[str], words: str
) -> None:
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_ENDPOINT", raising=False)
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", raising=False)
    assert run_command(["exchanges", "export", *arguments]) == 1
    assert words in capsys.readouterr().err
