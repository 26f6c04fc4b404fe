"""What the abuse tests borrow from the tests of the proxy and of the screens."""

from __future__ import annotations

from tests.proxy.conftest import pytest_asyncio_loop_factories, relay, relay_config, upstream
from tests.tui.conftest import captured, frozen, seat

__all__ = ["captured", "frozen", "pytest_asyncio_loop_factories", "relay", "relay_config", "seat", "upstream"]
