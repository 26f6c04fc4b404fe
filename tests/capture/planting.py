"""Plants a marker in exchanges and looks for it in everything that is left of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sqlalchemy import inspect, text

from capture import ids
from capture.content import read_content
from capture.database import Database
from capture.pricing import PriceTable
from capture.pseudonyms import PersonalPolicy
from capture.records import Begin, End, Head
from capture.spool import SpoolWriter
from capture.writer import StoreWriter

MARK = "zebramarkerquokka"


def chat(question: str, system: str = "") -> bytes:
    """A request body; its system prompt says the question again unless one is given."""
    turns = [{"role": "system", "content": system or question}, {"role": "user", "content": question}]
    return json.dumps({"model": "m", "messages": turns}).encode()


def answer(said: str) -> bytes:
    """A whole answer."""
    choice = {"index": 0, "message": {"role": "assistant", "content": said}, "finish_reason": "stop"}
    return json.dumps({"model": "m", "choices": [choice], "usage": {"prompt_tokens": 9, "completion_tokens": 4}}).encode()


def stream(said: str, size: int) -> bytes:
    """The same as events of `size` letters."""
    pieces = [said[start : start + size] for start in range(0, len(said), size)]
    events = [{"choices": [{"index": 0, "delta": {"content": piece}}]} for piece in pieces]
    events += [{"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}]
    return b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events) + b"data: [DONE]\n\n"


def send(root: Path, body: bytes, response: bytes, *, error: str = "", status: int = 200, **begin: Any) -> str:
    """One exchange through a spool of its own, as its relay leaves it; its id."""
    spool = SpoolWriter(root, sync_interval_s=60)
    id = write(spool, body, response, error=error, status=status, **begin)
    spool.close()
    return id


def write(spool: SpoolWriter, body: bytes, response: bytes, *, error: str = "", status: int = 200, **begin: Any) -> str:
    """One exchange into `spool`; its id."""
    raw = ids.new_raw_id()
    fields = {"task": "t", "user_name": "ann", "tags": {"team": "a"}, "model_asked": "m", **begin}
    query = f"q={MARK}" if error else ""
    spool.begin(raw, Begin("POST", "/v1/chat/completions", query, "openai", body=body, **fields))
    spool.head(raw, Head(status, {"content-type": "application/json", "request-id": "r1"}))
    spool.part(raw, response)
    spool.end(raw, End(status, "complete", "http_500" if error else "", error, latency_us=1500))
    return ids.format_id("ex", raw)


def drain(database: Database, root: Path, personal: PersonalPolicy | None = None) -> None:
    """What is spooled goes to the store."""
    writer = StoreWriter(database, root, PriceTable({}, 0.0), personal=personal)
    try:
        writer.drain()
    finally:
        writer.close()


def everything(database: Database) -> str:
    """All that the store holds, contents unpacked and the words of the index listed, as one text."""
    with database.read() as connection:
        names = [name for name in inspect(connection).get_table_names() if not name.startswith("exchange_words")]
        rows = [repr(connection.execute(text(f"SELECT * FROM {name}")).all()) for name in names]
        numbers = [row[0] for row in connection.execute(text("SELECT number FROM exchanges"))]
        rows.append(repr(read_content(connection, numbers)))
        if database.is_sqlite:
            vocabulary = "CREATE VIRTUAL TABLE IF NOT EXISTS temp.vocabulary USING fts5vocab('main', 'exchange_words', 'row')"
            connection.exec_driver_sql(vocabulary)
            rows.append(repr(connection.exec_driver_sql("SELECT term FROM temp.vocabulary").all()))
        else:
            rows.append(repr(connection.execute(text("SELECT number, words FROM exchange_words")).all()))
    return "\n".join(rows)


def raw_bytes(folder: Path) -> bytes:
    """Every byte of every file under `folder`."""
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


def columns_of(database: Database, id: str) -> dict[str, Any]:
    """The row of an exchange."""
    with database.read() as connection:
        return dict(connection.execute(text("SELECT * FROM exchanges WHERE id = :id"), {"id": id}).mappings().one())
