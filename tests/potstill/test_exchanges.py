"""Reading what was captured, from the command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from capture import ids
from capture.database import open_database
from capture.pricing import PriceSettings, load_price_table
from capture.records import Begin, End, Head
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

    def begin(self) -> bytes:
        raw_id = ids.new_raw_id()
        self.spool.begin(raw_id, Begin("POST", "/v1/chat/completions", "", "openai", task="triage", purpose="app", body=b"{}"))
        return raw_id

    def end(self, raw_id: bytes) -> str:
        answer = {"choices": [{"index": 0, "message": {"role": "assistant", "content": "fine"}, "finish_reason": "stop"}]}
        self.spool.head(raw_id, Head(200, {"content-type": "application/json"}, "openai", "", "", 1))
        self.spool.part(raw_id, json.dumps(answer).encode())
        self.spool.end(raw_id, End(200, "complete"))
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
    assert [exchange["id"] for exchange in json.loads(capsys.readouterr().out)] == sorted(stored, reverse=True)[:3]
    assert run_command(["exchanges", "list", "--limit", "3"]) == 0
    assert "--limit 30" in capsys.readouterr().out
    assert run_command(["exchanges", "list", "--limit", "0"]) == 1


def test_show_prints_the_conversation_and_the_raw_body(capture: Capture, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    stored = capture.end(capture.begin())
    assert run_command(["exchanges", "show", stored[:20]]) == 0
    assert b"fine" in capfdbinary.readouterr().out
    assert run_command(["exchanges", "show", stored, "--raw", "request"]) == 0
    sys.stdout.flush()
    assert capfdbinary.readouterr().out == b"{}"
