"""A spool that cannot be read, or holds what is not ours, stops no other spool and is told once."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from capture import clock, feed
from capture.database import Database
from capture.filters import parse_filter
from capture.pricing import PriceTable
from capture.spool import SpoolWriter, segment_name
from capture.writer import StoreWriter


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Lets seconds pass on the steady clock."""
    ahead, real = [0], clock.monotonic_ns
    monkeypatch.setattr(clock, "monotonic_ns", lambda: real() + ahead[0])

    def turn(seconds: float) -> None:
        ahead[0] += int(seconds * 1e9)

    return turn


@pytest.fixture
def writer(database: Database, spool_root: Path) -> Iterator[StoreWriter]:
    made = StoreWriter(database, spool_root, PriceTable({}), poll_s=0.01)
    yield made
    made.close()


def stored(database: Database) -> set[str]:
    return {exchange.id for exchange in feed.page(database, parse_filter(""), limit=1_000)}


def gaps(database: Database) -> list[tuple[str, int]]:
    with database.read() as connection:
        return [(str(row[0]), int(row[1])) for row in connection.execute(text("SELECT reason, lost FROM gaps"))]


def two_relays(spool_root: Path, make_relay: Any) -> tuple[Any, Any]:
    """Two relays that sent an exchange each and are gone; the spool of the first is read before the other."""
    relays = sorted((make_relay(SpoolWriter(spool_root)) for _ in range(2)), key=lambda relay: str(relay.spool.spool_id))
    for relay in relays:
        relay.exchange()
        relay.spool.close()
    return relays[0], relays[1]


def block(folder: Path, number: int = 1) -> Path:
    """Puts a folder in place of segment `number`, which no read succeeds on; where the segment was moved."""
    segment = folder / segment_name(number)
    aside = folder.parent.parent / f"aside-{number}"
    segment.rename(aside)
    segment.mkdir()
    return aside


def unblock(folder: Path, aside: Path, number: int = 1) -> None:
    (folder / segment_name(number)).rmdir()
    aside.rename(folder / segment_name(number))


def test_a_segment_that_cannot_be_read_stops_no_other_spool_is_counted_once_and_tried_again(
    database: Database, writer: StoreWriter, spool_root: Path, make_relay: Any, passes: Callable[[float], None]
) -> None:
    bad, good = two_relays(spool_root, make_relay)
    aside = block(bad.spool.folder)
    assert writer.drain() == 1
    assert stored(database) == set(good.sent)
    assert gaps(database) == []
    for _ in range(6):
        passes(31)
        assert writer.drain() == 0
    ((reason, lost),) = gaps(database)
    assert (reason.split(" (")[0], lost) == ("segment 1 cannot be read", 1)
    unblock(bad.spool.folder, aside)
    assert writer.drain() == 0, "it rests"
    passes(31)
    assert writer.drain() == 1
    assert stored(database) == {*good.sent, *bad.sent}
    assert not bad.spool.folder.exists()


def test_a_spool_that_cannot_be_read_is_left_in_peace_between_tries(
    writer: StoreWriter, spool_root: Path, make_relay: Any, passes: Callable[[float], None], caplog: pytest.LogCaptureFixture
) -> None:
    block(two_relays(spool_root, make_relay)[0].spool.folder)
    for _ in range(50):
        writer.drain()
    assert caplog.text.count("cannot be read") == 2  # our line, and the error in it
    passes(1.5)
    writer.drain()
    passes(1.5)
    writer.drain()
    assert caplog.text.count("Trying again in 2 s") == 1
    assert caplog.text.count("Trying again in 4 s") == 0


def test_what_comes_before_the_unreadable_segment_is_stored(
    database: Database, writer: StoreWriter, spool_root: Path, make_relay: Any, passes: Callable[[float], None]
) -> None:
    relay = make_relay(SpoolWriter(spool_root, segment_bytes=1_500))
    relay.open()  # holds the low-water mark back
    for _ in range(10):
        relay.exchange()
    relay.spool.close()
    aside = block(relay.spool.folder, 4)
    for _ in range(5):
        writer.drain()
        passes(31)
    before = stored(database)
    assert 0 < len(before) < 10
    assert [lost for _, lost in gaps(database)] == [1]
    unblock(relay.spool.folder, aside, 4)
    writer.drain()
    assert stored(database) == set(relay.sent)


def test_the_last_drain_ends_well_and_says_what_stays(
    database: Database, writer: StoreWriter, spool_root: Path, make_relay: Any, caplog: pytest.LogCaptureFixture
) -> None:
    bad, good = two_relays(spool_root, make_relay)
    block(bad.spool.folder)
    stop = threading.Event()
    stop.set()
    writer.run(stop)
    assert stored(database) == set(good.sent)
    assert f"spool {bad.spool.spool_id} is not wholly stored" in caplog.text
    assert bad.spool.folder.exists()


def test_a_file_that_is_no_segment_is_told_once_and_read_by_nobody(
    database: Database, writer: StoreWriter, spool_root: Path, make_relay: Any, caplog: pytest.LogCaptureFixture
) -> None:
    relay = make_relay(SpoolWriter(spool_root))
    (relay.spool.folder / "0000000001 (copy).seg").write_bytes(b"x" * 100)
    for _ in range(20):
        relay.exchange()
        writer.drain()
    assert stored(database) == set(relay.sent)
    assert caplog.text.count("is no segment of ours") == 1
    relay.spool.close()


def test_a_strange_file_in_a_dead_spool_is_told_once_and_left_alone(
    database: Database, writer: StoreWriter, spool_root: Path, make_relay: Any, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    caplog.set_level(logging.INFO)
    bad, good = two_relays(spool_root, make_relay)
    (bad.spool.folder / "notes.txt").write_text("mine")
    writer.drain()
    opened: list[str] = []
    real = os.open

    def noted(path: Any, *rest: Any, **named: Any) -> int:
        opened.append(str(path))
        return real(path, *rest, **named)

    monkeypatch.setattr(os, "open", noted)
    for _ in range(20):
        writer.drain()
    assert caplog.text.count("but the folder stays") == 1
    assert [path for path in opened if bad.spool.spool_id in path] == []
    assert [path.name for path in bad.spool.folder.iterdir()] == ["notes.txt"]
    assert stored(database) == {*bad.sent, *good.sent}
    monkeypatch.undo()
    writer.close()
