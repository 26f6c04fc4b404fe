"""One house for all cases of a process, its upstream and the tests in one event loop; and nginx in front of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.proxy.conformance import house as houses
from tests.proxy.conformance.front import nginx_in_front
from tests.proxy.conformance.house import House
from tests.proxy.conformance.sdks import Sdks, sdks_at


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("house")


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def shared_house(folder: Path) -> AsyncIterator[House]:
    async with houses.house(folder) as found:
        yield found


@pytest.fixture
def house(shared_house: House) -> House:
    """A house that nobody has asked anything yet."""
    shared_house.reset()
    return shared_house


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def direct(shared_house: House) -> AsyncIterator[Sdks]:
    """The official SDKs at the upstream itself."""
    async with sdks_at(shared_house.upstream.url) as found:
        yield found


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def relayed(shared_house: House) -> AsyncIterator[Sdks]:
    """The official SDKs at the relay."""
    async with sdks_at(shared_house.address) as found:
        yield found


@pytest.fixture(scope="session")
def nginx_port(shared_house: House, folder: Path) -> Iterator[int]:
    """The port of an nginx with its defaults, buffering included, in front of the relay."""
    with nginx_in_front(shared_house.port, folder) as port:
        yield port
