from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from capture import feed
from capture.database import Database
from capture.errors import NotFoundError
from capture.filters import parse_filter
from capture.messages import Message
from capture.pricing import PriceTable
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


def test_pages_go_back_in_time_without_holes(filled: Database, relay: Any) -> None:
    seen: list[str] = []
    while page := feed.page(filled, ALL, before=seen[-1] if seen else "", limit=3):
        seen += [exchange.id for exchange in page]
    assert seen == sorted(relay.sent, reverse=True)


def test_following_goes_forward(filled: Database, relay: Any) -> None:
    sent = sorted(relay.sent)
    assert [exchange.id for exchange in feed.after(filled, ALL, sent[2], 10)] == sent[3:]
    assert [exchange.id for exchange in feed.after(filled, parse_filter("task:parcels"), "", 1)] == [
        min(exchange.id for exchange in feed.page(filled, parse_filter("task:parcels")))
    ]


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


def test_a_body_that_is_not_there_says_so(filled: Database) -> None:
    with pytest.raises(NotFoundError, match="no body"):
        feed.body(filled, "b2:0")


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
