"""A task that is given later can be taken back, and never covers what an app said itself."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from capture import feed, retag
from capture.database import Database
from capture.filters import parse_filter
from tests.curate.sending import Sent, Traffic


@pytest.fixture
def traffic(database: Database, tmp_path: Path) -> Traffic:
    spool_root = tmp_path / "spool"
    spool_root.mkdir()
    return Traffic(database, spool_root)


def tasks(database: Database) -> list[str]:
    return [exchange.task for exchange in feed.page(database, parse_filter(""))][::-1]


def test_only_what_has_no_task_is_given_one_and_all_of_it_can_be_taken_back(traffic: Traffic) -> None:
    traffic.send([Sent("one", "x", task=""), Sent("two", "x", task="mail"), Sent("three", "x", task="")])
    database = traffic.database
    before = feed.page(database, parse_filter(""))
    numbers = [exchange.number for exchange in before]
    assert retag.give_task(database, numbers, "mail", 'a%b"c') == 2
    assert tasks(database) == ["mail", "mail", "mail"]
    assert feed.count(database, parse_filter("tag.@named:*")) == 2
    assert retag.give_task(database, numbers, "other", "later") == 0
    assert retag.take_task(database, "mail", "somebody else") == 0
    assert retag.take_task(database, "mail", 'a%b"c') == 2
    assert feed.page(database, parse_filter("")) == before


def test_many_exchanges_are_given_a_task_and_lose_it_in_batches(traffic: Traffic, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retag, "_MANY", 2)
    traffic.send([Sent(f"n {number}", json.dumps(number), task="") for number in range(7)])
    numbers = [exchange.number for exchange in feed.page(traffic.database, parse_filter(""))]
    assert retag.give_task(traffic.database, numbers[:6], "mail", "x") == 6
    assert retag.give_task(traffic.database, numbers, "mail", "y") == 1
    assert retag.take_task(traffic.database, "mail", "x") == 6
    assert tasks(traffic.database).count("mail") == 1
