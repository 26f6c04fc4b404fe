from __future__ import annotations

import itertools
import json
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import zstandard
from sqlalchemy import text

from capture import clock, feed, ids, records
from capture.content import decode, unpack
from capture.database import Database, open_database
from capture.errors import SpoolError, StoreError
from capture.exchange import Exchange
from capture.filters import parse_filter
from capture.pricing import PriceTable
from capture.records import End, Gap, Head
from capture.settings import Settings
from capture.spool import SpoolWriter
from capture.writer import StoreWriter

ROOT = Path(__file__).parents[2]
STREAM = b'data: {"choices":[{"index":0,"delta":{"content":"On its"}}]}\n\n'
DONE = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'


@pytest.fixture
def writer(database: Database, spool_root: Path) -> Iterator[StoreWriter]:
    made = StoreWriter(database, spool_root, PriceTable({}))
    yield made
    made.close()


def everything(database: Database) -> list[Exchange]:
    return feed.page(database, parse_filter(""), limit=100_000)


def wait_until(condition: Callable[[], Any], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.005)


def count(database: Database, table: str) -> int:
    with database.read() as connection:
        return int(connection.execute(text(f"SELECT COUNT(*) FROM {table}")).scalar_one())


def refuse(database: Database, table: str, condition: str) -> None:
    """Has the store refuse rows of `table` for which `condition` holds; {} stands before the name of a column."""
    trigger = f"CREATE TRIGGER no_{table} BEFORE INSERT ON {table} WHEN {condition.format('NEW.')}"
    check = f"ALTER TABLE {table} ADD CHECK (NOT ({condition.format('')}))"
    with database.write() as connection:
        connection.execute(text(f"{trigger} BEGIN SELECT RAISE(ABORT, 'no'); END" if database.is_sqlite else check))


def lost_exchanges(database: Database) -> int:
    with database.read() as connection:
        return int(connection.execute(text("SELECT COALESCE(SUM(lost), 0) FROM gaps")).scalar_one())


def test_an_exchange_is_stored_as_it_was_relayed(database: Database, writer: StoreWriter, relay: Any) -> None:
    id = relay.exchange(task="parcels", user_name="u1", tags={"team": "grüße"}, purpose="eval", parts=3)
    assert writer.drain() == 1
    got = feed.get(database, id)
    assert (got.task, got.user_name, got.tags, got.purpose, got.state) == ("parcels", "u1", {"team": "grüße"}, "eval", "complete")
    assert (got.status, got.latency_us, got.tokens_in, got.tokens_out, got.output_text) == (200, 1500, 9, 4, "On its way.")
    assert feed.content(database, got).request_body.startswith(b'{"model"')
    assert feed.content(database, got).response_body.endswith(b'"completion_tokens":4}}')
    assert feed.conversation(database, got).asked[0].text == "Where is my parcel?"
    assert got.started_us <= got.ended_us


def test_a_repeated_message_is_kept_once(database: Database, writer: StoreWriter, relay: Any) -> None:
    long = b"The same long question, which many customers ask in these very words, about parcels that are late."
    for _ in range(5):
        relay.exchange(body=b'{"messages":[{"role":"user","content":"' + long + b'"}]}')
    assert writer.drain() == 5
    assert count(database, "pieces") == 1


def test_what_runs_is_not_stored_before_it_ends(database: Database, writer: StoreWriter, relay: Any) -> None:
    raw_id = relay.open(is_stream=True)
    relay.spool.head(raw_id, Head(200))
    relay.spool.part(raw_id, STREAM)
    assert writer.drain() == 0
    relay.spool.part(raw_id, DONE)
    relay.spool.end(raw_id, End(200, "complete"))
    assert writer.drain() == 1
    assert everything(database)[0].output_text == "On its"


@pytest.mark.parametrize(
    ("parts", "headers", "state"),
    [
        ([], None, "interrupted"),
        ([STREAM], {}, "interrupted"),
        ([STREAM, DONE], {}, "complete"),
        ([b'{"choices":[]'], {"Content-Length": "20"}, "interrupted"),
        ([b'{"choices":[],"error":null}'], {"Content-Length": "27"}, "truncated"),
    ],
    ids=["nothing", "half a stream", "whole stream", "half a body", "whole body without an answer"],
)
def test_what_a_dead_relay_left_open_is_stored_with_what_had_arrived(
    database: Database, writer: StoreWriter, relay: Any, parts: list[bytes], headers: dict[str, str] | None, state: str
) -> None:
    raw_id = relay.open(is_stream=True)
    if headers is not None:
        relay.spool.head(raw_id, Head(200, headers))
    for part in parts:
        relay.spool.part(raw_id, part)
    relay.spool.close()
    assert writer.drain() == 1
    (got,) = everything(database)
    assert got.state == state
    assert feed.content(database, got).response_body == b"".join(parts)


def test_the_spool_of_a_dead_relay_is_removed_and_of_a_living_one_kept(writer: StoreWriter, relay: Any, spool_root: Path) -> None:
    relay.exchange()
    writer.drain()
    assert relay.spool.folder.exists()
    relay.spool.close()
    writer.drain()
    assert [path.name for path in spool_root.iterdir()] == ["writer.lock"]


def test_done_segments_go_and_the_one_with_the_oldest_open_exchange_stays(
    database: Database, writer: StoreWriter, spool_root: Path, make_relay: Any
) -> None:
    relay = make_relay(SpoolWriter(spool_root, segment_bytes=2_000))
    for _ in range(20):
        relay.exchange()
    raw_id = relay.open()
    open_in = max(relay.spool.folder.glob("*.seg"))
    for _ in range(20):
        relay.exchange()
    writer.drain()
    assert min(relay.spool.folder.glob("*.seg")) == open_in
    relay.spool.end(raw_id, End(200, "client_closed"))
    writer.drain()
    assert len(list(relay.spool.folder.glob("*.seg"))) == 1
    assert {got.id for got in everything(database)} == set(relay.sent)
    relay.spool.close()


def test_a_restarted_writer_goes_on_where_it_was(database: Database, spool_root: Path, relay: Any) -> None:
    relay.exchange()
    raw_id = relay.open()
    relay.spool.head(raw_id, Head(200))
    relay.spool.part(raw_id, b'{"a":')
    relay.exchange()
    first = StoreWriter(database, spool_root, PriceTable({}))
    assert first.drain() == 2
    first.close()
    relay.spool.part(raw_id, b"1}")
    relay.spool.end(raw_id, End(200, "complete"))
    second = StoreWriter(database, spool_root, PriceTable({}))
    assert second.drain() == 1
    second.close()
    got = feed.get(database, ids.format_id("ex", raw_id))
    assert feed.content(database, got).response_body == b'{"a":1}'
    assert len(everything(database)) == 3


def test_a_crash_between_commit_and_removal_stores_nothing_twice(
    database: Database, spool_root: Path, relay: Any, tmp_path: Path
) -> None:
    for _ in range(300):
        relay.exchange()
    relay.open()
    relay.spool.close()
    shutil.copytree(relay.spool.folder, tmp_path / "kept")
    first = StoreWriter(database, spool_root, PriceTable({}))
    assert first.drain() == 301
    first.close()
    for forget in (False, True):
        shutil.copytree(tmp_path / "kept", relay.spool.folder)
        if forget:
            with database.write() as connection:
                connection.execute(text("DELETE FROM spools"))
        again = StoreWriter(database, spool_root, PriceTable({}))
        assert again.drain() == 0
        again.close()
        assert not relay.spool.folder.exists()
    assert len(everything(database)) == 301
    assert count(database, "dead_letters") == 0


def test_a_row_that_the_store_refuses_is_kept_aside_alone(database: Database, writer: StoreWriter, relay: Any) -> None:
    for number in range(40):
        if number == 17:
            raw_id = relay.open()
            relay.spool.end(raw_id, End(200, "complete", latency_us=2**63))
            poison = relay.sent.pop()
        relay.exchange()
    assert writer.drain() == 40
    assert {got.id for got in everything(database)} == set(relay.sent)
    with database.read() as connection:
        letter = connection.execute(text("SELECT exchange_id, reason, record FROM dead_letters")).one()
    assert letter[0] == poison
    assert letter[1]
    assert len(bytes(letter[2])) > 50
    assert writer.drain() == 0


@pytest.mark.parametrize(("refused", "letters", "lost"), [("length({}record) > 0", 1, 0), ("1 = 1", 0, 1)])
def test_a_store_that_refuses_the_dead_letter_too_stops_nothing(
    database: Database, writer: StoreWriter, relay: Any, refused: str, letters: int, lost: int
) -> None:
    refuse(database, "dead_letters", refused)
    refuse(database, "gaps", "{}from_us = 7")
    raw_id = relay.open()
    relay.spool.end(raw_id, End(200, "complete", latency_us=2**63))
    poison = relay.sent.pop()
    for reason_us in (7, 8):
        relay.spool._write(records.GAP, bytes(16), records.encode(Gap(reason_us, 9, 100, "the disk is full", [])))
    relay.exchange()
    assert writer.drain() == 1
    assert [got.id for got in everything(database)] == relay.sent
    assert count(database, "dead_letters") == letters
    assert lost_exchanges(database) == 100 + lost
    with database.read() as connection:
        reasons = connection.execute(text("SELECT reason FROM gaps WHERE lost = 1")).scalars().all()
    assert reasons == [f"the store refuses exchange {poison}"] * lost
    relay.exchange()
    assert writer.drain() == 1


@pytest.mark.parametrize("prefix", ["", " ", "\n", "\t", "\\n", "key="])
def test_no_secret_reaches_the_file_of_the_store(tmp_path: Path, spool_root: Path, relay: Any, prefix: str) -> None:
    secret = "sk-" + "proj-abcDEF123456789012345678"
    said, escaped = json.dumps(f"mine:{prefix}{secret}"), json.dumps(json.dumps(f"{prefix}{secret}"))
    asked = f'{{"messages":[{{"role":"user","content":{said}}},{{"role":"user","content":{escaped}}}]}}'.encode()
    choice = f'{{"index":0,"message":{{"role":"assistant","content":{said}}},"finish_reason":"stop"}}'
    relay.exchange(body=asked, answer=f'{{"model":"gpt-4o","choices":[{choice}]}}'.encode(), user_name=secret, unit=secret)
    deltas = [json.dumps({"choices": [{"index": 0, "delta": {"content": part}}]}) for part in (prefix, secret[:9], secret[9:])]
    stream = b"".join(f"data: {delta}\n\n".encode() for delta in deltas) + DONE
    relay.exchange(body=asked, answer=stream, is_stream=True, tags={"key": secret})
    relay.spool.end(relay.open(body=asked, session_name=secret), End(200, "complete", latency_us=2**63))  # a dead letter
    url = f"sqlite:///{tmp_path / 'potstill.db'}"
    database = open_database(url)
    writer = StoreWriter(database, spool_root, PriceTable({}))
    assert writer.drain() == 2
    writer.close()
    with database.read() as connection:
        contents = [decode(bytes(row[0])) for row in connection.execute(text("SELECT zstd FROM contents"))]
        pieces = [unpack(bytes(row[0])) for row in connection.execute(text("SELECT zstd FROM pieces"))]
        letters = connection.execute(text("SELECT record FROM dead_letters")).scalars().all()
    assert len(letters) == 1
    database.close()
    files = [path.read_bytes() for path in tmp_path.glob("potstill.db*")]
    kept = b"".join([*files, *pieces, repr(contents).encode(), *(zstandard.decompress(data) for data in letters)])
    assert b"[redacted:openai-key]" in kept
    assert secret[9:].encode() not in kept


def test_nul_and_broken_text_are_stored_readable_and_the_bytes_stay(database: Database, writer: StoreWriter, relay: Any) -> None:
    answer = b'{"choices":[{"index":0,"message":{"content":"a\\u0000b\\ud83d"},"finish_reason":"stop"}]}\xff'
    id = relay.exchange(
        answer=answer[:-1], user_name="u\0x", tags={"a\0": "\0"}, body=b'{"messages":[{"role":"user","content":"\xff\\u0000"}]}'
    )
    assert writer.drain() == 1
    got = feed.get(database, id)
    assert (got.user_name, got.tags, got.output_text) == ("u\ufffdx", {"a\ufffd": "\ufffd"}, "a\ufffdb\ufffd")
    assert feed.content(database, got).response_body == answer[:-1]


def test_a_damaged_segment_costs_only_what_was_damaged(
    database: Database, writer: StoreWriter, spool_root: Path, make_relay: Any
) -> None:
    relay = make_relay(SpoolWriter(spool_root, segment_bytes=20_000))
    for _ in range(60):
        relay.exchange()
    relay.spool.close()
    path = min(relay.spool.folder.glob("*.seg"))
    data = bytearray(path.read_bytes())
    data[5_000] ^= 0x55
    path.write_bytes(data)
    writer.drain()
    states = [got.state for got in everything(database)]
    assert len(states) >= 59
    assert states.count("complete") >= 59
    assert lost_exchanges(database) == 1


def test_an_exchange_with_a_missing_part_is_never_complete(database: Database, writer: StoreWriter, relay: Any) -> None:
    from hashlib import sha256

    raw_id = relay.open(is_stream=True)
    relay.spool.head(raw_id, Head(200))
    relay.spool.part(raw_id, DONE)
    relay.spool.end(raw_id, End(200, "complete", response_sha256=sha256(STREAM + DONE).hexdigest()))
    writer.drain()
    (got,) = everything(database)
    assert (got.state, got.error_kind) == ("interrupted", "capture_gap")


def test_a_gap_closes_the_exchanges_that_it_broke(
    database: Database, writer: StoreWriter, spool_root: Path, make_relay: Any
) -> None:
    relay = make_relay(SpoolWriter(spool_root, max_bytes=1_000, sync_interval_s=0.001))
    wait_until(lambda: bool(relay.exchange()) and relay.spool.dropped > 0)
    relay.spool.close()
    writer.drain()
    assert lost_exchanges(database) == relay.spool.dropped
    assert len(everything(database)) == len(relay.sent) - relay.spool.dropped


def test_a_broken_exchange_of_a_living_relay_does_not_stay_open(database: Database, writer: StoreWriter, relay: Any) -> None:
    raw_id = relay.open()
    relay.spool._write(records.GAP, bytes(16), records.encode(Gap(1, 2, 1, "the disk is full", [raw_id])))
    assert writer.drain() == 1
    assert (everything(database)[0].state, everything(database)[0].error_kind) == ("interrupted", "capture_gap")
    assert lost_exchanges(database) == 1


def test_only_one_writer_may_drain_a_spool(database: Database, writer: StoreWriter, spool_root: Path) -> None:
    with pytest.raises(SpoolError, match="Another store writer"):
        StoreWriter(database, spool_root, PriceTable({}))
    writer.close()
    StoreWriter(database, spool_root, PriceTable({})).close()


def test_a_running_writer_keeps_up_with_a_relay(
    database: Database, writer: StoreWriter, spool_root: Path, make_relay: Any
) -> None:
    relay = make_relay(SpoolWriter(spool_root, segment_bytes=50_000))
    stop = threading.Event()
    thread = threading.Thread(target=writer.run, args=(stop,))
    thread.start()
    try:
        for _ in range(1_000):
            relay.exchange()
        last = time.monotonic()
        wait_until(lambda: feed.count(database, parse_filter("")) == 1_000)
        assert time.monotonic() - last < 10
        id = relay.exchange()
        ended = time.monotonic()
        wait_until(lambda: feed.page(database, parse_filter(f"id:{id}")))
        assert time.monotonic() - ended < 2
    finally:
        stop.set()
        thread.join()
    relay.spool.close()
    assert {got.id for got in everything(database)} == set(relay.sent)


@pytest.mark.faults
def test_f05_while_sqlite_is_locked_nothing_is_lost(tmp_path: Path, spool_root: Path, relay: Any) -> None:
    url = f"sqlite:///{tmp_path / 'potstill.db'}"
    database, other = open_database(url, busy_timeout_ms=50), open_database(url)
    writer = StoreWriter(database, spool_root, PriceTable({}))
    with other.write():
        relay.exchange()
        with pytest.raises(StoreError):
            writer.drain()
        relay.exchange()
        with pytest.raises(StoreError):
            writer.drain()
    assert writer.drain() == 2
    writer.close()
    database.close()
    other.close()


def test_while_postgresql_is_away_nothing_is_lost(postgresql_server: Any, spool_root: Path, relay: Any) -> None:
    import psycopg

    url = postgresql_server.fresh_url()
    name = url.split("/")[3].split("?")[0]
    database = open_database(url)
    writer = StoreWriter(database, spool_root, PriceTable({}), poll_s=0.01)
    relay.exchange()
    assert writer.drain() == 1
    stop = threading.Event()
    thread = threading.Thread(target=writer.run, args=(stop,))
    with psycopg.connect(postgresql_server.base_url.format(name="postgres"), autocommit=True) as admin:
        admin.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,))
        relay.exchange()
        with pytest.raises(StoreError):
            writer.drain()
        thread.start()
        relay.exchange()
        admin.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
    try:
        wait_until(lambda: feed.count(database, parse_filter("")) == 3)
    finally:
        stop.set()
        thread.join()
        writer.close()
        database.close()


def test_the_writer_empties_the_wal_when_it_ends(tmp_path: Path, spool_root: Path, relay: Any) -> None:
    database = open_database(f"sqlite:///{tmp_path / 'potstill.db'}", is_checkpointer=True)
    writer = StoreWriter(database, spool_root, PriceTable({}))
    relay.exchange()
    stop = threading.Event()
    stop.set()
    writer.run(stop)
    assert (tmp_path / "potstill.db-wal").stat().st_size == 0
    assert len(everything(database)) == 1
    writer.close()
    database.close()


def test_a_relay_that_died_before_its_spool_was_ready_leaves_nothing(database: Database, spool_root: Path) -> None:
    import os

    hidden = spool_root / ".sp_dead"
    hidden.mkdir(parents=True)
    os.utime(hidden, (1, 1))
    StoreWriter(database, spool_root, PriceTable({})).close()
    assert not hidden.exists()


def test_a_folder_that_vanishes_while_a_writer_starts_is_no_fault(database: Database, spool_root: Path) -> None:
    spool_root.mkdir()
    (spool_root / ".sp_gone").symlink_to(spool_root / "sp_renamed")
    StoreWriter(database, spool_root, PriceTable({})).close()


def test_the_process_stores_everything_and_ends_with_zero_on_sigterm(settings: Settings, make_relay: Any) -> None:
    relay = make_relay(SpoolWriter(settings.data_folder / "spool"))
    process = subprocess.Popen(
        [sys.executable, "-m", "capture.writer", "--config", str(settings.path)], cwd=ROOT, stderr=subprocess.PIPE, text=True
    )
    with process:
        assert process.stderr is not None
        line = process.stderr.readline()
        assert line.endswith("ready\n"), line + process.stderr.read()
        for _ in range(200):
            relay.exchange()
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    database = open_database(settings.database_url)
    assert len(everything(database)) == 200
    database.close()
    assert len(list((settings.data_folder / "spool").glob("sp_*"))) == 1
    relay.spool.close()


def test_the_process_says_when_its_settings_are_wrong(tmp_path: Path) -> None:
    path = tmp_path / "potstill.toml"
    path.write_text("[prices]\nstudent = 1\n")
    done = subprocess.run(
        [sys.executable, "-m", "capture.writer", "--config", str(path)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "student_usd_per_hour" in done.stderr


def test_the_students_cost_follows_its_measured_throughput(
    database: Database, spool_root: Path, relay: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticks = itertools.count(time.monotonic_ns(), 200_000_000)
    monkeypatch.setattr(clock, "monotonic_ns", lambda: next(ticks))
    monkeypatch.setattr(clock, "now_us", lambda: 1_700_000_000_000_000 + next(ticks) // 1_000)
    with closing(StoreWriter(database, spool_root, PriceTable({}, student_usd_per_hour=3.6))) as writer:
        for _ in range(30):
            relay.exchange(variant="candidate", release_id="rel_1")
        writer.drain()
        measured = everything(database)
        last = relay.exchange(variant="candidate", release_id="rel_1")
        writer.drain()
    assert {exchange.cost_microusd for exchange in measured} == {2}, "before it is known: the machine for 1.5 ms"
    busy_s = sum(exchange.ended_us - exchange.started_us for exchange in measured) / 1e6  # none of them overlap
    tokens_per_second = 30 * 4 / busy_s
    assert feed.get(database, last).cost_microusd == pytest.approx(4 / tokens_per_second * 1_000, abs=2)
