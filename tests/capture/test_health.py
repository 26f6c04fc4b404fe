"""Health: rates over a window, losses in numbers, and a store that falls behind its spool."""

from __future__ import annotations

import os
from pathlib import Path

from sqlalchemy import text

from capture import health, ids
from capture.database import Database
from capture.pricing import PriceSettings, load_price_table
from capture.records import Begin, End, Head
from capture.spool import SpoolWriter
from capture.writer import StoreWriter

NOW_US = 1_767_268_800_000_000


def raw_id(ago_us: int, number: int) -> bytes:
    raw = bytearray(((NOW_US - ago_us) // 1000).to_bytes(6, "big") + number.to_bytes(10, "big"))
    raw[6] = 0x70
    return bytes(raw)


def send(spool: SpoolWriter, raw: bytes, *, status: int = 200, latency_us: int = 100_000) -> None:
    spool.begin(raw, Begin("POST", "/v1/chat/completions", "", "raw", body=b"{}"))
    spool.head(raw, Head(status))
    spool.part(raw, b"{}")
    spool.end(raw, End(status, "complete", "", "", latency_us, 10, 5, "", "", "", "", ""))


def test_an_empty_store_is_well(database: Database, tmp_path: Path) -> None:
    assert health.read_health(database, tmp_path / "none", now_us=NOW_US) == health.Health(0, 0.0, None, None, 0, 0, 0, 0)


def test_only_the_window_counts_and_failures_are_errors(database: Database, tmp_path: Path) -> None:
    spool = SpoolWriter(tmp_path / "spool")
    writer = StoreWriter(database, tmp_path / "spool", load_price_table(PriceSettings()))
    for number in range(30):
        send(spool, raw_id(number * 1_000_000, number), latency_us=(number + 1) * 1_000, status=500 if number % 10 == 0 else 200)
    send(spool, raw_id(120_000_000, 99), status=500)
    assert writer.drain() == 31
    seen = health.read_health(database, tmp_path / "spool", now_us=NOW_US)
    assert (seen.exchanges, seen.rate, seen.errors) == (30, 0.5, 3)
    assert (seen.p50_us, seen.p95_us) == (16_000, 29_000)
    spool.close()
    writer.close()


def test_losses_and_refused_exchanges_are_counted(database: Database, tmp_path: Path) -> None:
    with database.write() as connection:
        sql = text("INSERT INTO gaps (id, spool_id, from_us, to_us, lost, reason) VALUES (:id, 'sp', 1, 2, :lost, 'disk full')")
        connection.execute(sql, [{"id": "g1", "lost": 3}, {"id": "g2", "lost": 4}])
        sql = text("INSERT INTO dead_letters (exchange_id, reason, record, created_us) VALUES ('ex_1', 'odd', :record, 1)")
        connection.execute(sql, {"record": b"x"})
    seen = health.read_health(database, tmp_path / "none", now_us=NOW_US)
    assert (seen.lost, seen.dead_letters) == (7, 1)


def test_a_store_writer_that_stopped_is_seen_by_how_far_it_is_behind(database: Database, tmp_path: Path) -> None:
    spool = SpoolWriter(tmp_path / "spool")
    writer = StoreWriter(database, tmp_path / "spool", load_price_table(PriceSettings()))
    send(spool, ids.new_raw_id())
    writer.drain()
    assert behind_s(database, spool.folder, 0) == 0
    send(spool, ids.new_raw_id())
    segment = max(spool.folder.glob("*.seg"))
    later = segment.stat().st_mtime_ns + 100_000_000  # the file system's clock goes by ticks
    os.utime(segment, ns=(later, later))
    assert behind_s(database, spool.folder, 1) == 0, "a moment is nothing"
    assert 7 < behind_s(database, spool.folder, 9) < 11
    writer.drain()
    assert behind_s(database, spool.folder, 9) == 0
    spool.close()
    writer.close()


def test_a_spool_that_nobody_ever_read_is_behind_however_quickly_it_was_written(database: Database, tmp_path: Path) -> None:
    spool = SpoolWriter(tmp_path / "spool")
    assert behind_s(database, spool.folder, 3600) == 0, "nothing waits in it"
    for _ in range(500):
        send(spool, ids.new_raw_id())
    spool.close()
    assert 3590 < behind_s(database, spool.folder, 3600) < 3610


def test_an_exchange_that_takes_long_keeps_nobody_waiting(database: Database, tmp_path: Path) -> None:
    spool = SpoolWriter(tmp_path / "spool")
    writer = StoreWriter(database, tmp_path / "spool", load_price_table(PriceSettings()))
    spool.begin(ids.new_raw_id(), Begin("POST", "/v1/chat/completions", "", "raw", body=b"{}"))
    send(spool, ids.new_raw_id())
    writer.drain()
    assert behind_s(database, spool.folder, 600) == 0
    spool.close()
    writer.close()


def behind_s(database: Database, folder: Path, later_s: float) -> float:
    """By how much the store is behind, `later_s` seconds after the last byte came."""
    last_us = max((path.stat().st_mtime_ns for path in folder.glob("*.seg")), default=0) // 1000
    now_us = last_us + round(later_s * 1e6)
    return health.read_health(database, folder.parent, now_us=now_us).behind_us / 1e6
