"""The `llm` command and the coding agents Claude Code, Codex and Aider, through the relay and into the store."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from capture.exchange import CLIENT_CLOSED, COMPLETE, Exchange
from tests.clients.commands import CANCEL, CHAT, COMMANDS, ERROR, HEADERS, SAID, TOOLS, Command
from tests.clients.house import Arrived, House

pytestmark = pytest.mark.clients

PATHS = {
    "llm": ("/v1/chat/completions", "openai"),
    "claude-code": ("/v1/messages", "anthropic"),
    "codex": ("/v1/responses", "openai"),
    "aider": ("/v1/chat/completions", "openai"),
}
SESSIONS = {"claude-code": "session_id", "codex": "thread_id"}
"""Under which name an agent tells its session."""
CHANGES = {
    *("host", "content-length", "connection", "x-claude-code-session-id", "session-id", "thread-id"),
    *("x-client-request-id", "x-codex-window-id", "x-codex-turn-metadata"),
}
"""Headers of an agent that are new in each run, or belong to one connection."""


def command(name: str, scenario: str, house: House, folder: Path) -> Command:
    """`name` in front of the relay; Codex speaks Responses, which has an upstream of its own."""
    return COMMANDS[name](house.address + ("/upstream/responses" if name == "codex" else ""), folder, scenario)


def stored(name: str, scenario: str, house: House, count: int = 1) -> list[Exchange]:
    """The exchanges of a scenario, after a look at what is true of all; those that an agent adds of itself are among them."""
    found = house.stored(f"task:{name} tag.scenario:{scenario}", count)
    for exchange in found:
        assert (exchange.path, exchange.protocol) == PATHS[name]
        assert exchange.is_stream
    return found


@pytest.mark.parametrize("name", ["llm", "claude-code", "codex"])
def test_an_answer_reaches_its_user_and_the_store(name: str, house: House, tmp_path: Path) -> None:
    run = command(name, CHAT, house, tmp_path).run()
    assert run.returncode == 0, run.stderr
    assert SAID in run.stdout
    (exchange,) = stored(name, CHAT, house)
    assert (exchange.status, exchange.state, exchange.output_text) == (200, COMPLETE, SAID)
    (head,) = house.arrived_of(f"{name}/{CHAT}")
    assert not [each for each, _ in head.headers if each.startswith("x-potstill")], "our headers stay with us"
    if name in SESSIONS:
        session = _session(name, run.stdout)
        assert (exchange.session_name, exchange.unit, exchange.unit_source) == (session, session, "session")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("llm", "The tool says: 4 degrees"),
        ("claude-code", "The tool says: Oslo/Oslo"),
        ("codex", 'The tool says: {"goal":null'),
    ],
)
def test_a_tool_is_used_and_its_result_goes_back(name: str, said: str, house: House, tmp_path: Path) -> None:
    run = command(name, TOOLS, house, tmp_path).run()
    assert run.returncode == 0, run.stderr
    assert said in run.stdout.replace('\\"', '"')
    called, answered = stored(name, TOOLS, house, count=2)
    assert called.state == answered.state == COMPLETE
    assert answered.output_text.startswith(said)
    assert called.unit == answered.unit, "one session is one unit"


def test_aider_edits_a_file_as_the_answer_says(house: House, tmp_path: Path) -> None:
    run = command("aider", TOOLS, house, tmp_path).run()
    assert run.returncode == 0, run.stderr
    assert (tmp_path / "hello.py").read_text() == "print('Oslo')\n"
    (exchange,) = stored("aider", TOOLS, house)
    assert (exchange.status, exchange.state) == (200, COMPLETE)
    assert "print('Oslo')" in exchange.output_text


@pytest.mark.parametrize("name", COMMANDS)
def test_a_providers_error_is_shown_as_the_provider_said_it(name: str, house: House, tmp_path: Path) -> None:
    run = command(name, ERROR, house, tmp_path).run()
    assert "Scripted error 400." in run.stdout + run.stderr
    assert all((exchange.status, exchange.state) == (400, COMPLETE) for exchange in stored(name, ERROR, house))


@pytest.mark.parametrize("name", COMMANDS)
def test_interrupting_it_ends_the_stream_for_all(name: str, house: House, tmp_path: Path) -> None:
    with command(name, CANCEL, house, tmp_path).interrupted(lambda: house.arrived_of(f"{name}/{CANCEL}")):
        assert stored(name, CANCEL, house)[0].state == CLIENT_CLOSED


@pytest.mark.parametrize("name", SESSIONS)
def test_an_agents_own_headers_reach_the_provider_untouched(name: str, house: House, tmp_path: Path) -> None:
    folders = [tmp_path / "direct", tmp_path / "relayed"]
    for folder in folders:
        folder.mkdir()
    direct = COMMANDS[name](house.responses if name == "codex" else house.provider, folders[0], HEADERS).run()
    relayed = command(name, HEADERS, house, folders[1]).run()
    alone, through = house.arrived_of(f"{name}/{HEADERS}")
    assert direct.returncode == relayed.returncode == 0
    assert _lasting(through) == {key: value for key, value in _lasting(alone).items() if not key.startswith("x-potstill")}
    assert _session(name, relayed.stdout) in (through.header("x-claude-code-session-id"), through.header("session-id"))


def _lasting(head: Arrived) -> Mapping[str, str]:
    return {name: value for name, value in head.headers if name not in CHANGES}


def _session(name: str, stdout: str) -> str:
    """The session that an agent tells in the JSON lines that it prints."""
    lines = [json.loads(line) for line in stdout.splitlines() if line.startswith("{")]
    return next(str(line[SESSIONS[name]]) for line in lines if SESSIONS[name] in line)
