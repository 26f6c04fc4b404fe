"""Verdicts from the command line, on a dataset built from real traffic through spool and writer."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from pathlib import Path

import pytest

from capture import ids
from capture.database import open_database
from capture.pricing import PriceSettings, load_price_table
from capture.records import Begin, End, Head
from capture.settings import load_settings
from capture.spool import SpoolWriter
from capture.writer import StoreWriter
from curate.tasks.aliases import add_alias
from potstill.cli import run_command
from proxy.tickets import make_tickets


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store with 60 tickets of task triage, in the current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("POTSTILL_CONFIG", raising=False)
    settings = load_settings(environ={})
    spool = SpoolWriter(settings.data_folder / "spool")
    for ticket in make_tickets(3, 60):
        raw_id = ids.new_raw_id()
        messages = [{"role": "system", "content": ticket.system_prompt}, {"role": "user", "content": ticket.user_prompt}]
        body = json.dumps({"model": "gpt-4.1-mini", "messages": messages}).encode()
        answer = {"choices": [{"index": 0, "message": {"role": "assistant", "content": ticket.gold}, "finish_reason": "stop"}]}
        spool.begin(raw_id, Begin("POST", "/v1/chat/completions", "", "openai", task="triage", purpose="app", body=body))
        spool.head(raw_id, Head(200, {"content-type": "application/json"}, "openai", "", "", 1))
        spool.part(raw_id, json.dumps(answer).encode())
        spool.end(raw_id, End(200, "complete"))
    spool.close()
    database = open_database(settings.database_url, is_checkpointer=True)
    writer = StoreWriter(database, settings.data_folder / "spool", load_price_table(PriceSettings()))
    writer.drain()
    writer.close()
    database.close()
    return tmp_path


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> object:
    assert run_command([*arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_rejected_example_leaves_the_next_version_and_an_edit_changes_its_target(
    house: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = said(capsys, "dataset", "build", "triage")
    cards = said(capsys, "review", "next", "triage", "--limit", "200")
    kept = [card for card in cards if not card["reason"]]
    rejected, edited = kept[0]["exchange_id"], kept[1]["exchange_id"]
    assert said(capsys, "review", "reject", "triage", rejected, "--note", "nonsense")["verdict"] == "reject"
    said(capsys, "review", "edit", "triage", edited, "--target", '{"queue": "other"}')
    progress = said(capsys, "review", "progress", "triage")
    assert (progress["rejected"], progress["edited"], progress["waiting"]) == (1, 1, len(cards) - 2)

    second = said(capsys, "dataset", "build", "triage")
    assert second["number"] == first["number"] + 1
    assert second["manifest"]["bill"]["dropped"]["rejected_in_review"] == 1
    said(capsys, "dataset", "export", "triage", "--out", "out")
    lines = [
        line for split in ("train", "val", "test") for line in (house / "out" / f"{split}.jsonl").read_text("utf-8").splitlines()
    ]
    assert sum(json.loads(line)["messages"][-1]["content"] == '{"queue": "other"}' for line in lines) == 1


def test_an_undo_takes_back_the_last_verdict(house: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said(capsys, "dataset", "build", "triage")
    card = said(capsys, "review", "next", "triage")[0]
    said(capsys, "review", "skip", "triage", card["exchange_id"])
    assert said(capsys, "review", "undo", "triage")["exchange_id"] == card["exchange_id"]
    assert said(capsys, "review", "next", "triage")[0] == card
    assert said(capsys, "review", "undo", "triage") is None


def test_an_example_that_does_not_exist_is_named(house: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said(capsys, "dataset", "build", "triage")
    assert run_command(["review", "accept", "triage", "ex_nosuch"]) == 1
    assert "ex_nosuch" in capsys.readouterr().err


def test_an_example_is_found_by_the_start_of_its_id(house: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said(capsys, "dataset", "build", "triage")
    first, second = (card["exchange_id"] for card in said(capsys, "review", "next", "triage", "--limit", "2"))
    assert said(capsys, "review", "accept", "triage", first[:-1])["exchange_id"] == first
    assert said(capsys, "review", "bulk", "reject", "triage", second.removeprefix("ex_"))[0]["exchange_id"] == second
    assert run_command(["review", "accept", "triage", "ex_"]) == 1
    assert "More than one example of task 'triage' starts with 'ex_'" in capsys.readouterr().err
    assert said(capsys, "review", "progress", "triage")["accepted"] == 1


def test_a_card_says_how_to_give_a_verdict_and_a_skip_does_not_count_as_one(
    house: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said(capsys, "dataset", "build", "triage")
    id = said(capsys, "review", "next", "triage")[0]["exchange_id"]
    assert run_command(["review", "next", "triage"]) == 0
    assert f"Next: potstill review accept triage {id}   or: reject, edit, skip" in capsys.readouterr().out
    assert run_command(["review", "skip", "triage", id]) == 0
    assert "counts" not in capsys.readouterr().out
    assert run_command(["review", "reject", "triage", id]) == 0
    assert "counts from the next dataset version on" in capsys.readouterr().out


@pytest.mark.parametrize("verb", ["next", "progress", "agreement"])
def test_a_task_that_nobody_knows_is_noticed_and_one_without_a_version_is_known(
    house: Path, capsys: pytest.CaptureFixture[str], verb: str
) -> None:
    assert run_command(["review", verb, "triaje"]) == 1
    assert "There is no task 'triaje'. Tasks with traffic: triage." in " ".join(capsys.readouterr().err.split())
    assert run_command(["review", verb, "triage"]) == 0


def test_an_example_with_many_look_alikes_is_decided_at_once(house: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said(capsys, "dataset", "build", "triage")
    alike = [card["exchange_id"] for card in said(capsys, "review", "next", "triage", "--limit", "3")]
    with contextlib.closing(sqlite3.connect(house / ".potstill" / "potstill.db")) as store, store:
        store.executemany("UPDATE examples SET look_alike = 'g1.a' WHERE exchange_id = ?", [(id,) for id in alike])
    assert said(capsys, "review", "bulk", "accept", "triage", alike[0], "--show")["exchange_ids"] == alike
    assert said(capsys, "review", "progress", "triage")["accepted"] == 0
    made = said(capsys, "review", "bulk", "edit", "triage", alike[0], "--target", "other")
    assert [(one["exchange_id"], one["target"]) for one in made] == [(id, "other") for id in alike]
    assert said(capsys, "review", "undo", "triage")["taken_back"] == alike
    assert run_command(["review", "next", "triage"]) == 0
    assert f"2 look-alikes: potstill review bulk accept triage {alike[0]}" in capsys.readouterr().out


def test_agreement_of_two_people_has_a_kappa_and_a_way_to_get_one(
    house: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    said(capsys, "dataset", "build", "triage")
    cards = [card["exchange_id"] for card in said(capsys, "review", "next", "triage", "--limit", "12")]
    assert run_command(["review", "agreement", "triage"]) == 0
    assert "--second-opinion 5" in capsys.readouterr().out
    for person in ("ann", "bob"):
        monkeypatch.setenv("USER", person)
        monkeypatch.setenv("LOGNAME", person)
        for place, exchange_id in enumerate(cards):
            verdict = "reject" if place < 4 and (person == "ann" or place) else "accept"
            said(capsys, "review", verdict, "triage", exchange_id)
    found = said(capsys, "review", "agreement", "triage")
    assert (found["reviewers"], found["examples_shared"]) == (["ann", "bob"], 12)
    assert found["overall"]["value"] == pytest.approx(0.8)
    assert said(capsys, "review", "progress", "triage")["disputed"] == 1
    assert run_command(["review", "agreement", "triage"]) == 0
    assert "Cohen's kappa: 0.80" in capsys.readouterr().out


def test_an_audit_is_drawn_judged_and_reported(house: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["review", "audit", "start", "triage"]) == 1
    version = said(capsys, "dataset", "build", "triage")
    assert run_command(["review", "audit", "next", "triage"]) == 1
    assert "potstill review audit start triage" in capsys.readouterr().err
    drawn = said(capsys, "review", "audit", "start", "triage", "--size", "9")
    assert (len(drawn["exchange_ids"]), drawn["population"]) == (9, version["train"] + version["val"] + version["test"])
    for place in range(9):
        (example,) = said(capsys, "review", "audit", "next", "triage")
        assert example["exchange_id"] == drawn["exchange_ids"][place]
        step = "wrong" if place == 7 else "right"
        assert said(capsys, "review", "audit", step, "triage", example["exchange_id"], "--note", "seen")["verdict"] == step
    assert said(capsys, "review", "audit", "next", "triage") == []
    found = said(capsys, "review", "audit", "report", "triage")
    assert (found["overall"]["wrong"], found["overall"]["judged"], found["waiting"]) == (1, 9, 0)
    assert found["sentence"].startswith("1 of 9 judged examples are wrong: with 95% confidence between ")
    assert run_command(["review", "audit", "report", "triage"]) == 0
    assert found["sentence"] in capsys.readouterr().out


def test_verdicts_of_a_task_count_by_each_of_its_names(house: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said(capsys, "dataset", "build", "triage")
    (first, second) = (card["exchange_id"] for card in said(capsys, "review", "next", "triage", "--limit", "2"))
    said(capsys, "review", "accept", "triage", first)
    database = open_database(load_settings(environ={}).database_url)
    try:
        add_alias(database, "desk", "triage")
    finally:
        database.close()
    for name in ("triage", "desk"):
        assert [card["exchange_id"] for card in said(capsys, "review", "next", name)] == [second]
        assert said(capsys, "review", "reject", name, second)["task"] == "desk"
        assert said(capsys, "review", "progress", name)["rejected"] == 1
        assert said(capsys, "review", "undo", name)["exchange_id"] == second
        assert [(one["task"], one["number"]) for one in said(capsys, "dataset", "list", name)] == [("triage", 1)]
    assert said(capsys, "dataset", "show", "triage")["task"] == "triage"
    assert said(capsys, "review", "undo", "desk")["exchange_id"] == first
    assert said(capsys, "dataset", "build", "triage")["task"] == "desk"
    assert said(capsys, "dataset", "show", "triage")["task"] == "desk"
