"""What a reload leaves of the former configuration: its connections last as long as the exchanges that began with it."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from capture.errors import SettingsError
from capture.settings import Settings, load_settings
from proxy.outbound import Outbound
from proxy.worker import Worker, start_worker
from tests.proxy.scripting import CHAT_ANSWER, Received, Upstream, chunk, chunked_head, http_answer, talk, until
from tests.proxy.wire.serving import Peer, answering, client, peer, request

CHAT = "POST /v1/chat/completions"
KEY = "Authorization: Bearer sk-client\r\n"
ASK = b'{"model":"gpt-5","messages":[]}'


def written(folder: Path, port: object, more: str = "") -> Settings:
    """Settings of a relay in front of an upstream at `port`."""
    path = folder / "potstill.toml"
    path.write_text(f'[relay]\nport = 0\nadmin_port = 0\n[upstreams.up]\nurl = "http://127.0.0.1:{port}"\n{more}\n', "utf-8")
    return load_settings(path, environ={})


@pytest.fixture
async def near() -> AsyncIterator[Peer]:
    """An upstream that keeps its connections open."""
    async with peer(answering(http_answer(CHAT_ANSWER))) as found:
        yield found


@pytest.fixture
async def worker(tmp_path: Path, near: Peer) -> AsyncIterator[Worker]:
    """A relay in front of `near`."""
    found = await start_worker(written(tmp_path, near.address))
    yield found
    await found.drain(0.0)


async def test_connections_at_rest_are_closed_by_a_reload(worker: Worker, near: Peer, tmp_path: Path) -> None:
    assert (await talk(worker.port, CHAT, KEY, ASK)).body == CHAT_ANSWER
    assert (near.opened, near.ended) == (1, 0)
    worker.reload(written(tmp_path, near.address, "idle_timeout_s = 60"))
    await until(lambda: near.ended == 1)
    assert (await talk(worker.port, CHAT, KEY, ASK)).body == CHAT_ANSWER
    assert (near.opened, near.ended) == (2, 1)


async def test_connections_are_closed_with_the_last_exchange_that_began_before_the_reload(
    worker: Worker, near: Peer, tmp_path: Path
) -> None:
    may_end = [asyncio.Event(), asyncio.Event()]
    asked: list[bytes] = []

    async def streams(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(len(ASK))
        mine = may_end[len(asked)]
        asked.append(head)
        writer.write(chunked_head() + chunk(b"data: {}\n\n"))
        await mine.wait()
        writer.write(b"0\r\n\r\n")
        await reader.read()

    near.talk = streams
    async with client(worker.port) as one, client(worker.port) as two:
        for count, each in ((1, one), (2, two)):
            each.writer.write(request("/v1/chat/completions", KEY, ASK, host="Host: localhost\r\n"))
            await each.reader.readuntil(b"data: {}\n\n")
            assert len(asked) == count
        near.talk = answering(http_answer(CHAT_ANSWER))
        for limit in (60, 61):
            worker.reload(written(tmp_path, near.address, f"idle_timeout_s = {limit}"))
            assert (await talk(worker.port, CHAT, KEY, ASK)).body == CHAT_ANSWER
        await until(lambda: near.ended == 1)
        assert near.opened == 4, "two streams go on, and each configuration has a connection of its own"
        may_end[0].set()
        assert await one.reader.readuntil(b"0\r\n\r\n")
        assert near.ended == 1, "the other stream still needs the same ways"
        may_end[1].set()
        assert await two.reader.readuntil(b"0\r\n\r\n")
        await until(lambda: near.ended == 3)
        assert (await talk(worker.port, CHAT, KEY, ASK)).body == CHAT_ANSWER
        assert near.opened == 4


async def test_a_client_that_leaves_after_a_reload_takes_the_former_ways_along(
    worker: Worker, near: Peer, tmp_path: Path
) -> None:
    async def silent(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await reader.read(2**16)
        assert await reader.read() == b""

    near.talk = silent
    async with client(worker.port) as one:
        one.writer.write(request("/v1/chat/completions", KEY, ASK, host="Host: localhost\r\n"))
        await until(lambda: near.opened == 1)
        before = _open_ways()
        worker.reload(written(tmp_path, near.address, "idle_timeout_s = 60"))
        assert _open_ways() == before + 1
    await until(lambda: near.ended == 1)
    await until(lambda: _open_ways() == before)


def _open_ways() -> int:
    gc.collect()
    return sum(type(each) is Outbound for each in gc.get_objects())  # isinstance would ask objects of others for their class


async def test_a_hundred_reloads_leave_one_configuration(worker: Worker, near: Peer, tmp_path: Path) -> None:
    before = _open_ways()
    for n in range(100):
        worker.reload(written(tmp_path, near.address, f"idle_timeout_s = {n + 10}"))
        if n % 10 == 0:
            assert (await talk(worker.port, CHAT, KEY, ASK)).status == 200
    await until(lambda: _open_ways() == before)


@pytest.mark.parametrize("wrong", ['ca_file = "none.pem"', "[keys]\nrequired = 3", "[cache]\ntasks = 7"])
async def test_a_reload_that_fails_leaves_nothing_open(wrong: str, worker: Worker, near: Peer, tmp_path: Path) -> None:
    before = _open_ways()
    more = '[upstreams.behind]\nurl = "http://far.example"\nproxy = "http://127.0.0.1:1"\nmodels = ["far"]\n'
    more += f'[upstreams.tls]\nurl = "https://localhost"\nmodels = ["tls"]\n{wrong}'
    with pytest.raises(SettingsError):
        worker.reload(written(tmp_path, near.address, more))
    await until(lambda: _open_ways() == before)
    assert (await talk(worker.port, CHAT, KEY, ASK)).body == CHAT_ANSWER


async def test_a_stream_through_a_proxy_goes_on_over_a_reload_and_its_ways_are_closed_after_it(
    upstream: Upstream, tmp_path: Path
) -> None:
    may_end = asyncio.Event()

    async def script(_received: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(chunked_head() + chunk(b"data: {}\n\n"))
        await may_end.wait()
        writer.write(chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n")

    upstream.script = script
    section = f'[upstreams.far]\nurl = "http://far.example"\nproxy = "{upstream.url}"\nmodels = ["far"]\n'
    relay = await start_worker(written(tmp_path, upstream.port, section))
    try:
        async with client(relay.port) as one:
            ask = b'{"model":"far","messages":[]}'
            one.writer.write(request("/v1/chat/completions", KEY, ask, host="Host: localhost\r\n"))
            await one.reader.readuntil(b"data: {}\n\n")
            before = _open_ways()
            relay.reload(written(tmp_path, upstream.port))
            assert _open_ways() == before + 1
            may_end.set()
            assert await one.reader.readuntil(b"0\r\n\r\n")
        await until(lambda: _open_ways() == before)
        await until(upstream.closed.is_set)
    finally:
        await relay.drain(0.0)


async def test_a_request_on_its_way_during_a_reload_goes_by_the_new_configuration_alone(
    worker: Worker, near: Peer, tmp_path: Path
) -> None:
    asked: list[bytes] = []

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(http_answer(CHAT_ANSWER))
        await reader.read()
        writer.close()

    far = await asyncio.start_server(listen, "127.0.0.1", 0)
    head = f"{CHAT} HTTP/1.1\r\nHost: 127.0.0.1\r\n{KEY}Content-Length: {len(ASK)}\r\n\r\n".encode()
    (tmp_path / "new-key").write_text("sk-new", "utf-8")
    reader, writer = await asyncio.open_connection("127.0.0.1", worker.port)
    try:
        writer.write(head + ASK)  # the relay has seen this head, and knows where it goes
        await reader.readuntil(CHAT_ANSWER)
        writer.write(head + ASK[:5])
        await until(lambda: any(connection._next is not None for connection in worker._server.connections))
        port = far.sockets[0].getsockname()[1]
        worker.reload(written(tmp_path, f"{port}/elsewhere/v1", f'key = "file:{tmp_path}/new-key"'))
        writer.write(ASK[5:])
        await reader.readuntil(CHAT_ANSWER)
    finally:
        writer.close()
        far.close()
    assert asked[0].startswith(b"POST /elsewhere/v1/chat/completions ")
    assert b"Bearer sk-new" in asked[0]
    assert b"sk-client" not in asked[0]
