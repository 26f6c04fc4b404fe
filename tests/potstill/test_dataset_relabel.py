"""`potstill dataset relabel`, against the scripted provider behind a real relay."""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from capture import feed
from capture.database import open_database
from capture.errors import SettingsError, UpstreamError
from capture.filters import parse_filter
from capture.pricing import PriceTable
from capture.settings import Settings
from capture.writer import StoreWriter
from potstill.commands import add_noun, dataset_relabel
from potstill.output import Output
from proxy.provider import ProviderOptions, serving
from proxy.tickets import make_tickets
from proxy.worker import start_worker
from tests.curate.sending import Sent, Traffic
from tests.proxy.scripting import free_port, relay_settings


def parse(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    dataset_relabel.add_commands(add_noun(parser.add_subparsers(), "dataset", help=""))
    return parser.parse_args(["dataset", "relabel", *arguments])


def relabel(settings: Settings, *arguments: str) -> int:
    parsed = parse(*arguments)
    code: int = parsed.run(parsed, settings, Output(as_json=parsed.json))
    return code


def filled(folder: Path, upstream: str) -> Settings:
    """Settings with twelve tickets in the store, one of which has a secret."""
    settings = relay_settings(folder, upstream)
    (settings.data_folder / "spool").mkdir(parents=True)
    database = open_database(settings.database_url)
    try:
        sent = [Sent(each.user_prompt, "{}", task="triage", system=each.system_prompt) for each in make_tickets(3, 12)]
        Traffic(database, settings.data_folder / "spool").send(sent)
    finally:
        database.close()
    return settings


async def through_a_relay(settings: Settings, *arguments: str) -> int:
    relay = await start_worker(settings)
    try:
        return await asyncio.to_thread(relabel, settings, *arguments, "--url", f"http://127.0.0.1:{relay.port}")
    finally:
        await relay.drain(0.0)


def told(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


async def test_a_task_is_answered_again_by_the_scripted_provider_and_the_answers_are_captured_as_relabels(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-for-openai")
    async with serving(ProviderOptions(latency_ms=0, error_share=0)) as provider:
        settings = filled(tmp_path, provider)
        asked = ("triage", "--model", "gpt-4.1", "--limit", "8", "--yes", "--json")
        assert await through_a_relay(settings, *asked) == 0
        first = told(capsys)
        assert await through_a_relay(settings, *asked) == 0
        second = told(capsys)
    assert (first["inputs"], first["skipped"], first["questions"]) == (8, {"beyond_limit": 3, "cannot_teach": 1}, 8)
    assert (first["report"]["answered"], first["report"]["relabelled"]) == (8, 8)
    assert first["cost_estimate_microusd"] > 0
    assert first["report"]["cost_microusd"] > 0
    assert (second["inputs"], second["skipped"], second["report"]["answered"]) == (3, {"cannot_teach": 1, "done": 8}, 3)
    database = open_database(settings.database_url)
    writer = StoreWriter(database, settings.data_folder / "spool", PriceTable({}, 0.0))
    try:
        writer.drain()
        assert feed.count(database, parse_filter("purpose:relabel task:triage status:200"), 100) == 11
        assert feed.count(database, parse_filter("purpose:app"), 100) == 12
    finally:
        writer.close()
        database.close()


def test_a_dry_run_says_what_it_would_cost_and_asks_nobody(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = filled(tmp_path, f"http://127.0.0.1:{free_port()}")
    assert relabel(settings, "triage", "--model", "gpt-4.1", "--n", "2", "--judge", "gpt-4.1", "--dry-run", "--json") == 0
    found = told(capsys)
    assert (found["questions"], found["judgements"], found["is_dry_run"]) == (22, 11, True)
    assert relabel(settings, "triage", "--model", "gpt-4.1", "--n", "2", "--judge", "gpt-4.1", "--dry-run") == 0
    said = capsys.readouterr().out
    assert "22 questions to gpt-4.1, at most 22 questions to gpt-4.1" in said
    assert "estimated cost: $" in said


def test_with_nothing_to_ask_it_says_so_and_why_and_nothing_of_costs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = filled(tmp_path, f"http://127.0.0.1:{free_port()}")
    assert relabel(settings, "triage", "--model", "gpt-4.1", "--only", "bad-answers", "--filter", "model:nobody") == 0
    said = capsys.readouterr().out
    assert "Nothing to ask: no input is left" in said
    assert "cost" not in said and "0 questions" not in said


@pytest.mark.parametrize("arguments", [("--json",), ()])
def test_money_is_spent_only_with_a_yes(tmp_path: Path, arguments: Sequence[str]) -> None:
    settings = filled(tmp_path, f"http://127.0.0.1:{free_port()}")
    with pytest.raises(SettingsError, match="Nobody is here to agree"):
        relabel(settings, "triage", "--model", "gpt-4.1", *arguments)


def test_a_relay_that_does_not_run_is_named_with_how_to_start_it(tmp_path: Path) -> None:
    settings = filled(tmp_path, "http://127.0.0.1:1")
    url = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(UpstreamError, match=f"the relay at {url} cannot be asked.*potstill up"):
        relabel(settings, "triage", "--model", "gpt-4.1", "--url", url, "--yes")


def test_the_help_shows_examples(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse("--help")
    assert "potstill dataset relabel triage --model gpt-4.1 --dry-run" in capsys.readouterr().out
