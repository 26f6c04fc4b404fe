"""Fixtures of the clients' tests: one house for a file of them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.clients.house import House, living


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """A relay in front of the scripted providers, with a store of its own."""
    with living(tmp_path_factory.mktemp("house")) as found:
        yield found
