"""What a relay worker counts: a request costs a few additions and no memory, and no name that a client chose gets in.

Every number only grows while the worker lives. `Counters.snapshot` is what the worker tells the supervisor; snapshots of
several workers, and of a worker's former lives, add up with `merged`.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable

import msgspec

LATENCY_US = (
    *(5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000),
    *(1_000_000, 2_500_000, 5_000_000, 10_000_000, 30_000_000, 60_000_000, 120_000_000, 300_000_000),
)
"""Upper limits of the buckets for how long an exchange took and for its first byte."""
OVERHEAD_US = (100, 200, 300, 500, 750, 1_000, 2_000, 5_000, 10_000, 25_000, 50_000, 100_000, 500_000)
"""Upper limits of the buckets for our own part in it."""
OTHER = "other"
"""Stands for all names beyond `MOST_NAMES`, so that no upstream can fill memory with statuses of its own making."""
MOST_NAMES = 300


class Series(msgspec.Struct, array_like=True):
    """Exchanges that ended alike. `variant` is '' outside an experiment, `status` 0 when no head came."""

    protocol: str
    upstream: str
    variant: str
    status: int
    state: str
    count: int = 0


class Timing(msgspec.Struct, array_like=True):
    """How long the exchanges of one protocol with one upstream took: a count for each bucket and one above the last."""

    protocol: str
    upstream: str
    latency: list[int]
    first_byte: list[int]
    overhead: list[int]
    latency_us: int = 0
    first_byte_us: int = 0
    overhead_us: int = 0
    request_bytes: int = 0
    response_bytes: int = 0


class Snapshot(msgspec.Struct):
    """All numbers of a worker at one moment. `events` holds kind, reason and how often."""

    began: int = 0
    series: list[Series] = []
    timings: list[Timing] = []
    events: list[tuple[str, str, int]] = []


REFUSED, FELL_BACK, RETRIED, CACHED = "refused", "fell_back", "retried", "cached"
"""Kinds of events."""


class Counters:
    """One worker's numbers. Nothing in here blocks, raises or grows with traffic."""

    __slots__ = ("_events", "_series", "_timings", "began_count")

    def __init__(self) -> None:
        self.began_count = 0
        self._series: dict[tuple[str, str, str, int, str], tuple[Series, Timing]] = {}
        self._timings: dict[tuple[str, str], Timing] = {}
        self._events: dict[tuple[str, str], int] = {}

    def began(self) -> None:
        """A request has come in; it ends with `ended`."""
        self.began_count += 1

    def refused(self, kind: str) -> None:
        """We said no ourselves; `kind` is that of the `Failure`. The exchange, if there is one, is told to `ended` too."""
        self._event(REFUSED, kind)

    def fell_back(self, reason: str) -> None:
        """Another answered than was asked first: the teacher for a student, or the next upstream of a chain."""
        self._event(FELL_BACK, reason)

    def retried(self, upstream: str) -> None:
        """The same upstream was asked once more."""
        self._event(RETRIED, upstream)

    def cached(self, upstream: str) -> None:
        """An answer came out of the cache, and `upstream` was not asked."""
        self._event(CACHED, upstream)

    def ended(
        self,
        protocol: str,
        upstream: str,
        variant: str,
        status: int,
        state: str,
        latency_us: int,
        first_byte_us: int | None,
        overhead_us: int,
        request_bytes: int,
        response_bytes: int,
    ) -> None:
        """An exchange is over. `upstream` is a name of the configuration, never one of the request's; None: no byte came."""
        found = self._series.get((protocol, upstream, variant, status, state))
        if found is None:
            found = self._place(protocol, upstream, variant, status, state)
        series, timing = found
        series.count += 1
        timing.latency[bisect_left(LATENCY_US, latency_us)] += 1
        timing.latency_us += latency_us
        if first_byte_us is not None:
            timing.first_byte[bisect_left(LATENCY_US, first_byte_us)] += 1
            timing.first_byte_us += first_byte_us
        timing.overhead[bisect_left(OVERHEAD_US, overhead_us)] += 1
        timing.overhead_us += overhead_us
        timing.request_bytes += request_bytes
        timing.response_bytes += response_bytes

    def snapshot(self) -> Snapshot:
        """A copy of everything, safe to keep."""
        series = [msgspec.structs.replace(one) for one, _ in self._series.values()]
        timings = [_copied(one) for one in self._timings.values()]
        return Snapshot(self.began_count, series, timings, [(*key, count) for key, count in self._events.items()])

    def _place(self, protocol: str, upstream: str, variant: str, status: int, state: str) -> tuple[Series, Timing]:
        if len(self._series) >= MOST_NAMES:
            protocol = upstream = variant = state = OTHER
            status = 0
        key = (protocol, upstream, variant, status, state)
        if (found := self._series.get(key)) is not None:
            return found
        timing = self._timings.get((protocol, upstream))
        if timing is None:
            timing = self._timings[protocol, upstream] = _empty_timing(protocol, upstream)
        self._series[key] = (Series(*key), timing)
        return self._series[key]

    def _event(self, kind: str, reason: str) -> None:
        key = (kind, reason)
        if key not in self._events and len(self._events) >= MOST_NAMES:
            key = (kind, OTHER)
        self._events[key] = self._events.get(key, 0) + 1


def merged(snapshots: Iterable[Snapshot]) -> Snapshot:
    """One snapshot that holds the sums of all of them, its parts in the order of their names."""
    began = 0
    series: dict[tuple[str, str, str, int, str], Series] = {}
    timings: dict[tuple[str, str], Timing] = {}
    events: dict[tuple[str, str], int] = {}
    for snapshot in snapshots:
        began += snapshot.began
        for one in snapshot.series:
            key = (one.protocol, one.upstream, one.variant, one.status, one.state)
            series.setdefault(key, Series(*key)).count += one.count
        for timing in snapshot.timings:
            total = timings.setdefault((timing.protocol, timing.upstream), _empty_timing(timing.protocol, timing.upstream))
            _add(total, timing)
        for kind, reason, count in snapshot.events:
            events[kind, reason] = events.get((kind, reason), 0) + count
    return Snapshot(
        began,
        [series[key] for key in sorted(series)],
        [timings[key] for key in sorted(timings)],
        [(*key, events[key]) for key in sorted(events)],
    )


def _empty_timing(protocol: str, upstream: str) -> Timing:
    latencies = len(LATENCY_US) + 1
    return Timing(protocol, upstream, [0] * latencies, [0] * latencies, [0] * (len(OVERHEAD_US) + 1))


def _copied(timing: Timing) -> Timing:
    copy = _empty_timing(timing.protocol, timing.upstream)
    _add(copy, timing)
    return copy


def _add(total: Timing, more: Timing) -> None:
    """Adds `more` to `total`; a list of another length, from an older worker, is no cause to fail and is left out."""
    for name in ("latency", "first_byte", "overhead"):
        ours, theirs = getattr(total, name), getattr(more, name)
        if len(ours) == len(theirs):
            setattr(total, name, [a + b for a, b in zip(ours, theirs, strict=True)])
    for name in ("latency_us", "first_byte_us", "overhead_us", "request_bytes", "response_bytes"):
        setattr(total, name, getattr(total, name) + getattr(more, name))
