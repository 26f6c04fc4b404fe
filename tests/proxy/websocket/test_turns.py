"""Turns at an upstream that takes only so many at a time: an open WebSocket keeps one until its end."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from websockets.exceptions import InvalidStatus

from capture.settings import load_settings
from proxy.worker import Worker, start_worker
from tests.proxy.scripting import relay_settings, talk, until
from tests.proxy.websocket.sockets import KEY, Upstream, reach

LIMITS = "max_concurrent = 1\nmax_waiting = {waiting}\nlongest_wait_s = 60\n"


@pytest.fixture
async def relay(tmp_path: Path, upstream: Upstream, request: pytest.FixtureRequest) -> AsyncIterator[Worker]:
    """A relay that asks its upstream one thing at a time; as many wait as the test says."""
    relay_settings(tmp_path, f"http://127.0.0.1:{upstream.port}")
    path = tmp_path / "potstill.toml"
    limits = "[upstreams.openai]\n" + LIMITS.format(waiting=request.param)
    path.write_text(path.read_text("utf-8").replace("[upstreams.openai]\n", limits), "utf-8")
    worker = await start_worker(load_settings(path, environ={}))
    yield worker
    await worker.drain(0.0)


@pytest.mark.parametrize("relay", [0], indirect=True)
async def test_whoever_finds_no_turn_is_told_when_to_come_again(relay: Worker, upstream: Upstream) -> None:
    async with reach(relay):
        with pytest.raises(InvalidStatus) as refused:
            async with reach(relay):
                pass
        asked = await talk(relay.port, "POST /v1/chat/completions", f"Authorization: Bearer {KEY}\r\n", b'{"model":"m"}')
    response = refused.value.response
    assert (response.status_code, response.headers["retry-after"]) == (503, "1")
    assert response.body is not None
    assert "raise max_concurrent in [upstreams.openai]" in json.loads(response.body)["error"]["message"]
    assert asked.status == 503, "requests and WebSockets share the turns"
    assert len(upstream.requests) == 1


@pytest.mark.parametrize("relay", [1], indirect=True)
async def test_a_turn_passes_to_who_waits_when_a_websocket_ends(relay: Worker, upstream: Upstream) -> None:
    slots = relay._relay.standing.slots(relay._relay.config.upstreams["openai"])

    async def second() -> str | bytes:
        async with reach(relay, open_timeout=60) as socket:
            await socket.send("mine")
            return await socket.recv()

    async with reach(relay) as first:
        waiting = asyncio.ensure_future(second())
        await until(lambda: slots.waiting)
        await first.send("still here")
        assert await first.recv() == "still here"
        assert len(upstream.requests) == 1
    assert await asyncio.wait_for(waiting, 60) == "mine"
    assert len(upstream.requests) == 2
    async with reach(relay, open_timeout=60) as third:
        await third.send("and again")
        assert await third.recv() == "and again"
