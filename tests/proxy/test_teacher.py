"""Who answers when an upstream does not: retries, fallbacks, circuits and turns, through a relay and real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest

from capture.database import open_database
from capture.settings import Settings, load_settings
from proxy.keys.key_store import add_key
from proxy.keys.pepper import make_pepper, pepper_path
from proxy.worker import Worker, start_worker
from tests.proxy.scripting import (
    CHAT_ANSWER,
    Kept,
    Received,
    Reply,
    Script,
    Upstream,
    chunk,
    chunked_head,
    free_port,
    http_answer,
    kept,
    talk,
    until,
)

CHAT = "POST /v1/chat/completions"
KEY = "Authorization: Bearer sk-client\r\nContent-Type: application/json\r\n"
ASK = b'{"model": "gpt-5",  "messages": [{"role": "user", "content": "h\xc3\xa9 \\u00e9"}], "temperature": 0.10}'
BACKUP_ANSWER = CHAT_ANSWER.replace(b"teacher-1", b"backup-1")


def saying(status: str, body: bytes = b'{"error":{"message":"no"}}', **headers: str) -> Script:
    """A script that answers every request alike."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}

    async def script(_received: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(http_answer(body, status=status, headers=named))

    return script


def in_turn(*scripts: Script) -> Script:
    """A script that plays one after the other, and the last for ever."""
    left = list(scripts)

    async def script(received: Received, writer: asyncio.StreamWriter) -> None:
        await (left.pop(0) if len(left) > 1 else left[0])(received, writer)

    return script


async def silent(_received: Received, _writer: asyncio.StreamWriter) -> None:
    await asyncio.Event().wait()


async def hang_up(_received: Received, writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()


@asynccontextmanager
async def listening(script: Script | None = None) -> AsyncIterator[Upstream]:
    """One more upstream."""
    found = Upstream() if script is None else Upstream(script)
    server = await asyncio.start_server(found.serve, "127.0.0.1", 0)
    found.port = server.sockets[0].getsockname()[1]
    try:
        yield found
    finally:
        server.close()


@pytest.fixture
async def backup() -> AsyncIterator[Upstream]:
    """A second upstream that answers `BACKUP_ANSWER`."""
    async with listening(saying("200 OK", BACKUP_ANSWER)) as found:
        yield found


Start = Callable[..., Awaitable[tuple[Worker, Settings]]]


@pytest.fixture
async def start(tmp_path: Path, upstream: Upstream, backup: Upstream, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Start]:
    """Starts a relay in front of [upstreams.main] with the given lines, and of `backup`, which has a key of its own."""
    monkeypatch.setenv("BACKUP_KEY", "sk-backup")
    workers: list[Worker] = []

    async def begin(main: str = "", more: str = "", url: str = "") -> tuple[Worker, Settings]:
        text = f"""
            [relay]
            port = 0
            admin_port = 0
            [engine]
            url = "http://127.0.0.1:{free_port()}"
            [upstreams.main]
            url = "{url or upstream.url}"
            {main}
            [upstreams.backup]
            url = "{backup.url}"
            key = "env:BACKUP_KEY"
            models = ["for-backup"]
            {more}
        """
        path = tmp_path / "potstill.toml"
        path.write_text("\n".join(line.strip() for line in text.splitlines()), "utf-8")
        settings = load_settings(path, environ={})
        workers.append(await start_worker(settings))
        return workers[-1], settings

    yield begin
    for worker in workers:
        await worker.drain(0.0)


def only(settings: Settings) -> Kept:
    (exchange,) = kept(settings)
    return exchange


def ended(exchange: Kept) -> tuple[int, str, str, str]:
    assert exchange.end is not None
    return exchange.end.status, exchange.end.state, exchange.end.upstream, exchange.end.fallback_reason


FALLBACKS = 'fallbacks = ["backup"]\nfirst_byte_timeout_s = 0.3\n'


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        (saying("503 Service Unavailable"), "http_503"),
        (saying("429 Too Many Requests", retry_after="60"), "http_429"),
        (saying("529 "), "http_529"),
        (silent, "timeout"),
        (hang_up, "aborted"),
    ],
    ids=["503", "429", "529", "silent", "hang-up"],
)
async def test_another_upstream_answers_with_its_own_key_when_the_first_fails(
    script: Script, reason: str, start: Start, upstream: Upstream, backup: Upstream
) -> None:
    worker, settings = await start(FALLBACKS)
    upstream.script = script
    reply = await talk(worker.port, CHAT, KEY, ASK)
    assert (reply.status, reply.body, reply.header("x-potstill-upstream")) == (200, BACKUP_ANSWER, "backup")
    assert (len(upstream.received), len(backup.received)) == (1, 1)
    assert backup.received[0].header("authorization") == "Bearer sk-backup"
    assert backup.received[0].body == ASK
    assert ended(only(settings)) == (200, "complete", "backup", f"main: {reason}")


async def test_an_upstream_that_cannot_be_reached_is_replaced(start: Start, backup: Upstream) -> None:
    worker, settings = await start(FALLBACKS, url=f"http://127.0.0.1:{free_port()}/v1")
    assert (await talk(worker.port, CHAT, KEY, ASK)).body == BACKUP_ANSWER
    assert ended(only(settings))[2:] == ("backup", "main: unreachable")


async def test_without_fallbacks_a_failure_is_the_clients_byte_for_byte_and_asked_for_once(
    start: Start, upstream: Upstream, backup: Upstream
) -> None:
    worker, settings = await start()
    upstream.script = saying("503 Busy Now", b'{"e": 1}  ', retry_after="7", x_own="1")
    reply = await talk(worker.port, CHAT, KEY, ASK)
    assert (reply.status, reply.body, reply.header("retry-after"), reply.header("x-own")) == (503, b'{"e": 1}  ', "7", "1")
    assert (len(upstream.received), len(backup.received)) == (1, 0)
    assert ended(only(settings)) == (503, "complete", "main", "")


async def test_an_answer_that_is_no_failure_of_the_upstream_stays_the_clients(
    start: Start, upstream: Upstream, backup: Upstream
) -> None:
    worker, _ = await start(FALLBACKS)
    upstream.script = saying("400 Bad Request")
    assert (await talk(worker.port, CHAT, KEY, ASK)).status == 400
    assert backup.received == []


async def test_when_nobody_can_answer_the_client_gets_the_last_word_of_an_upstream(start: Start, upstream: Upstream) -> None:
    worker, settings = await start(
        'fallbacks = ["gone"]', f'[upstreams.gone]\nurl = "http://127.0.0.1:{free_port()}"\nkey = "none"'
    )
    upstream.script = saying("503 Busy", b"all are busy", retry_after="9")
    reply = await talk(worker.port, CHAT, KEY, ASK)
    assert (reply.status, reply.body, reply.header("retry-after"), reply.header("x-potstill-upstream")) == (
        503, b"all are busy", "9", "main",
    )  # fmt: skip
    assert ended(only(settings)) == (503, "complete", "main", "main: http_503; gone: unreachable")


async def test_fallbacks_are_asked_in_their_order_until_one_answers(start: Start, upstream: Upstream, backup: Upstream) -> None:
    async with listening(saying("502 Bad Gateway")) as middle:
        more = f'[upstreams.middle]\nurl = "{middle.url}"\nkey = "none"'
        worker, settings = await start('fallbacks = ["middle", "backup"]', more)
        upstream.script = hang_up
        assert (await talk(worker.port, CHAT, KEY, ASK)).body == BACKUP_ANSWER
        assert len(middle.received) == 1
        assert middle.received[0].header("authorization") == ""
        assert ended(only(settings))[3] == "main: aborted; middle: http_502"


async def test_what_an_upstream_must_remember_is_not_sent_to_another(start: Start, upstream: Upstream, backup: Upstream) -> None:
    worker, _ = await start(FALLBACKS)
    upstream.script = saying("503 Busy")
    body = b'{"model":"gpt-5","previous_response_id":"resp_1","input":"x"}'
    assert (await talk(worker.port, "POST /v1/responses", KEY, body)).status == 503
    assert (await talk(worker.port, "GET /v1/files/file-1", KEY)).status == 503
    assert backup.received == []


async def test_nobody_stands_in_whom_a_virtual_key_may_not_use(start: Start, upstream: Upstream, backup: Upstream) -> None:
    main = 'key = "none"\n' + FALLBACKS
    _, settings = await start(main)
    with closing(open_database(settings.database_url)) as database:
        pepper = make_pepper(pepper_path(settings))
        free, _ = add_key(database, pepper, "free")
        bound, _ = add_key(database, pepper, "bound", upstreams=["main"])
    worker, _ = await start(main)
    upstream.script = saying("503 Busy", b"busy")
    reply = await talk(worker.port, CHAT, f"Authorization: Bearer {bound}\r\n", ASK)
    assert (reply.status, reply.body, backup.received) == (503, b"busy", [])
    assert (await talk(worker.port, CHAT, f"Authorization: Bearer {free}\r\n", ASK)).body == BACKUP_ANSWER


async def test_nothing_is_sent_again_once_the_answer_began(start: Start, upstream: Upstream, backup: Upstream) -> None:
    worker, settings = await start(FALLBACKS + "retries = 3")

    async def script(_received: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(chunked_head() + chunk(b"data: {}\n\n"))
        await writer.drain()
        writer.close()

    upstream.script = script
    reply = await talk(worker.port, CHAT, KEY, ASK)
    assert reply.status == 200
    assert not reply.is_whole
    assert (len(upstream.received), len(backup.received)) == (1, 0)
    assert ended(only(settings))[1] == "upstream_aborted"


async def test_a_client_that_leaves_between_two_tries_ends_them(start: Start, upstream: Upstream) -> None:
    worker, settings = await start("retries = 5\nretry_longest_s = 600.0")
    upstream.script = saying("503 Busy", retry_after="500")
    _, writer = await asyncio.open_connection("127.0.0.1", worker.port)
    writer.write(f"{CHAT} HTTP/1.1\r\nHost: 127.0.0.1\r\n{KEY}Content-Length: {len(ASK)}\r\n\r\n".encode() + ASK)
    await until(lambda: upstream.received)
    writer.close()
    await until(lambda: only(settings).end)
    assert ended(only(settings))[1] == "client_closed"
    assert len(upstream.received) == 1


async def test_a_status_of_retry_on_is_tried_again_after_the_pause_that_was_asked_for(start: Start, upstream: Upstream) -> None:
    worker, settings = await start("retries = 2")
    busy = saying("429 Too Many Requests", retry_after_ms="1")
    upstream.script = in_turn(busy, busy, saying("200 OK", CHAT_ANSWER))
    reply = await talk(worker.port, CHAT, KEY, ASK)
    assert (reply.status, reply.body) == (200, CHAT_ANSWER)
    assert [each.body for each in upstream.received] == [ASK] * 3
    assert ended(only(settings)) == (200, "complete", "main", "")


async def test_when_the_retries_are_used_up_the_last_answer_is_the_clients(start: Start, upstream: Upstream) -> None:
    worker, _ = await start("retries = 1")
    upstream.script = in_turn(saying("503 A", retry_after_ms="1"), saying("503 B", b"second", retry_after_ms="1"))
    reply = await talk(worker.port, CHAT, KEY, ASK)
    assert (reply.status, reply.body, len(upstream.received)) == (503, b"second", 2)


@pytest.mark.parametrize(
    ("script", "status"),
    [
        (saying("500 Internal Server Error"), 500),
        (saying("503 Busy", retry_after="3600"), 503),
        (saying("503 Busy", x_should_retry="false"), 503),
        (hang_up, 502),
        (silent, 504),
    ],
    ids=["500", "long-pause", "said-no", "hang-up", "silent"],
)
async def test_what_may_have_done_its_work_is_not_sent_again(
    script: Script, status: int, start: Start, upstream: Upstream
) -> None:
    worker, _ = await start("retries = 3\nfirst_byte_timeout_s = 0.3")
    upstream.script = script
    assert (await talk(worker.port, CHAT, KEY, ASK)).status == status
    assert len(upstream.received) == 1


async def test_what_only_reads_is_sent_again_after_a_broken_connection(start: Start, upstream: Upstream) -> None:
    worker, _ = await start("retries = 1")
    upstream.script = in_turn(hang_up, saying("200 OK", b"[]"))
    assert (await talk(worker.port, "GET /v1/models", KEY)).body == b"[]"
    assert len(upstream.received) == 2


async def test_an_upstream_that_keeps_failing_is_left_alone_while_another_answers(
    start: Start, upstream: Upstream, backup: Upstream
) -> None:
    worker, settings = await start(FALLBACKS + "circuit_failures = 2\ncircuit_rest_s = 3600")
    upstream.script = saying("500 Broken")
    for _ in range(4):
        assert (await talk(worker.port, CHAT, KEY, ASK)).body == BACKUP_ANSWER
    assert (len(upstream.received), len(backup.received)) == (2, 4)
    assert [ended(each)[3] for each in kept(settings)] == ["main: http_500"] * 2 + ["main: circuit_open"] * 2
    assert worker.status()["circuits"] == {"main": True, "backup": False}


async def test_an_open_circuit_refuses_nobody_who_can_go_nowhere_else(start: Start, upstream: Upstream, backup: Upstream) -> None:
    worker, settings = await start(FALLBACKS + "circuit_failures = 1\ncircuit_rest_s = 3600", "circuit_failures = 1")
    upstream.script = backup.script = saying("500 Broken")
    assert (await talk(worker.port, CHAT, KEY, ASK)).status == 500
    upstream.script = saying("200 OK", CHAT_ANSWER)
    assert (await talk(worker.port, CHAT, KEY, ASK)).body == CHAT_ANSWER
    assert worker.status()["circuits"] == {"main": False, "backup": True}
    assert ended(kept(settings)[1])[2] == "main"


async def test_more_requests_than_an_upstream_may_have_wait_and_the_rest_is_refused(start: Start, upstream: Upstream) -> None:
    worker, settings = await start("max_concurrent = 1\nmax_waiting = 1\nlongest_wait_s = 60")
    release = asyncio.Event()

    async def script(_received: Received, writer: asyncio.StreamWriter) -> None:
        await release.wait()
        writer.write(http_answer(CHAT_ANSWER))

    upstream.script = script
    first = asyncio.ensure_future(talk(worker.port, CHAT, KEY, ASK))
    await until(lambda: len(upstream.received) == 1)
    second = asyncio.ensure_future(talk(worker.port, CHAT, KEY, ASK))
    await until(lambda: len(kept(settings)) == 2)
    third = await talk(worker.port, CHAT, KEY, ASK)
    assert (third.status, third.header("retry-after")) == (503, "1")
    assert json.loads(third.body)["error"]["code"] == "upstream_busy"
    assert "raise max_concurrent in [upstreams.main]" in json.loads(third.body)["error"]["message"]
    assert len(upstream.received) == 1
    release.set()
    replies: list[Reply] = await asyncio.gather(first, second)
    assert [each.status for each in replies] == [200, 200]
    assert len(upstream.received) == 2


async def test_a_stream_keeps_its_turn_until_its_end_and_gives_it_back_when_its_client_leaves(
    start: Start, upstream: Upstream
) -> None:
    worker, _ = await start("max_concurrent = 1\nmax_waiting = 0")

    async def script(_received: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(chunked_head() + chunk(b"data: {}\n\n"))
        await asyncio.Event().wait()

    upstream.script = script
    reader, writer = await asyncio.open_connection("127.0.0.1", worker.port)
    writer.write(f"{CHAT} HTTP/1.1\r\nHost: 127.0.0.1\r\n{KEY}Content-Length: {len(ASK)}\r\n\r\n".encode() + ASK)
    await reader.readuntil(b"data: {}")
    assert (await talk(worker.port, CHAT, KEY, ASK)).status == 503
    writer.close()
    await asyncio.wait_for(upstream.closed.wait(), 5)
    upstream.script = saying("200 OK", CHAT_ANSWER)
    statuses = []

    async def again() -> None:
        while not statuses or statuses[-1] != 200:
            statuses.append((await talk(worker.port, CHAT, KEY, ASK)).status)

    await asyncio.wait_for(again(), 5)


async def test_a_full_upstream_is_replaced_by_its_fallback(start: Start, upstream: Upstream, backup: Upstream) -> None:
    worker, settings = await start(FALLBACKS.replace("0.3", "60.0") + "max_concurrent = 1\nmax_waiting = 0")
    upstream.script = silent
    first = asyncio.ensure_future(talk(worker.port, CHAT, KEY, ASK))
    await until(lambda: upstream.received)
    assert (await talk(worker.port, CHAT, KEY, ASK)).body == BACKUP_ANSWER
    first.cancel()
    assert ended(kept(settings)[1])[3] == "main: busy"
    assert worker.status()["circuits"] == {"main": False, "backup": False}


async def test_an_alias_changes_the_model_and_nothing_else(start: Start, upstream: Upstream) -> None:
    worker, settings = await start('aliases = {fast = "gpt-5-mini"}')
    asked = ASK.replace(b'"gpt-5"', b'"fast"')
    reply = await talk(worker.port, CHAT, KEY, asked)
    assert reply.body == CHAT_ANSWER
    sent = json.loads(upstream.received[0].body)
    assert sent == {**json.loads(asked), "model": "gpt-5-mini"}
    assert b'"h\xc3\xa9 \\u00e9"' in upstream.received[0].body
    assert b"0.10" in upstream.received[0].body
    exchange = only(settings)
    assert exchange.begin is not None
    assert (exchange.begin.model_asked, exchange.begin.body) == ("fast", asked)
    assert exchange.head is not None
    assert exchange.head.model_served == "gpt-5-mini"


async def test_a_model_goes_to_the_upstream_that_names_it(start: Start, upstream: Upstream, backup: Upstream) -> None:
    worker, _ = await start()
    body = b'{"model":"for-backup","messages":[]}'
    assert (await talk(worker.port, CHAT, KEY, body)).header("x-potstill-upstream") == "backup"
    assert backup.received[0].header("authorization") == "Bearer sk-backup"
    assert upstream.received == []


async def test_a_model_of_nobody_is_refused_in_the_clients_shape_and_reaches_nobody(
    start: Start, upstream: Upstream, backup: Upstream
) -> None:
    worker, _ = await start('models = ["gpt-*"]')
    reply = await talk(worker.port, CHAT, KEY, b'{"model":"llama"}')
    assert reply.status == 404
    assert (
        "No upstream takes model 'llama'. Add it to models of one of main, backup" in json.loads(reply.body)["error"]["message"]
    )
    assert upstream.received == backup.received == []


async def test_a_connection_that_does_not_come_about_is_given_up_in_time(start: Start, backup: Upstream) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full, contextlib.ExitStack() as open_sockets:
        address = full.getsockname()
        for _ in range(3):  # nobody accepts; what is beyond the backlog waits for ever
            waiting = open_sockets.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(address)
        worker, settings = await start(FALLBACKS + "connect_timeout_s = 0.2", url=f"http://127.0.0.1:{address[1]}")
        assert (await talk(worker.port, CHAT, KEY, ASK)).body == BACKUP_ANSWER
        assert ended(only(settings))[3] == "main: unreachable"


async def test_a_stream_that_falls_silent_is_ended_by_the_upstreams_own_limit(start: Start, upstream: Upstream) -> None:
    worker, settings = await start("idle_timeout_s = 0.3\nfirst_byte_timeout_s = 60")

    async def script(_received: Received, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.6)  # longer than between two pieces, and allowed before the first
        writer.write(chunked_head() + chunk(b"data: {}\n\n"))
        await asyncio.Event().wait()

    upstream.script = script
    reply = await talk(worker.port, CHAT, KEY, ASK)
    assert not reply.is_whole
    assert b"raise the timeouts in [upstreams.main]" in reply.pieces[-1]
    assert ended(only(settings))[1] == "timeout"


async def test_an_exchange_has_an_end_when_its_time_is_up(start: Start, upstream: Upstream) -> None:
    worker, settings = await start("total_timeout_s = 0.5")

    async def script(_received: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(chunked_head())
        while True:
            writer.write(chunk(b"data: {}\n\n"))
            await asyncio.sleep(0.05)

    upstream.script = script
    reply = await talk(worker.port, CHAT, KEY, ASK)
    assert not reply.is_whole
    assert b'"error"' in reply.pieces[-1]
    assert ended(only(settings))[1] == "timeout"


async def test_a_key_from_a_file_is_sent_and_a_missing_one_is_told(start: Start, upstream: Upstream, tmp_path: Path) -> None:
    worker, _ = await start('key = "file:main.key"')
    reply = await talk(worker.port, CHAT, KEY, ASK)
    assert reply.status == 503
    assert "the key of upstream main, cannot be read" in json.loads(reply.body)["error"]["message"]
    assert upstream.received == []
    (tmp_path / "other").write_text("sk-file\n")
    worker, _ = await start('key = "file:other"')
    assert (await talk(worker.port, CHAT, KEY, ASK)).status == 200
    assert upstream.received[0].header("authorization") == "Bearer sk-file"
