"""Fixtures of the proxy's tests: an upstream that does exactly what a test says, and a relay in front of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import uvloop

from capture.settings import Settings
from proxy.worker import Worker, start_worker
from tests.proxy.scripting import Upstream, relay_settings


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    """An upstream that answers every request with `CHAT_ANSWER` until a test gives it another script."""
    found = Upstream()
    server = await asyncio.start_server(found.serve, "127.0.0.1", 0, limit=2**26)
    found.port = server.sockets[0].getsockname()[1]
    yield found
    server.close()


@pytest.fixture
def relay_config(tmp_path: Path, upstream: Upstream) -> Settings:
    """Settings for a relay in front of `upstream`."""
    return relay_settings(tmp_path, upstream.url)


@pytest.fixture
async def relay(relay_config: Settings) -> AsyncIterator[Worker]:
    """A relay on a free port in front of `upstream`."""
    worker = await start_worker(relay_config)
    yield worker
    await worker.drain(0.0)


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The loop that relay workers run on."""
    return {"uvloop": uvloop.new_event_loop}
