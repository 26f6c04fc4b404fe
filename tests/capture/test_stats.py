from __future__ import annotations

import pytest
from sqlalchemy import text

from capture.database import Database
from capture.errors import SettingsError
from capture.filters import parse_filter
from capture.stats import BY, read_stats

DAY_US = 86_400_000_000
ALL = parse_filter("")

INSERT = """INSERT INTO exchanges (number, id, started_us, task, status, state, error_kind, latency_us, tokens_in, cost_microusd,
    model_asked, ended_us, method, path, query, protocol, purpose, unit, unit_source, user_name, session_name, environment, tags,
    model_served, upstream, variant, release_id, flag_revision, fallback_reason, is_stream, error_message, finish_reason,
    tokens_out, tokens_cached, tokens_cache_written, tokens_reasoning, usage_source, input_hash, output_text, content, body_bytes,
    redactions)
    VALUES (:number, :id, :started_us, :task, :status, :state, :error, :latency_us, :tokens_in, :cost,
    'gpt-4o', 0, 'POST', '/v1/x', '', 'openai', 'app', '', '', '', '', '', '{}', '', 'openai', '', '', 0, '', 0, '', 'stop',
    2, 1, 0, 0, 'reported', '', '', 'kept', 100, 0)"""


@pytest.fixture
def filled(database: Database) -> Database:
    """A hundred exchanges: three tasks, ten failures of three kinds, latencies of 1 to 100 ms, ten without a cost."""
    rows = [
        {
            "number": n,
            "id": f"ex_{n:026d}",
            "started_us": (n // 50) * DAY_US + n,
            "task": "triage" if n <= 60 else "reply" if n <= 90 else "",
            "status": 429 if n in (1, 2, 3, 4, 5, 6) else 404 if n == 7 else 200,
            "state": "timeout" if n in (8, 9, 10) else "complete",
            "error": "rate_limit_error" if n <= 6 else "",
            "latency_us": n * 1_000 if n < 100 else None,
            "tokens_in": 10 if n % 2 else None,
            "cost": None if n > 90 else 5,
        }
        for n in range(1, 101)
    ]
    with database.write() as connection:
        connection.execute(text(INSERT), rows)
    return database


def test_sums_are_counted_exactly(filled: Database) -> None:
    stats = read_stats(filled, ALL)
    total = stats.total
    assert (total.exchanges, total.successes) == (100, 90)
    assert total.errors == {"rate_limit_error": 6, "timeout": 3, "status 404": 1}
    assert (total.p50_us, total.p95_us, total.first_byte_p50_us) == (50_000, 95_000, None)
    assert (total.tokens_in, total.tokens_out, total.tokens_cached) == (500, 200, 100)
    assert (total.cost_microusd, total.unpriced, total.body_bytes) == (450, 10, 10_000)
    assert (stats.first_us, stats.last_us, stats.is_cut) == (1, 2 * DAY_US + 100, False)
    assert stats.store_bytes > 0
    assert stats.groups == ()


def test_groups_add_up_to_the_total_and_the_largest_comes_first(filled: Database) -> None:
    stats = read_stats(filled, ALL, "task")
    assert [(sums.key, sums.exchanges) for sums in stats.groups] == [("triage", 60), ("reply", 30), ("", 10)]
    assert sum(sums.successes for sums in stats.groups) == stats.total.successes
    days = {sums.key: sums.exchanges for sums in read_stats(filled, ALL, "day").groups}
    assert days == {"1970-01-01": 49, "1970-01-02": 50, "1970-01-03": 1}
    for by in BY:
        assert sum(sums.exchanges for sums in read_stats(filled, ALL, by).groups) == 100, by


def test_a_filter_narrows_what_is_summed(filled: Database) -> None:
    stats = read_stats(filled, parse_filter("task:triage status:429"), "error")
    assert [(sums.key, sums.exchanges) for sums in stats.groups] == [("rate_limit_error", 6)]
    assert read_stats(filled, parse_filter("task:none")).total.exchanges == 0


def test_no_more_than_the_newest_are_looked_at(filled: Database) -> None:
    stats = read_stats(filled, ALL, "task", most=25)
    assert stats.is_cut
    assert {sums.key: sums.exchanges for sums in stats.groups} == {"reply": 15, "": 10}
    assert not read_stats(filled, ALL, most=100).is_cut


def test_an_unknown_group_is_refused_with_the_known_ones(filled: Database) -> None:
    with pytest.raises(SettingsError, match="'colour'") as caught:
        read_stats(filled, ALL, "colour")
    assert "task, model" in caught.value.next_step
