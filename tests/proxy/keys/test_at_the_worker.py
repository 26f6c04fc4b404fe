"""Keys, limits and the cache through real relay workers, with a real store behind them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest
from sqlalchemy import text

from capture import feed
from capture.database import Database, open_database
from capture.exchange import Exchange
from capture.filters import parse_filter
from capture.pricing import PriceTable
from capture.settings import Settings, load_settings
from capture.writer import StoreWriter
from proxy.keys.key_store import add_key, revoke_key
from proxy.keys.limits import Limits
from proxy.keys.pepper import make_pepper, pepper_path
from proxy.worker import Worker, start_worker
from tests.capture.planting import everything
from tests.proxy.scripting import Received, Reply, Upstream, chunk, chunked_head, http_answer, kept, talk, until

CHAT, EMBEDDINGS = "/v1/chat/completions", "/v1/embeddings"
BODY = b'{"model":"teacher-1","max_tokens":10,"messages":[]}'
PRICES = PriceTable({"teacher-1": {"input_cost_per_token": 1e-5, "output_cost_per_token": 1e-5}})
EVENTS = [b'data: {"choices":[{"delta":{"content":"Gr\xc3\xbc', b'\xc3\x9fe"}}]}\n\n', b"data: [DONE]\n\n"]


@dataclass
class House:
    """A relay's folder, its upstream and its store."""

    folder: Path
    upstream: Upstream
    sections: str = ""
    key: str = "env:POTSTILL_TEST_UPSTREAM_KEY"

    def settings(self, sections: str | None = None) -> Settings:
        """As written down, with these further sections."""
        self.sections = self.sections if sections is None else sections
        path = self.folder / "potstill.toml"
        path.write_text(
            f'[store]\ndata_folder = "data"\n[relay]\nport = 0\nadmin_port = 0\n[upstreams.openai]\nurl = "{self.upstream.url}"\n'
            f'key = "{self.key}"\n[upstreams.own]\nurl = "{self.upstream.url}"\n{self.sections}\n'
        )
        return load_settings(path, environ={})

    def add_key(self, **given: object) -> tuple[str, str]:
        """A new key and its id."""
        settings = self.settings()
        with closing(self.database()) as database:
            key, made = add_key(database, make_pepper(pepper_path(settings)), "app", **given)  # type: ignore[arg-type]
        return key, made.id

    def database(self) -> Database:
        """The store."""
        return open_database(self.settings().database_url)

    def drain(self) -> list[Exchange]:
        """Stores what is in the spools, as the store writer does, and gives all that is stored, oldest first."""
        with closing(self.database()) as database:
            writer = StoreWriter(database, self.settings().data_folder / "spool", PRICES, lock_timeout_s=10)
            try:
                writer.drain()
            finally:
                writer.close()
            return feed.after(database, parse_filter(""))

    @asynccontextmanager
    async def relay(self, sections: str | None = None) -> AsyncIterator[Worker]:
        """A relay worker."""
        worker = await start_worker(self.settings(sections))
        try:
            yield worker
        finally:
            await worker.drain(0.0)


@pytest.fixture
def house(tmp_path: Path, upstream: Upstream, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    monkeypatch.setenv("POTSTILL_TEST_UPSTREAM_KEY", "sk-of-the-house")
    yield House(tmp_path, upstream)


async def ask(worker: Worker, key: str = "", headers: str = "", *, path: str = CHAT, body: bytes = BODY) -> Reply:
    credential = f"Authorization: Bearer {key}\r\n" if key else ""
    return await talk(worker.port, f"POST {path}", f"{credential}Content-Type: application/json\r\n{headers}", body)


async def ask_until(worker: Worker, key: str, status: int) -> Reply:
    """The first answer with `status`."""
    async with asyncio.timeout(30):
        while (reply := await ask(worker, key)).status != status:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    return reply


def error_of(reply: Reply) -> dict[str, str]:
    found: dict[str, str] = json.loads(reply.body)["error"]
    return found


async def hold(_received: Received, writer: asyncio.StreamWriter) -> None:
    """Begins an answer and never ends it."""
    writer.write(chunked_head() + chunk(EVENTS[0]))
    await asyncio.sleep(3_600)


async def stream(_received: Received, writer: asyncio.StreamWriter) -> None:
    writer.write(chunked_head())
    for event in EVENTS:
        writer.write(chunk(event))
    writer.write(b"0\r\n\r\n")


async def test_a_virtual_key_opens_the_relay_and_goes_no_further(house: House) -> None:
    key, id = house.add_key()
    async with house.relay("[keys]\nrequired = true") as worker:
        for name in ("Authorization: Bearer ", "x-api-key: ", "api-key: "):
            assert (await ask(worker, headers=f"{name}{key}\r\n")).status == 200
        both = f"x-api-key: {key}\r\nAuthorization: Bearer sk-own\r\n"
        for path in (EMBEDDINGS, "/upstream/own" + EMBEDDINGS):
            assert (await ask(worker, path=path, headers=both)).status == 200
        bad = [("", CHAT), ("sk-own", CHAT), (key[:-3] + "abc", CHAT), (key, "/upstream/own" + EMBEDDINGS)]
        refused = [await ask(worker, sent, path=path) for sent, path in bad]
    assert [reply.status for reply in refused] == [401] * 4
    assert [error_of(reply)["code"] for reply in refused] == ["missing_key", "missing_key", "invalid_key", "missing_key"]
    sent_up = [each.header("authorization") for each in house.upstream.received]
    assert sent_up == ["Bearer sk-of-the-house"] * 4 + ["Bearer sk-own"]
    assert all(key not in str(each.headers) for each in house.upstream.received)
    assert [each.begin.key_id for each in kept(house.settings()) if each.begin] == [id] * 5 + ["", "", "", id]
    exchanges = house.drain()
    assert [each.key_id for each in exchanges].count(id) == 6
    secret = key.rpartition(f"ps-{id}-")[2].encode()
    assert all(secret not in path.read_bytes() for path in house.folder.rglob("*") if path.is_file())


async def test_a_virtual_key_in_a_body_goes_to_the_upstream_and_not_into_the_store(house: House) -> None:
    key, _ = house.add_key()
    body = b'{"model": "m", "messages": [{"role": "user", "content": "mine is %s"}]}' % key.encode()
    async with house.relay() as worker:
        assert (await ask(worker, key, body=body)).status == 200
    assert [each.body for each in house.upstream.received] == [body]
    (exchange,) = house.drain()
    assert exchange.redactions == 1
    with closing(house.database()) as database:
        stored = everything(database)
    assert "mine is [redacted:potstill-key]" in stored
    assert key not in stored


async def test_a_revoked_key_is_refused_by_a_running_relay(house: House) -> None:
    key, id = house.add_key()
    async with house.relay() as worker:
        assert (await ask(worker, key)).status == 200
        with closing(house.database()) as database:
            revoke_key(database, id)
        reply = await ask_until(worker, key, 401)
    assert (error_of(reply)["code"], reply.header("x-should-retry")) == ("invalid_key", "false")


async def test_two_workers_of_a_host_share_a_limit_exactly(house: House) -> None:
    key, _ = house.add_key(limits=Limits(requests_per_minute=2))
    async with house.relay() as first, house.relay() as second:
        replies = [await ask(worker, key) for worker in (first, second) * 2]
    assert [reply.status for reply in replies] == [200, 200, 429, 429]
    assert error_of(replies[-1])["type"] == "rate_limit_error"
    assert 1 <= int(replies[-1].header("retry-after")) <= 30
    assert len(house.upstream.received) == 2


async def test_a_turn_comes_back_when_the_client_goes_away(house: House) -> None:
    key, _ = house.add_key(limits=Limits(concurrent=1))
    house.upstream.script = hold
    async with house.relay() as worker:
        reader, writer = await asyncio.open_connection("127.0.0.1", worker.port)
        head = f"POST {CHAT} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {key}\r\n"
        head += f"Content-Length: {len(BODY)}\r\n\r\n"
        writer.write(head.encode() + BODY)
        await reader.readuntil(b"data: ")
        assert (await ask(worker, key)).status == 429
        writer.close()
        house.upstream.script = stream
        await ask_until(worker, key, 200)


async def test_a_budget_is_kept_from_reservation_to_settlement(house: House) -> None:
    """A request reserves the price of its longest answer; the store writer books the 60 micro-dollars that it really cost."""
    sections = "[keys]\nassumed_usd = 0.004\n[limits.triage]\nusd_per_day = 0.01\n"
    async with house.relay(sections) as worker:
        replies = [await ask(worker, "", "x-potstill-task: triage\r\n") for _ in range(3)]
        assert [reply.status for reply in replies] == [200, 200, 429]
        assert (error_of(replies[2])["type"], replies[2].header("retry-after")) == ("rate_limit_error", "2")
        assert (await ask(worker)).status == 200  # another task
        exchanges = await asyncio.to_thread(house.drain)
        assert [each.cost_microusd for each in exchanges if each.status == 200] == [60] * 3
        await until(lambda: not worker.status()["keys"]["unsettled"], 30)  # type: ignore[index]
        assert (await ask(worker, "", "x-potstill-task: triage\r\n")).status == 200


async def test_a_reload_changes_limits_for_what_comes_next(house: House) -> None:
    async with house.relay("[limits.triage]\nrequests_per_minute = 1\n") as worker:
        tag = "x-potstill-task: triage\r\n"
        assert [(await ask(worker, "", tag)).status for _ in range(2)] == [200, 429]
        worker.reload(house.settings("[keys]\nrequired = true\n"))
        assert (await ask(worker, "", tag)).status == 401
        worker.reload(house.settings(""))
        assert (await ask(worker, "", tag)).status == 200


async def test_the_model_that_is_asked_for_counts_for_a_key_whatever_is_sent_in_its_place(house: House) -> None:
    for_alias, _ = house.add_key(models=["fast"])
    for_sent, _ = house.add_key(models=["gpt-4o*"])
    alias = f'[upstreams.cheap]\nurl = "{house.upstream.url}"\nkey = "none"\naliases = {{fast = "gpt-4o-mini"}}\n'
    async with house.relay(alias) as worker:
        asked = [(for_alias, b"fast"), (for_sent, b"fast"), (for_alias, b"gpt-4o-mini"), (for_sent, b"gpt-4o-mini")]
        replies = [await ask(worker, key, body=b'{"model":"%s","messages":[]}' % model) for key, model in asked]
    assert [reply.status for reply in replies] == [200, 403, 403, 200]
    assert [json.loads(each.body)["model"] for each in house.upstream.received] == ["gpt-4o-mini"] * 2


@pytest.mark.parametrize("place", ["?key={}", "?api-version=1&api-key={}", "?x=%62{}", "/{}", "?key=ps%2D{2}", "?key=ps%252D{2}"])
@pytest.mark.parametrize("path", [CHAT, "/upstream/own/v1/messages", "/v1/realtime"])
async def test_a_virtual_key_in_a_url_is_refused_and_neither_passed_on_nor_kept(house: House, place: str, path: str) -> None:
    key, id = house.add_key()
    secret = key.removeprefix(f"ps-{id}-")
    written = place.replace("{2}", key.removeprefix("ps-")).replace("{}", key)
    async with house.relay("") as worker:
        reply = await ask(worker, key, path=path + written)
        assert reply.status == 401
        body = json.loads(reply.body)
        assert body.get("type") == ("error" if "messages" in path else None)
        assert "header" in body["error"]["message"]
        assert secret.encode() not in reply.body
    assert house.upstream.received == []
    assert [each.status for each in house.drain()] == [401]
    assert all(secret.encode() not in found.read_bytes() for found in house.folder.rglob("*") if found.is_file())


async def test_a_request_that_fails_before_it_is_kept_gives_back_what_it_took(house: House) -> None:
    """Here because of a flag with a salt longer than its hash can take, which no command writes."""
    with closing(house.database()) as database, database.write() as connection:
        connection.execute(
            text(
                "INSERT INTO flag_changes (id, task, release_id, engine_model, share_bp, unit, salt, who, why, created_us)"
                " VALUES ('fl_1', 'triage', 'rel_1', 'student', 5000, 'auto', :salt, 'somebody', '', 1)"
            ),
            {"salt": "s" * 80},
        )
    async with house.relay("[limits.triage]\nconcurrent = 1\nusd_per_day = 0.01\n") as worker:
        of_task, of_unit = "x-potstill-task: triage\r\n", "x-potstill-user: u7\r\n"
        replies = [await ask(worker, "", of_task + of_unit) for _ in range(3)]
        assert [(reply.status, error_of(reply)["code"]) for reply in replies] == [(500, "relay_error")] * 3
        assert worker.status()["keys"]["unsettled"] == 0  # type: ignore[index]
        assert (await ask(worker, "", of_task)).status == 200
    assert len(house.upstream.received) == 1


async def test_feedback_asks_for_a_key_where_keys_are_required(house: House) -> None:
    key, _ = house.add_key(scopes=["label"])
    said = b'{"exchange_id":"ex_00000000000000000000000000","value":true}'
    async with house.relay("[keys]\nrequired = true") as worker:
        assert (await ask(worker, path="/feedback", body=said)).status == 401
        assert (await ask(worker, key, path="/feedback", body=said)).status == 202
        assert (await ask(worker, key)).status == 403


async def test_a_websocket_needs_a_key_where_keys_are_required(house: House) -> None:
    key, _ = house.add_key(models=["gpt-realtime*"])
    async with house.relay("[keys]\nrequired = true") as worker, aiohttp.ClientSession() as session:
        address = f"http://127.0.0.1:{worker.port}/v1/realtime"
        for model, offered, status in (("x", [], 401), ("x", [key], 403), ("", [key], 403)):
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                protocols = ["realtime", *(f"openai-insecure-api-key.{each}" for each in offered)]
                await session.ws_connect(f"{address}?model={model}" if model else address, protocols=protocols)
            assert refused.value.status == status
        with pytest.raises(aiohttp.WSServerHandshakeError, match="401"):
            await session.ws_connect(f"{address}?model=gpt-realtime&key={key}", headers={"Authorization": f"Bearer {key}"})
    assert house.upstream.received == []


@pytest.mark.parametrize("is_stream", [False, True])
async def test_the_same_question_gets_the_same_bytes_from_the_cache_booked_as_saved(house: House, is_stream: bool) -> None:
    if is_stream:
        house.upstream.script = stream
    tag = "x-potstill-task: faq\r\n"
    async with house.relay('[cache]\ntasks = ["faq"]\n') as worker:
        first, second = await ask(worker, "", tag), await ask(worker, "", tag)
        others = [await ask(worker, "", tag + "Cache-Control: no-cache\r\n"), await ask(worker, "", "x-potstill-task: other\r\n")]
        assert worker.status()["cache_hits"] == 1
    assert first.body == second.body == (b"".join(EVENTS) if is_stream else first.body)
    assert [each.header("x-potstill-cache") for each in (first, second, *others)] == ["", "hit", "", ""]
    assert first.header("content-type") == second.header("content-type")
    assert first.header("x-potstill-exchange-id") != second.header("x-potstill-exchange-id")
    assert len(house.upstream.received) == 3
    exchanges = house.drain()
    assert exchanges[0].output_text == exchanges[1].output_text != ""
    if not is_stream:
        assert [(each.cost_microusd, each.saved_microusd) for each in exchanges[:2]] == [(60, 0), (0, 60)]


async def test_a_failure_is_asked_again(house: House) -> None:
    async def fail(_received: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(http_answer(b'{"error":{}}', status="500 Internal Server Error"))

    house.upstream.script = fail
    async with house.relay('[cache]\ntasks = ["*"]\n') as worker:
        assert [(await ask(worker)).status for _ in range(2)] == [500, 500]
    assert len(house.upstream.received) == 2


async def test_a_stream_that_was_cut_is_asked_again(house: House) -> None:
    async def cut(_received: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(chunked_head() + chunk(EVENTS[0]))
        writer.close()

    house.upstream.script = cut
    async with house.relay('[cache]\ntasks = ["*"]\n') as worker:
        assert not (await ask(worker)).is_whole
        house.upstream.script = stream
        assert (await ask(worker)).body == b"".join(EVENTS)


async def test_keys_and_limits_hold_while_the_store_is_away(house: House) -> None:
    key, _ = house.add_key(limits=Limits(requests_per_minute=2))
    async with house.relay("[keys]\nrequired = true\n"):
        pass
    database = Path(house.settings().database_url.removeprefix("sqlite:///"))
    database.rename(database.with_suffix(".away"))
    database.mkdir()
    async with house.relay("[keys]\nrequired = true\n") as worker:
        await until(lambda: worker.status()["keys"]["error"])  # type: ignore[index]
        assert [(await ask(worker, key)).status for _ in range(3)] == [200, 200, 429]
        assert (await ask(worker, key[:-3] + "abc")).status == 503
