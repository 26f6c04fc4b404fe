"""Several relays with one store writer and readers beside it, and several hosts with one PostgreSQL."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from capture import feed
from capture.database import Database, open_database
from capture.errors import PotstillError
from capture.filters import parse_filter
from capture.pricing import PriceTable
from capture.spool import SpoolWriter
from capture.writer import StoreWriter

RELAYS, EXCHANGES = 2, 400
HOSTS = 3


@contextmanager
def in_threads(*works: Callable[[threading.Event], None]) -> Iterator[list[BaseException]]:
    """Each work in a thread until the context ends; what they raised comes back."""
    stop = threading.Event()
    problems: list[BaseException] = []

    def run(work: Callable[[threading.Event], None]) -> None:
        try:
            work(stop)
        except BaseException as error:  # shown by the test, which sees nothing of another thread
            problems.append(error)

    threads = [threading.Thread(target=run, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    try:
        yield problems
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def stored(database: Database) -> list[str]:
    return [exchange.id for exchange in feed.page(database, parse_filter(""), limit=100_000)]


def reader_of(url: str) -> Callable[[threading.Event], None]:
    """A screen that looks all the time."""

    def look(stop: threading.Event) -> None:
        with closing(open_database(url)) as database:
            while not stop.is_set():
                feed.page(database, parse_filter("task:parcels"), limit=200)
                feed.count(database, parse_filter("status:200"))

    return look


def tail_of(url: str, seen: list[str]) -> Callable[[threading.Event], None]:
    """A program that follows the store from number to number."""

    def follow(stop: threading.Event) -> None:
        last = 0
        with closing(open_database(url)) as database:
            while True:
                is_last = stop.is_set()
                while page := feed.after(database, parse_filter(""), after=last, limit=100):
                    seen.extend(exchange.id for exchange in page)
                    last = page[-1].number
                if is_last:
                    return

    return follow


def second_writer_of(url: str) -> Callable[[threading.Event], None]:
    """Another process that writes now and then, as reviews and flags do."""

    def write(stop: threading.Event) -> None:
        with closing(open_database(url)) as database:
            while not stop.wait(0.002):
                with database.write() as connection:
                    connection.execute(text("UPDATE spools SET updated_us = updated_us WHERE spool_id = 'none'"))

    return write


@pytest.mark.faults
def test_f20_two_relays_a_writer_a_reader_and_a_second_writer_share_a_store(
    database_url: str, spool_root: Path, make_relay: Any
) -> None:
    open_database(database_url).close()
    database = open_database(database_url, is_checkpointer=True)
    writer = StoreWriter(database, spool_root, PriceTable({}), poll_s=0.005)
    relays = [make_relay(SpoolWriter(spool_root, segment_bytes=40_000)) for _ in range(RELAYS)]

    def relay_of(relay: Any) -> Callable[[threading.Event], None]:
        def work(_stop: threading.Event) -> None:
            for number in range(EXCHANGES):
                relay.exchange(answer=b'{"n":%d}' % number)
            relay.spool.close()

        return work

    helpers = (reader_of(database_url), second_writer_of(database_url))
    with in_threads(writer.run, *helpers) as problems, in_threads(*(relay_of(relay) for relay in relays)) as relay_problems:
        pass
    assert problems == relay_problems == []
    found = stored(database)
    assert len(found) == len(set(found)) == RELAYS * EXCHANGES
    assert set(found) == {id for relay in relays for id in relay.sent}
    if database.is_sqlite:
        with database.read() as connection:
            assert connection.execute(text("PRAGMA integrity_check")).scalar_one() == "ok"
    writer.close()
    database.close()


@pytest.mark.faults
def test_f20_several_hosts_write_the_same_texts_into_one_postgresql_at_once(
    postgresql_url: str, tmp_path: Path, make_relay: Any
) -> None:
    open_database(postgresql_url).close()
    relays, works = [], []
    for host in range(HOSTS):
        root = tmp_path / f"host{host}" / "spool"
        relay = make_relay(SpoolWriter(root))
        for number in range(EXCHANGES):
            # Every host stores the same messages, each in its own order, so their writers meet in the rows that they share.
            same = (number * (host + 1)) % 50
            messages = b'{"role":"system","content":"Be kind. %b"},{"role":"user","content":"parcel %d"}' % (b"s" * 900, same)
            relay.exchange(body=b'{"messages":[%b]}' % messages, answer=b'{"n":%d}' % same)
        relay.spool.close()
        relays.append(relay)
        works.append(_writer_of(postgresql_url, root))
    seen: list[str] = []
    with in_threads(tail_of(postgresql_url, seen)) as tail_problems, in_threads(*works) as problems:
        pass
    assert problems == tail_problems == []
    with closing(open_database(postgresql_url)) as database:
        found = stored(database)
        with database.read() as connection:
            assert connection.execute(text("SELECT COUNT(*) FROM dead_letters")).scalar_one() == 0
    assert sorted(found) == sorted(id for relay in relays for id in relay.sent)
    assert sorted(seen) == sorted(found), "who follows the numbers sees each exchange once, whichever host stored it"


def _writer_of(url: str, root: Path) -> Callable[[threading.Event], None]:
    def work(_stop: threading.Event) -> None:
        with closing(open_database(url)) as database:
            writer = StoreWriter(database, root, PriceTable({}))
            for _ in range(20):
                with suppress(PotstillError):  # two that deadlock are told so; one goes on, the other tries again
                    writer.drain()
                if not list(root.glob("sp_*")):
                    break
            writer.close()
            assert not list(root.glob("sp_*")), "the spool is drained"

    return work
