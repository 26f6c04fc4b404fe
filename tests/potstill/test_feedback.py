"""Feedback from the command line: said, listed, counted, imported."""

from __future__ import annotations

import getpass
import io
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from capture import feedback, ids
from capture.database import Database, open_database
from capture.filters import parse_filter
from capture.messages import Message
from capture.pricing import PriceSettings, load_price_table
from capture.records import Begin, End, Head
from capture.settings import load_settings
from capture.spool import SpoolWriter
from capture.writer import StoreWriter
from potstill.cli import run_command

EXCHANGES = 3


@pytest.fixture
def exchanges(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Ids of three exchanges of task triage in a store in the current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("POTSTILL_CONFIG", raising=False)
    settings = load_settings(environ={})
    spool = SpoolWriter(settings.data_folder / "spool")
    answer = {"choices": [{"index": 0, "message": {"role": "assistant", "content": "billing"}, "finish_reason": "stop"}]}
    made = []
    for number in range(EXCHANGES):
        raw_id = ids.new_raw_id()
        begin = Begin("POST", "/v1/chat/completions", "", "openai", task="triage", session_name=f"s{number}", body=b"{}")
        spool.begin(raw_id, begin)
        spool.head(raw_id, Head(200, {"content-type": "application/json"}, "openai", "", "", 1))
        spool.part(raw_id, json.dumps(answer).encode())
        spool.end(raw_id, End(200, "complete"))
        made.append(ids.format_id("ex", raw_id))
    spool.close()
    database = open_database(settings.database_url, is_checkpointer=True)
    writer = StoreWriter(database, settings.data_folder / "spool", load_price_table(PriceSettings()))
    writer.drain()
    writer.close()
    database.close()
    return made


@pytest.fixture
def store(exchanges: list[str]) -> Iterator[Database]:
    database = open_database(load_settings(environ={}).database_url)
    yield database
    database.close()


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    assert run_command([*arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_what_is_said_is_kept_listed_and_counted(
    exchanges: list[str], store: Database, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    answer = tmp_path / "answer.txt"
    answer.write_text("urgent\n", "utf-8")
    made = said(capsys, "feedback", "add", exchanges[0], "--good", "--comment", "yes", "--who", "ana")
    assert made["is_new"]
    said(capsys, "feedback", "add", exchanges[1], "--bad", "--demonstration", str(answer), "--who", "ana")
    said(capsys, "feedback", "add", "--session", "s2", "--value", "0.25", "--name", "mood")
    said(capsys, "feedback", "add", exchanges[2], "--category", "too slow", "--name", "why")
    listed = said(capsys, "feedback", "list", "task:triage")
    assert [(each["name"], each["kind"]) for each in listed] == [
        ("why", "category"), ("mood", "float"), ("feedback", "demonstration"), ("feedback", "boolean"),
        ("feedback", "comment"), ("feedback", "boolean"),
    ]  # fmt: skip
    assert feedback.demonstrations(store, exchanges) == {exchanges[1]: Message("assistant", "urgent")}
    stats = said(capsys, "feedback", "stats", "task:triage")
    assert [(each["name"], each["kind"], each["total"]["n"], each["total"]["mean"]) for each in stats["feedback"]] == [
        ("feedback", "boolean", 2, 0.5), ("feedback", "comment", 1, None), ("feedback", "demonstration", 1, None),
        ("mood", "float", 1, 0.25), ("why", "category", 1, None),
    ]  # fmt: skip
    assert (stats["feedback"][4]["total"]["categories"], stats["unmatched"]) == ({"too slow": 1}, 0)


def test_people_read_what_was_said(exchanges: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["feedback", "list"]) == 0
    assert "potstill feedback add" in capsys.readouterr().out
    assert run_command(["feedback", "add", exchanges[0], "--bad", "--comment", "line\n\x1b[31mred"]) == 0
    assert run_command(["feedback", "list", "--limit", "1"]) == 0
    shown = capsys.readouterr().out
    assert "line \\x1b[31mred" in shown
    assert "--before 2 goes on" in shown
    assert run_command(["feedback", "list", "--before", "2"]) == 0
    assert "bad" in capsys.readouterr().out
    assert run_command(["feedback", "stats"]) == 0
    assert "0 of 1" in capsys.readouterr().out


def test_an_exchange_is_shown_with_its_feedback(exchanges: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    said(capsys, "feedback", "add", exchanges[0], "--bad", "--comment", "wrong queue", "--who", "ana")
    shown = said(capsys, "exchanges", "show", exchanges[0])
    assert [(each["kind"], each["value"], each["who"]) for each in shown["feedback"]] == [
        ("boolean", 0.0, "ana"),
        ("comment", None, "ana"),
    ]
    assert run_command(["exchanges", "show", exchanges[0]]) == 0
    told = capsys.readouterr().out.partition("feedback\n")[2]
    assert "feedback boolean by ana: bad" in told
    assert "feedback comment by ana: wrong queue" in told


def test_the_same_id_again_changes_nothing(exchanges: list[str], store: Database, capsys: pytest.CaptureFixture[str]) -> None:
    assert said(capsys, "feedback", "add", exchanges[0], "--good", "--id", "mine") == {
        "id": "mine",
        "is_new": True,
        "left_out": 0,
    }
    assert said(capsys, "feedback", "add", exchanges[0], "--bad", "--id", "mine") == {
        "id": "mine",
        "is_new": False,
        "left_out": 0,
    }
    assert [each.value for each in feedback.page(store, parse_filter(""))] == [1.0]


def test_who_leaves_something_out_hears_of_the_options(exchanges: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["feedback", "add"]) == 1
    assert "--session NAME" in capsys.readouterr().err
    assert run_command(["feedback", "add", exchanges[0]]) == 1
    assert "--good, --bad, --value N" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["ex_nosuch", "--good"], "ex_nosuch"),
        (["--good"], "neither an exchange nor a session"),
        ([], "neither an exchange nor a session"),
        (["--session", "s"], "says nothing"),
        (["--session", "s", "--value", "nan"], "finite"),
        (["--session", "s", "--demonstration", "nosuch.txt"], "nosuch.txt"),
        (["--session", "s", "--good", "--name", "a\nb"], "line break"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_taken_is_refused_as_on_the_wire(
    arguments: list[str], reason: str, exchanges: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(["feedback", "add", *arguments]) == 1
    lines = capsys.readouterr().err.strip().splitlines()
    assert reason in lines[0]
    assert len(lines) == 2


def test_a_file_is_imported_its_bad_lines_named_and_nothing_doubles(
    exchanges: list[str], store: Database, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    lines = [
        json.dumps({"exchange_id": exchanges[0], "value": True}),
        json.dumps({"exchange_id": exchanges[0], "value": True}),
        "",
        '{"value": tru',
        json.dumps({"traceId": "s1", "name": "helpful", "value": 1, "dataType": "BOOLEAN", "id": "l1", "comment": "c"}),
        json.dumps({"session": "s"}),
        json.dumps({"session": "s", "comment": "x" * 400_000}),
        json.dumps([{"inference_id": "i1", "metric_name": "comment", "value": "hm"}, {"session": "s", "value": 1}]),
    ]
    path = tmp_path / "scores.jsonl"
    path.write_text("\n".join(lines), "utf-8")
    assert run_command(["feedback", "import", str(path)]) == 0
    shown = capsys.readouterr().out
    for number in (4, 6, 7):
        assert f"line {number}: " in shown
    assert "8 lines: 6 stored, 0 known before, 3 bad lines left out" in shown
    assert len(feedback.page(store, parse_filter(""))) == 6
    again = said(capsys, "feedback", "import", str(path))
    assert (again["stored"], again["known"], again["bad"]) == (0, 6, 3)
    assert [bad["line"] for bad in again["bad_lines"]] == [4, 6, 7]
    path.write_text("no feedback\n", "utf-8")
    assert run_command(["feedback", "import", str(path)]) == 1
    assert "1 line: 0 stored, 0 known before, 1 bad line left out" in capsys.readouterr().out


def test_feedback_comes_in_through_stdin_too(
    exchanges: list[str], store: Database, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def type_in(data: bytes) -> None:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))

    type_in(b'{"role": "assistant", "content": "urgent"}\n')
    said(capsys, "feedback", "add", exchanges[0], "--demonstration", "-")
    type_in(b'{"queue": "urgent"}\n')
    said(capsys, "feedback", "add", exchanges[1], "--demonstration", "-")
    found = feedback.demonstrations(store, exchanges)
    assert [found[each].text for each in exchanges[:2]] == ["urgent", '{"queue": "urgent"}']
    type_in(b'{"session": "s2", "value": 2}\n' * 2_500)
    assert said(capsys, "feedback", "import", "-")["stored"] == 2_500
    assert feedback.summary(store, parse_filter(""))[-1].total.n == 1, "one person's newest word on one session"


def test_who_says_words_on_an_exchange_without_content_hears_that_they_are_not_kept(
    exchanges: list[str], store: Database, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with store.write() as connection:
        connection.execute(text("UPDATE exchanges SET content = 'omitted' WHERE id = :id"), {"id": exchanges[0]})
    assert run_command(["feedback", "add", exchanges[0], "--bad", "--comment", "Ms Doe was dismissed"]) == 0
    shown = capsys.readouterr().out
    assert "words on it are not kept: comment and demonstration were left out" in shown and "kept as fb_" in shown
    assert run_command(["feedback", "add", exchanges[0], "--comment", "Ms Doe was dismissed"]) == 0
    assert "kept as" not in capsys.readouterr().out
    path = tmp_path / "more.jsonl"
    path.write_text(json.dumps({"exchange_id": exchanges[0], "value": 1, "comment": "Ms Doe"}), "utf-8")
    made = said(capsys, "feedback", "import", str(path))
    assert (made["stored"], made["known"], made["left_out"]) == (1, 0, 1)
    assert [each.text for each in feedback.of_exchange(store, exchanges[0])] == ["", ""]


def test_a_user_id_without_a_name_works(
    exchanges: list[str], store: Database, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_name() -> str:
        raise KeyError("getpwuid(): uid not found: 12345")

    monkeypatch.setattr(getpass, "getuser", no_name)
    with pytest.raises(SystemExit) as end:
        run_command(["--version"])
    assert end.value.code == 0
    capsys.readouterr()
    said(capsys, "feedback", "add", exchanges[0], "--good")
    assert [each.who for each in feedback.of_exchange(store, exchanges[0])] == [f"uid {os.getuid()}"]
