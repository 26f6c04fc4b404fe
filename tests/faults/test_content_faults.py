"""Poison in bodies and names: each is stored as what it is, flagged, or kept aside alone; its neighbours never suffer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from capture import feed, ids
from capture.database import Database
from capture.filters import parse_filter
from capture.pricing import PriceTable
from capture.records import Begin, End, Head
from capture.spool import SpoolWriter
from capture.writer import StoreWriter

DEEP = b"[" * 100_000 + b"]" * 100_000


def answer(content: bytes) -> bytes:
    return b'{"choices":[{"index":0,"message":{"role":"assistant","content":%b},"finish_reason":"stop"}]}' % content


POISONS: dict[str, dict[str, Any]] = {
    "nul in the answer": {"answer": answer(b'"a\\u0000b"')},
    "raw nul": {"body": b'{"messages":[{"role":"user","content":"a\0b"}]}', "answer": b"\0" * 500},
    "nul in names": {"user_name": "u\0x", "session_name": "\0", "tags": {"a\0": "\0"}, "task": "t\0", "model_asked": "\0"},
    "lone surrogate": {"body": b'{"messages":[{"role":"user","content":"\\ud83d"}]}', "answer": answer(b'"\\udc00\\ud83d"')},
    "invalid utf-8": {
        "body": b'{"messages":[{"role":"user","content":"\xff\xfe"}]}',
        "answer": answer(b'"\xc3\x28\xed\xa0\x80"'),
    },
    "100k-deep request": {"body": b'{"messages":' + DEEP + b"}"},
    "100k-deep answer": {"answer": b'{"choices":' + DEEP + b"}"},
    "deep tool arguments": {"answer": answer(b'"x"').replace(b'"content":"x"', b'"tool_calls":' + DEEP)},
    "huge numbers": {
        "answer": b'{"choices":[],"usage":{"prompt_tokens":%d,"completion_tokens":-1e400,"total_tokens":1e999}}' % 2**70,
        "body": b'{"messages":[],"max_tokens":%d,"temperature":-1e999,"n":%d}' % (10**400, -(2**64)),
    },
    "infinite numbers": {"answer": b'{"choices":[],"usage":{"prompt_tokens":NaN,"completion_tokens":Infinity}}'},
    "wrong types everywhere": {"body": b'{"messages":{"role":[]},"tools":7}', "answer": b'{"choices":[null,[],{"message":3}]}'},
    "random bytes": {"body": bytes(range(256)) * 20, "answer": bytes(range(255, -1, -1)) * 20},
    "a very long line": {"answer": b"data: " + b"x" * 2_000_000},
    "empty": {"body": b"", "answer": b""},
    "half a code point at each end": {"answer": "…".encode()[1:] + b"{}" + "…".encode()[:2]},
}
"""What is wrong with one exchange; the relay has kept it all the same."""


def stored(database: Database) -> dict[str, Any]:
    return {exchange.id: exchange for exchange in feed.page(database, parse_filter(""), limit=1_000)}


def letters(database: Database) -> set[str]:
    with database.read() as connection:
        return set(connection.execute(text("SELECT exchange_id FROM dead_letters")).scalars())


@pytest.mark.faults
@pytest.mark.parametrize("is_stream", [False, True], ids=["whole", "stream"])
def test_f23_poison_harms_no_neighbour_and_keeps_its_bytes(
    is_stream: bool, database: Database, spool_root: Path, make_relay: Any
) -> None:
    relay = make_relay(SpoolWriter(spool_root))
    neighbours, poisoned = [], {}
    for name, what in POISONS.items():
        neighbours.append(relay.exchange())
        poisoned[name] = relay.exchange(is_stream=is_stream, **what)
    neighbours.append(relay.exchange())
    writer = StoreWriter(database, spool_root, PriceTable({}))
    writer.drain()
    found, aside = stored(database), letters(database)
    assert {found[id].output_text for id in neighbours} == {"On its way."}
    for name, id in poisoned.items():
        assert id in found or id in aside, name
        if id in found:
            content = feed.content(database, found[id])
            assert content.response_body == POISONS[name].get("answer", content.response_body), name
            assert content.request_body == POISONS[name].get("body", content.request_body), name
            json.dumps(found[id].output_text).encode("utf-8")
    assert writer.drain() == 0, "nothing is tried again for ever"
    assert not aside, {name for name, id in poisoned.items() if id in aside}
    relay.spool.close()
    writer.close()


@pytest.mark.faults
def test_f23_numbers_that_no_column_takes_are_kept_aside_alone(database: Database, spool_root: Path, make_relay: Any) -> None:
    relay = make_relay(SpoolWriter(spool_root))
    neighbours, poisoned = [], []
    for latency_us, status in ((2**63, 200), (2**64 - 1, 200), (1, 2**40)):
        neighbours.append(relay.exchange())
        raw_id = ids.new_raw_id()
        relay.spool.begin(raw_id, Begin("POST", "/v1/chat/completions", "", "openai", body=b"{}"))
        relay.spool.head(raw_id, Head(200))
        relay.spool.end(raw_id, End(status, "complete", latency_us=latency_us))
        poisoned.append(ids.format_id("ex", raw_id))
    neighbours.append(relay.exchange())
    writer = StoreWriter(database, spool_root, PriceTable({}))
    writer.drain()
    found, aside = stored(database), letters(database)
    assert set(neighbours) <= set(found)
    assert all((id in found) != (id in aside) for id in poisoned), "each is stored or kept aside, not both"
    assert set(poisoned[:2]) <= aside
    relay.spool.close()
    writer.close()
