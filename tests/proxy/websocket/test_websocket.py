"""WebSockets through a real relay: the handshake, whose key goes where, and what is kept of it all."""

from __future__ import annotations

import asyncio
import json
import logging
from pathlib import Path

import pytest
from openai import AsyncOpenAI
from websockets.asyncio.server import ServerConnection
from websockets.datastructures import Headers
from websockets.exceptions import InvalidStatus
from websockets.http11 import Response
from websockets.typing import Subprotocol

from capture import feed
from capture.database import open_database
from capture.filters import parse_filter
from capture.messages import Message
from capture.settings import Settings, load_settings
from capture.transcript import BINARY, CLIENT, CLOSE, RELAY, SERVER, SWITCHED, TEXT, read_transcript
from capture.verify import verify
from proxy.keys.key_store import add_key
from proxy.keys.pepper import make_pepper, pepper_path
from proxy.worker import Worker, start_worker
from tests.capture.planting import drain
from tests.proxy.scripting import free_port, kept, relay_settings, talk
from tests.proxy.websocket.sockets import (
    AUTHORIZED,
    HANDSHAKE,
    KEY,
    REALTIME,
    Upstream,
    ended,
    reach,
)


async def test_messages_pass_both_ways_as_they_are_and_all_is_one_exchange(
    relay: Worker, upstream: Upstream, relay_config: Settings
) -> None:
    texts: list[str | bytes] = ['{"type":"x"}', "", "né 🦘\n\r\n", b"\x00\xff", b"", "x" * 200_000]
    headers = {**AUTHORIZED, "OpenAI-Beta": "realtime=v1", "x-potstill-user": "u1", "Helicone-Session-Id": "s1"}
    async with reach(relay, f"/task/triage{REALTIME}", headers) as socket:
        assert socket.response is not None
        exchange_id = socket.response.headers["x-potstill-exchange-id"]
        for text in texts:
            await socket.send(text)
            assert await socket.recv() == text
    assert exchange_id.startswith("ex_")
    request = upstream.requests[0]
    assert request.path == REALTIME
    assert (request.headers["Authorization"], request.headers["OpenAI-Beta"]) == (f"Bearer {KEY}", "realtime=v1")
    assert not [name for name in request.headers if name.lower().startswith(("x-potstill", "helicone"))]
    exchange, said = await ended(relay_config)
    raw = [each.encode() if isinstance(each, str) else each for each in texts]
    assert [each.data for each in said if each.side == CLIENT and each.kind != CLOSE] == raw
    assert [each.data for each in said if each.side == SERVER and each.kind != CLOSE] == raw
    assert {each.kind for each in said} == {TEXT, BINARY, CLOSE}
    begin, head, end = exchange.begin, exchange.head, exchange.end
    assert begin is not None
    assert head is not None
    assert end is not None
    assert (begin.method, begin.path, begin.query, begin.protocol) == ("GET", "/v1/realtime", "model=gpt-realtime", "openai")
    assert (begin.task, begin.user_name, begin.session_name, begin.model_asked) == ("triage", "u1", "s1", "gpt-realtime")
    assert (begin.is_stream, head.status, head.upstream, end.status, end.state) == (
        True,
        SWITCHED,
        "openai",
        SWITCHED,
        "complete",
    )


async def test_each_message_is_kept_before_it_is_passed_on(relay: Worker, upstream: Upstream, relay_config: Settings) -> None:
    seen = asyncio.Event()

    async def script(socket: ServerConnection) -> None:
        assert await socket.recv() == "question"
        assert [each.data for each in read_transcript(kept(relay_config)[0].body)] == [b"question"]
        seen.set()
        await socket.send("answer")
        await socket.wait_closed()

    upstream.script = script
    async with reach(relay) as socket:
        await socket.send("question")
        assert await socket.recv() == "answer"
        (exchange,) = kept(relay_config)
        assert [each.data for each in read_transcript(exchange.body)] == [b"question", b"answer"]
        assert exchange.end is None
    assert seen.is_set()


@pytest.mark.parametrize("key_in", ["header", "subprotocol"])
async def test_the_subprotocol_is_the_upstreams_choice_and_a_key_among_them_is_kept_nowhere(
    key_in: str, relay: Worker, upstream: Upstream, relay_config: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="aiohttp")
    offered = [Subprotocol("realtime"), Subprotocol("openai-beta.realtime-v1")]
    keyed = [*offered[:1], Subprotocol(f"openai-insecure-api-key.{KEY}"), *offered[1:]]
    is_header = key_in == "header"
    async with reach(relay, headers=AUTHORIZED if is_header else {}, subprotocols=offered if is_header else keyed) as socket:
        assert socket.subprotocol == "realtime"
    request = upstream.requests[0]
    got = [each.strip() for each in request.headers["Sec-WebSocket-Protocol"].split(",")]
    assert got == (offered if is_header else keyed)
    assert ("Authorization" in request.headers) is is_header
    await ended(relay_config)
    assert KEY.encode() not in b"".join(path.read_bytes() for path in relay_config.data_folder.rglob("*") if path.is_file())
    assert KEY not in caplog.text


async def test_an_upstream_that_chooses_no_subprotocol_is_no_reason_to_log_a_key(
    relay: Worker, upstream: Upstream, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="aiohttp")
    async with reach(
        relay, headers={}, subprotocols=[Subprotocol(f"openai-insecure-api-key.{KEY}"), Subprotocol("other")]
    ) as socket:
        assert socket.subprotocol is None
    assert KEY not in caplog.text


async def test_a_key_of_ours_takes_the_place_of_the_clients(
    tmp_path: Path, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OUR_KEY", "sk-ours")
    relay_settings(tmp_path, f"http://127.0.0.1:{upstream.port}")
    config = tmp_path / "potstill.toml"
    config.write_text(
        config.read_text("utf-8").replace("[upstreams.anthropic]", 'key = "env:OUR_KEY"\n[upstreams.anthropic]'), "utf-8"
    )
    worker = await start_worker(load_settings(config, environ={}))
    try:
        async with reach(
            worker, headers={}, subprotocols=[Subprotocol("realtime"), Subprotocol(f"openai-insecure-api-key.{KEY}")]
        ):
            pass
    finally:
        await worker.drain(0.0)
    assert upstream.requests[0].headers["Authorization"] == "Bearer sk-ours"
    assert KEY not in str(upstream.requests[0].headers)


async def test_a_virtual_key_in_a_subprotocol_opens_the_way_and_goes_no_further(
    tmp_path: Path, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OUR_KEY", "sk-ours")
    relay_settings(tmp_path, f"http://127.0.0.1:{upstream.port}")
    config = tmp_path / "potstill.toml"
    ours = config.read_text("utf-8").replace("[upstreams.anthropic]", 'key = "env:OUR_KEY"\n[upstreams.anthropic]')
    config.write_text(f"{ours}\n[keys]\nrequired = true\n", "utf-8")
    settings = load_settings(config, environ={})
    database = open_database(settings.database_url)
    key, made = add_key(database, make_pepper(pepper_path(settings)), "browser", models=["gpt-realtime"])
    database.close()
    worker = await start_worker(settings)
    try:
        named = [Subprotocol("realtime"), Subprotocol(f"openai-insecure-api-key.{key}")]
        async with reach(worker, headers={}, subprotocols=named) as socket:
            assert socket.subprotocol == "realtime"
        assert upstream.requests[0].headers["Authorization"] == "Bearer sk-ours"
        assert key not in str(upstream.requests[0].headers)
        exchange, _ = await ended(settings)
        assert exchange.begin is not None
        assert exchange.begin.key_id == made.id
        for target, given, status in (("/v1/realtime?model=gpt-5", named, 403), (REALTIME, named[:1], 401)):
            with pytest.raises(InvalidStatus) as refused:
                async with reach(worker, target, headers={}, subprotocols=given):
                    pass
            assert refused.value.response.status_code == status
        assert len(upstream.requests) == 1
    finally:
        await worker.drain(0.0)


async def test_a_message_in_fragments_and_a_compressing_client_are_understood(
    relay: Worker, upstream: Upstream, relay_config: Settings
) -> None:
    async with reach(relay, compression="deflate") as socket:
        await socket.send(["in ", "three ", "pieces"])
        assert await socket.recv() == "in three pieces"
    _, said = await ended(relay_config)
    assert [each.data for each in said if each.kind == TEXT] == [b"in three pieces"] * 2


async def test_a_refusal_of_the_upstream_passes_as_it_came(relay: Worker, upstream: Upstream, relay_config: Settings) -> None:
    body = b'{"error":{"message":"no such model","code":"model_not_found"}}'
    headers = {"Content-Type": "application/json", "Content-Length": str(len(body)), "x-request-id": "r1", "Retry-After": "7"}
    upstream.refusal = Response(429, "Too Many Requests", Headers(headers), body)
    with pytest.raises(InvalidStatus) as refused:
        async with reach(relay):
            pass
    response = refused.value.response
    assert (response.status_code, response.body) == (429, body)
    assert (response.headers["x-request-id"], response.headers["retry-after"]) == ("r1", "7")
    exchange, _ = await ended(relay_config)
    assert exchange.end is not None
    assert (exchange.body, exchange.end.status, exchange.end.state) == (body, 429, "complete")


@pytest.mark.parametrize(
    ("line", "headers", "status", "words"),
    [
        (f"GET {REALTIME}", "", 401, "Set OPENAI_API_KEY in the app"),
        ("GET /upstream/nobody/v1/realtime", "k", 404, "No upstream is named 'nobody'"),
        (f"GET {REALTIME}", "kx-potstill-usr: a\r\n", 400, "Did you mean x-potstill-user"),
        (f"GET {REALTIME}", "kSec-WebSocket-Version: 12\r\n", 400, "Use version 13"),
        (f"GET {REALTIME}", "kSec-WebSocket-Key: short\r\n", 400, "RFC 6455"),
    ],
)
async def test_what_cannot_be_relayed_is_refused_in_the_clients_shape_and_reaches_no_upstream(
    line: str, headers: str, status: int, words: str, relay: Worker, upstream: Upstream, relay_config: Settings
) -> None:
    given = headers.removeprefix("k")
    name = given.partition(":")[0]
    handshake = "".join(f"{each}\r\n" for each in HANDSHAKE.split("\r\n") if each and not (name and each.startswith(name)))
    key = f"Authorization: Bearer {KEY}\r\n" if headers.startswith("k") else ""
    reply = await asyncio.wait_for(talk(relay.port, line, handshake + key + given), 5)
    assert reply.status == status
    assert words in json.loads(reply.body)["error"]["message"]
    assert upstream.requests == []
    exchange, _ = await ended(relay_config)
    assert exchange.end is not None
    assert (exchange.end.status, exchange.end.state) == (status, "complete")


async def test_an_upstream_that_cannot_be_reached_is_a_502(tmp_path: Path) -> None:
    worker = await start_worker(relay_settings(tmp_path, f"http://127.0.0.1:{free_port()}"))
    try:
        with pytest.raises(InvalidStatus) as refused:
            async with reach(worker):
                pass
    finally:
        await worker.drain(0.0)
    assert refused.value.response.status_code == 502
    assert json.loads(refused.value.response.body)["error"]["code"] == "upstream_unreachable"


async def test_the_official_sdk_holds_a_realtime_session_and_the_store_has_what_was_said(
    upstream: Upstream, relay_config: Settings
) -> None:
    relay = await start_worker(relay_config)

    async def script(socket: ServerConnection) -> None:
        await socket.send(
            json.dumps({"type": "session.created", "event_id": "e0", "session": {"type": "realtime", "model": "gpt-realtime"}})
        )
        async for message in socket:
            if json.loads(message)["type"] == "response.create":
                part = {"type": "output_text", "text": "Good day."}
                item = {"id": "o1", "type": "message", "role": "assistant", "status": "completed", "content": [part]}
                usage = {"total_tokens": 24, "input_tokens": 20, "output_tokens": 4, "input_token_details": {"cached_tokens": 16}}
                response = {"id": "r1", "object": "realtime.response", "status": "completed", "output": [item], "usage": usage}
                await socket.send(json.dumps({"type": "response.done", "event_id": "e1", "response": response}))

    upstream.script = script
    async with (
        AsyncOpenAI(api_key=KEY, base_url=f"http://127.0.0.1:{relay.port}/v1", max_retries=0) as client,
        client.realtime.connect(model="gpt-realtime", extra_headers={"x-potstill-task": "calls"}) as session,
    ):
        await session.conversation.item.create(
            item={"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hi"}]}
        )
        await session.response.create()
        async for event in session:
            if event.type == "response.done":
                break
    exchange, said = await ended(relay_config)
    assert exchange.begin is not None
    assert (exchange.begin.task, exchange.begin.model_asked) == ("calls", "gpt-realtime")
    assert [json.loads(each.data)["type"] for each in said if each.kind == TEXT] == [
        "session.created",
        "conversation.item.create",
        "response.create",
        "response.done",
    ]
    assert not [each for each in said if each.side == RELAY]
    await relay.drain(5.0)
    database = open_database(relay_config.database_url)
    try:
        drain(database, relay_config.data_folder / "spool")
        (stored,) = feed.page(database, parse_filter("task:calls"), limit=9)
        assert (stored.state, stored.output_text, stored.model_served) == ("complete", "Good day.", "gpt-realtime")
        assert (stored.tokens_in, stored.tokens_out, stored.tokens_cached, stored.usage_source) == (20, 4, 16, "reported")
        assert feed.conversation(database, stored).asked == (Message("user", "hi"),)
        assert verify(database).faults == []
    finally:
        database.close()


async def test_the_longest_target_that_is_read_is_read_of_websockets_too(relay: Worker) -> None:
    target = "/nothing/" + "y" * (8_190 - len("/nothing/"))
    reply = await talk(relay.port, f"GET {target}", HANDSHAKE)
    assert (reply.status, json.loads(reply.body)["error"]["code"]) == (404, "not_found")


async def test_any_other_websocket_is_relayed_unread(relay: Worker, upstream: Upstream, relay_config: Settings) -> None:
    async with reach(relay, "/upstream/openai/live/music?v=2") as socket:
        await socket.send("hi")
        assert await socket.recv() == "hi"
    exchange, _ = await ended(relay_config)
    assert exchange.begin is not None
    assert upstream.requests[0].path == "/live/music?v=2"
    assert (exchange.begin.protocol, exchange.begin.path) == ("raw", "/live/music")


async def test_responses_over_a_websocket_are_the_openai_protocols(
    relay: Worker, upstream: Upstream, relay_config: Settings
) -> None:
    async with reach(relay, "/v1/v1/responses") as socket:
        await socket.send("hi")
        assert await socket.recv() == "hi"
    exchange, _ = await ended(relay_config)
    assert exchange.begin is not None
    assert upstream.requests[0].path == "/v1/responses"
    assert (exchange.begin.protocol, exchange.begin.path) == ("openai", "/v1/responses")
