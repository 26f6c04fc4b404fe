from __future__ import annotations

import re
from dataclasses import fields

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from sqlalchemy import text

from capture import clock, feed
from capture.database import Database
from capture.exchange import Exchange
from capture.filters import FIELDS, FilterError, parse_filter, quote
from capture.fulltext import searchable, tsvector

DAY_US = 86_400_000_000


def insert(database: Database, number: int, words: str = "", **values: object) -> None:
    """One row of table exchanges with plain values, changed by `values`, and its words in the full-text index."""
    row: dict[str, object] = {field.name: "" for field in fields(Exchange)}
    row |= dict.fromkeys(("started_us", "ended_us", "flag_revision", "is_stream", "redactions", "body_bytes"), 0)
    row |= dict.fromkeys(("tokens_cached", "tokens_cache_written", "tokens_reasoning", "saved_microusd"), 0)
    row |= dict.fromkeys(("latency_us", "first_byte_us", "overhead_us", "tokens_in", "tokens_out", "cost_microusd"))
    row |= {"number": number, "id": f"ex_{number:026d}", "status": 200, "state": "complete", "tags": "{}", **values}
    said = searchable(words)
    with database.write() as connection:
        names = ", ".join(row)
        connection.execute(text(f"INSERT INTO exchanges ({names}) VALUES ({', '.join(':' + name for name in row)})"), row)
        key, value = ("rowid", said) if database.is_sqlite else ("number", tsvector(said))
        connection.execute(text(f"INSERT INTO exchange_words ({key}, words) VALUES (:n, :w)"), {"n": number, "w": value})


def say(database: Database, number: int, **values: object) -> None:
    """One row of table feedback."""
    row: dict[str, object] = {"id": f"fb_{number}", "exchange_id": "", "session_name": "", "name": "feedback", "kind": "boolean"}
    row |= {"value": None, "text": "", "who": "", "source": "api", "tags": "{}", "created_us": number, **values}
    with database.write() as connection:
        names = ", ".join(row)
        connection.execute(text(f"INSERT INTO feedback ({names}) VALUES ({', '.join(':' + name for name in row)})"), row)


@pytest.fixture
def filled(database: Database) -> Database:
    now = clock.now_us()
    insert(database, 1, "Refund of order #12345-B, please", task="triage", model_served="gpt-4o", latency_us=1_500_000,
           started_us=now, tags='{"team":"search"}', session_name="s1", tokens_reasoning=7, body_bytes=3_000)  # fmt: skip
    insert(database, 2, "refunds are slow", task="triage", model_asked="claude-x", status=429, purpose="judge",
           started_us=now - 3 * DAY_US, usage_source="missing", error_kind="rate_limit_error")  # fmt: skip
    insert(database, 3, "I could not, sorry. Grüße", task="50% off_now", variant="candidate", output_text="I could not, sorry",
           is_stream=1, started_us=now, content="omitted", session_name="s1")  # fmt: skip
    insert(database, 4, "退款政策 10%_x", task="Triage", state="truncated", cost_microusd=20_000, output_text="10%_X GRÜN",
           tags='{"a\\"b":"c,d","internal":"yes"}', started_us=now)  # fmt: skip
    insert(database, 5, "", user_name="u*1", state="timeout", tokens_in=5000, redactions=2, started_us=now, query="beta=true")
    for number, values in enumerate(SAID):
        say(database, number + 1, **values)
    return database


SAID: list[dict[str, object]] = [
    {"exchange_id": f"ex_{1:026d}", "value": 0.0, "who": "ann"},
    {"exchange_id": f"ex_{1:026d}", "value": 1.0, "who": "ann"},
    {"exchange_id": f"ex_{2:026d}", "name": "score", "kind": "float", "value": 0.25},
    {"session_name": "s1", "name": "tone", "kind": "category", "text": "rude"},
    {"exchange_id": f"ex_{9:026d}", "value": 1.0},
]

CASES: list[tuple[str, list[int]]] = [
    ("", [1, 2, 3, 4, 5]),
    ("   ", [1, 2, 3, 4, 5]),
    ("task:triage", [1, 2]),
    ("task:triage,Triage", [1, 2, 4]),
    ("task:TRI*", [1, 2, 4]),
    ("task:TRI*,none", [1, 2, 4]),
    ('task:"50% off_now"', [3]),
    ("task:50%*", [3]),
    ("-task:triage task:*", [3, 4]),
    ('task:""', [5]),
    ("model:gpt-*", [1]),
    ("model:gpt-4o", [1]),
    ("model:claude-x", [2]),
    ("status>=400", [2]),
    ("status>199 status<300", [1, 3, 4, 5]),
    ("status:200,429 task:triage", [1, 2]),
    ("status!=200", [2]),
    ("-status>=400", [1, 3, 4, 5]),
    ("-purpose:judge", [1, 3, 4, 5]),
    ("purpose!=judge", [1, 3, 4, 5]),
    ("state:truncated,timeout", [4, 5]),
    ("-state:truncated,timeout", [1, 2, 3]),
    ("state:complete", [1, 2, 3]),
    ("variant:candidate", [3]),
    ("since:2d", [1, 3, 4, 5]),
    ("until:2d", [2]),
    ("since:4d until:2d", [2]),
    ("-since:2d", [2]),
    ("since:2020-01-01 until:2021-01-01T10:00", []),
    ("latency>1s", [1]),
    ("latency<=1500ms", [1]),
    ("latency>1500", []),
    ("-latency>1s", [2, 3, 4, 5]),
    ("cost>0.01", [4]),
    ("cost:0.02", [4]),
    ("cost!=0.02", []),
    ("-cost>0.01", [1, 2, 3, 5]),
    ("tokens_in>=5000", [5]),
    ("reasoning>5", [1]),
    ("bytes>=3000", [1]),
    ("number>3 number<=4", [4]),
    ("tag.team:search", [1]),
    ("tag.team:s*", [1]),
    ("tag.team:S*H", [1]),
    ("tag.team:sear", []),
    ("tag.team:Search", []),
    ("tag.a*:x", []),
    ("tag:internal", [4]),
    ("tag:search", [1]),
    ('tag:"c,d"', [4]),
    ("-tag:internal", [1, 2, 3, 5]),
    ("tag.internal:*,none", [4]),
    ("stream:yes", [3]),
    ("stream!=yes", [1, 2, 4, 5]),
    ("success:yes", [1, 3]),
    ("success:no", [2, 4, 5]),
    ("-success:no", [1, 3]),
    ("success:no task:triage", [2]),
    ("content:omitted", [3]),
    ("usage:missing", [2]),
    ("query:*beta*", [5]),
    ('"could not"', [3]),
    ('"not could"', []),
    ("COULD sorry", [3]),
    ('text:"not, s*"', [3]),
    ("text:refund,sorry", [1, 3]),
    ("refund", [1]),
    ("refund*", [1, 2]),
    ("refund* -order", [2]),
    ("refund* -order,slow", []),
    ("refund* task:triage -purpose:judge", [1]),
    ("refund* status>=400", [2]),
    ("grusse", [3]),
    ("12345-B", [1]),
    ("政策", [4]),
    ("-sorry", [1, 2, 4, 5]),
    ("-sorry -refund", [2, 4, 5]),
    ("text!=sorry", [1, 2, 4, 5]),
    ('answer:"10%_x"', [4]),
    ('answer:"GRÜN"', [4]),
    ("answer:not,10%", [3, 4]),
    ("-answer:o", [1, 2, 4, 5]),
    ("answer:1%x", []),
    ('user:"u*1"', [5]),
    ("user:u\\*1", []),
    ("-user:*", [1, 2, 3, 4]),
    ("session:s1", [1, 3]),
    ("redactions>0 -state:complete", [5]),
    ("env:prod", []),
    ("id:ex_*", [1, 2, 3, 4, 5]),
    (f"id:ex_{3:026d}", [3]),
    ("id:EX_0000000000000000000000000*", [1, 2, 3, 4, 5]),
    ("error:*", [2]),
    ("has:error,cost", [2, 4]),
    ("-has:session", [2, 4, 5]),
    ("feedback:good", [1]),
    ("feedback:bad", []),
    ("feedback:rude", [1, 3]),
    ("feedback:t*", [1, 3]),
    ("feedback.feedback:yes", [1]),
    ("feedback.feedback:no", []),
    ("feedback.score:0.25", [2]),
    ("feedback.score>0.2", [2]),
    ("feedback.score>0.3", []),
    ("feedback.tone:*", [1, 3]),
    ("feedback.tone!=rude", [2, 4, 5]),
    ("has:feedback", [1, 2, 3]),
    ("-has:feedback", [4, 5]),
    ("has:feedback task:triage", [1, 2]),
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
        ("https://example.com", "Put quotes around it"),
        ("task.x:y", "Unknown field 'task.x'"),
        ("status:many", "'many' is not a number"),
        ("status:" + "9" * 400, "not a number"),
        ("tokens_in>5s", "not a number"),
        ("since:yesterday", "not a time"),
        ("since:1d,2d", "one time"),
        ("since>1d", "one time"),
        ("stream:maybe", "neither yes nor no"),
        ("stream>yes", "not yes and no"),
        ("task>x", "Use : for text"),
        ("tag>x", "Use : for text"),
        ("text>x", "Use : for text"),
        ("feedback>x", "compares numbers"),
        ("feedback.score>x", "Write it like feedback.score>0.5"),
        ("has:feedbak", "Did you mean feedback?"),
        ("state:trunkated", "Did you mean truncated?"),
        ("purpose:xyz", "It is one of app"),
        ('task:"open', "Close the quotes"),
        ('tag.a"b:x', "Close the quotes"),
        ("re*nd", "not at its end"),
        ("-", "neither a letter nor a digit"),
        ('"!?"', "neither a letter nor a digit"),
        ("task:\x00", "nothing stored has"),
        ("task:\ud800", "nothing stored has"),
        ("a" * 10_001, "10,001 letters"),
        ("id:" + "x," * 200, "201 values"),
        ("since:", "'since' in the filter has no value. Write the value right behind it, as in since:2d"),
        ("refund -task:", "'task' in the filter has no value"),
        ("stream: yes", "'stream' in the filter has no value"),
        ("tag.team:", "'tag.team' in the filter has no value"),
        ("cost<", "'cost' in the filter has no value"),
        ("answer:" + "a*" * 9, "wildcards"),
    ],
)
def test_a_wrong_filter_says_what_to_do(typed: str, words: str) -> None:
    with pytest.raises(FilterError) as caught:
        parse_filter(typed)
    assert words in str(caught.value)


def test_the_example_of_every_field_is_a_filter(filled: Database) -> None:
    for field in FIELDS:
        assert 0 <= feed.count(filled, parse_filter(field.example)) <= 5, field


SIGNS = list(""":-*,"\\';%_{}$(=<> 1xü退""")
PIECES = [*SIGNS, ">=", "!=", "2d", "0.5", "yes", "good", "--", "1e9", "NULL", ":f0", "tag.a", "feedback.x"]
pieces = st.sampled_from([*(field.name for field in FIELDS), *PIECES, "\x00", "\ud800", "9" * 30])
typed_texts = st.one_of(st.text(max_size=40), st.lists(pieces, max_size=12).map("".join))


@given(typed_texts)
@hypothesis_settings(max_examples=500)
def test_any_text_is_a_filter_or_a_filter_error(typed: str) -> None:
    try:
        found = parse_filter(typed)
    except FilterError:
        return
    constants = re.compile(r"'(complete|boolean|comment|demonstration|!|)'")
    for condition in (found.sqlite, found.postgresql, *found.narrow):
        assert "'" not in constants.sub("", condition)


@given(typed_texts)
@hypothesis_settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_filter_is_answered_by_the_store(filled: Database, typed: str) -> None:
    try:
        found = parse_filter(typed)
    except FilterError:
        return
    numbers = [exchange.number for exchange in feed.page(filled, found)]
    assert numbers == [exchange.number for exchange in feed.after(filled, found)][::-1]
    assert len(numbers) == feed.count(filled, found)


@given(st.text(min_size=1, max_size=30))
def test_a_quoted_value_is_one_value_that_means_itself(value: str) -> None:
    if any(letter == "\x00" or "\ud800" <= letter <= "\udfff" for letter in value):
        return
    found = parse_filter(f"task:{quote(value)}")
    assert (found.sqlite, found.params) == ("(task = :f0)", {"f0": value})


NAMES = ["plain", 'a"b', "a b", "a,b", "a*b", "a\\b", "a\\", "%_!", "-x", "task:y", "grüße", "'; DROP TABLE exchanges; --"]


def test_every_name_can_be_quoted(database: Database) -> None:
    for number, name in enumerate(NAMES, 1):
        insert(database, number, task=name)
    for number, name in enumerate(NAMES, 1):
        (found,) = feed.page(database, parse_filter(f"task:{quote(name)}"))
        assert found.number == number


def test_the_largest_filters_are_answered(filled: Database) -> None:
    for typed in (
        " ".join(["refund"] * 200),
        " ".join(["-refund"] * 200),
        " ".join(["status:200"] * 200),
        "text:" + ",".join(f"word{n}*" for n in range(190)),
        "answer:" + ",".join(f"a{n}*b" for n in range(190)),
        "tag.team:" + ",".join(f"a{n}*" for n in range(190)),
        "id:ex_" + "0" * 9_000 + "*",
        "answer:" + "a*" * 6 + "b",
    ):
        assert feed.count(filled, parse_filter(typed)) <= 5


def test_many_wildcards_on_a_long_text_end_soon(database: Database) -> None:
    insert(database, 1, output_text="a" * 2_000)
    before = clock.monotonic_ns()
    assert feed.count(database, parse_filter("answer:" + "a*" * 6 + "b")) == 0
    assert clock.monotonic_ns() - before < 5_000_000_000
