from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text

from capture import clock, feed
from capture.database import Database
from capture.filters import FIELDS, FilterError, parse_filter, quote
from capture.store_rows import _EXCHANGES

DAY_US = 86_400_000_000


def insert(database: Database, number: int, **values: object) -> None:
    """One row of table exchanges with plain values, changed by `values`."""
    with database.read() as connection:
        columns = connection.execute(text("SELECT * FROM exchanges WHERE 1 = 0")).keys()
    numbers = {"started_us", "ended_us", "flag_revision", "is_stream", "status", "redactions"}
    optional = {"latency_us", "first_byte_us", "overhead_us", "tokens_in", "tokens_out", "cost_microusd"}
    row: dict[str, object] = {name: 0 if name in numbers else None if name in optional else "" for name in columns}
    row.update(id=f"ex_{number:026d}", status=200, state="complete", tags="{}", request_headers="{}", response_headers="{}")
    with database.write() as connection:
        connection.execute(_EXCHANGES, {**row, **values})


@pytest.fixture
def filled(database: Database) -> Database:
    now = clock.now_us()
    insert(
        database,
        1,
        task="triage",
        model_served="gpt-4o",
        status=200,
        latency_us=1_500_000,
        started_us=now,
        tags='{"team":"search"}',
    )
    insert(database, 2, task="triage", model_asked="claude-x", status=429, purpose="judge", started_us=now - 3 * DAY_US)
    insert(database, 3, task="50% off_now", variant="candidate", output_text="I could not, sorry", is_stream=1, started_us=now)
    insert(
        database,
        4,
        task="Triage",
        state="truncated",
        cost_microusd=20_000,
        output_text="10%_x",
        tags='{"a\\"b":"c,d"}',
        started_us=now,
    )
    insert(database, 5, user_name="u*1", state="timeout", tokens_in=5000, redactions=2, started_us=now)
    return database


CASES: list[tuple[str, list[int]]] = [
    ("", [1, 2, 3, 4, 5]),
    ("   ", [1, 2, 3, 4, 5]),
    ("task:triage", [1, 2]),
    ("task:TRI*", [1, 2, 4]),
    ('task:"50% off_now"', [3]),
    ("task:50%*", [3]),
    ("-task:triage task:*", [3, 4]),
    ("model:gpt-*", [1]),
    ("model:claude-x", [2]),
    ("status>=400", [2]),
    ("status:200,429 task:triage", [1, 2]),
    ("status!=200", [2]),
    ("-purpose:judge", [1, 3, 4, 5]),
    ("purpose!=judge", [1, 3, 4, 5]),
    ("state:truncated,timeout", [4, 5]),
    ("since:2d", [1, 3, 4, 5]),
    ("until:2d", [2]),
    ("since:2020-01-01 until:2021-01-01T10:00", []),
    ("latency>1s", [1]),
    ("latency<=1500ms", [1]),
    ("latency>1500", []),
    ("cost>0.01", [4]),
    ("tokens_in>=5000", [5]),
    ("tag.team:search", [1]),
    ("tag.team:s*", [1]),
    ("tag.team:sear", []),
    ("stream:yes", [3]),
    ("success:yes", [1, 3]),
    ("success:no", [2, 4, 5]),
    ("-success:no", [1, 3]),
    ('"could not"', [3]),
    ("COULD sorry", [3]),
    ('text:"not, s"', [3]),
    ("10%", [4]),
    ("10%_x", [4]),
    ("1%x", []),
    ("-sorry", [1, 2, 4, 5]),
    ('user:"u*1"', [5]),
    ("user:u\\*1", []),
    ("redactions>0 -state:complete", [5]),
    ("env:prod", []),
]


def test_a_filter_finds_what_it_says(filled: Database) -> None:
    for typed, numbers in CASES:
        found = feed.page(filled, parse_filter(typed))
        assert [int(exchange.id[3:]) for exchange in reversed(found)] == numbers, typed
        assert feed.count(filled, parse_filter(typed)) == len(numbers), typed


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ("taks:x", "Did you mean task?"),
        ("zzz:x", "Known: task"),
        ("status:many", "'many' is not a number"),
        ("tokens_in>5s", "not a number"),
        ("since:yesterday", "not a time"),
        ("stream:maybe", "neither yes nor no"),
        ("task>x", "Use : for text"),
        ('task:"open', "Close the quotes"),
        ('tag.a"b:x', "Close the quotes"),
    ],
)
def test_a_wrong_filter_says_what_to_do(typed: str, words: str) -> None:
    with pytest.raises(FilterError) as caught:
        parse_filter(typed)
    assert words in str(caught.value)


def test_the_example_of_every_field_is_a_filter(filled: Database) -> None:
    for field in FIELDS:
        assert 0 <= feed.count(filled, parse_filter(field.example)) <= 5, field


@given(st.text(max_size=40))
def test_any_text_is_a_filter_or_a_filter_error(typed: str) -> None:
    try:
        found = parse_filter(typed)
    except FilterError:
        return
    assert "'" not in found.where.replace("ESCAPE '!'", "").replace("''", "").replace("'complete'", "")


NAMES = ["plain", 'a"b', "a b", "a,b", "a*b", "a\\b", "a\\", "%_!", "-x", "task:y", "grüße", "'; DROP TABLE exchanges; --"]


def test_every_name_can_be_quoted(database: Database) -> None:
    for number, name in enumerate(NAMES):
        insert(database, number, task=name)
    for number, name in enumerate(NAMES):
        (found,) = feed.page(database, parse_filter(f"task:{quote(name)}"))
        assert int(found.id[3:]) == number
