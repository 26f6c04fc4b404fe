"""What the tests of this package share: ready releases without an engine, and a deadline instead of sleeps."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from capture.database import Database
from serve.release_store import READY, Release, add_release, settle_release


def make_release(database: Database, task: str = "triage", state: str = READY, adapter_id: str = "ad_none") -> Release:
    """A release of `task` with the next number."""
    return settle_release(database, add_release(database, task, adapter_id, {}), state, {}, 200, 200)


def until(is_true: Callable[[], bool], within_s: float = 5.0) -> float:
    """Seconds until `is_true`; fails after `within_s`."""
    began = time.monotonic()
    while not is_true():
        assert time.monotonic() - began < within_s, f"not within {within_s} s"
        time.sleep(0.005)
    return time.monotonic() - began


@pytest.fixture
def ready_release() -> Callable[..., Release]:
    """Makes a release that may get a share."""
    return make_release


@pytest.fixture
def wait_until() -> Callable[..., float]:
    """Polls a condition with a deadline."""
    return until
