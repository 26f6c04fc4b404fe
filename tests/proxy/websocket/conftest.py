"""Fixtures of the tests of WebSockets: an upstream that speaks them, and a relay in front of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from websockets.asyncio.server import serve
from websockets.typing import Subprotocol

from capture.settings import Settings
from proxy.worker import Worker, start_worker
from tests.proxy.scripting import relay_settings
from tests.proxy.websocket.sockets import (
    Upstream,
)


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
