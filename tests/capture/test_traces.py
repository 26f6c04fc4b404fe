"""Traces that go to a real collector as exchanges are stored, and what happens when collector or host are away."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from capture import exported
from capture.database import Database, open_database
from capture.errors import UpstreamError
from capture.otel_send import Collector, Patience, address_of
from capture.otel_settings import OtelSettings
from capture.pricing import PriceTable
from capture.settings import load_settings
from capture.traces import TraceSender
from capture.writer import StoreWriter
from tests.capture.collecting import Receiver, receiving

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as found:
        yield found


@pytest.fixture
def collector(receiver: Receiver) -> Iterator[Collector]:
    with Collector(address_of(receiver.url, {}), {}, Patience(tries=1)) as found:
        yield found


@pytest.fixture
def writer(database: Database, spool_root: Path) -> Iterator[StoreWriter]:
    found = StoreWriter(database, spool_root, PriceTable({}))
    yield found
    found.close()


def sender_of(database: Database, collector: Collector, owner: str = "a", **settings: Any) -> TraceSender:
    return TraceSender(database, OtelSettings(collector.address, **settings), collector, owner)


def ids_of(receiver: Receiver) -> list[str]:
    return [
        attribute.value.string_value
        for span in receiver.spans
        for attribute in span.attributes
        if attribute.key == "potstill.exchange.id"
    ]


def test_each_exchange_is_sent_once_from_the_first_start_on_and_over_restarts(
    database: Database, relay: Any, writer: StoreWriter, receiver: Receiver, collector: Collector
) -> None:
    relay.exchange()
    writer.drain()
    assert sender_of(database, collector).send_new() == 0, "what was there before the first start stays at home"
    relay.exchange(request_headers={"traceparent": TRACE})
    relay.exchange(task="other")
    writer.drain()
    assert sender_of(database, collector).send_new() == 2
    relay.exchange()
    writer.drain()
    again = sender_of(database, collector)
    assert (again.send_new(), again.send_new(), again.waiting) == (1, 0, 0)
    assert ids_of(receiver) == relay.sent[1:]
    assert receiver.spans[0].trace_id.hex() == TRACE[3:35]
    assert receiver.spans[0].parent_span_id.hex() == TRACE[36:52]
    names = {attribute.key for span in receiver.spans for attribute in span.attributes}
    assert "gen_ai.input.messages" not in names
    assert collector.address in exported.collectors(database)


def test_only_what_the_filter_wants_goes_and_texts_only_when_asked_for(
    database: Database, relay: Any, writer: StoreWriter, receiver: Receiver, collector: Collector
) -> None:
    sender = sender_of(database, collector, where="task:wanted", with_content=True)
    sender.send_new()
    for task in ("wanted", "other", "wanted", "other"):
        relay.exchange(task=task)
    writer.drain()
    assert (sender.send_new(), sender.send_new()) == (2, 0)
    assert ids_of(receiver) == relay.sent[::2]
    assert all("gen_ai.output.messages" in {each.key for each in span.attributes} for span in receiver.spans)


def test_a_collector_that_is_busy_loses_nothing(
    database: Database, relay: Any, writer: StoreWriter, receiver: Receiver, collector: Collector
) -> None:
    sender = sender_of(database, collector)
    sender.send_new()
    relay.exchange()
    writer.drain()
    for status in (503, 401):
        receiver.answers = [(status, {}, b"")]
        with pytest.raises(UpstreamError, match=str(status)):
            sender.send_new()
    assert sender.waiting == 1
    assert sender.send_new() == 1
    assert ids_of(receiver) == relay.sent


def test_a_span_that_a_collector_cannot_read_is_left_out_and_counted_and_the_others_go(
    database: Database, relay: Any, writer: StoreWriter, receiver: Receiver, collector: Collector
) -> None:
    sender = sender_of(database, collector)
    sender.send_new()
    for _ in range(4):
        relay.exchange()
    writer.drain()
    receiver.answers = [(400, {}, b""), (200, {}, b""), (400, {}, b""), (400, {}, b""), (200, {}, b"")]
    assert sender.send_new() == 3
    assert sender.refused == 1
    assert ids_of(receiver) == [relay.sent[0], relay.sent[1], relay.sent[3]]


def test_of_two_hosts_with_one_store_one_sends_and_the_other_takes_over_when_it_falls_silent(
    database: Database,
    relay: Any,
    writer: StoreWriter,
    receiver: Receiver,
    collector: Collector,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    one, two = sender_of(database, collector, "one"), sender_of(database, collector, "two")
    one.send_new()
    relay.exchange()
    writer.drain()
    assert (two.send_new(), one.send_new(), two.send_new()) == (0, 1, 0)
    relay.exchange()
    writer.drain()
    later = time.time_ns() // 1_000 + 120_000_000
    monkeypatch.setattr("capture.clock.now_us", lambda: later)
    assert two.send_new() == 1
    assert ids_of(receiver) == relay.sent


def test_the_process_sends_says_how_it_is_and_ends_in_order(
    tmp_path: Path, relay: Any, spool_root: Path, receiver: Receiver
) -> None:
    path = tmp_path / "potstill.toml"
    path.write_text(f'[store]\ndata_folder = "data"\n[otel]\nendpoint = "{receiver.url}"\n')
    read_fd, write_fd = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-m", "capture.otel_process", "--config", str(path), "--status-fd", str(write_fd)], pass_fds=[write_fd]
    )
    os.close(write_fd)
    with os.fdopen(read_fd, "rb") as pipe:
        assert b'"problem":""' in pipe.readline(), "it has found its place"
        with closing(open_database(load_settings(path, environ={}).database_url)) as database:
            relay.exchange()
            writer = StoreWriter(database, spool_root, PriceTable({}))
            writer.drain()
            writer.close()
        line = b""
        while b'"spans_sent":1' not in line:
            line = pipe.readline()
            assert line, "it ended before it had sent anything"
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    assert ids_of(receiver) == relay.sent
