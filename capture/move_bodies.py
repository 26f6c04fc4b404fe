"""Carries the bodies of stores made before pieces over: the row work of migration m002."""

from __future__ import annotations

import json
from dataclasses import fields
from hashlib import sha256
from typing import Any

import zstandard
from sqlalchemy import Connection, text

from capture.assemble import input_hash
from capture.derive import StoredExchange, assemble_stored, shortened
from capture.exchange import KEPT, Content, Exchange
from capture.exchange_rows import COLUMNS, insert_exchanges
from capture.pieces import Parts, take_apart, take_apart_answer
from capture.records import Begin
from capture.spool_reader import SpooledExchange

_PAGE = 200
_COLUMNS = COLUMNS[: COLUMNS.index("redactions") + 1]
"""What table exchanges has after migration m002."""
_MOST_BYTES = 1 << 30


def move_bodies(connection: Connection) -> None:
    """Every row of `old_exchanges` with its bodies into today's tables, oldest first, page by page."""
    last = ""
    while True:
        sql = text("SELECT * FROM old_exchanges WHERE id > :last ORDER BY id LIMIT :many")
        page = [dict(row) for row in connection.execute(sql, {"last": last, "many": _PAGE}).mappings()]
        if not page:
            return
        last = page[-1]["id"]
        _move(connection, page)


def _move(connection: Connection, page: list[dict[str, Any]]) -> None:
    bodies = [(_body(connection, row["request_body"]), _body(connection, row["response_body"])) for row in page]
    stored = [_stored(row, *each) for row, each in zip(page, bodies, strict=True)]
    insert_exchanges(connection, stored, _COLUMNS)


def _stored(row: dict[str, Any], request: bytes, response: bytes) -> StoredExchange:
    relayed = bytes.fromhex(row["request_sha256"]), bytes.fromhex(row["response_sha256"])
    first, second = (
        b"" if (hash := sha256(body).digest()) == told else hash for body, told in zip((request, response), relayed, strict=True)
    )
    asked_headers, told_headers = json.loads(row["request_headers"]), json.loads(row["response_headers"])
    content = Content(asked_headers, told_headers, request, response, "", "")
    read = assemble_stored(row["protocol"], row["path"], bool(row["is_stream"]), content, row["status"])
    values = {field.name: row[field.name] for field in fields(Exchange) if field.name in row}
    values |= {
        "number": 0,
        "query": "",
        "tags": json.loads(row["tags"]),
        "is_stream": bool(row["is_stream"]),
        "tokens_cached": 0,
        "tokens_cache_written": 0,
        "tokens_reasoning": 0,
        "input_hash": input_hash(read.conversation),
        "output_text": shortened(row["output_text"]),
        "content": KEPT,
        "body_bytes": len(request) + len(response),
    }
    begin = Begin(row["method"], row["path"], "", row["protocol"])
    return StoredExchange(
        Exchange(**values),
        row["output_text"],
        take_apart(request),
        Parts(response) if row["is_stream"] else take_apart_answer(response),
        asked_headers,
        told_headers,
        *relayed,
        (first, second),
        SpooledExchange(row["id"], begin, (0, 0), row["started_us"], 0, 0),
    )


def _body(connection: Connection, hash: str) -> bytes:
    packed = connection.execute(text("SELECT zstd FROM old_bodies WHERE hash = :hash"), {"hash": hash}).scalar_one()
    return zstandard.ZstdDecompressor().decompress(bytes(packed), max_output_size=_MOST_BYTES)
