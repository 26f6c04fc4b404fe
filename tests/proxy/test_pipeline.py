"""One request's life: who it is counted for, who answers it, and what is said when nobody can."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from capture.database import open_database
from capture.settings import Settings, load_settings
from proxy.worker import Worker, start_worker
from serve.flag_store import rollback, set_share
from serve.flags import Flag, Snapshot
from serve.release_store import READY, add_release, settle_release
from tests.proxy.scripting import (
    CHAT_ANSWER,
    Kept,
    Received,
    Upstream,
    chunk,
    chunked_head,
    free_port,
    http_answer,
    kept,
    relay_settings,
    relaying,
    talk,
    until,
)

KEY = "Authorization: Bearer sk-test\r\nContent-Type: application/json\r\n"
STUDENT_ANSWER = CHAT_ANSWER.replace(b"teacher-1", b"triage@r1")
ASK = b'{"model": "gpt-5",  "messages": [{"role": "user", "content": "h\xc3\xa9 \\u00e9"}], "temperature": 0.10}'
EVERYONE = Snapshot(3, {"triage": Flag("triage", "rel_1", "triage@r1", 10_000, "auto", "salt", 3)})
TAGGED = KEY + "x-potstill-task: triage\r\nx-potstill-user: u1\r\n"
CHAT = "POST /v1/chat/completions"

ENDPOINTS = {
    "chat": ("/v1/chat/completions", "openai"),
    "messages": ("/v1/messages", "anthropic"),
    "completions": ("/v1/completions", "openai"),
    "embeddings": ("/v1/embeddings", "openai"),
    "responses": ("/v1/responses", "openai"),
    "unknown": ("/v1/audio/speech", "raw"),
}
SOURCES = {
    "header": ("", "x-potstill-task: triage\r\nx-potstill-user: u1\r\nx-potstill-session: s1\r\n"),
    "path": ("/task/triage", "x-potstill-user: u1\r\nx-potstill-session: s1\r\n"),
    "helicone": ("", "Helicone-Prompt-Id: triage\r\nHelicone-User-Id: u1\r\nHelicone-Session-Id: s1\r\n"),
    "inference.net": ("", "x-inference-task-id: triage\r\nx-potstill-user: u1\r\nx-litellm-session-id: s1\r\n"),
    "portkey": ("/task/triage", 'x-portkey-metadata: {"_user": "u1"}\r\nx-portkey-trace-id: s1\r\n'),
}


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("is_stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("endpoint", ENDPOINTS)
async def test_tags_are_the_same_on_every_endpoint(
    endpoint: str, is_stream: bool, source: str, relay: Worker, upstream: Upstream, relay_config: Settings
) -> None:
    path, protocol = ENDPOINTS[endpoint]
    prefix, headers = SOURCES[source]

    async def script(_received: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(chunked_head() + chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n" if is_stream else http_answer(CHAT_ANSWER))

    upstream.script = script
    body = json.dumps({"model": "gpt-5", "stream": is_stream}).encode()
    reply = await talk(relay.port, f"POST {prefix}{path}", KEY + headers, body)
    assert reply.status == 200
    begin = only(relay_config).begin
    assert begin is not None
    assert (begin.task, begin.user_name, begin.session_name) == ("triage", "u1", "s1")
    assert (begin.unit, begin.unit_source) == ("u1", "user")
    assert (begin.path, begin.protocol, begin.model_asked, begin.is_stream) == (path, protocol, "gpt-5", is_stream)
    sent = upstream.received[0]
    assert sent.line == f"POST {path} HTTP/1.1"
    assert sent.body == body
    assert {name.lower() for name, _ in sent.headers} == {"host", "authorization", "content-type", "content-length"}


def only(settings: Settings) -> Kept:
    """The one exchange in the spool."""
    (exchange,) = kept(settings)
    return exchange


@pytest.mark.parametrize(
    ("line", "headers", "status", "words", "kind"),
    [
        (CHAT, KEY + "x-potstill-task: a b\r\n", 400, "a task name has", "bad_tag"),
        ("POST /task/a%20b/v1/messages", KEY, 400, "path prefix /task/", "bad_tag"),
        (CHAT, KEY + "x-potstill-usr: a\r\n", 400, "Did you mean x-potstill-user", "bad_tag"),
        ("POST /v1/%2e%2e/x", KEY, 400, "Send a plain path", "bad_path"),
        ("POST /nothing", KEY, 404, "Set the app's base URL", "not_found"),
        ("POST /upstream/x/v1/messages", KEY, 404, "No upstream is named 'x'", "not_found"),
        (CHAT, "", 401, "Set OPENAI_API_KEY in the app", "missing_key"),
        ("POST /v1/messages", "", 401, "Set ANTHROPIC_API_KEY in the app", "missing_key"),
        (CHAT, KEY + "Content-Length: 5000000000\r\n", 413, "raise max_body_mib", "body_too_large"),
    ],
)
async def test_what_cannot_be_relayed_is_refused_in_the_clients_shape_and_kept(
    line: str, headers: str, status: int, words: str, kind: str, relay: Worker, upstream: Upstream, relay_config: Settings
) -> None:
    body = b"" if "Content-Length" in headers else ASK
    reply = await asyncio.wait_for(talk(relay.port, line, headers, body), 5)
    assert reply.status == status
    shown = json.loads(reply.body)
    if "messages" in line:
        assert shown["type"] == "error"
        assert shown["request_id"] == reply.header("x-potstill-exchange-id")
    assert words in shown["error"]["message"]
    assert upstream.received == []
    exchange = only(relay_config)
    assert exchange.end is not None
    assert exchange.begin is not None
    assert (exchange.end.status, exchange.end.state, exchange.end.error_kind) == (status, "complete", kind)
    assert exchange.begin.body == body
    assert exchange.body == reply.body


async def test_a_missing_key_in_the_environment_is_named(tmp_path: Path, upstream: Upstream) -> None:
    path = tmp_path / "potstill.toml"
    relay_settings(tmp_path, upstream.url)
    path.write_text(path.read_text().replace("[upstreams.anthropic]", 'key = "env:POTSTILL_TEST_KEY"\n[upstreams.anthropic]'))
    async with relaying(tmp_path) as worker:
        reply = await talk(worker.port, CHAT, KEY, ASK)
        assert reply.status == 503
        assert b"Environment variable POTSTILL_TEST_KEY, the key of upstream openai, is not set" in reply.body
        assert upstream.received == []


async def test_a_key_from_the_environment_replaces_the_clients(
    tmp_path: Path, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POTSTILL_TEST_KEY", "sk-ours")
    path = tmp_path / "potstill.toml"
    relay_settings(tmp_path, upstream.url)
    path.write_text(path.read_text().replace("[upstreams.anthropic]", 'key = "env:POTSTILL_TEST_KEY"\n[upstreams.anthropic]'))
    async with relaying(tmp_path) as worker:
        assert (await talk(worker.port, CHAT, "", ASK)).status == 200
        assert upstream.received[0].header("authorization") == "Bearer sk-ours"


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages"])
async def test_a_foreign_name_for_the_relay_is_refused_in_the_clients_shape_and_kept(
    path: str, relay: Worker, upstream: Upstream, relay_config: Settings
) -> None:
    reply = await talk(relay.port, f"POST {path}", KEY, ASK, host="evil.example:8484")
    assert reply.status == 403
    shown = json.loads(reply.body)
    assert shown["error"]["type"] == ("permission_error" if "messages" in path else "invalid_request_error")
    assert "Host 'evil.example:8484' is not served here. Call the relay by its address" in shown["error"]["message"]
    assert upstream.received == []
    exchange = only(relay_config)
    assert exchange.end is not None
    assert (exchange.end.status, exchange.end.error_kind) == (403, "foreign_host")


async def test_a_name_of_the_settings_is_served_and_so_is_any_name_off_the_loopback(tmp_path: Path, upstream: Upstream) -> None:
    relay_settings(tmp_path, upstream.url, hosts='["box.lan"]')
    async with relaying(tmp_path) as worker:
        assert (await talk(worker.port, CHAT, KEY, ASK, host="box.lan")).status == 200
        assert (await talk(worker.port, CHAT, KEY, ASK, host="other.lan")).status == 403
    relay_settings(tmp_path, upstream.url, host='"0.0.0.0"')
    async with relaying(tmp_path) as worker:
        assert (await talk(worker.port, CHAT, KEY, ASK, host="other.lan")).status == 200


async def test_a_foreign_page_cannot_spend_a_key_that_is_not_the_clients(
    tmp_path: Path, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POTSTILL_TEST_KEY", "sk-ours")
    path = tmp_path / "potstill.toml"
    relay_settings(tmp_path, upstream.url)
    path.write_text(path.read_text().replace("[upstreams.anthropic]", 'key = "env:POTSTILL_TEST_KEY"\n[upstreams.anthropic]'))
    foreign = "Origin: https://evil.example\r\nContent-Type: text/plain\r\n"
    async with relaying(tmp_path) as worker:
        reply = await talk(worker.port, CHAT, foreign, ASK)
        assert reply.status == 403
        assert b"A page from 'https://evil.example' may not use upstream openai" in reply.body
        assert upstream.received == []
        assert (await talk(worker.port, CHAT, "Origin: http://127.0.0.1:3000\r\n", ASK)).status == 200
        assert (await talk(worker.port, "POST /v1/messages", "x-api-key: theirs\r\n" + foreign, ASK)).status == 200


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages"])
async def test_an_upstream_that_cannot_be_reached_is_named_and_the_question_is_kept(path: str, tmp_path: Path) -> None:
    settings = relay_settings(tmp_path, f"http://127.0.0.1:{free_port()}")
    async with relaying(tmp_path) as worker:
        reply = await talk(worker.port, f"POST {path}", KEY, ASK)
    assert reply.status == 502
    message = json.loads(reply.body)["error"]["message"]
    name = "openai" if "chat" in path else "anthropic"
    assert f"Upstream {name} at http://127.0.0.1:" in message
    assert f"Check url in [upstreams.{name}]" in message
    exchange = only(settings)
    assert exchange.begin is not None
    assert exchange.end is not None
    assert exchange.begin.body == ASK
    assert (exchange.end.state, exchange.end.error_kind) == ("upstream_aborted", "upstream_unreachable")


async def test_an_overlong_chunked_body_is_refused(tmp_path: Path, upstream: Upstream) -> None:
    relay_settings(tmp_path, upstream.url, max_body_mib=1)
    async with relaying(tmp_path) as worker:
        reader, writer = await asyncio.open_connection("127.0.0.1", worker.port)
        writer.write(f"{CHAT} HTTP/1.1\r\nHost: 127.0.0.1\r\n{KEY}Transfer-Encoding: chunked\r\n\r\n".encode())
        for _ in range(3):
            writer.write(chunk(bytes(2**19)))
        writer.write(b"0\r\n\r\n")
        assert b" 413 " in await asyncio.wait_for(reader.readline(), 5)
        writer.close()
    assert upstream.received == []


async def test_bodies_beyond_the_budget_are_refused_and_the_budget_comes_back(tmp_path: Path, upstream: Upstream) -> None:
    relay_settings(tmp_path, upstream.url, max_held_mib=1)
    async with relaying(tmp_path) as worker:
        first = asyncio.ensure_future(talk(worker.port, CHAT, KEY + "Content-Length: 700000\r\n"))
        await until(lambda: worker._relay.budget.held == 700_000)
        assert (await talk(worker.port, CHAT, KEY, bytes(700_000))).status == 503
        first.cancel()
        await until(lambda: worker._relay.budget.held == 0)
        assert (await talk(worker.port, CHAT, KEY, bytes(700_000))).status == 200


@pytest.fixture
async def engine() -> AsyncIterator[Upstream]:
    """An engine that answers as the student."""

    async def answer(_received: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(http_answer(STUDENT_ANSWER))

    found = Upstream(answer)
    server = await asyncio.start_server(found.serve, "127.0.0.1", 0)
    found.port = server.sockets[0].getsockname()[1]
    yield found
    server.close()


@pytest.fixture
def student_settings(tmp_path: Path, upstream: Upstream, engine: Upstream) -> Settings:
    path = tmp_path / "potstill.toml"
    relay_settings(tmp_path, upstream.url, student_timeout_s=0.3)
    head, _, _ = path.read_text().partition("[engine]")
    path.write_text(f'{head}[engine]\nurl = "{engine.url}"\n')
    return load_settings(path, environ={})


@pytest.fixture
async def student_relay(student_settings: Settings) -> AsyncIterator[Worker]:
    """A relay whose flag gives every unit of task triage to the student."""
    worker = await start_worker(student_settings)
    worker._relay.flags = lambda: EVERYONE
    yield worker
    await worker.drain(0.0)


async def test_the_student_gets_the_body_with_only_the_model_changed_and_no_key(
    student_relay: Worker, engine: Upstream, upstream: Upstream, student_settings: Settings
) -> None:
    reply = await talk(student_relay.port, CHAT, TAGGED + "openai-organization: o\r\nCookie: c=1\r\n", ASK)
    assert (reply.status, reply.body) == (200, STUDENT_ANSWER)
    assert reply.header("x-potstill-variant") == "candidate"
    assert reply.header("x-potstill-upstream") == "engine"
    assert reply.header("x-potstill-release") == "rel_1"
    assert upstream.received == []
    sent = engine.received[0]
    messages = b'[{"role": "user", "content": "h\xc3\xa9 \\u00e9"}]'
    assert sent.body == b'{"model":"triage@r1","messages":' + messages + b',"temperature":0.10}'
    assert {name.lower() for name, _ in sent.headers} == {"host", "content-type", "content-length"}
    exchange = only(student_settings)
    assert exchange.begin is not None
    assert exchange.head is not None
    assert (exchange.begin.variant, exchange.begin.release_id, exchange.begin.flag_revision) == ("candidate", "rel_1", 3)
    assert (exchange.begin.unit, exchange.begin.unit_source) == ("u1", "user")
    assert (exchange.head.upstream, exchange.head.model_served, exchange.head.fallback_reason) == ("engine", "triage@r1", "")
    assert exchange.begin.body == ASK, "what the client sent is kept, not what the engine got"


@pytest.mark.parametrize("is_stream", [False, True], ids=["whole", "stream"])
async def test_the_student_answers_messages_too(is_stream: bool, student_relay: Worker, engine: Upstream) -> None:
    async def script(_received: Received, writer: asyncio.StreamWriter) -> None:
        if is_stream:
            writer.write(chunked_head() + chunk(b"event: message_start\ndata: {}\n\n"))
            writer.write(chunk(b"event: message_stop\ndata: {}\n\n") + b"0\r\n\r\n")
        else:
            writer.write(http_answer(b'{"type": "message"}'))

    engine.script = script
    reply = await talk(student_relay.port, "POST /v1/messages", TAGGED, ASK)
    assert reply.header("x-potstill-upstream") == "engine"
    assert reply.body.endswith(b"event: message_stop\ndata: {}\n\n" if is_stream else b'{"type": "message"}')
    assert json.loads(engine.received[0].body)["model"] == "triage@r1"


async def _hang(_received: Received, _writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(60)


async def _break(_received: Received, writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()


async def _break_after_head(_received: Received, writer: asyncio.StreamWriter) -> None:
    writer.write(chunked_head())
    await writer.drain()
    await asyncio.sleep(0.02)
    writer.transport.abort()


async def _hang_after_head(_received: Received, writer: asyncio.StreamWriter) -> None:
    writer.write(chunked_head())
    await asyncio.sleep(60)


async def _unknown_model(_received: Received, writer: asyncio.StreamWriter) -> None:
    writer.write(http_answer(b'{"error": {"message": "no such model"}}', status="404 Not Found"))


async def _overloaded(_received: Received, writer: asyncio.StreamWriter) -> None:
    writer.write(http_answer(b"{}", status="503 Service Unavailable"))


async def _nothing(_received: Received, writer: asyncio.StreamWriter) -> None:
    writer.write(chunked_head() + b"0\r\n\r\n")


async def _error_in_band(_received: Received, writer: asyncio.StreamWriter) -> None:
    writer.write(chunked_head() + chunk(b'data: {"error": {"message": "out of memory"}}\n\n') + b"0\r\n\r\n")


FAILURES = {
    "timeout": _hang,
    "aborted": _break,
    "aborted after the head": _break_after_head,
    "timeout after the head": _hang_after_head,
    "http_404": _unknown_model,
    "http_503": _overloaded,
    "empty_answer": _nothing,
    "error_in_band": _error_in_band,
}


@pytest.mark.parametrize("failure", FAILURES)
async def test_when_the_student_fails_before_its_first_byte_the_teacher_answers(
    failure: str, student_relay: Worker, engine: Upstream, upstream: Upstream, student_settings: Settings
) -> None:
    engine.script = FAILURES[failure]
    reply = await talk(student_relay.port, CHAT, TAGGED, ASK)
    assert (reply.status, reply.body, reply.is_whole) == (200, CHAT_ANSWER, True)
    assert reply.header("x-potstill-variant") == "candidate"
    assert reply.header("x-potstill-upstream") == "openai"
    assert upstream.received[0].body == ASK
    assert upstream.received[0].header("authorization") == "Bearer sk-test"
    exchange = only(student_settings)
    assert exchange.end is not None
    assert exchange.begin is not None
    assert exchange.end.fallback_reason == failure.split()[0]
    assert (exchange.end.state, exchange.end.upstream, exchange.begin.variant) == ("complete", "openai", "candidate")
    assert exchange.body == CHAT_ANSWER, "nothing of the student's attempt is kept as the answer"


async def test_an_engine_that_is_down_opens_the_breaker_and_every_fallback_is_recorded(
    tmp_path: Path, upstream: Upstream
) -> None:
    settings = relay_settings(tmp_path, upstream.url)
    async with relaying(tmp_path) as worker:
        worker._relay.flags = lambda: EVERYONE
        for _ in range(7):
            assert (await talk(worker.port, CHAT, TAGGED, ASK)).body == CHAT_ANSWER
        assert worker.status()["is_breaker_open"]
        assert worker.status()["fallbacks"] == 7
    reasons = [exchange.end.fallback_reason for exchange in kept(settings) if exchange.end is not None]
    assert reasons == ["unreachable"] * 5 + ["breaker_open"] * 2


async def test_after_its_first_byte_the_student_is_not_replaced(
    student_relay: Worker, engine: Upstream, upstream: Upstream, student_settings: Settings
) -> None:
    async def script(_received: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(chunked_head() + chunk(b"data: 1\n\n"))
        await writer.drain()
        await asyncio.sleep(0.05)
        writer.transport.abort()

    engine.script = script
    reply = await talk(student_relay.port, CHAT, TAGGED, ASK)
    assert not reply.is_whole
    assert upstream.received == []
    exchange = only(student_settings)
    assert exchange.end is not None
    assert (exchange.end.state, exchange.end.upstream) == ("upstream_aborted", "engine")


@pytest.mark.parametrize(
    ("line", "headers", "variant"),
    [
        (CHAT, TAGGED + "x-potstill-purpose: judge\r\n", ""),
        ("POST /v1/embeddings", TAGGED, ""),
        ("POST /v1/responses", TAGGED, ""),
        ("POST /v1/messages/count_tokens", TAGGED, ""),
        (CHAT, KEY + "x-potstill-task: other\r\nx-potstill-user: u1\r\n", ""),
        (CHAT, KEY + "x-potstill-user: u1\r\n", ""),
        (CHAT, KEY + "x-potstill-task: triage\r\n", "baseline"),
        (CHAT, TAGGED + "Content-Encoding: gzip\r\n", "candidate"),
    ],
)
async def test_the_teacher_answers_what_the_student_may_not(
    line: str, headers: str, variant: str, student_relay: Worker, engine: Upstream, student_settings: Settings
) -> None:
    reply = await talk(student_relay.port, line, headers, ASK)
    assert reply.status == 200
    assert engine.received == []
    begin = only(student_settings).begin
    assert begin is not None
    assert begin.variant == variant


async def test_a_request_without_a_key_is_refused_even_when_the_student_would_answer(
    student_relay: Worker, engine: Upstream
) -> None:
    reply = await talk(student_relay.port, CHAT, "x-potstill-task: triage\r\nx-potstill-user: u1\r\n", ASK)
    assert reply.status == 401
    assert engine.received == []


async def test_a_flag_in_the_store_is_obeyed_within_half_a_second_and_so_is_its_rollback(
    student_settings: Settings, engine: Upstream, upstream: Upstream
) -> None:
    database = open_database(student_settings.database_url)
    release = add_release(database, "triage", "ad_1", {})
    settle_release(database, release, READY, {}, 10, 10)
    worker = await start_worker(student_settings)

    async def answered_by() -> str:
        return (await talk(worker.port, CHAT, TAGGED, ASK)).header("x-potstill-upstream")

    async def seconds_until(name: str) -> float:
        began = time.monotonic()
        async with asyncio.timeout(5):
            while await answered_by() != name:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        return time.monotonic() - began

    try:
        assert await answered_by() == "openai"
        there, back = [], []
        while len(there) < 5 and (not there or min(there) >= 0.5 or min(back) >= 0.5):  # a busy machine has bad moments
            set_share(database, "triage", 10_000, who="test", why="test")
            there.append(await seconds_until("engine"))
            assert {await answered_by() for _ in range(10)} == {"engine"}
            rollback(database, "triage", "test", "test")
            back.append(await seconds_until("openai"))
            assert {await answered_by() for _ in range(10)} == {"openai"}
        assert min(there) < 0.5
        assert min(back) < 0.5
    finally:
        await worker.drain(0.0)
        database.close()
    begins = [exchange.begin for exchange in kept(student_settings) if exchange.begin is not None]
    assert begins[-1].variant == "baseline"
    assert begins[-1].flag_revision > begins[0].flag_revision


@pytest.mark.faults
async def test_f06_a_store_that_cannot_be_opened_does_not_stop_the_relay(tmp_path: Path, upstream: Upstream) -> None:
    path = tmp_path / "potstill.toml"
    relay_settings(tmp_path, upstream.url)
    nowhere = f"postgresql://nobody@127.0.0.1:{free_port()}/none"
    path.write_text(path.read_text().replace('data_folder = "data"', f'data_folder = "data"\ndatabase_url = "{nowhere}"'))
    worker = await start_worker(load_settings(path, environ={}))
    try:
        assert (await talk(worker.port, CHAT, TAGGED, ASK)).body == CHAT_ANSWER
        await until(lambda: worker.status()["flag_error"])
    finally:
        await worker.drain(0.0)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_who_only_looks_whether_somebody_is_here_is_no_exchange(
    method: str, relay: Worker, upstream: Upstream, relay_config: Settings
) -> None:
    reply = await talk(relay.port, f"{method} /")
    assert reply.status == 200
    assert reply.body == (b'{"relay": "potstill"}\n' if method == "GET" else b"")
    assert (kept(relay_config), upstream.received) == ([], [])
