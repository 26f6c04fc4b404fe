from __future__ import annotations

import json
import random
from dataclasses import fields

import pytest
from sqlalchemy import text

from capture import feed, search
from capture.database import Database
from capture.errors import StoreError
from capture.exchange import Exchange
from capture.filters import parse_filter
from capture.fulltext import searchable, tsvector

ROWS = 8_000


@pytest.fixture
def large(database: Database) -> Database:
    """More rows than a narrow condition may have, with values that are common, rare and absent."""
    rng = random.Random(5)
    rows = [_row(number, rng) for number in range(1, ROWS + 1)]
    words = [f"the order {number}" + (" refund" if number % 11 == 0 else "") for number in range(1, ROWS + 1)]
    names = ", ".join(rows[0])
    key = "rowid" if database.is_sqlite else "number"
    said = [searchable(line) if database.is_sqlite else tsvector(searchable(line)) for line in words]
    with database.write() as connection:
        insert = f"INSERT INTO exchanges ({names}) VALUES ({', '.join(':' + name for name in rows[0])})"
        connection.execute(text(insert), rows)
        connection.execute(
            text(f"INSERT INTO exchange_words ({key}, words) VALUES (:n, :w)"),
            [{"n": number, "w": line} for number, line in enumerate(said, 1)],
        )
    return database


def _row(number: int, rng: random.Random) -> dict[str, object]:
    row: dict[str, object] = {field.name: "" for field in fields(Exchange)}
    row |= dict.fromkeys(("ended_us", "flag_revision", "is_stream", "redactions", "body_bytes"), 0)
    row |= dict.fromkeys(("tokens_cached", "tokens_cache_written", "tokens_reasoning", "saved_microusd"), 0)
    row |= dict.fromkeys(("latency_us", "first_byte_us", "overhead_us", "tokens_in", "tokens_out", "cost_microusd"))
    return row | {
        "number": number,
        "id": f"ex_{number:026d}",
        "started_us": number * 1_000_000,
        "status": 429 if number % 10 == 0 else 200,
        "state": "complete",
        "task": "seldom" if number % 999 == 0 else "triage" if number % 2 else "reply",
        "user_name": f"u{number % 3000}",
        "session_name": f"s{number % 100}" if number % 3 else "",
        "variant": ("", "baseline", "candidate")[number % 3],
        "model_asked": "gpt-4o" if number % 5 else "claude",
        "tags": json.dumps({"team": "search"}) if number % 7 == 0 else "{}",
        "latency_us": number * 10,
        "cost_microusd": None if number % 4 == 0 else rng.randrange(100_000),
    }


FILTERS = [
    "",
    "task:triage",
    "task:seldom",
    "task:seldom,none",
    "task:triage,reply status>=400",
    "task:none",
    "status>=400",
    "success:no task:triage",
    "state:timeout",
    "user:u17",
    "user:u17 task:triage",
    "session:s7 -task:triage",
    "variant:candidate",
    "task:triage variant:candidate",
    "task:triage -variant:candidate",
    "model:claude",
    "model:g*",
    "cost>0.09",
    "cost>0.001",
    "latency<1ms task:triage",
    "since:1970-01-01T00:10 until:1970-01-01T00:20",
    "until:1970-01-01T00:10",
    "until:1970-01-01T02:10",
    "since:1970-01-01T00:10 until:1970-01-01T03:10 the",
    "tag.team:search",
    "id:ex_0000000000000000000000000*",
    "the",
    "refund",
    "the task:seldom",
    "refund task:triage",
    "the refund user:u22",
    "the -refund",
    "-refund task:seldom",
    "order 42",
    "the since:1970-01-01T00:10 until:1970-01-01T00:20",
]


def test_every_way_of_asking_finds_what_the_whole_condition_finds(large: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    for typed in FILTERS:
        _check(large, typed)
    # As if the store were fifty times as large.
    monkeypatch.setattr(search, "_FEW", 100)
    monkeypatch.setattr(search, "_MANY", 1_000)
    for typed in FILTERS:
        _check(large, typed)


def _check(large: Database, typed: str) -> None:
    found = parse_filter(typed)
    where = found.where(is_sqlite=large.is_sqlite)
    with large.read() as connection:
        rows = connection.execute(text(f"SELECT number FROM exchanges WHERE {where} ORDER BY number"), found.params)
        expected = [int(row[0]) for row in rows]
    assert _numbers(feed.page(large, found, limit=ROWS)) == expected[::-1], typed
    assert feed.count(large, found, cap=ROWS) == len(expected), typed
    middle = 3_210
    older = [number for number in expected if number < middle]
    newer = [number for number in expected if number > middle]
    assert _numbers(feed.page(large, found, before=middle, limit=50)) == older[::-1][:50], typed
    assert _numbers(feed.after(large, found, after=middle, limit=50)) == newer[:50], typed


def _numbers(found: list[Exchange]) -> list[int]:
    return [exchange.number for exchange in found]


def test_a_question_without_an_end_is_given_up_with_advice(database: Database) -> None:
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT COUNT(*) FROM n"
    with pytest.raises(StoreError, match=r"0\.2 seconds") as caught, search.bounded(database, 0.2) as connection:
        connection.execute(text(endless)).all()
    assert "Narrow the filter" in caught.value.next_step
    with database.read() as connection:  # the connection that comes out of the pool again is not bounded
        bounded = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 300000) SELECT COUNT(*) FROM n"
        assert connection.execute(text(bounded)).scalar_one() == 300_000


def test_other_errors_of_the_store_stay_what_they_are(database: Database) -> None:
    with pytest.raises(StoreError, match="no_such_table"), search.bounded(database) as connection:
        connection.execute(text("SELECT 1 FROM no_such_table"))


@pytest.mark.parametrize(
    ("typed", "index"),
    [
        ("task:triage", "exchanges_by_task"),
        ("status>=400 task:triage", "exchanges_failed"),
        ("user:u17", "exchanges_by_user"),
        ("session:s1", "exchanges_by_session"),
        ("model:none", "exchanges_by_model"),
        ("cost>10", "exchanges_by_cost"),
        ("latency>1h", "exchanges_by_latency"),
        ("since:1h", "exchanges_by_start"),
        ("variant:candidate", "exchanges_by_variant"),
        ("id:ex_01*", "exchanges_by_id"),
    ],
)
def test_sqlite_answers_a_narrow_condition_from_its_index(database: Database, typed: str, index: str) -> None:
    if not database.is_sqlite:
        pytest.skip("PostgreSQL plans by what it has counted")
    found = parse_filter(typed)
    with database.read() as connection:
        plans = [
            str(connection.execute(text(f"EXPLAIN QUERY PLAN SELECT number FROM exchanges WHERE {one}"), found.params).all())
            for one in found.narrow
        ]
    assert any(f"INDEX {index}" in plan for plan in plans), plans
