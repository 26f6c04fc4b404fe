"""What a worker counts, alone and added up."""

from __future__ import annotations

from collections import Counter

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from proxy.counters import LATENCY_US, MOST_NAMES, OTHER, OVERHEAD_US, Counters, Snapshot, merged

microseconds = st.integers(0, 10**9)
ends = st.tuples(
    st.sampled_from(["openai.chat", "anthropic.messages"]),
    st.sampled_from(["openai", "azure", "engine"]),
    st.sampled_from(["", "baseline", "candidate"]),
    st.sampled_from([0, 200, 429, 529]),
    st.sampled_from(["complete", "client_closed"]),
    microseconds,
    st.none() | microseconds,
    microseconds,
    st.integers(0, 10**6),
    st.integers(0, 10**6),
)


def one_end(
    counters: Counters, *, upstream: str = "openai", status: int = 200, latency_us: int = 1, overhead_us: int = 1
) -> None:
    counters.began()
    counters.ended("openai.chat", upstream, "", status, "complete", latency_us, latency_us, overhead_us, 10, 20)


@given(st.lists(st.tuples(st.integers(0, 2), ends), max_size=60))
def test_workers_added_up_say_what_one_worker_would_have_said(told: list[tuple[int, tuple]]) -> None:
    alone, several = Counters(), [Counters() for _ in range(3)]
    for number, end in told:
        for counters in (alone, several[number]):
            counters.began()
            counters.ended(*end)
            counters.refused(end[4])
    together = merged(counters.snapshot() for counters in several)
    assert together == merged([alone.snapshot()])
    assert together.began == len(told)
    assert sum(series.count for series in together.series) == len(told)
    assert sum(sum(timing.latency) for timing in together.timings) == len(told)
    assert sum(sum(timing.first_byte) for timing in together.timings) == sum(end[6] is not None for _, end in told)
    assert sum(timing.latency_us for timing in together.timings) == sum(end[5] for _, end in told)
    assert {(kind, reason): count for kind, reason, count in together.events} == Counter(("refused", end[4]) for _, end in told)


def test_a_time_falls_into_the_bucket_whose_limit_it_does_not_exceed() -> None:
    counters = Counters()
    for limit in LATENCY_US:
        one_end(counters, latency_us=limit)
    one_end(counters, latency_us=LATENCY_US[-1] + 1, overhead_us=OVERHEAD_US[-1] + 1)
    (timing,) = counters.snapshot().timings
    assert timing.latency == [1] * (len(LATENCY_US) + 1)
    assert timing.overhead[-1] == 1


def test_a_snapshot_stays_as_it_was() -> None:
    counters = Counters()
    one_end(counters)
    before = counters.snapshot()
    kept = msgspec.json.encode(before)
    one_end(counters)
    counters.refused("missing_key")
    assert msgspec.json.encode(before) == kept
    assert counters.snapshot().began == 2


def test_a_snapshot_survives_the_way_to_the_supervisor() -> None:
    counters = Counters()
    one_end(counters)
    counters.fell_back("timeout")
    counters.retried("azure")
    counters.cached("openai")
    snapshot = counters.snapshot()
    assert msgspec.json.decode(msgspec.json.encode(snapshot), type=Snapshot) == snapshot


def test_an_upstream_that_invents_statuses_fills_no_memory_and_is_still_counted() -> None:
    counters = Counters()
    for status in range(10 * MOST_NAMES):
        one_end(counters, status=status)
        counters.refused(f"kind {status}")
    snapshot = counters.snapshot()
    assert len(snapshot.series) <= MOST_NAMES + 1
    assert len(snapshot.events) <= MOST_NAMES + 1
    assert sum(series.count for series in snapshot.series) == 10 * MOST_NAMES
    assert sum(count for _, _, count in snapshot.events) == 10 * MOST_NAMES
    assert any(series.upstream == OTHER for series in snapshot.series)
