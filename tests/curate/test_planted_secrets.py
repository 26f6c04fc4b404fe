"""A secret is planted wherever a client or a provider can put one, and looked for in everything that is kept of it."""

from __future__ import annotations

import gzip
import json
import logging
from pathlib import Path

import pytest
from sqlalchemy import text

from capture import export, ids
from capture.content import read_content
from capture.database import Database
from capture.derive import assemble_stored
from capture.filters import parse_filter
from capture.records import Begin, End, Head
from capture.spool import SpoolWriter
from curate import datasets
from curate.settings import CurateSettings
from tests.capture.planting import answer, chat, drain, everything, raw_bytes, stream
from tests.curate.sending import SYSTEM, mails

PART = "Zebra7Marker9Quokka5Lemur3"
SECRETS = {
    "openai": f"sk-proj-{PART}abcdef0123456789",
    "anthropic": f"sk-ant-api03-{PART}0123456789abcdef",
    "github": f"ghp_{PART}0123456789abcdefABCDEF0123",
    "jwt": f"eyJhbGciOiJIUzI1NiJ9.eyJ{PART}.c2lnbmF0dXJl{PART}",
    "private-key": f"-----BEGIN RSA PRIVATE KEY-----\nMIIE{PART}\n-----END RSA PRIVATE KEY-----",
}


def plant(
    root: Path,
    secret: str,
    *,
    size: int = 0,
    is_packed: bool = False,
    is_tool: bool = False,
    status: int = 200,
    question: str = "",
    in_metadata: bool = True,
) -> None:
    """One exchange that says the secret everywhere: in bodies, headers, tags, path, query and error text."""
    said = f"Use {secret} please."
    asked = chat(question or said, SYSTEM if question else f"{SYSTEM} {secret}")
    if is_tool:
        call = {"id": "c1", "type": "function", "function": {"name": "login", "arguments": json.dumps({"key": f"\n{secret}"})}}
        choice = {"index": 0, "message": {"role": "assistant", "content": None, "tool_calls": [call]}, "finish_reason": "stop"}
        told = json.dumps({"model": "m", "choices": [choice]}).encode()
    else:
        told = stream(said, size) if size else answer(said)
    headers = {"content-type": "application/json", **({"content-encoding": "gzip"} if is_packed else {})}
    metadata = {"user_name": f"ann {secret}", "session_name": secret, "tags": {"key": secret}} if in_metadata else {}
    spool = SpoolWriter(root, sync_interval_s=60)
    raw = ids.new_raw_id()
    spool.begin(
        raw,
        Begin(
            "POST", "/v1/chat/completions", f"key={secret}" if in_metadata else "", "openai", task="mail", is_stream=bool(size),
            model_asked=f"m {secret}" if in_metadata else "m", body=asked, **metadata,
            request_headers={"user-agent": secret} if in_metadata else {},
        ),
    )  # fmt: skip
    spool.head(raw, Head(status, {**headers, "x-request-id": secret}))
    spool.part(raw, gzip.compress(told) if is_packed else told)
    spool.end(raw, End(status, "complete", "http_500" if status >= 500 else "", secret if status >= 500 else ""))
    spool.close()


def answers(database: Database) -> str:
    """What every stored answer says when its events are joined."""
    with database.read() as connection:
        rows = connection.execute(text("SELECT number, protocol, path, is_stream, status FROM exchanges")).all()
        contents = read_content(connection, [row[0] for row in rows])
    assembled = [assemble_stored(row[1], row[2], bool(row[3]), contents[row[0]], row[4]) for row in rows]
    return repr([each.conversation for each in assembled])


@pytest.mark.parametrize("kind", SECRETS)
def test_no_sink_holds_a_secret(kind: str, database: Database, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root, secret = tmp_path / "spool", SECRETS[kind]
    with caplog.at_level(logging.DEBUG):
        plant(root, secret)
        plant(root, secret, is_packed=True)
        plant(root, secret, is_tool=True)
        plant(root, secret, status=500)
        plant(root, secret, status=2**63)  # refused by the store: a dead letter
        for size in (1, 2, 7, 11, 40):
            plant(root, secret, size=size)
            plant(root, secret, size=size, is_packed=True)
        drain(database, root)
    for format, with_raw in ((export.JSONL, False), (export.JSONL, True), (export.OTLP, False)):
        wanted = export.Wanted(parse_filter(""), format, with_raw=with_raw)
        written = export.to_file(database, wanted, tmp_path / f"{format}-{with_raw}.jsonl", lambda *_: None)
        assert written.exchanges == 14
    found = everything(database) + answers(database) + caplog.text
    assert PART not in found and PART.encode() not in raw_bytes(tmp_path)
    assert found.count("[redacted:") > 50
    with database.read() as connection:
        assert connection.execute(text("SELECT COUNT(*), MIN(redactions) FROM exchanges")).one()[0] == 14
        assert connection.execute(text("SELECT MIN(redactions) FROM exchanges")).scalar_one() > 0
        (letter,) = connection.execute(text("SELECT record FROM dead_letters")).one()
    import zstandard

    assert PART.encode() not in zstandard.ZstdDecompressor().decompress(bytes(letter))


def test_no_dataset_holds_a_secret(database: Database, tmp_path: Path) -> None:
    root = tmp_path / "spool"
    spool = SpoolWriter(root, sync_interval_s=60)
    for mail in mails(60):
        raw = ids.new_raw_id()
        spool.begin(raw, Begin("POST", "/v1/chat/completions", "", "openai", task="mail", body=chat(mail.question, SYSTEM)))
        spool.head(raw, Head(200, {"content-type": "application/json"}))
        spool.part(raw, answer(mail.answer))
        spool.end(raw, End(200, "complete"))
    spool.close()
    for number, mail in enumerate(mails(5, first=60)):
        for secret in SECRETS.values():
            plant(root, secret, size=3 * (number % 2), question=mail.question, in_metadata=False)
    drain(database, root)
    version = datasets.build(database, tmp_path / "data", "mail", CurateSettings(minimum_examples=3))
    assert version.manifest["bill"]["dropped"]["secret"] == 25
    assert PART.encode() not in raw_bytes(tmp_path)
