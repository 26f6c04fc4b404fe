"""The clock is turned back an hour, forward a year, or stands still: durations stay true, ids unique."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from capture import feed, ids
from capture.capture_settings import CaptureSettings
from capture.database import Database
from capture.filters import parse_filter
from capture.pricing import PriceTable
from capture.records import Begin
from capture.spool import SpoolWriter
from capture.writer import StoreWriter
from proxy.recording import Recording
from tests.capture.conftest import CHAT

HOUR_NS, YEAR_NS = 3_600 * 10**9, 365 * 24 * 3_600 * 10**9


class TurnedClock:
    """A wall clock that jumps at every look; the monotonic clock is left alone, as a machine's is."""

    def __init__(self, jumps_ns: Iterator[int]) -> None:
        self._jumps_ns = jumps_ns
        self._real = time.time_ns

    def __call__(self) -> int:
        return self._real() + next(self._jumps_ns)


@pytest.mark.faults
@pytest.mark.parametrize(
    "jumps_ns",
    [(0, -HOUR_NS), (0, YEAR_NS), (0, 10**9, 0), (-HOUR_NS, YEAR_NS, 0, 10**9)],
    ids=["an hour back", "a year on", "a leap second", "to and fro"],
)
def test_f19_a_turned_clock_gives_true_durations_and_unique_ids(
    jumps_ns: tuple[int, ...], database: Database, spool_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = SpoolWriter(spool_root)
    monkeypatch.setattr(time, "time_ns", TurnedClock(itertools.cycle(jumps_ns)))
    sent = []
    for number in range(40):
        recording = Recording(spool, CaptureSettings())
        recording.begin(Begin("POST", "/v1/chat/completions", "", "openai", body=CHAT))
        recording.head(200, {}, "openai")
        recording.part(b'{"n":%d}' % number)
        recording.end("complete")
        sent.append(recording.exchange_id)
    spool.close()
    writer = StoreWriter(database, spool_root, PriceTable({}))
    assert writer.drain() == 40
    writer.close()
    stored = feed.page(database, parse_filter(""), limit=100)
    assert {exchange.id for exchange in stored} == set(sent)
    assert len(set(sent)) == 40
    for exchange in stored:
        assert 0 <= exchange.ended_us - exchange.started_us < 60_000_000
        durations = (exchange.latency_us, exchange.first_byte_us, exchange.overhead_us)
        assert all(duration is not None and 0 <= duration < 60_000_000 for duration in durations)


@pytest.mark.faults
def test_f19_ids_stay_unique_while_the_clock_stands_still(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time_ns", lambda: 1_700_000_000 * 10**9)
    assert len({ids.new_id("ex") for _ in range(20_000)}) == 20_000


@pytest.mark.faults
def test_f19_lists_are_in_the_order_of_storing_whatever_the_clock_said(
    database: Database, spool_root: Path, make_relay: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = StoreWriter(database, spool_root, PriceTable({}))
    relay = make_relay(SpoolWriter(spool_root))
    real = time.time_ns
    sent = []
    for jump_ns in (0, -HOUR_NS, YEAR_NS, -YEAR_NS, 0):
        monkeypatch.setattr(time, "time_ns", lambda jump_ns=jump_ns: real() + jump_ns)
        sent.append(relay.exchange())
        writer.drain()
    assert [exchange.id for exchange in feed.page(database, parse_filter(""), limit=10)] == sent[::-1]
    relay.spool.close()
    writer.close()
