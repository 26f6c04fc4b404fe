"""What the fault matrix borrows from the tests of capture and proxy."""

from __future__ import annotations

from tests.capture.conftest import make_relay, spool_root
from tests.proxy.conftest import pytest_asyncio_loop_factories, relay, relay_config, upstream

__all__ = ["make_relay", "pytest_asyncio_loop_factories", "relay", "relay_config", "spool_root", "upstream"]
