"""POST /feedback: into the spool and nowhere else, durable before the answer, whatever it says and whenever it comes."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from capture import feedback, records
from capture.database import open_database
from capture.demonstrations import read_message
from capture.feedback import Feedback
from capture.feedback_forms import MAX_BYTES
from capture.filters import parse_filter
from capture.pricing import PriceSettings, load_price_table
from capture.records import Note
from capture.settings import Settings
from capture.spool import read_records
from capture.writer import StoreWriter
from proxy.feedback import FeedbackTarget, find_target
from proxy.worker import Worker, start_worker
from tests.proxy.scripting import Reply, Upstream, free_port, kept, read_reply, relay_settings, relaying, talk, until

EXCHANGE = "ex_01kdwpw35ge00000000000000f"
POST = "POST /feedback"


def notes(settings: Settings) -> list[Note]:
    """Every note in the spools, oldest first."""
    paths = sorted((settings.data_folder / "spool").glob("sp_*/*.seg"))
    found = [record for path in paths for record in read_records(path) if record.type == records.NOTE]
    return [records.decode(record.payload, Note) for record in found]


async def send(relay: Worker, *, line: str = POST, headers: str = "", host: str = "127.0.0.1", **fields: object) -> Reply:
    return await talk(relay.port, line, headers, json.dumps(fields).encode(), host=host)


@pytest.mark.parametrize("line", [POST, "POST /v1/feedback", "POST /task/triage/v1/feedback", "POST /feedback?from=app"])
async def test_feedback_is_in_the_spool_when_202_comes_and_no_upstream_hears_of_it(
    line: str, relay: Worker, relay_config: Settings, upstream: Upstream
) -> None:
    reply = await send(relay, line=line, exchange_id=EXCHANGE, value=True, id="mine", user="u1")
    assert (reply.status, json.loads(reply.body)) == (202, {"id": "mine", "is_accepted": True})
    note = notes(relay_config)[0]
    assert (note.exchange_id, note.kind, note.value, note.id, note.who, note.source) == (
        EXCHANGE,
        "boolean",
        1.0,
        "mine",
        "u1",
        "api",
    )
    assert upstream.received == []
    assert kept(relay_config) == [] or all(exchange.begin is None for exchange in kept(relay_config))


async def test_one_post_may_carry_a_value_a_comment_and_the_corrected_answer(relay: Worker, relay_config: Settings) -> None:
    call = {"type": "function", "function": {"name": "route", "arguments": {"queue": "billing"}}}
    reply = await send(relay, session="s1", name="solved", value=0.5, comment="nearly", demonstration={"tool_calls": [call]})
    assert reply.status == 202
    found = notes(relay_config)
    id = json.loads(reply.body)["id"]
    assert [note.id for note in found] == [id, f"{id}#comment", f"{id}#demonstration"]
    assert {(note.session_name, note.name) for note in found} == {("s1", "solved")}
    assert read_message(found[2].text).tool_calls[0].arguments == '{"queue":"billing"}'


async def test_the_path_of_helicone_names_the_exchange_and_the_user_header_who_says_it(
    relay: Worker, relay_config: Settings
) -> None:
    reply = await send(relay, line=f"POST /v1/request/{EXCHANGE}/feedback", headers="x-potstill-user: u9\r\n", rating=False)
    assert reply.status == 202
    note = notes(relay_config)[0]
    assert (note.exchange_id, note.who, note.value) == (EXCHANGE, "u9", 0.0)


async def test_a_list_is_taken_whole_or_not_at_all(relay: Worker, relay_config: Settings) -> None:
    good = {"session": "s", "value": 1}
    reply = await talk(relay.port, POST, "", json.dumps([good, good, {"session": "s"}]).encode())
    assert (reply.status, notes(relay_config)) == (400, [])
    assert "Feedback 3 of 3" in json.loads(reply.body)["error"]["message"]
    reply = await talk(relay.port, POST, "", json.dumps([good, good]).encode())
    assert [each["is_accepted"] for each in json.loads(reply.body)] == [True, True]
    assert len(notes(relay_config)) == 2


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b'{"value": true}', "neither an exchange nor a session"),
        (b'{"session": "s", "valeu": true}', "'valeu' is unknown"),
        (b'{"session": "\\u001b[2J", "value": true}', "control character"),
    ],
)
async def test_what_cannot_be_taken_is_answered_400_with_the_reason(
    body: bytes, reason: str, relay: Worker, relay_config: Settings, upstream: Upstream
) -> None:
    reply = await talk(relay.port, POST, "", body)
    error = json.loads(reply.body)["error"]
    assert (reply.status, error["code"], error["type"]) == (400, "bad_feedback", "invalid_request_error")
    assert reason in error["message"]
    assert (notes(relay_config), upstream.received) == ([], [])


async def test_a_malformed_tag_and_another_method_are_refused(relay: Worker) -> None:
    reply = await send(relay, headers="x-potstill-sesion: s\r\n", session="s", value=1)
    assert (reply.status, json.loads(reply.body)["error"]["code"]) == (400, "bad_tag")
    reply = await talk(relay.port, "GET /feedback")
    assert (reply.status, reply.header("allow")) == (405, "POST")


@pytest.mark.parametrize("is_chunked", [False, True], ids=["length", "chunked"])
async def test_more_than_the_most_is_refused_and_what_comes_next_is_served(is_chunked: bool, relay: Worker) -> None:
    body = json.dumps({"session": "s", "comment": "x" * MAX_BYTES}).encode()
    if is_chunked:
        reader, writer = await asyncio.open_connection("127.0.0.1", relay.port)
        writer.write(b"POST /feedback HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n")
        writer.write(f"{len(body):x}\r\n".encode() + body + b"\r\n0\r\n\r\n")
        assert (await read_reply(reader)).status == 413
        writer.close()
    else:
        assert (await talk(relay.port, POST, "", body)).status == 413
    assert (await send(relay, session="s", comment="x" * 200_000)).status == 202


async def test_a_web_page_of_somebody_else_may_not_send_feedback(relay: Worker, relay_config: Settings) -> None:
    assert (await send(relay, host="evil.example", session="s", value=1)).status == 403
    assert (await send(relay, headers="Origin: https://evil.example\r\n", session="s", value=1)).status == 403
    assert notes(relay_config) == []
    assert (await send(relay, headers="Origin: http://localhost:3000\r\n", session="s", value=1)).status == 202


async def test_a_spool_that_cannot_be_written_is_answered_503_and_the_next_one_is_kept(
    relay: Worker, relay_config: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_space(*_: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as full:
        full.setattr("os.writev", no_space)
        reply = await send(relay, session="s", value=1, id="f1")
    assert (reply.status, reply.header("retry-after")) == (503, "1")
    told = json.loads(reply.body)
    assert (told["error"]["code"], told["feedback"]) == ("spool_full", [{"id": "f1", "is_accepted": False}])
    assert (await send(relay, session="s", value=1, id="f1")).status == 202
    assert [note.id for note in notes(relay_config)] == ["f1"]


async def test_feedback_that_was_kept_in_part_is_sent_again_by_the_ids_of_the_503_and_stored_once(
    relay_config: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    relay = await start_worker(relay_config)
    given = [{"session": "s", "value": number} for number in range(3)]
    written: list[int] = []
    writev = os.writev

    def space_for_two(fd: int, buffers: Any) -> int:
        if len(written) == 2:
            raise OSError(28, "No space left on device")
        written.append(fd)
        return writev(fd, buffers)

    with monkeypatch.context() as full:
        full.setattr("os.writev", space_for_two)
        refused = await talk(relay.port, POST, "", json.dumps(given).encode())
    assert refused.status == 503
    ids = [each["id"] for each in json.loads(refused.body)["feedback"]]
    assert len(set(ids)) == 3
    assert [note.id for note in notes(relay_config)] == ids[:2]
    again = [{**each, "id": id} for each, id in zip(given, ids, strict=True)]
    assert (await talk(relay.port, POST, "", json.dumps(again).encode())).status == 202
    await relay.drain(1.0)
    assert [(each.id, each.value) for each in store(relay_config)] == list(zip(ids, (0.0, 1.0, 2.0), strict=True))


async def test_in_strict_mode_202_comes_after_the_disk_and_503_when_it_refuses(
    relay_config: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "potstill.toml"
    path.write_text(path.read_text("utf-8") + '[capture]\ndurability = "strict"\nsync_interval_ms = 20\n', "utf-8")
    synced = []
    sync = os.fdatasync

    def count(fd: int) -> None:
        sync(fd)
        synced.append(fd)

    def refuse(_fd: int) -> None:
        raise OSError(5, "Input/output error")

    async with relaying(tmp_path) as relay:
        monkeypatch.setattr("os.fdatasync", count)
        before = len(synced)
        assert (await send(relay, session="s", value=1)).status == 202
        assert len(synced) > before
        monkeypatch.setattr("os.fdatasync", refuse)
        reply = await send(relay, session="s", value=2)
        assert (reply.status, reply.header("retry-after")) == (503, "1")
        monkeypatch.setattr("os.fdatasync", sync)


@pytest.mark.parametrize("way", ["header", "task"])
async def test_where_content_is_not_stored_values_are_kept_but_no_words(way: str, relay_config: Settings, tmp_path: Path) -> None:
    path = tmp_path / "potstill.toml"
    path.write_text(path.read_text("utf-8") + '[capture]\nomit_content_tasks = ["secret"]\n', "utf-8")
    line, headers = ("POST /task/secret/feedback", "") if way == "task" else (POST, "x-potstill-store: no\r\n")
    async with relaying(tmp_path) as relay:
        reply = await send(relay, line=line, headers=headers, session="s", value=True, comment="my illness", demonstration="x")
        assert reply.status == 202
    assert [note.kind for note in notes(relay_config)] == ["boolean"]


async def test_the_relay_takes_feedback_while_the_store_is_away(relay_config: Settings, tmp_path: Path) -> None:
    path = tmp_path / "potstill.toml"
    away = 'database_url = "postgresql+psycopg://nobody@127.0.0.1:1/nowhere"\n'
    path.write_text(path.read_text("utf-8").replace("[relay]", f"{away}[relay]"), "utf-8")
    async with relaying(tmp_path) as relay:
        assert (await send(relay, session="s", value=1)).status == 202
        assert len(notes(relay_config)) == 1


@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("/feedback", FeedbackTarget("", "")),
        ("//v1/feedback", FeedbackTarget("", "")),
        ("/task/t1/feedback?x=1", FeedbackTarget("", "t1")),
        ("/v1/request/ex_1/feedback", FeedbackTarget("ex_1", "")),
        ("/v1/request/a%20b/feedback", FeedbackTarget("a b", "")),
        ("/upstream/openai/v1/feedback", None),
        ("/v1/feedback/../chat/completions", None),
        ("/v1/chat/completions?x=/feedback", None),
        ("/v1/feedbacks", None),
        ("/v1/request//feedback", None),
    ],
)
def test_only_the_paths_of_feedback_are_ours(path: str, target: FeedbackTarget | None) -> None:
    assert find_target(path) == target


async def test_feedback_may_come_before_its_exchange_and_for_one_that_nobody_knows(
    relay_config: Settings, upstream: Upstream
) -> None:
    relay = await start_worker(relay_config)
    chat = "POST /v1/chat/completions"
    headers = "Authorization: Bearer k\r\nx-potstill-session: s1\r\n"
    await send(relay, session="s1", value=True)
    answered = await talk(relay.port, chat, headers, b'{"model": "m", "messages": []}')
    exchange_id = answered.header("x-potstill-exchange-id")
    await send(relay, exchange_id=exchange_id, name="solved", value=False, comment="key sk-ant-" + "a1" * 10)
    await send(relay, exchange_id=EXCHANGE, value=True)
    await relay.drain(1.0)
    stored = store(relay_config)
    assert [(each.name, each.kind) for each in stored] == [
        ("feedback", "boolean"), ("solved", "boolean"), ("solved", "comment"), ("feedback", "boolean"),
    ]  # fmt: skip
    assert stored[2].text == "key [redacted:anthropic-key]"
    database = open_database(relay_config.database_url)
    try:
        about = feedback.of_exchange(database, exchange_id)
        assert [(each.name, each.kind) for each in about] == [
            ("feedback", "boolean"),
            ("solved", "boolean"),
            ("solved", "comment"),
        ]
        assert feedback.unmatched(database) == 1
    finally:
        database.close()


def store(settings: Settings) -> list[Feedback]:
    """Drains the spools; all feedback that is stored then, oldest first."""
    database = open_database(settings.database_url, is_checkpointer=True)
    writer = StoreWriter(database, settings.data_folder / "spool", load_price_table(PriceSettings()), lock_timeout_s=10)
    try:
        writer.drain()
        return feedback.page(database, parse_filter(""), limit=100_000)[::-1]
    finally:
        writer.close()
        database.close()


def start(module: str, settings: Settings) -> subprocess.Popen[bytes]:
    with (settings.folder / f"{module}.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", module, "--config", str(settings.path)], stdout=log, stderr=log, cwd=settings.folder
        )


class App:
    """Sends feedback with ids of its own, and sends it again until it hears that it was taken."""

    def __init__(self, port: int, name: str) -> None:
        self.port, self.name = port, name
        self.sent: list[str] = []

    async def run(self, stop: asyncio.Event) -> None:
        """One feedback after the other, each with a comment."""
        while not stop.is_set():
            id = f"{self.name}-{len(self.sent)}"
            body = json.dumps({"id": id, "session": self.name, "value": len(self.sent), "comment": f"of {id}"}).encode()
            while not await self._is_taken(body):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
            self.sent.append(id)

    async def _is_taken(self, body: bytes) -> bool:
        try:
            return (await talk(self.port, POST, "", body)).status == 202
        except (ConnectionError, asyncio.IncompleteReadError):
            return False


async def test_after_kills_every_feedback_that_was_taken_is_stored_exactly_once(tmp_path: Path, upstream: Upstream) -> None:
    port = free_port()
    settings = relay_settings(tmp_path, upstream.url, port=port)
    stop = asyncio.Event()
    apps = [App(port, f"app{number}") for number in range(4)]
    relay, writer = start("proxy.worker", settings), start("capture.writer", settings)
    running = [asyncio.ensure_future(app.run(stop)) for app in apps]
    try:
        for number in range(4):
            enough = sum(len(app.sent) for app in apps) + 50
            await until(lambda enough=enough: sum(len(app.sent) for app in apps) >= enough, 30)  # type: ignore[misc]
            relay.kill()
            relay.wait()
            relay = start("proxy.worker", settings)
            if number % 2:
                writer.kill()
                writer.wait()
                writer = start("capture.writer", settings)
        enough = sum(len(app.sent) for app in apps) + 20
        await until(lambda: sum(len(app.sent) for app in apps) >= enough, 30)
        stop.set()
        await asyncio.gather(*running)
    finally:
        for process in (relay, writer):
            process.kill()
            process.wait()
        for each in running:
            each.cancel()
    stored = {each.id: each for each in store(settings)}
    taken = [id for app in apps for id in app.sent]
    assert len(taken) >= 220
    assert set(stored) == set(taken) | {f"{id}#comment" for id in taken}
    for id in taken:
        assert (stored[id].value, stored[f"{id}#comment"].text) == (float(id.rpartition("-")[2]), f"of {id}")
