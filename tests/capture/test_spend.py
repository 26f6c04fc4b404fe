"""What exchanges cost is booked once, by day, key and task, whatever becomes of the exchanges."""

from __future__ import annotations

import json

from sqlalchemy import text

from capture import feed, ids, spend, store_rows
from capture.database import Database
from capture.derive import StoredExchange, derive
from capture.exchange_rows import delete_exchanges
from capture.filters import parse_filter
from capture.pricing import PriceTable
from capture.records import Begin, End, Head
from capture.spend import DAY_US, Spend
from capture.spool_reader import SpooledExchange

PRICES = PriceTable({"gpt-4o": {"input_cost_per_token": 1e-6, "output_cost_per_token": 3e-6}})
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


def asked(day: int, *, key_id: str = "", task: str = "", model: str = "gpt-4o", is_hit: bool = False) -> StoredExchange:
    """A chat of 10 tokens in and 5 out, which costs 25 micro-dollars with gpt-4o."""
    answer = {
        "model": model,
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "Late."}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 10, "completion_tokens": 5},
    }
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": "Where?"}]}).encode()
    begin = Begin("POST", "/v1/chat/completions", "", "openai", task=task, body=body, key_id=key_id, trace_id=TRACE)
    headers = {"content-type": "application/json"} | ({"x-potstill-cache": "hit"} if is_hit else {})
    at = day * DAY_US + 5
    records = (Head(200, headers), [json.dumps(answer).encode()], End(200, "complete", latency_us=7))
    return derive(SpooledExchange(ids.new_id("ex"), begin, (1, 0), at, 0, 9_000, *records), PRICES)


def read(database: Database, first_day: int = 0) -> list[Spend]:
    with database.read() as connection:
        return spend.read(connection, first_day)


def test_each_exchange_is_booked_once_for_its_day_key_and_task(database: Database) -> None:
    first = [asked(7, key_id="a", task="triage"), asked(7, key_id="a", task="triage"), asked(8, key_id="b")]
    store_rows.write(database, first)
    store_rows.write(database, [*first, asked(7, key_id="a", task="triage")])  # a batch that came again after a crash
    assert read(database) == [Spend(7, "a", "triage", 3, 0, 45, 75, 0), Spend(8, "b", "", 1, 0, 15, 25, 0)]
    assert read(database, first_day=8) == [Spend(8, "b", "", 1, 0, 15, 25, 0)]


def test_tokens_at_a_price_that_nobody_knows_count_as_unpriced(database: Database) -> None:
    store_rows.write(database, [asked(7, key_id="a", model="of-nobody")])
    assert read(database) == [Spend(7, "a", "", 1, 1, 15, 0, 0)]


def test_an_answer_from_the_cache_costs_nothing_and_says_what_it_saved(database: Database) -> None:
    store_rows.write(database, [asked(7, task="triage"), asked(7, task="triage", is_hit=True)])
    assert read(database) == [Spend(7, "", "triage", 2, 0, 30, 25, 25)]
    assert [each.cost_microusd for each in feed.page(database, parse_filter("saved>0"))] == [0]


def test_what_was_spent_stays_when_the_exchange_goes(database: Database) -> None:
    store_rows.write(database, [asked(7, key_id="a")])
    with database.write() as connection:
        numbers = [int(row[0]) for row in connection.execute(text("SELECT number FROM exchanges"))]
        assert delete_exchanges(connection, numbers) == 1
    assert read(database) == [Spend(7, "a", "", 1, 0, 15, 25, 0)]


def test_exchanges_are_found_by_key_and_by_trace(database: Database) -> None:
    store_rows.write(database, [asked(7, key_id="a1"), asked(7, key_id="b2"), asked(7)])
    found = {term: [each.key_id for each in feed.page(database, parse_filter(term))] for term in ("key:a1", "key:b*", "-key:*")}
    assert found == {"key:a1": ["a1"], "key:b*": ["b2"], "-key:*": [""]}
    assert len(feed.page(database, parse_filter(f"trace:{TRACE}"))) == 3
    assert feed.page(database, parse_filter("trace:4bf92f35")) == []
