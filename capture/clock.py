"""The one seam for time: everything that needs a clock asks here, so that tests can turn it."""

from __future__ import annotations

import time
from datetime import UTC, datetime


def now_us() -> int:
    """Wall clock, UTC, in microseconds since 1970."""
    return time.time_ns() // 1_000


monotonic_ns = time.monotonic_ns
"""A clock that never goes back, in nanoseconds; only differences mean anything."""


def iso(us: int) -> str:
    """`us` (microseconds since 1970) as ISO 8601 in UTC with milliseconds."""
    return datetime.fromtimestamp(us / 1_000_000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
