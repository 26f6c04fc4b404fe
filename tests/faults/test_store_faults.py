"""The store is full, locked, down, silent, or interrupted while it is brought up to date: nothing is lost, traffic goes on."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, text

from capture import feed, migrations
from capture.database import Database, open_database
from capture.errors import NewerStoreError, StoreError
from capture.filters import parse_filter
from capture.pricing import PriceTable
from capture.spool import SpoolWriter
from capture.writer import StoreWriter
from tests.faults.network import FaultyNetwork, socket_of, through

SLOWEST_DRAIN = 300
"""Rows a second that even a busy machine reaches; the figure of a quiet one is printed."""


def wait_until(condition: Callable[[], Any], what: str, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.005)


def stored(database: Database) -> set[str]:
    return {exchange.id for exchange in feed.page(database, parse_filter(""), limit=100_000)}


@contextmanager
def running(writer: StoreWriter) -> Iterator[None]:
    """`writer` at work in a thread; it drains what it can at the end."""
    stop = threading.Event()

    def run() -> None:
        with suppress(StoreError):
            writer.run(stop)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        writer.close()


@pytest.fixture
def network(request: pytest.FixtureRequest) -> Iterator[tuple[FaultyNetwork, str, str]]:
    """A faulty network before a fresh PostgreSQL, the address through it, and the one around it."""
    url = str(request.getfixturevalue("postgresql_url"))
    with FaultyNetwork(socket_of(url)) as made:
        yield made, through(made, url), url


@pytest.mark.faults
def test_f04_a_full_store_keeps_everything_in_the_spool_until_there_is_space(
    tmp_path: Path, spool_root: Path, make_relay: Any
) -> None:
    database = open_database(f"sqlite:///{tmp_path / 'potstill.db'}")
    relay = make_relay(SpoolWriter(spool_root, segment_bytes=50_000))
    with database.read() as connection:
        pages = int(connection.execute(text("PRAGMA page_count")).scalar_one())
    limit = [pages + 30]

    @event.listens_for(database.engine, "checkout")
    def bound(connection: Any, _record: object, _proxy: object) -> None:
        connection.execute(f"PRAGMA max_page_count = {limit[0]}")

    writer = StoreWriter(database, spool_root, PriceTable({}))
    for number in range(400):
        relay.exchange(answer=b"%d" % number * 300, unit=f"u{number}")
    with pytest.raises(StoreError, match="full"):
        writer.drain()
    before = len(stored(database))
    assert before < 400
    relay.exchange()
    with pytest.raises(StoreError, match="full"):
        writer.drain()
    limit[0] = 2**30
    writer.drain()
    assert stored(database) == set(relay.sent)
    assert relay.spool.dropped == 0
    relay.spool.close()
    writer.drain()
    assert [path.name for path in spool_root.iterdir()] == ["writer.lock"]
    writer.close()
    database.close()


@pytest.mark.faults
def test_f05_while_a_table_is_locked_exchanges_wait_and_then_all_are_stored(
    postgresql_url: str, spool_root: Path, make_relay: Any
) -> None:
    relay = make_relay(SpoolWriter(spool_root))
    with closing(open_database(postgresql_url)) as database, closing(open_database(postgresql_url)) as other:
        impatient = open_database(postgresql_url, statement_timeout_s=0.3)
        with running(StoreWriter(impatient, spool_root, PriceTable({}), poll_s=0.01)):
            with other.write() as connection:
                connection.execute(text("LOCK TABLE exchanges IN ACCESS EXCLUSIVE MODE"))
                slowest_s = 0.0
                for _ in range(50):
                    began = time.perf_counter()
                    relay.exchange()
                    slowest_s = max(slowest_s, time.perf_counter() - began)
                    time.sleep(0.02)
                connection.rollback()
            wait_until(lambda: len(stored(database)) == 50, "the writer does not go on after the lock")
        impatient.close()
        assert stored(database) == set(relay.sent)
        assert slowest_s < 1, "keeping an exchange waits for nobody"
    relay.spool.close()


@pytest.mark.faults
def test_f06_while_postgresql_is_down_exchanges_wait_and_are_drained_fast_when_it_is_back(
    network: tuple[FaultyNetwork, str, str],
    spool_root: Path,
    make_relay: Any,
    record_property: Callable[[str, object], None],
) -> None:
    proxy, url, direct = network
    relay = make_relay(SpoolWriter(spool_root))
    with closing(open_database(direct)) as watched, closing(open_database(url)) as database:
        relay.exchange()
        with running(StoreWriter(database, spool_root, PriceTable({}), poll_s=0.01)):
            wait_until(lambda: len(stored(watched)) == 1, "the store is not reached through the proxy")
            proxy.refuse()
            for number in range(4_000):
                relay.exchange(body=b'{"messages":[{"role":"user","content":"parcel %d %s"}]}' % (number, b"x" * 500))
            assert len(stored(watched)) == 1
            proxy.heal()
            wait_until(lambda: feed.count(watched, parse_filter("")) > 300, "nothing is drained after the recovery")
            began, first = time.monotonic(), feed.count(watched, parse_filter(""))
            wait_until(lambda: feed.count(watched, parse_filter("")) == 4_001, "the spool is not drained", 60)
            rate = (4_001 - first) / (time.monotonic() - began)
        assert stored(watched) == set(relay.sent)
    relay.spool.close()
    record_property("drained_rows_per_s", round(rate))
    print(f"F6: {rate:.0f} rows/s drained into PostgreSQL after it came back")
    assert rate > SLOWEST_DRAIN


@pytest.mark.faults
def test_f07_a_postgresql_that_falls_silent_is_given_up_and_connected_anew(
    network: tuple[FaultyNetwork, str, str], spool_root: Path, make_relay: Any
) -> None:
    proxy, url, direct = network
    relay = make_relay(SpoolWriter(spool_root))
    with closing(open_database(direct)) as watched, closing(open_database(url, statement_timeout_s=0.2)) as database:
        relay.exchange()
        writer = StoreWriter(database, spool_root, PriceTable({}), poll_s=0.01)
        assert writer.drain() == 1
        proxy.swallow()
        relay.exchange()
        began = time.monotonic()
        with pytest.raises(StoreError, match=r"not answered|timeout"):
            writer.drain()
        assert time.monotonic() - began < 20
        relay.exchange()
        with running(writer):
            proxy.refuse()
            proxy.heal()
            wait_until(lambda: len(stored(watched)) == 3, "the writer does not connect anew")
        assert stored(watched) == set(relay.sent)
    relay.spool.close()


@pytest.mark.faults
def test_f25_a_migration_that_is_interrupted_anywhere_is_done_whole_the_next_time(
    request: pytest.FixtureRequest, database_url: str
) -> None:
    class Interrupted(BaseException):
        """The process dies here."""

    statements = 0
    while True:
        url = database_url if statements == 0 or "sqlite" in database_url else _fresh(request)
        if url.startswith("sqlite"):
            for path in Path(url.removeprefix("sqlite:///")).parent.glob("potstill.db*"):
                path.unlink()
        left = [statements]

        def interrupt(*_: object, left: list[int] = left) -> None:
            left[0] -= 1
            if left[0] < 0:
                raise Interrupted

        with _on_every_statement(interrupt), suppress(Interrupted):
            open_database(url).close()
        with closing(open_database(url)) as database, database.read() as connection:
            applied = set(connection.execute(text("SELECT name FROM migrations")).scalars())
            assert applied == {step.__name__ for step in migrations.HISTORY}
            assert connection.execute(text("SELECT COUNT(*) FROM exchanges")).scalar_one() == 0
        if left[0] >= 0:
            break
        statements += 1 if url.startswith("sqlite") else 9
    assert statements > len(migrations.HISTORY)


@contextmanager
def _on_every_statement(listener: Callable[..., None]) -> Iterator[None]:
    from sqlalchemy import Engine

    event.listen(Engine, "before_cursor_execute", listener)
    try:
        yield
    finally:
        event.remove(Engine, "before_cursor_execute", listener)


def _fresh(request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue("postgresql_server").fresh_url())


@pytest.mark.faults
def test_f25_an_older_potstill_refuses_a_newer_store_and_changes_nothing(database_url: str) -> None:
    with closing(open_database(database_url)) as database:
        with database.write() as connection:
            connection.execute(text("INSERT INTO migrations (name, applied_us) VALUES ('m999_of_the_future', 1)"))
        with pytest.raises(NewerStoreError, match="m999_of_the_future"):
            open_database(database_url)
        with database.read() as connection:
            assert connection.execute(text("SELECT COUNT(*) FROM migrations")).scalar_one() == len(migrations.HISTORY) + 1
