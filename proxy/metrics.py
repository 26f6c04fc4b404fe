"""GET /metrics: what Prometheus reads, of all workers and their former lives together. Pure; docs/operations.md lists the names.

No label holds a name that a client chose: neither task nor user nor model, so that nobody can fill a time-series store.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.registry import Collector, CollectorRegistry

from proxy.children import RUNNING
from proxy.counters import CACHED, FELL_BACK, LATENCY_US, OVERHEAD_US, REFUSED, RETRIED, Snapshot, Timing

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4


@dataclass(frozen=True, slots=True)
class Seen:
    """What is known at one moment. `children` and `workers` are statuses as /status shows them.

    `writer_full_us` is when the store writer last had everything that was in the spools, 0 when it never said so.
    """

    now_us: int
    started_us: int
    version: str
    is_ready: bool
    counters: Snapshot
    dropped: int = 0
    sync_failures: int = 0
    stored: int = 0
    refused_by_store: int = 0
    spans_sent: int = 0
    spans_refused: int = 0
    workers: Sequence[Mapping[str, Any]] = ()
    children: Sequence[Mapping[str, Any]] = ()
    resident_bytes: Mapping[str, int] = field(default_factory=dict)
    spool_bytes: int = 0
    writer_full_us: int = 0
    reloads: Mapping[str, int] = field(default_factory=dict)


def render(seen: Seen) -> bytes:
    """The text that Prometheus reads."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Told(seen))
    return generate_latest(registry)


class _Told(Collector):
    def __init__(self, seen: Seen) -> None:
        self._seen = seen

    def collect(self) -> Iterator[Metric]:
        yield from _of_traffic(self._seen.counters)
        yield from _of_capture(self._seen)
        yield from _of_house(self._seen)

    def describe(self) -> Iterable[Metric]:
        return ()


def _of_traffic(counters: Snapshot) -> Iterator[Metric]:
    yield _counter("potstill_requests", "Requests that came in.", [((), counters.began)], ())
    names = ("protocol", "upstream", "variant", "status", "state")
    ended = [((one.protocol, one.upstream, one.variant, str(one.status), one.state), one.count) for one in counters.series]
    yield _counter("potstill_exchanges", "Exchanges that ended, by how they ended; status 0: no head came.", ended, names)
    yield _histogram("potstill_exchange_duration", "From the start of an exchange to its end.", counters.timings, "latency")
    yield _histogram("potstill_first_byte", "Until the first byte of the answer.", counters.timings, "first_byte")
    yield _histogram("potstill_overhead", "Our own part until the head of the answer went out.", counters.timings, "overhead")
    for name, what in (("request_bytes", "Bytes of request bodies."), ("response_bytes", "Bytes of answers' bodies.")):
        sizes = [((one.protocol, one.upstream), getattr(one, name)) for one in counters.timings]
        yield _counter(f"potstill_{name}", what, sizes, ("protocol", "upstream"))
    for kind, name, label, what in (
        (REFUSED, "refusals", "kind", "Requests that the relay itself refused."),
        (FELL_BACK, "fallbacks", "reason", "Requests that another answered than was asked first."),
        (RETRIED, "retries", "upstream", "Requests put to the same upstream once more."),
        (CACHED, "cache_hits", "upstream", "Answers out of the cache."),
    ):
        told = [((reason,), count) for of, reason, count in counters.events if of == kind]
        yield _counter(f"potstill_{name}", what, told, (label,))


def _of_capture(seen: Seen) -> Iterator[Metric]:
    yield _counter("potstill_dropped", "Exchanges that the relay could not keep.", [((), seen.dropped)], ())
    yield _counter("potstill_sync_failures", "Times that the disk refused to sync a spool.", [((), seen.sync_failures)], ())
    yield _counter("potstill_stored", "Exchanges that the store writer stored.", [((), seen.stored)], ())
    refused = [((), seen.refused_by_store)]
    yield _counter("potstill_refused_by_store", "Exchanges put aside because they could not be stored.", refused, ())
    yield _gauge(
        "potstill_spool_bytes", "Bytes of spool on disk, which the store may not hold yet.", [((), seen.spool_bytes)], ()
    )
    yield _counter("potstill_spans_sent", "Traces' spans that a collector took.", [((), seen.spans_sent)], ())
    yield _counter("potstill_spans_refused", "Spans that a collector could not read.", [((), seen.spans_refused)], ())
    if seen.writer_full_us:
        lag_s = max(0, seen.now_us - seen.writer_full_us) / 1e6
        what = "How long ago the store last held all that was in the spools."
        yield _gauge("potstill_store_lag_seconds", what, [((), lag_s)], ())


def _of_house(seen: Seen) -> Iterator[Metric]:
    yield _gauge("potstill_info", "Always 1; the version is in the label.", [((seen.version,), 1)], ("version",))
    yield _gauge("potstill_start_time_seconds", "When the house started, Unix time.", [((), seen.started_us / 1e6)], ())
    yield _gauge("potstill_ready", "1 while the relay takes requests.", [((), int(seen.is_ready))], ())
    in_flight = [((str(one.get("name", "")),), _number(one.get("in_flight"))) for one in seen.workers]
    yield _gauge("potstill_in_flight", "Exchanges that are open.", in_flight, ("child",))
    opened: dict[str, int] = {}
    for worker in seen.workers:
        circuits = dict(worker.get("circuits") or {}) | {"engine": worker.get("is_breaker_open", False)}
        for upstream, is_open in circuits.items():
            opened[upstream] = opened.get(upstream, 0) + bool(is_open)
    shown = [((upstream,), count) for upstream, count in sorted(opened.items())]
    yield _gauge("potstill_circuit_open", "Workers that leave the upstream alone for now.", shown, ("upstream",))
    stale = sum(bool(worker.get("is_flags_stale")) for worker in seen.workers)
    yield _gauge("potstill_flags_stale", "Workers that cannot read the flags anew.", [((), stale)], ())
    gates = [keys for worker in seen.workers if isinstance(keys := worker.get("keys"), Mapping)]
    stale = sum(bool(gate.get("is_stale")) for gate in gates)
    yield _gauge("potstill_keys_stale", "Workers that cannot read the virtual keys anew.", [((), stale)], ())
    running = [((str(one["name"]),), int(one["state"] == RUNNING)) for one in seen.children]
    yield _gauge("potstill_child_up", "1 while the process runs.", running, ("child",))
    restarts = [((str(one["name"]),), int(one["restarts"])) for one in seen.children]
    yield _counter("potstill_child_restarts", "Ends of the process that nobody asked for.", restarts, ("child",))
    resident = [((name,), size) for name, size in seen.resident_bytes.items()]
    yield _gauge("potstill_child_resident_bytes", "Memory of the process.", resident, ("child",))
    reloads = [((result,), seen.reloads.get(result, 0)) for result in ("done", "refused")]
    yield _counter("potstill_reloads", "Times that the configuration was read again.", reloads, ("result",))


_Samples = Sequence[tuple[tuple[str, ...], float]]


def _counter(name: str, what: str, samples: _Samples, labels: Sequence[str]) -> Metric:
    family = CounterMetricFamily(name, what, labels=labels)
    for values, value in samples:
        family.add_metric(values, value)
    return family


def _gauge(name: str, what: str, samples: _Samples, labels: Sequence[str]) -> Metric:
    family = GaugeMetricFamily(name, what, labels=labels)
    for values, value in samples:
        family.add_metric(values, value)
    return family


def _histogram(name: str, what: str, timings: Sequence[Timing], of: str) -> Metric:
    family = HistogramMetricFamily(f"{name}_seconds", what, labels=("protocol", "upstream"))
    limits = OVERHEAD_US if of == "overhead" else LATENCY_US
    for timing in timings:
        counts: list[int] = getattr(timing, of)
        buckets, total = [], 0
        for limit, count in zip((*(str(us / 1e6) for us in limits), "+Inf"), counts, strict=True):
            total += count
            buckets.append((limit, float(total)))
        family.add_metric((timing.protocol, timing.upstream), buckets, getattr(timing, f"{of}_us") / 1e6)
    return family


def _number(value: object) -> int:
    return value if isinstance(value, int) else 0
