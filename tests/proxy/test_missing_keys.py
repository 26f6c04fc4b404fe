"""A key of ours that is missing for a while: whoever else can answer does, and no client does without its own key."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from capture.settings import Settings, load_settings
from proxy.worker import Worker, start_worker
from serve.flags import Flag, Snapshot
from tests.proxy.scripting import CHAT_ANSWER, Received, Script, Upstream, free_port, http_answer, kept, talk

CHAT = "POST /v1/chat/completions"
KEY = "Authorization: Bearer sk-client\r\nContent-Type: application/json\r\n"
NO_KEY = "Content-Type: application/json\r\n"
ASK = b'{"model":"fast","messages":[]}'
BACKUP_ANSWER = CHAT_ANSWER.replace(b"teacher-1", b"backup-1")
EVERYONE = Snapshot(3, {"triage": Flag("triage", "rel_1", "triage@r1", 10_000, "auto", "salt", 3)})
MAIN = 'key = "file:main.key"\nfallbacks = ["backup"]\n'

Start = Callable[..., Awaitable[tuple[Worker, Settings]]]


def saying(status: str, body: bytes) -> Script:
    """A script that answers every request alike."""

    async def script(_received: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(http_answer(body, status=status))

    return script


@pytest.fixture
async def backup() -> AsyncIterator[Upstream]:
    """A second upstream that answers `BACKUP_ANSWER`."""
    found = Upstream(saying("200 OK", BACKUP_ANSWER))
    server = await asyncio.start_server(found.serve, "127.0.0.1", 0)
    found.port = server.sockets[0].getsockname()[1]
    yield found
    server.close()


@pytest.fixture
async def start(tmp_path: Path, upstream: Upstream, backup: Upstream, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Start]:
    """Starts a relay in front of [upstreams.main] and [upstreams.backup] with the given lines."""
    monkeypatch.setenv("BACKUP_KEY", "sk-backup")
    workers: list[Worker] = []

    async def begin(
        main: str = "", more: str = 'key = "env:BACKUP_KEY"', engine: str = "", url: str = ""
    ) -> tuple[Worker, Settings]:
        engine = engine or f"http://127.0.0.1:{free_port()}"
        path = tmp_path / "potstill.toml"
        path.write_text(
            f'[relay]\nport = 0\nadmin_port = 0\n[engine]\nurl = "{engine}"\n[upstreams.main]\nurl = "{upstream.url}"\n{main}\n'
            f'[upstreams.backup]\nurl = "{url or backup.url}"\n{more}\n',
            "utf-8",
        )
        settings = load_settings(path, environ={})
        workers.append(await start_worker(settings))
        return workers[-1], settings

    yield begin
    for worker in workers:
        await worker.drain(0.0)


def reason(settings: Settings) -> str:
    (exchange,) = kept(settings)
    assert exchange.end is not None
    return exchange.end.fallback_reason


async def test_a_fallback_answers_while_our_key_is_missing(start: Start, upstream: Upstream, backup: Upstream) -> None:
    worker, settings = await start(MAIN)
    reply = await talk(worker.port, CHAT, KEY, ASK)
    assert (reply.status, reply.body, reply.header("x-potstill-upstream")) == (200, BACKUP_ANSWER, "backup")
    assert backup.received[0].header("authorization") == "Bearer sk-backup"
    assert (upstream.received, reason(settings)) == ([], "main: missing_key")


@pytest.mark.parametrize("main", ['key = "env:POTSTILL_TEST_UNSET"', 'key = "file:main.key"\nretries = 3', MAIN])
async def test_when_nobody_else_can_answer_it_is_ours_to_mend_and_worth_another_try(
    main: str, start: Start, upstream: Upstream
) -> None:
    worker, _ = await start(main, url=f"http://127.0.0.1:{free_port()}")
    reply = await talk(worker.port, CHAT, KEY, ASK)
    error = json.loads(reply.body)["error"]
    assert (reply.status, error["code"], reply.header("x-should-retry")) == (503, "missing_upstream_key", "")
    assert "the key of upstream main" in error["message"]
    assert "then try again" in error["message"]
    assert upstream.received == []


async def test_an_upstreams_own_word_counts_more_than_our_missing_key(start: Start, backup: Upstream) -> None:
    worker, _ = await start(MAIN)
    backup.script = saying("429 Too Many Requests", b"not so fast")
    reply = await talk(worker.port, CHAT, KEY, ASK)
    assert (reply.status, reply.body) == (429, b"not so fast")


async def test_a_circuit_that_is_open_keeps_nobody_from_the_only_upstream_that_has_a_key(start: Start, backup: Upstream) -> None:
    worker, settings = await start(MAIN, 'key = "env:BACKUP_KEY"\ncircuit_failures = 1\ncircuit_rest_s = 3600')
    backup.script = saying("500 Broken", b"broken")
    assert (await talk(worker.port, CHAT, KEY, ASK)).status == 500
    backup.script = saying("200 OK", BACKUP_ANSWER)
    assert (await talk(worker.port, CHAT, KEY, ASK)).body == BACKUP_ANSWER
    last = kept(settings)[1].end
    assert last is not None
    assert last.fallback_reason == "main: missing_key; backup: circuit_open"


async def test_a_client_without_its_own_key_is_served_by_nobody_with_ours(start: Start, backup: Upstream) -> None:
    worker, _ = await start('fallbacks = ["backup"]')
    reply = await talk(worker.port, CHAT, NO_KEY, ASK)
    assert (reply.status, json.loads(reply.body)["error"]["code"]) == (401, "missing_key")
    assert reply.header("x-should-retry") == "false"
    assert backup.received == []


async def test_the_student_is_asked_whether_or_not_our_key_is_there(start: Start, upstream: Upstream) -> None:
    engine = Upstream(saying("200 OK", CHAT_ANSWER))
    server = await asyncio.start_server(engine.serve, "127.0.0.1", 0)
    engine.port = server.sockets[0].getsockname()[1]
    worker, _ = await start('key = "file:main.key"', engine=engine.url)
    worker._relay.flags = lambda: EVERYONE
    reply = await talk(worker.port, "POST /task/triage/v1/chat/completions", KEY + "x-potstill-user: u1\r\n", ASK)
    server.close()
    assert (reply.status, reply.body, reply.header("x-potstill-variant")) == (200, CHAT_ANSWER, "candidate")
    assert upstream.received == []


@pytest.mark.parametrize(
    ("more", "model"),
    [
        ("", "gpt-5-mini"),
        ('aliases = {"gpt-5-mini" = "deployed-mini"}', "deployed-mini"),
        ('aliases = {fast = "own-fast", "gpt-5-mini" = "deployed-mini"}', "own-fast"),
    ],
)
async def test_who_stands_in_is_asked_for_the_model_behind_the_alias(
    more: str, model: str, start: Start, upstream: Upstream, backup: Upstream
) -> None:
    worker, _ = await start('aliases = {fast = "gpt-5-mini"}\nfallbacks = ["backup"]', f'key = "env:BACKUP_KEY"\n{more}')
    upstream.script = saying("503 Busy", b"busy")
    assert (await talk(worker.port, CHAT, KEY, ASK)).body == BACKUP_ANSWER
    assert json.loads(upstream.received[0].body)["model"] == "gpt-5-mini"
    assert json.loads(backup.received[0].body)["model"] == model


async def test_azure_stands_in_with_the_deployment_behind_the_alias(start: Start, upstream: Upstream, backup: Upstream) -> None:
    azure = 'key = "env:BACKUP_KEY"\napi_version = "2024-10-21"'
    worker, _ = await start('aliases = {fast = "gpt-5-mini"}\nfallbacks = ["backup"]', azure)
    upstream.script = saying("503 Busy", b"busy")
    assert (await talk(worker.port, CHAT, KEY, ASK)).body == BACKUP_ANSWER
    assert backup.received[0].line.startswith("POST /openai/deployments/gpt-5-mini/chat/completions?")
