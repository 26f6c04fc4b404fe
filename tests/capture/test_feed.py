from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from capture import feed, ids
from capture.database import Database
from capture.errors import NotFoundError, StoreError
from capture.exchange import OMITTED, Conversation, Exchange
from capture.filters import parse_filter
from capture.messages import Message
from capture.pricing import PriceTable
from capture.records import End
from capture.writer import StoreWriter

ALL = parse_filter("")


@pytest.fixture
def filled(database: Database, spool_root: Path, relay: Any) -> Iterator[Database]:
    for number in range(7):
        relay.exchange(task="parcels" if number % 2 else "triage")
    writer = StoreWriter(database, spool_root, PriceTable({}))
    assert writer.drain() == 7
    yield database
    writer.close()


def test_pages_go_back_in_the_order_of_storing_without_holes(filled: Database, relay: Any) -> None:
    seen: list[Exchange] = []
    while page := feed.page(filled, ALL, before=seen[-1].number if seen else 0, limit=3):
        seen += page
    assert [exchange.id for exchange in seen] == relay.sent[::-1]


def test_following_goes_forward(filled: Database, relay: Any) -> None:
    third = feed.get(filled, relay.sent[2])
    assert [exchange.id for exchange in feed.after(filled, ALL, after=third.number, limit=10)] == relay.sent[3:]
    assert [exchange.id for exchange in feed.after(filled, parse_filter("task:parcels"), limit=1)] == [relay.sent[1]]


def test_following_sees_a_slow_exchange_that_began_before_the_last_one(database: Database, spool_root: Path, relay: Any) -> None:
    slow = relay.open(task="parcels")
    relay.exchange()
    with closing(StoreWriter(database, spool_root, PriceTable({}))) as writer:
        writer.drain()
        (last,) = feed.page(database, ALL, limit=1)
        relay.spool.end(slow, End(200, "complete"))
        writer.drain()
    (new,) = feed.after(database, ALL, after=last.number)
    assert new.id == ids.format_id("ex", slow)
    assert new.started_us < last.started_us


def test_an_exchange_is_found_by_its_id_or_a_unique_beginning(filled: Database, relay: Any) -> None:
    id = relay.sent[3]
    assert feed.get(filled, id).id == feed.get(filled, id[3:]).id == feed.get(filled, id[:-1]).id == id
    with pytest.raises(NotFoundError, match="More than one"):
        feed.get(filled, "ex_0")
    with pytest.raises(NotFoundError, match="no exchange 'ex_zzz'"):
        feed.get(filled, "ex_zzz")


def test_counts_stop_at_their_cap(filled: Database) -> None:
    assert feed.count(filled, ALL) == 7
    assert feed.count(filled, ALL, cap=5) == 5
    assert feed.count(filled, parse_filter("task:parcels")) == 3


def test_tasks_are_summed_up(filled: Database) -> None:
    got = feed.tasks(filled)
    assert [(summary.task, summary.exchanges) for summary in got] == [("parcels", 3), ("triage", 4)]
    assert all(0 < summary.first_us <= summary.last_us for summary in got)


def test_a_conversation_is_read_from_the_bodies(filled: Database, relay: Any) -> None:
    got = feed.conversation(filled, feed.get(filled, relay.sent[0]))
    assert got.asked == (Message("user", "Where is my parcel?"),)
    assert got.answer == Message("assistant", "On its way.")


def test_content_is_read_with_headers_and_hashes(filled: Database, relay: Any) -> None:
    exchange = feed.get(filled, relay.sent[0])
    got = feed.content(filled, exchange)
    assert json.loads(got.request_body)["messages"][0]["content"] == "Where is my parcel?"
    assert got.response_headers == {"content-type": "application/json"}
    assert feed.contents(filled, [exchange]) == {exchange.number: got}


def test_content_that_is_gone_says_so_and_omitted_content_is_empty(filled: Database, relay: Any) -> None:
    gone = replace(feed.get(filled, relay.sent[0]), number=10_000)
    assert feed.contents(filled, [gone]) == {}
    with pytest.raises(NotFoundError, match="is not in the store"):
        feed.content(filled, gone)
    omitted = replace(gone, content=OMITTED)
    assert feed.content(filled, omitted).request_body == b""
    assert feed.conversation(filled, omitted) == Conversation((), None)


def test_what_is_damaged_is_told_apart_from_what_is_gone_and_from_a_store_that_does_not_answer(filled: Database) -> None:
    first, second, third = feed.page(filled, ALL, limit=3)
    with filled.write() as connection:
        connection.execute(
            text("UPDATE contents SET zstd = :junk WHERE number = :number"), {"junk": b"\0x", "number": first.number}
        )
        connection.execute(text("DELETE FROM contents WHERE number = :number"), {"number": second.number})
    found = list(feed.readable(filled, [first, second, third]))
    assert found == [(first, None), (third, feed.content(filled, third))]
    with filled.write() as connection:
        connection.execute(text("ALTER TABLE contents RENAME TO hidden"))
    with pytest.raises(StoreError, match="The store answered"):
        list(feed.readable(filled, [first, second, third]))


def test_odd_ids_are_not_found(filled: Database) -> None:
    for id in ("\x00", "ex_\ud800", "ex_%", "ü", "' OR 1=1 --"):
        with pytest.raises(NotFoundError):
            feed.get(filled, id)


def test_the_revision_changes_with_every_change_and_only_then(filled: Database, spool_root: Path, relay: Any) -> None:
    before = feed.revision(filled)
    assert feed.revision(filled) == before
    with filled.write() as connection:
        connection.execute(text("UPDATE spools SET updated_us = updated_us + 1"))
    after = feed.revision(filled)
    assert after != before
    with filled.write() as connection:
        connection.execute(
            text(
                "INSERT INTO flag_changes (id, task, release_id, engine_model, share_bp, unit, salt, who, why, created_us) "
                "VALUES ('chg_1', 't', '', '', 0, '', '', '', '', 0)"
            )
        )
    assert feed.revision(filled) not in (before, after)


def test_reading_does_not_need_the_table_library() -> None:
    code = "import sys, capture.feed, capture.filters, capture.spool; sys.exit('sqlmodel' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], check=False).returncode == 0
