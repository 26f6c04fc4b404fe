"""A store of before pieces, opened today."""

from __future__ import annotations

import json
from hashlib import sha256
from typing import Any

import zstandard
from sqlalchemy import create_engine, text

from capture import migrations
from capture.content import is_sealed, read_content, read_stored
from capture.database import open_database
from capture.ids import content_hash
from capture.verify import verify

SYSTEM = "You label the tickets of a parcel service. " * 20
SECRET = b'{"error": "[redacted:openai-key] is not a key"}'


def old_row(number: int, request: bytes, response: bytes, relayed: bytes) -> dict[str, Any]:
    texts = (
        "method protocol purpose unit unit_source user_name session_name environment model_asked model_served upstream variant"
    )
    values: dict[str, Any] = dict.fromkeys([*texts.split(), "release_id", "fallback_reason", "error_kind", "error_message"], "")
    values |= dict.fromkeys(["flag_revision", "is_stream", "redactions"], 0) | {"started_us": number, "ended_us": number + 5}
    values |= dict.fromkeys(["first_byte_us", "overhead_us", "tokens_in", "tokens_out", "cost_microusd"])
    return values | {
        "id": f"ex_{number:026d}",
        "protocol": "openai",
        "path": "/v1/chat/completions",
        "task": "parcels",
        "tags": '{"team":"search"}',
        "status": 200,
        "state": "complete",
        "finish_reason": "stop",
        "latency_us": 7,
        "usage_source": "missing",
        "input_hash": "b2:00",
        "output_text": "late " * 600,
        "request_headers": '{"accept":"json"}',
        "response_headers": "{}",
        "request_body": content_hash(request),
        "response_body": content_hash(response),
        "request_sha256": sha256(request).hexdigest(),
        "response_sha256": sha256(relayed).hexdigest(),
    }


def bodies(number: int) -> tuple[bytes, bytes]:
    messages = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": f"Where is parcel {number}?"}]
    message = {"role": "assistant", "content": "late " * 600}
    answer = {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
    return json.dumps({"messages": messages}).encode(), json.dumps(answer).encode()


def make_old_store(url: str, count: int) -> None:
    engine = create_engine(url)
    dialect = migrations.SQLITE if url.startswith("sqlite") else migrations.POSTGRESQL
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE migrations (name TEXT PRIMARY KEY, applied_us BIGINT NOT NULL)"))
        connection.execute(text("INSERT INTO migrations VALUES ('m001_initial', 1)"))
        for statement in migrations.m001_initial(dialect):
            connection.exec_driver_sql(statement)
        for number in range(count):
            request, response = bodies(number)
            kept = SECRET if number == 3 else response
            row = old_row(number, request, kept, response)
            for body in {request, kept}:
                packed = {"hash": content_hash(body), "size": len(body), "zstd": zstandard.compress(body)}
                connection.execute(text("INSERT INTO bodies VALUES (:hash, :size, :zstd) ON CONFLICT DO NOTHING"), packed)
            sql = f"INSERT INTO exchanges ({', '.join(row)}) VALUES ({', '.join(':' + name for name in row)})"
            connection.execute(text(sql), row)
    engine.dispose()


def test_exchanges_of_an_older_store_keep_their_bodies_and_are_found_by_their_words(database_url: str) -> None:
    if database_url.startswith("sqlite"):
        from pathlib import Path

        Path(database_url.removeprefix("sqlite:///")).parent.mkdir(parents=True)
    make_old_store(database_url, 450)
    database = open_database(database_url)
    with database.read() as connection:
        rows = connection.execute(
            text("SELECT number, id, tags, latency_us, content, output_text FROM exchanges ORDER BY number")
        ).all()
        contents, records = read_content(connection, range(1, 451)), read_stored(connection, range(1, 451))
        pieces = connection.execute(text("SELECT COUNT(*) FROM pieces")).scalar_one()
        words = connection.execute(text("SELECT COUNT(*) FROM exchange_words" if not database.is_sqlite else
            "SELECT COUNT(*) FROM exchange_words WHERE exchange_words MATCH 'late'")).scalar_one()  # fmt: skip
    faults = verify(database).faults
    database.close()
    assert faults == []
    assert [(row.number, row.id) for row in rows] == [(number + 1, f"ex_{number:026d}") for number in range(450)]
    assert {(row.tags, row.latency_us, row.content) for row in rows} == {('{"team":"search"}', 7, "kept")}
    assert all(len(row.output_text) < 2_050 for row in rows)
    assert [(contents[n + 1].request_body, contents[n + 1].response_body) for n in range(450) if n != 3] == [
        bodies(n) for n in range(450) if n != 3
    ]
    assert contents[4].response_body == SECRET
    assert all(is_sealed(records[number], contents[number]) for number in contents)
    assert pieces == 1
    assert words == 450
