"""WebSockets through a real relay: an independent client and an independent upstream, and what the spool says of both."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from hashlib import sha1
from pathlib import Path
from typing import Any

import pytest
from openai import AsyncOpenAI
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

from capture import feed
from capture.database import open_database
from capture.filters import parse_filter
from capture.messages import Message
from capture.settings import Settings, load_settings
from capture.transcript import BINARY, CLIENT, CLOSE, RELAY, SERVER, SWITCHED, TEXT, Said, read_transcript
from capture.verify import verify
from proxy.keys.key_store import add_key
from proxy.keys.pepper import make_pepper, pepper_path
from proxy.worker import Worker, start_worker
from tests.capture.planting import drain
from tests.proxy.scripting import Kept, free_port, kept, relay_settings, talk, until

KEY = "sk-websocket-test-key-0123456789"
AUTHORIZED = {"Authorization": f"Bearer {KEY}"}
REALTIME = "/v1/realtime?model=gpt-realtime"
HANDSHAKE = (
    "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
)
Script = Callable[[ServerConnection], Awaitable[None]]


async def echo(socket: ServerConnection) -> None:
    """Says everything back."""
    async for message in socket:
        await socket.send(message)


@dataclass
class Upstream:
    """A WebSocket server that does what `script` says, and `refusal` instead of a handshake when there is one."""

    script: Script = echo
    refusal: Response | None = None
    requests: list[Request] = field(default_factory=list)
    sockets: list[ServerConnection] = field(default_factory=list)
    port: int = 0

    def answer(self, socket: ServerConnection, request: Request) -> Response | None:
        self.requests.append(request)
        self.sockets.append(socket)
        return self.refusal

    async def serve(self, socket: ServerConnection) -> None:
        await self.script(socket)


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    found = Upstream()
    async with serve(
        found.serve,
        "127.0.0.1",
        0,
        process_request=found.answer,
        subprotocols=[Subprotocol("realtime")],
        select_subprotocol=lambda _socket, offered: next((each for each in offered if each == "realtime"), None),
        max_size=2**26,
        close_timeout=1,
    ) as server:
        found.port = server.sockets[0].getsockname()[1]
        yield found


@pytest.fixture
def relay_config(tmp_path: Path, upstream: Upstream) -> Settings:
    return relay_settings(tmp_path, f"http://127.0.0.1:{upstream.port}")


@pytest.fixture
async def relay(relay_config: Settings) -> AsyncIterator[Worker]:
    worker = await start_worker(relay_config)
    yield worker
    await worker.drain(0.0)


def reach(relay: Worker, target: str = REALTIME, headers: dict[str, str] | None = None, **options: Any) -> connect:
    """A client's connection to `target` of the relay."""
    return connect(
        f"ws://127.0.0.1:{relay.port}{target}",
        additional_headers=AUTHORIZED if headers is None else headers,
        compression=options.pop("compression", None),
        proxy=None,
        close_timeout=1,
        max_size=2**26,
        **options,
    )


async def ended(settings: Settings) -> tuple[Kept, list[Said]]:
    """The one exchange in the spool once it has ended, and what was said in it."""
    await until(lambda: [each for each in kept(settings) if each.end is not None])
    (exchange,) = kept(settings)
    return exchange, list(read_transcript(exchange.body))


async def closing(socket: ClientConnection) -> tuple[int, str]:
    """The code and reason that the client is closed with."""
    async with asyncio.timeout(10):
        with pytest.raises(ConnectionClosed):
            while True:
                await socket.recv()
    return socket.close_code or 0, socket.close_reason or ""


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


@pytest.mark.parametrize(("code", "reason"), [(1000, ""), (1001, "going"), (3000, "né"), (4999, "x" * 123)])
@pytest.mark.parametrize("who", ["client", "upstream"])
async def test_a_close_reaches_the_other_side_with_its_code(
    who: str, code: int, reason: str, relay: Worker, upstream: Upstream, relay_config: Settings
) -> None:
    async def script(socket: ServerConnection) -> None:
        if who == "upstream":
            await socket.close(code, reason)
        await socket.wait_closed()

    upstream.script = script
    async with reach(relay) as socket:
        if who == "client":
            await socket.close(code, reason)
        assert await closing(socket) == (code, reason)
    await until(lambda: upstream.sockets[0].close_code is not None)
    assert (upstream.sockets[0].close_code, upstream.sockets[0].close_reason) == (code, reason)
    exchange, said = await ended(relay_config)
    assert exchange.end is not None
    assert exchange.end.state == "complete"
    closes = [(each.side, json.loads(each.data)) for each in said if each.kind == CLOSE]
    assert (CLIENT if who == "client" else SERVER, {"code": code, "reason": reason}) in closes


async def test_what_the_upstream_says_after_the_clients_close_still_arrives(relay: Worker, upstream: Upstream) -> None:
    """A raw client, since real ones stop listening."""

    async def script(socket: ServerConnection) -> None:
        await socket.send("first")
        with pytest.raises(ConnectionClosed):
            await socket.recv()

    upstream.script = script
    reader, writer = await handshaken(relay)
    assert await reader.readexactly(7) == b"\x81\x05first"
    writer.write(frame(0x8, struct.pack("!H", 1000)))
    assert await asyncio.wait_for(reader.readexactly(4), 5) == b"\x88\x02\x03\xe8"
    assert await asyncio.wait_for(reader.read(), 5) == b""
    writer.close()


async def test_pings_pass_both_ways(relay: Worker, upstream: Upstream) -> None:
    ponged = asyncio.Event()

    async def script(socket: ServerConnection) -> None:
        await (await socket.ping(b"from above"))
        ponged.set()
        await socket.wait_closed()

    upstream.script = script
    async with asyncio.timeout(10), reach(relay) as socket:
        await (await socket.ping(b"from below"))
        await ponged.wait()


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


async def test_when_the_upstream_breaks_off_the_client_is_told_and_nothing_that_came_is_lost(
    relay: Worker, upstream: Upstream, relay_config: Settings
) -> None:
    async def script(socket: ServerConnection) -> None:
        await socket.recv()
        for number in range(100):
            await socket.send(f"piece {number}")
        socket.transport.abort()

    upstream.script = script
    got: list[str | bytes] = []
    async with asyncio.timeout(10), reach(relay) as socket:
        await socket.send("go")
        with pytest.raises(ConnectionClosed):
            while True:
                got.append(await socket.recv())
    assert (socket.close_code, socket.close_reason) == (1014, "the upstream broke off")
    exchange, said = await ended(relay_config)
    assert [each.data.decode() for each in said if each.side == SERVER] == got
    assert exchange.end is not None
    assert (exchange.end.state, exchange.end.error_kind) == ("upstream_aborted", "upstream_aborted")


async def test_when_the_client_breaks_off_the_upstream_is_told(relay: Worker, upstream: Upstream, relay_config: Settings) -> None:
    socket = await reach(relay)
    await socket.send("hi")
    assert await socket.recv() == "hi"
    socket.transport.abort()
    await until(lambda: upstream.sockets[0].close_code is not None)
    assert upstream.sockets[0].close_code == 1001
    exchange, _ = await ended(relay_config)
    assert exchange.end is not None
    assert exchange.end.state == "client_closed"


async def test_a_client_that_closes_and_hangs_up_at_once_has_closed(
    relay: Worker, upstream: Upstream, relay_config: Settings
) -> None:
    got: list[str | bytes] = []

    async def script(socket: ServerConnection) -> None:
        with pytest.raises(ConnectionClosed):
            while True:
                got.append(await socket.recv())

    upstream.script = script
    _, writer = await handshaken(relay)
    writer.write(frame(0x1, b"last words") + frame(0x8, struct.pack("!H", 4000)))
    await writer.drain()
    writer.close()
    exchange, _ = await ended(relay_config)
    assert got == ["last words"]
    assert upstream.sockets[0].close_code == 4000
    assert exchange.end is not None
    assert exchange.end.state == "complete"


@pytest.mark.parametrize("who", ["client", "upstream"])
async def test_a_message_beyond_the_limit_closes_both_sides(who: str, tmp_path: Path, upstream: Upstream) -> None:
    settings = relay_settings(tmp_path, f"http://127.0.0.1:{upstream.port}", websocket_message_mib=1)
    large = "x" * (2**20 + 1)

    async def script(socket: ServerConnection) -> None:
        if who == "upstream":
            await socket.send(large)
        await socket.wait_closed()

    upstream.script = script
    worker = await start_worker(settings)
    try:
        async with reach(worker) as socket:
            if who == "client":
                await socket.send(large)
            code, _ = await closing(socket)
            assert code == 1009
        exchange, said = await ended(settings)
    finally:
        await worker.drain(0.0)
    assert exchange.end is not None
    assert exchange.end.error_kind == "message_too_big"
    assert "websocket_message_mib" in exchange.end.error_message
    assert exchange.end.state == ("client_closed" if who == "client" else "upstream_aborted")
    assert [each for each in said if each.kind == TEXT] == []


async def test_a_websocket_at_rest_for_too_long_is_closed_on_both_sides(tmp_path: Path, upstream: Upstream) -> None:
    settings = relay_settings(tmp_path, f"http://127.0.0.1:{upstream.port}", websocket_idle_s=0.3)
    worker = await start_worker(settings)
    try:
        async with reach(worker, ping_interval=None) as socket:
            assert await closing(socket) == (1001, "idle for too long")
        exchange, _ = await ended(settings)
        await until(lambda: upstream.sockets[0].close_code == 1001)
    finally:
        await worker.drain(0.0)
    assert exchange.end is not None
    assert (exchange.end.state, exchange.end.error_kind) == ("timeout", "idle_timeout")


async def test_a_client_that_does_not_read_slows_the_upstream_down(
    relay: Worker, upstream: Upstream, relay_config: Settings
) -> None:
    sent = 0
    stood_still = asyncio.Event()

    async def script(socket: ServerConnection) -> None:
        nonlocal sent
        with pytest.raises(ConnectionClosed):
            while True:
                try:
                    async with asyncio.timeout(1.0):
                        await socket.send(b"x" * 2**18)
                except TimeoutError:
                    stood_still.set()
                    await socket.wait_closed()
                sent += 2**18

    upstream.script = script
    reader, writer = await handshaken(relay)
    assert isinstance(reader, asyncio.StreamReader)
    await asyncio.wait_for(stood_still.wait(), 30)
    assert sent < 64 * 2**20
    writer.transport.abort()
    await ended(relay_config)


async def test_a_worker_that_stops_tells_both_sides(upstream: Upstream, relay_config: Settings) -> None:
    worker = await start_worker(relay_config)
    async with reach(worker) as socket:
        await socket.send("hi")
        assert await socket.recv() == "hi"
        draining = asyncio.ensure_future(worker.drain(0.0))
        assert await closing(socket) == (1012, "the relay stops")
        assert await draining == 1
    await until(lambda: upstream.sockets[0].close_code == 1012)
    exchange, _ = await ended(relay_config)
    assert exchange.end is not None
    assert (exchange.end.state, exchange.end.error_kind) == ("interrupted", "relay_stopped")


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


async def test_many_messages_both_ways_at_once_keep_their_order(
    relay: Worker, upstream: Upstream, relay_config: Settings
) -> None:
    down = [f"down {number} " + "x" * (number * 37 % 3_000) for number in range(500)]
    up = [f"up {number} " + "y" * (number * 53 % 3_000) for number in range(500)]
    arrived: list[str | bytes] = []

    async def script(socket: ServerConnection) -> None:
        async def listen() -> None:
            arrived.extend([await socket.recv() for _ in up])

        listening = asyncio.ensure_future(listen())
        for text in down:
            await socket.send(text)
        await listening
        await socket.close()

    upstream.script = script
    async with asyncio.timeout(60), reach(relay) as socket:

        async def speak() -> None:
            for text in up:
                await socket.send(text)

        speaking = asyncio.ensure_future(speak())
        assert [await socket.recv() for _ in down] == down
        await speaking
        assert await closing(socket) == (1000, "")
    assert arrived == up
    _, said = await ended(relay_config)
    assert [each.data.decode() for each in said if each.side == CLIENT and each.kind == TEXT] == up
    assert [each.data.decode() for each in said if each.side == SERVER and each.kind == TEXT] == down


@pytest.mark.parametrize(
    ("data", "code", "kind"),
    [
        (b"\x83\x80\0\0\0\0", 1002, "bad_websocket"),
        (b"\xf1\x80\0\0\0\0", 1002, "bad_websocket"),
        (b"\x80\x80\0\0\0\0", 1002, "bad_websocket"),
        (b"\x81\xff\0\0\0\x10\0\0\0\0\0\0\0\0", 1009, "message_too_big"),
    ],
    ids=["opcode", "reserved bits", "continuation of nothing", "64 GiB"],
)
async def test_frames_that_break_the_protocol_close_both_sides(
    data: bytes, code: int, kind: str, relay: Worker, upstream: Upstream, relay_config: Settings
) -> None:
    reader, writer = await handshaken(relay)
    writer.write(data)
    assert await asyncio.wait_for(reader.readexactly(4), 5) == struct.pack("!BBH", 0x88, 2, code)
    exchange, _ = await ended(relay_config)
    await until(lambda: upstream.sockets[0].close_code is not None)
    assert exchange.end is not None
    assert (exchange.end.state, exchange.end.error_kind) == ("client_closed", kind)
    writer.close()


async def test_text_that_is_no_utf8_passes_as_it_is_and_is_for_the_upstream_to_refuse(
    relay: Worker, upstream: Upstream, relay_config: Settings
) -> None:
    reader, writer = await handshaken(relay)
    writer.write(frame(0x1, b"\xff\xfe"))
    assert (await asyncio.wait_for(reader.readexactly(4), 5))[2:] == struct.pack("!H", 1007)
    _, said = await ended(relay_config)
    assert said[0] == Said(CLIENT, TEXT, b"\xff\xfe")
    writer.close()


async def test_a_session_that_is_cut_at_any_byte_is_never_stored_as_complete(tmp_path: Path) -> None:
    item = {"id": "o1", "type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Good day."}]}
    events: list[dict[str, Any]] = [
        {"type": "session.created", "session": {"model": "gpt-realtime"}},
        {"type": "response.created", "response": {"id": "r1", "status": "in_progress", "output": []}},
        {"type": "response.output_text.delta", "response_id": "r1", "item_id": "o1", "delta": "Good day."},
        {"type": "response.done", "response": {"id": "r1", "status": "completed", "output": [item]}},
    ]
    texts = [json.dumps(event).encode() for event in events]
    whole = b"".join(b"\x81\x7e" + struct.pack("!H", len(text)) + text for text in texts) + b"\x88\x02\x03\xe8"
    cuts = [*range(0, len(whole), 5), *range(len(whole) - 4, len(whole) + 1)]

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        lines = dict(line.split(": ", 1) for line in head.decode().split("\r\n")[1:-2])
        given = {name.lower(): value for name, value in lines.items()}
        accept = base64.b64encode(sha1(given["sec-websocket-key"].encode() + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n")
        writer.write(b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n" + whole[: int(given["x-cut"])])
        await writer.drain()
        writer.close()

    async def client(port: int, cut: int) -> None:
        headers = {**AUTHORIZED, "X-Cut": str(cut), "x-potstill-tag-cut": str(cut)}
        async with connect(
            f"ws://127.0.0.1:{port}{REALTIME}", additional_headers=headers, proxy=None, compression=None
        ) as socket:
            with pytest.raises(ConnectionClosed):
                while True:
                    await socket.recv()
            assert socket.close_code == (1000 if cut == len(whole) else 1014)

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    settings = relay_settings(tmp_path, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    worker = await start_worker(settings)
    for start in range(0, len(cuts), 10):
        await asyncio.gather(*(client(worker.port, cut) for cut in cuts[start : start + 10]))
    await worker.drain(5.0)
    server.close()
    database = open_database(settings.database_url)
    try:
        drain(database, settings.data_folder / "spool")
        stored = {int(each.tags["cut"]): each.state for each in feed.page(database, parse_filter(""), limit=1_000)}
    finally:
        database.close()
    assert stored == {cut: "complete" if cut == len(whole) else "upstream_aborted" for cut in cuts}


async def handshaken(relay: Worker) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A raw client behind its handshake."""
    reader, writer = await asyncio.open_connection("127.0.0.1", relay.port)
    writer.write(f"GET {REALTIME} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {KEY}\r\n{HANDSHAKE}\r\n".encode())
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
    assert head.startswith(b"HTTP/1.1 101 ")
    return reader, writer


def frame(opcode: int, data: bytes) -> bytes:
    """A short masked frame; the mask is zero."""
    return struct.pack("!BB", 0x80 | opcode, 0x80 | len(data)) + bytes(4) + data
