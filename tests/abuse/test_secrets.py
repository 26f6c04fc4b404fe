"""Credentials pass through and are left nowhere: not in store, spool, logs, metrics, exports or what a crash leaves behind."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from capture import feed
from capture.database import Database, open_database
from capture.exchange import Exchange
from capture.filters import parse_filter
from capture.settings import Settings
from proxy.worker import Worker
from tests.abuse.house import House, house_in
from tests.abuse.wire import ASK, CHAT, KEY, request, said, send
from tests.capture.planting import drain, everything, raw_bytes
from tests.faults.relay_process import relay_process
from tests.proxy.scripting import (
    CHAT_ANSWER,
    Received,
    Script,
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

pytestmark = pytest.mark.abuse

HARMLESS = "quokkasandwich"
"""A word of the prompts: what looks for secrets must find it, or it looks at nothing."""
SECRETS = {
    "Authorization": "Bearer {}authorization",
    "x-api-key": "{}xapikey",
    "api-key": "{}apikey",
    "x-goog-api-key": "{}googkey",
    "Ocp-Apim-Subscription-Key": "{}ocpkey",
    "X-Amz-Security-Token": "{}amztoken",
    "Helicone-Auth": "Bearer {}helicone",
    "x-portkey-api-key": "{}portkey",
    "x-litellm-api-key": "{}litellm",
    "Cookie": "session={}cookie",
    "Proxy-Authorization": "Basic {}proxy",
    "X-Forwarded-Access-Token": "{}forwarded",
    "X-Custom-Secret": "{}custom",
}
MARK = "zq9sentinel"
OUR_KEY = 'key = "env:TEST_UPSTREAM_KEY"\n'
HEADERS = "".join(f"{name}: {value.format(MARK)}\r\n" for name, value in SECRETS.items())
PATHS = (
    *("/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses", "/v1/messages", "/v1/files/abc"),
    *("/task/triage/v1/chat/completions", "/upstream/anthropic/v1/anything", "/nowhere", "/v1/../up", "/v1/request/x/feedback"),
)
BODY = json.dumps({"model": "m", "messages": [{"role": "user", "content": HARMLESS}]}).encode()
STREAMED = json.dumps({"model": "m", "stream": True, "messages": [{"role": "user", "content": HARMLESS}]}).encode()


async def answer_with_cookies(received: Received, writer: asyncio.StreamWriter) -> None:
    """An answer, streamed if so asked, with credentials of the upstream's own in its headers."""
    own = f"Set-Cookie: upstream={MARK}setcookie\r\nX-Api-Key: {MARK}answered\r\nWWW-Authenticate: Bearer {MARK}realm\r\n"
    if b'"stream": true' in received.body:
        said = json.dumps({"choices": [{"index": 0, "delta": {"content": HARMLESS}, "finish_reason": "stop"}]}).encode()
        writer.write(chunked_head(extra=own) + chunk(b"data: " + said + b"\n\n") + chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n")
        return
    writer.write(http_answer(CHAT_ANSWER).replace(b"\r\n\r\n", b"\r\n" + own.encode() + b"\r\n", 1))


async def ask_everywhere(port: int, upstream: Upstream) -> int:
    """Requests with every kind of credential to every kind of path; the number of those that leave an exchange."""
    upstream.script = answer_with_cookies
    for path in PATHS:
        for body in (BODY, STREAMED):
            await send(port, request(f"POST {path}", HEADERS, body))
    await send(port, f"GET /v1/models HTTP/1.1\r\nHost: 127.0.0.1\r\n{HEADERS}X-Bad : {MARK}badheader\r\n\r\n".encode())
    await send(port, f"{MARK}method / HTTP/1.1\r\nHost: 127.0.0.1\r\n{HEADERS}\r\n".encode())
    forwarded = [received for received in upstream.received if MARK in received.header("authorization")]
    assert len(forwarded) >= 2 * (len(PATHS) - 3), "the client's own key goes to its upstream"
    return 2 * (len(PATHS) - 1)


def without_request_line(text: str) -> str:
    """`text` without what stands in it because a path says it, which is no header."""
    return text.replace(f"{MARK}method", "")


async def shown_by_admin(house: House) -> str:
    """All pages of a running house's admin listener as one text."""
    pages = [await house.get(path) for path in ("/status", "/metrics", "/health/ready", "/openapi.json")]
    return "\n".join(text for _, text in pages)


async def shown_by_commands(house: House) -> str:
    """All that commands tell of a running house, and what they export, as one text."""
    shown: list[str] = []
    for arguments in (
        ("exchanges", "export", "--raw", "--out", "all.jsonl"),
        ("exchanges", "export", "--format", "otlp", "--with-content", "--out", "all.otlp.json"),
        ("exchanges", "list", "--limit", "1000", "--json"),
        ("doctor", "--json"),
        ("losses", "--json"),
        ("config", "--json"),
    ):
        told = await asyncio.to_thread(house.command, *arguments)
        shown.append(told.stdout + told.stderr)
    exported = [(house.settings.folder / name).read_text("utf-8") for name in ("all.jsonl", "all.otlp.json")]
    assert exported[0].count("\n") > 5
    assert all(HARMLESS in text for text in exported), "it looks where content is"
    return "\n".join([*shown, *exported])


@pytest.mark.parametrize("mode", ["a01 as it is", "a08 with every debug switch on"])
async def test_a01_a08_no_credential_in_a_header_is_left_anywhere(mode: str, tmp_path: Path, upstream: Upstream) -> None:
    debug = {"PYTHONASYNCIODEBUG": "1", "PYTHONDEVMODE": "1", "AIOHTTP_DEBUG": "1", "LITELLM_LOG": "DEBUG", "DEBUG": "1"}
    python = ["-X", "dev"] if "debug" in mode else []
    async with house_in(tmp_path, upstream.url, environ=debug if "debug" in mode else {}, python=python, workers=2) as house:
        count = await ask_everywhere(house.port, upstream)
        await house.stored(count)
        running = house.bytes().decode("latin-1")
        shown = await shown_by_admin(house)
        if "debug" not in mode:  # commands have no part in that
            shown += await shown_by_commands(house)
        await house.stop()
        unpacked = house.unpacked()
    assert HARMLESS in unpacked, "it looks where content is"
    for text in (running, shown, unpacked, house.bytes().decode("latin-1"), house.logs()):
        found = without_request_line(text)
        assert MARK not in found, found[max(0, found.find(MARK) - 300) : found.find(MARK) + 100]


async def test_a01_the_spool_never_holds_one_either(tmp_path: Path, upstream: Upstream) -> None:
    settings = relay_settings(tmp_path, upstream.url)
    async with relaying(tmp_path) as worker:
        await ask_everywhere(worker.port, upstream)
    spooled = raw_bytes(settings.data_folder / "spool")
    assert HARMLESS.encode() in spooled
    assert MARK.encode() not in spooled.replace(f"{MARK}method".encode(), b"")


def holds(folder: Path, secret: str) -> bool:
    """Whether any file under `folder` has `secret` in it."""
    return secret.encode() in raw_bytes(folder)


def stored(settings: Settings) -> tuple[list[Exchange], str]:
    """What the store makes of the spool: its exchanges, newest first, and all of it unpacked."""
    database: Database = open_database(settings.database_url)
    try:
        drain(database, settings.data_folder / "spool")
        return list(feed.page(database, parse_filter(""))), everything(database)
    finally:
        database.close()


KEYS = {
    "openai": "sk-proj-abcDEF1234567890abcDEF1234567890abcDEF1234567890",
    "anthropic": "sk-ant-api03-abcDEF1234567890abcDEF1234567890-abcDEF12AA",
    "google": "AIzaSyA1234567890abcdefghijklmnopqrstuv",
    "groq": "gsk_abcDEF1234567890abcDEF1234567890abcDEF1234567890",
    "a token of no known form": "Bearer 0a1b2c3d4e5f60718293a4b5c6d7e8f9",
}


@pytest.mark.parametrize("is_stream", [False, True])
@pytest.mark.parametrize("kind", KEYS)
async def test_a02_a_key_that_an_upstream_echoes_reaches_the_client_alone(
    kind: str, is_stream: bool, tmp_path: Path, upstream: Upstream
) -> None:
    key = KEYS[kind]
    error = json.dumps({"error": {"message": f"Incorrect API key provided: {key}.", "type": "invalid_request_error"}}).encode()

    async def script(_received: Received, writer: asyncio.StreamWriter) -> None:
        if is_stream:
            half = len(error) // 2
            writer.write(chunked_head() + chunk(b"data: " + error[:half]) + chunk(error[half:] + b"\n\n") + b"0\r\n\r\n")
        else:
            writer.write(http_answer(error, status="401 Unauthorized", headers={"X-Echo": key}))

    upstream.script = script
    settings = relay_settings(tmp_path, upstream.url)
    async with relaying(tmp_path) as worker:
        (reply,) = await send(worker.port, request(CHAT, f"Authorization: {key}\r\n", BODY))
    assert key in reply.body.decode(), "the client sees what its upstream said"
    (exchange,), unpacked = stored(settings)
    assert HARMLESS in unpacked
    assert key.split(" ")[-1] not in unpacked
    assert not holds(tmp_path, key.split(" ")[-1])
    assert exchange.redactions >= 1


QUERIES = [
    "key=AIzaSyA1234567890abcdefghijklmnopqrstuv",
    "api_key={}",
    "api-key={}",
    "API_KEY={}",
    "subscription-key={}",
    "access_token={}",
    "auth={}",
    "authorization=Bearer%20{}",
    "X-Amz-Signature={}",
    "X-Amz-Security-Token={}",
    "sv=2024-01-01&sig={}",
    "client_secret={}",
    "pwd={}",
    "ke%79={}",
    "a=1&api_key={}&b=2",
    "a=1;key={}",
]


@pytest.mark.parametrize("query", QUERIES)
async def test_a03_a_key_in_a_query_is_neither_kept_nor_logged(
    query: str, tmp_path: Path, upstream: Upstream, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    secret = "AIzaSyA1234567890abcdefghijklmnopqrstuv" if "AIza" in query else f"{MARK}query"
    asked = query.format(secret)
    settings = relay_settings(tmp_path, upstream.url)
    async with relaying(tmp_path) as worker:
        await send(worker.port, request(f"POST /v1/chat/completions?api-version=2026&{asked}", KEY, BODY))
        await send(worker.port, request(f"POST /nowhere?{asked}", KEY, BODY))
        upstream.script = broken
        await send(worker.port, request(f"POST /v1/chat/completions?{asked}", KEY, BODY))
    assert asked in upstream.received[0].line, "the upstream gets it as it was written"
    assert not holds(settings.data_folder / "spool", secret)
    exchanges, unpacked = stored(settings)
    assert exchanges[-1].query.startswith("api-version=2026"), "what is no secret is kept"
    told = capfd.readouterr()
    for text in (unpacked, told.out, told.err, caplog.text):
        assert secret not in text


async def broken(_received: Received, writer: asyncio.StreamWriter) -> None:
    """An answer that is no HTTP and repeats what was asked."""
    writer.write(f"HTTP/1.1 2x0 {MARK}status\r\nX-Echo {MARK}echo\r\n\r\n".encode())


async def test_a04_a_credential_that_is_too_long_is_refused_without_a_word_of_it(tmp_path: Path, upstream: Upstream) -> None:
    async with relay_process(tmp_path, upstream.url) as relay:
        for size in (9_000, 40_000, 300_000):
            secret = (f"{MARK}long-" * size)[:size]
            upstream.received.clear()
            replies = await send(relay.port, request(CHAT, f"Authorization: Bearer {secret}\r\n", ASK))
            assert (await talk(relay.port, CHAT, KEY, ASK)).status == 200
            assert all(MARK.encode() not in reply.body for reply in replies)
            if size > 100_000:
                assert all(reply.status in (400, 431) for reply in replies)
                assert len(upstream.received) == 1
    log = (tmp_path / "relay.log").read_text("utf-8", "replace")
    assert MARK not in log, log[-2_000:]
    assert not holds(tmp_path / "data", MARK)


FAILURES: dict[str, bytes] = {
    "no HTTP": f"{MARK}garbage\r\n\r\n".encode(),
    "a bad status": f"HTTP/1.1 2x0 {MARK}status\r\n\r\n".encode(),
    "a bad header": f"HTTP/1.1 200 OK\r\nX Echo {MARK}echo\r\n\r\n".encode(),
    "a header of 1 MB": b"HTTP/1.1 200 OK\r\nX-Echo: " + MARK.encode() * 100_000 + b"\r\n\r\n",
    "a bad length": f"HTTP/1.1 200 OK\r\nContent-Length: {MARK}\r\n\r\n".encode(),
    "a bad chunk": f"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{MARK}\r\n".encode(),
    "nothing": b"",
}


def failing(answer: bytes) -> Script:
    """Answers with `answer` whoever brings the secret, and others as ever."""

    async def script(received: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(answer if MARK in received.line else http_answer(CHAT_ANSWER))
        await writer.drain()
        writer.close()

    return script


async def test_a05_what_fails_on_the_way_is_told_without_urls_and_headers(tmp_path: Path, upstream: Upstream) -> None:
    headers = f"Authorization: Bearer {MARK}key\r\nCookie: {MARK}cookie\r\n"
    async with relay_process(tmp_path, upstream.url) as relay:
        for case, answer in FAILURES.items():
            upstream.script = failing(answer)
            (reply,) = await send(relay.port, request(f"{CHAT}?key={MARK}query", headers, BODY))
            assert reply.status in (200, 502), case
            assert not (reply.status == 200 and reply.is_whole and reply.body), f"{case} is never taken for a whole answer"
            if reply.status == 502:
                assert "openai" in said(reply, "openai"), case
                assert MARK.encode() not in reply.body, case
            assert (await talk(relay.port, CHAT, KEY, ASK)).body == CHAT_ANSWER, case
    log = (tmp_path / "relay.log").read_text("utf-8", "replace")
    assert MARK not in log, log[-2_000:]
    exchanges = kept(relay.settings)
    assert len(exchanges) == 2 * len(FAILURES)
    for exchange in exchanges:
        assert exchange.end is not None
        assert MARK not in exchange.end.error_message


async def test_a06_a_secret_pasted_into_a_prompt_is_taken_out_and_the_exchange_says_so(
    tmp_path: Path, upstream: Upstream
) -> None:
    pem = "-----BEGIN RSA PRIVATE KEY-----\n" + base64.b64encode(MARK.encode() * 20).decode() + "\n-----END RSA PRIVATE KEY-----"
    pasted = [*(key for key in KEYS.values()), pem, "ghp_" + "a1B2" * 10, "AKIAIOSFODNN7EXAMPLE", "xoxb-1234567890-abcdefghij"]
    settings = relay_settings(tmp_path, upstream.url)
    bodies = [
        json.dumps({"model": "m", "messages": [{"role": "user", "content": f"mine: {each} ok"}]}).encode() for each in pasted
    ]
    async with relaying(tmp_path) as worker:
        for body in bodies:
            assert (await talk(worker.port, CHAT, KEY, body)).status == 200
    assert [received.body for received in upstream.received] == bodies, "the upstream gets what was written"
    exchanges, unpacked = stored(settings)
    assert [exchange.redactions >= 1 for exchange in exchanges] == [True] * len(pasted)
    assert unpacked.count("[redacted:") >= len(pasted)
    for secret in (*KEYS.values(), pem.split("\n")[1], *pasted[-3:]):
        assert secret.split(" ")[-1] not in unpacked


async def test_a09_what_a_crash_leaves_behind_holds_no_request(tmp_path: Path, upstream: Upstream) -> None:
    async def silent(_received: Received, _writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(600)

    upstream.script = silent
    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    before = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))  # as on a machine that keeps core dumps
    try:
        async with house_in(tmp_path, upstream.url) as house:
            asking = asyncio.ensure_future(talk(house.port, CHAT, f"Authorization: Bearer {MARK}key\r\n", BODY))
            await until(lambda: upstream.received, 60)
            status = await house.status()
            pids = [status["writer"]["pid"], *(worker["pid"] for worker in status["workers"])]
            limits = [Path(f"/proc/{pid}/limits").read_text() for pid in pids]
            os.kill(pids[-1], signal.SIGABRT)
            with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
                await asking
    finally:
        resource.setrlimit(resource.RLIMIT_CORE, before)
    assert not holds(tmp_path, MARK)
    for each in limits:
        (line,) = (line for line in each.splitlines() if line.startswith("Max core file size"))
        assert line.split()[4] == "0", "a core dump would hold the keys of every open request"


def test_a08_an_error_of_the_command_line_shows_no_key_of_the_environment(tmp_path: Path) -> None:
    path = relay_settings(tmp_path, f"http://127.0.0.1:{free_port()}").path
    assert path is not None
    path.write_text(
        path.read_text("utf-8").replace("[upstreams.anthropic]", 'key = "env:TEST_UPSTREAM_KEY"\n[upstreams.anthropic]')
    )
    for arguments in (("doctor",), ("config", "--json"), ("doctor", "--json")):
        told = subprocess.run(
            [sys.executable, "-X", "dev", "-m", "potstill", "--config", str(path), *arguments],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env={**os.environ, "TEST_UPSTREAM_KEY": f"{MARK}environment"},
            timeout=120,
        )
        assert told.stdout or told.stderr
        assert MARK not in told.stdout + told.stderr


async def test_a01_our_own_key_for_an_upstream_never_comes_back(
    tmp_path: Path, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEST_UPSTREAM_KEY", f"{MARK}ours")
    settings = relay_settings(tmp_path, upstream.url)
    path = settings.path
    assert path is not None
    path.write_text(
        path.read_text("utf-8").replace("[upstreams.anthropic]", 'key = "env:TEST_UPSTREAM_KEY"\n[upstreams.anthropic]')
    )
    replies: list[Any] = []
    async with relaying(tmp_path) as worker:
        for line in (CHAT, "GET /v1/models", "TRACE /v1/models", "OPTIONS /v1/models", "POST /nowhere"):
            replies += await send(worker.port, request(line, "", BODY if "POST" in line else b""))
        upstream.script = broken
        replies += await send(worker.port, request(CHAT, "", BODY))
        assert MARK not in json.dumps(worker_status(worker))
    assert upstream.received[0].header("authorization") == f"Bearer {MARK}ours"
    assert all(MARK not in repr(reply) for reply in replies)
    assert "TRACE" not in {received.line.split(" ")[0] for received in upstream.received}, "a server may answer it with our key"
    assert not holds(tmp_path, f"{MARK}ours")


def worker_status(worker: Worker) -> dict[str, object]:
    """What the worker tells the admin listener, made of nothing but JSON."""
    return dict(json.loads(json.dumps(worker.status(), default=repr)))
