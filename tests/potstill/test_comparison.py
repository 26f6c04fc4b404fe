"""`potstill ab`: what people thought of either variant stands below what was measured."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from capture import feedback, ids
from capture.database import open_database
from capture.feedback_forms import make_feedback
from capture.pricing import PriceSettings, load_price_table
from capture.records import Begin, End, Head
from capture.settings import load_settings
from capture.spool import SpoolWriter
from capture.writer import StoreWriter
from potstill.cli import run_command
from serve import flag_store, release_store

ANSWER = json.dumps(
    {"choices": [{"index": 0, "message": {"role": "assistant", "content": "a"}, "finish_reason": "stop"}]}
).encode()


def send(spool: SpoolWriter, unit: int, variant: str, revision: int) -> str:
    """One exchange of a user; its id."""
    raw_id = ids.new_raw_id()
    begin = Begin(
        "POST", "/v1/chat/completions", "", "openai", task="triage", unit=f"u{unit}", unit_source="user", variant=variant,
        flag_revision=revision, body=b'{"model": "m", "messages": []}',
    )  # fmt: skip
    spool.begin(raw_id, begin)
    spool.head(raw_id, Head(200, {"content-type": "application/json"}, "openai", "m"))
    spool.part(raw_id, ANSWER)
    spool.end(raw_id, End(200, "complete", latency_us=1_000))
    return ids.format_id("ex", raw_id)


def test_feedback_is_compared_by_variant(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("POTSTILL_CONFIG", raising=False)
    settings = load_settings(environ={})
    database = open_database(settings.database_url, is_checkpointer=True)
    spool = SpoolWriter(settings.data_folder / "spool")
    writer = StoreWriter(database, settings.data_folder / "spool", load_price_table(PriceSettings()))
    release = release_store.add_release(database, "triage", "ad_1", {})
    release_store.settle_release(database, release, release_store.READY, {}, 10, 10)
    revision = flag_store.set_share(database, "triage", 5_000, unit="user", who="ana", why="").revision
    for unit in range(80):
        variant = "candidate" if unit % 2 else "baseline"
        exchange_id = send(spool, unit, variant, revision)
        is_good = variant == "candidate" or unit % 4 == 0
        given = make_feedback({"exchange_id": exchange_id, "name": "solved", "value": is_good}, source="api")
        feedback.add(database, given.notes)
    spool.close()
    writer.drain()
    writer.close()
    database.close()
    assert run_command(["ab", "triage", "--json"]) == 0
    opinion = json.loads(capsys.readouterr().out)["opinions"][0]
    assert (opinion["name"], opinion["baseline"]["mean"], opinion["candidate"]["mean"]) == ("solved", 0.5, 1.0)
    assert (opinion["candidate"]["n"], opinion["word"]) == (40, "higher")
    assert run_command(["ab", "triage"]) == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if "feedback: solved" in line)
    assert "0.5 of 40" in line
    assert "1 of 40" in line
    assert line.rstrip().endswith("higher")
