"""The gate: who passes, who does not and why, what is taken and given back, with a real store behind it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from multidict import CIMultiDict

from capture import clock, ids, store_rows
from capture.database import Database, open_database
from capture.derive import derive
from capture.pricing import PriceTable
from capture.records import Begin, End, Head
from capture.spool_reader import SpooledExchange
from proxy.failures import Failure
from proxy.keys.gate import FREE, Grant
from proxy.keys.key_store import add_key, limit_key, revoke_key, rotate_key
from proxy.keys.limits import Limits
from proxy.keys.settings import KeysSettings, LimitSettings
from proxy.keys.virtual_key import new_key
from tests.proxy.keys.desk import PEPPER, Desk, desk, failed, until

PRICES = PriceTable({"gpt-4o": {"input_cost_per_token": 1e-5, "output_cost_per_token": 1e-5}})


def store(database: Database, raw_id: bytes, *, key_id: str = "", task: str = "", tokens: int = 100) -> None:
    """Stores an exchange of so many tokens as the store writer does; each costs 10 micro-dollars."""
    answer = {
        "model": "gpt-4o",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "Late."}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": tokens, "completion_tokens": 0},
    }
    begin = Begin("POST", "/v1/chat/completions", "", "openai", task=task, body=b"{}", key_id=key_id)
    records = (Head(200, {}), [json.dumps(answer).encode()], End(200, "complete", latency_us=7))
    spooled = SpooledExchange(ids.format_id("ex", raw_id), begin, (1, 0), clock.now_us(), 0, 9_000, *records)
    store_rows.write(database, [derive(spooled, PRICES)])


@pytest.fixture
def sqlite(tmp_path: Path) -> str:
    url = f"sqlite:///{tmp_path / 'potstill.db'}"
    open_database(url).close()
    return url


def granted(outcome: Grant | Failure) -> Grant:
    assert isinstance(outcome, Grant), outcome
    return outcome


def test_without_keys_and_limits_everybody_passes_and_nothing_is_taken(tmp_path: Path, sqlite: str) -> None:
    with desk(tmp_path / "a", sqlite) as found:
        assert found.ask("sk-of-the-client") is FREE
        assert found.ask() is FREE


def test_where_keys_are_required_one_without_is_refused_and_one_with_passes(tmp_path: Path, database: Database) -> None:
    key, made = add_key(database, PEPPER, "app")
    with desk(tmp_path / "a", database.url, KeysSettings(required=True)) as found:
        assert failed(found.ask()) == (401, "missing_key")
        assert failed(found.ask("sk-of-the-client")) == (401, "missing_key")
        for header in ("Authorization", "x-api-key", "api-key"):
            assert granted(found.ask(key, header=header)).key_id == made.id


def test_a_wrong_an_expired_and_a_revoked_key_are_refused_wherever_one_is_sent(tmp_path: Path, sqlite: str) -> None:
    database = open_database(sqlite)
    key, made = add_key(database, PEPPER, "app")
    expired, _ = add_key(database, PEPPER, "old", expires_us=clock.now_us() - 1)
    reader, _ = add_key(database, PEPPER, "reader", scopes=["read"])
    with desk(tmp_path / "a", sqlite) as found:
        wrong = key[:-4] + ("aaaa" if not key.endswith("aaaa") else "bbbb")
        for bad in (new_key()[0], wrong, expired):
            assert failed(found.ask(bad)) == (401, "invalid_key")
        assert failed(found.ask(reader)) == (403, "key_scope")
        assert granted(found.ask(key)).key_id == made.id
        again, _ = rotate_key(database, PEPPER, made.id, 3_600_000_000)
        until(lambda: not failed(found.ask(again))[0])
        assert granted(found.ask(key)).key_id == made.id  # for an hour
        revoke_key(database, made.id)
        until(lambda: failed(found.ask(again)) == (401, "invalid_key"))
        assert failed(found.ask(key)) == (401, "invalid_key")
    database.close()


def test_a_key_opens_what_it_names_and_nothing_else(tmp_path: Path, sqlite: str) -> None:
    database = open_database(sqlite)
    for_task, _ = add_key(database, PEPPER, "a", tasks=["triage", "faq-*"])
    for_model, _ = add_key(database, PEPPER, "b", models=["gpt-4o*"])
    for_upstream, _ = add_key(database, PEPPER, "c", upstreams=["anthropic"])
    with desk(tmp_path / "a", sqlite) as found:
        assert [failed(found.ask(for_task, task=task))[1] for task in ("triage", "faq-7", "other", "")] == [
            "",
            "",
            *["key_task"] * 2,
        ]
        assert failed(found.ask(for_model))[1] == ""
        assert failed(found.ask(for_model, body=b'{"model":"o3"}')) == (403, "key_model")
        assert failed(found.ask(for_model, body=b"\x1f\x8b")) == (403, "key_model")
        assert failed(found.ask(for_model, method="GET", raw_path="/v1/models", body=b""))[1] == ""
        assert failed(found.ask(for_upstream)) == (403, "key_upstream")
    database.close()


def test_an_upstream_that_takes_the_clients_key_needs_one_beside_the_virtual_key(tmp_path: Path, sqlite: str) -> None:
    database = open_database(sqlite)
    key, made = add_key(database, PEPPER, "a")
    with desk(tmp_path / "a", sqlite) as found:
        outcome = found.ask(key, header="x-api-key", raw_path="/v1/messages")
        assert failed(outcome) == (401, "missing_key")
        assert isinstance(outcome, Failure)
        assert "[upstreams.anthropic]" in outcome.next_step
        asked = found.asked(key, "x-api-key", raw_path="/v1/messages")
        asked.headers["Authorization"] = "Bearer sk-ant-own"  # type: ignore[index]
        assert granted(found.gate.admit(asked, ids.new_raw_id())).key_id == made.id
    database.close()


def test_feedback_needs_a_key_where_keys_are_required(tmp_path: Path, sqlite: str) -> None:
    database = open_database(sqlite)
    labeller, made = add_key(database, PEPPER, "a", scopes=["label"])
    reader, _ = add_key(database, PEPPER, "b", scopes=["read"])
    with desk(tmp_path / "a", sqlite, KeysSettings(required=True)) as found:
        assert found.gate.admit_feedback({"authorization": f"Bearer {labeller}"}) == made.id
        assert failed(found.gate.admit_feedback({"authorization": f"Bearer {reader}"}))[0] == 403  # type: ignore[arg-type]
        assert failed(found.gate.admit_feedback({}))[0] == 401  # type: ignore[arg-type]
    with desk(tmp_path / "a", sqlite) as found:
        assert found.gate.admit_feedback({}) == ""
    database.close()


def test_limits_of_a_key_and_of_a_task_hold_together_and_say_how_long_to_wait(tmp_path: Path, sqlite: str) -> None:
    database = open_database(sqlite)
    key, _ = add_key(database, PEPPER, "a", limits=Limits(requests_per_minute=3))
    with desk(tmp_path / "a", sqlite, limits={"triage": LimitSettings(concurrent=1)}) as found:
        first = granted(found.ask(key, task="triage"))
        refused = found.ask(key, task="triage")
        assert isinstance(refused, Failure)
        assert (refused.status, refused.kind, refused.retry_after_s) == (429, "rate_limit_exceeded", 1)
        assert "Task triage may have 1 requests at a time" in refused.what
        first.end()
        first.end()
        granted(found.ask(key, task="triage")).end()
        granted(found.ask(key))
        refused = found.ask(key)
        assert isinstance(refused, Failure)
        assert (refused.status, refused.kind) == (429, "rate_limit_exceeded")
        assert 1 <= refused.retry_after_s <= 20
        assert "3 requests a minute" in refused.what
        assert found.ask() is FREE
    database.close()


def use(found: Desk, subject: str) -> tuple[int, int]:
    """Reserved and spent today."""
    ledger = found.watcher.ledger
    assert ledger is not None
    now = ledger.use(subject, clock.now_us())
    return now.reserved, now.day_spent


def test_a_reservation_stands_until_the_store_says_what_it_cost(tmp_path: Path, database_url: str) -> None:
    database = open_database(database_url)
    key, made = add_key(database, PEPPER, "a", limits=Limits(day_microusd=12_000))
    body = b'{"model":"of-nobody","max_tokens":10}'
    with desk(tmp_path / "a", database_url, KeysSettings(assumed_usd=0.01)) as found:
        raw_id = ids.new_raw_id()
        grant = granted(found.ask(key, raw_id=raw_id, body=body))
        subject = f"key:{made.id}"
        assert use(found, subject) == (10_000, 0)
        held = found.ask(key, body=body)
        assert isinstance(held, Failure)
        assert (held.status, held.kind, held.retry_after_s) == (429, "rate_limit_exceeded", 2)
        assert "put aside" in held.what
        grant.end()
        assert use(found, subject) == (10_000, 0)
        store(database, raw_id, key_id=made.id, tokens=150)
        until(lambda: use(found, subject) == (0, 1_500))
        assert found.watcher.unsettled == 0
        granted(found.ask(key, body=body)).end()
        limit_key(database, made.id, Limits(day_microusd=1_400))
        until(lambda: failed(found.ask(key, raw_path="/v1/messages/count_tokens", body=body))[0])
    database.close()


def test_a_spent_budget_is_402_for_anthropic_and_names_the_time_of_the_next(tmp_path: Path, sqlite: str) -> None:
    database = open_database(sqlite)
    store(database, ids.new_raw_id(), task="triage", tokens=100)
    with desk(tmp_path / "a", sqlite, limits={"triage": LimitSettings(usd_per_month=0.001)}) as found:
        until(lambda: use(found, "task:triage") == (0, 1_000))
        refused = found.ask("sk-ant", task="triage", raw_path="/v1/messages")
        assert isinstance(refused, Failure)
        assert (refused.status, refused.kind) == (402, "insufficient_quota")
        assert refused.retry_after_s > 0
        assert failed(found.ask("sk", task="triage")) == (429, "insufficient_quota")
        found.gate.change(KeysSettings(), {"triage": LimitSettings(usd_per_month=1)})
        granted(found.ask("sk", task="triage"))
        found.gate.change(KeysSettings(), {})
        assert found.ask("sk", task="triage") is FREE
    database.close()


def test_what_the_spool_could_not_keep_counts_as_it_was_estimated(tmp_path: Path, sqlite: str) -> None:
    with desk(tmp_path / "a", sqlite, limits={"triage": LimitSettings(usd_per_day=1)}) as found:
        grant = granted(found.ask(task="triage", body=b'{"model":"of-nobody","max_tokens":10}'))
        assert use(found, "task:triage") == (10_000, 0)
        grant.end(is_kept=False)
        assert use(found, "task:triage") == (0, 10_000)


def test_a_relay_that_starts_without_the_store_knows_the_keys_of_before_and_never_says_401_for_a_new_one(
    tmp_path: Path, sqlite: str
) -> None:
    database = open_database(sqlite)
    key, made = add_key(database, PEPPER, "a")
    database.close()
    with desk(tmp_path / "a", sqlite):
        pass
    nowhere = "postgresql+psycopg://nobody@127.0.0.1:9/none"
    with desk(tmp_path / "a", nowhere, KeysSettings(required=True), is_awaited=False) as found:
        assert granted(found.ask(key)).key_id == made.id
        assert failed(found.ask(new_key()[0])) == (503, "keys_unreadable")
        assert failed(found.ask()) == (401, "missing_key")
        until(lambda: found.watcher.failures)
        assert granted(found.ask(key)).key_id == made.id
    with desk(tmp_path / "b", nowhere, is_awaited=False) as found:
        assert failed(found.ask(key)) == (503, "keys_unreadable")


def test_without_the_pepper_no_key_is_taken_for_a_wrong_one(tmp_path: Path, sqlite: str) -> None:
    database = open_database(sqlite)
    key, _ = add_key(database, PEPPER, "a")
    database.close()
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "pepper").touch(mode=0o644)
    with desk(tmp_path / "a", sqlite, is_awaited=False) as found:
        until(lambda: "chmod 600" in found.watcher.last_error)
        assert failed(found.ask(key)) == (503, "keys_unreadable")


def test_hosts_with_one_store_spend_one_budget(tmp_path: Path, database_url: str) -> None:
    database = open_database(database_url)
    key, made = add_key(database, PEPPER, "a", limits=Limits(day_microusd=12_000))
    body = b'{"model":"of-nobody","max_tokens":10}'
    with desk(tmp_path / "a", database_url) as first, desk(tmp_path / "b", database_url) as second:
        raw_id = ids.new_raw_id()
        grant = granted(first.ask(key, raw_id=raw_id, body=body))
        store(database, raw_id, key_id=made.id, tokens=300)
        grant.end()
        for host in (first, second):
            until(lambda host=host: use(host, f"key:{made.id}") == (0, 3_000))
            assert failed(host.ask(key, body=body)) == (429, "insufficient_quota")
    database.close()


def test_a_session_over_a_websocket_reserves_something_though_nothing_was_asked_yet(tmp_path: Path, sqlite: str) -> None:
    with desk(tmp_path / "a", sqlite, limits={"triage": LimitSettings(usd_per_day=1)}) as found:
        headers = CIMultiDict({"Upgrade": "websocket"})
        grant = granted(found.ask(task="triage", method="GET", raw_path="/v1/realtime", body=b"", headers=headers))
        assert use(found, "task:triage") == (10_000, 0)
        grant.cancel()
        assert use(found, "task:triage") == (0, 0)
