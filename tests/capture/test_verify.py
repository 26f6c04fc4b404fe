"""`verify` finds what is broken on purpose, and nothing in a store that is well."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from sqlalchemy import text

from capture import ids, store_rows
from capture.content import decode, encode, pack
from capture.database import Database, open_database
from capture.derive import StoredExchange, derive
from capture.pricing import PriceTable
from capture.records import OMIT, Begin, End, Head
from capture.spool_reader import SpooledExchange
from capture.verify import NEXT_STEPS, VerifyReport, verify

SYSTEM = "You label the tickets of a parcel service and answer with one word. " * 4
SECRET = "sk-proj-abcdefghijklmnopqrstuvwx1234567890"


def exchange(
    asked: str,
    answered: str,
    *,
    started_us: int = 1_000_000,
    content: str = "",
    encoding: str = "",
    path: str = "/v1/chat/completions",
) -> StoredExchange:
    messages = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": asked}]
    body = json.dumps({"model": "m", "messages": messages}).encode()
    choice = {"index": 0, "message": {"role": "assistant", "content": answered}, "finish_reason": "stop"}
    body = gzip.compress(body) if encoding == "gzip" else body
    headers = {"content-encoding": encoding} if encoding else {}
    begin = Begin("POST", path, "", "openai", task="parcels", body=body, content=content, request_headers=headers)
    spooled = SpooledExchange(ids.new_id("ex"), begin, (1, 0), started_us, 0, 0)
    spooled.head, spooled.end = Head(200, {"content-type": "application/json"}), End(200, "complete")
    spooled.parts = [json.dumps({"model": "m", "choices": [choice]}).encode()]
    return derive(spooled, PriceTable({}))


def fill(database: Database) -> list[str]:
    """Three exchanges that share a system prompt: one plain, one that held a secret, one without content."""
    exchanges = [
        exchange("Where is my parcel? I have waited for two whole weeks and nobody answers the phone.", "Late."),
        exchange(f"My key is {SECRET}, please tell me where the parcel with it has gone to in the meantime.", "Gone."),
        exchange("Something private that is nobody's business but that of the one who asked it, at length.", "No.", content=OMIT),
    ]
    store_rows.write(database, exchanges)
    return [each.exchange.id for each in exchanges]


@pytest.fixture
def sqlite(tmp_path: Path) -> Iterator[Database]:
    opened = open_database(f"sqlite:///{tmp_path / 'store' / 'potstill.db'}")
    yield opened
    opened.close()


def change(database: Database, sql: str, **values: Any) -> None:
    with database.write() as connection:
        assert connection.execute(text(sql), values).rowcount


def told(report: VerifyReport) -> set[tuple[str, str]]:
    return {(fault.kind, fault.where) for fault in report.faults}


def test_a_store_that_is_well_has_no_faults(database: Database) -> None:
    fill(database)
    report = verify(database, is_deep=True)
    assert report.faults == []
    assert (report.exchanges, report.as_relayed, report.changed, report.omitted) == (3, 1, 1, 1)
    assert report.pieces > 0


def test_an_empty_store_has_no_faults(database: Database) -> None:
    assert verify(database).faults == []


def test_since_and_limit_choose_the_newest(database: Database) -> None:
    store_rows.write(database, [exchange(f"question {n}", "Late.", started_us=n * 1_000) for n in range(1, 451)])
    assert verify(database).exchanges == 450
    assert verify(database, limit=7).exchanges == 7
    assert verify(database, since_us=401_000).exchanges == 50
    assert verify(database, since_us=401_000, limit=900).exchanges == 50


def corrupt_piece(database: Database) -> None:
    change(database, "UPDATE pieces SET zstd = :zstd WHERE number = 1", zstd=pack(b'{"role":"system","content":"forged"}'))


def tear_piece(database: Database) -> None:
    change(database, "UPDATE pieces SET zstd = :zstd WHERE number = 1", zstd=b"\x01not zstd")


def lose_piece(database: Database) -> None:
    change(database, "DELETE FROM pieces WHERE number = 1")


@pytest.mark.parametrize("damage", [corrupt_piece, tear_piece, lose_piece])
def test_a_damaged_piece_is_found_with_every_exchange_that_holds_it(
    database: Database, damage: Callable[[Database], None]
) -> None:
    plain, secret, _ = fill(database)
    with database.read() as connection:
        shared = connection.execute(text("SELECT exchange FROM piece_uses WHERE piece = 1")).all()
    damage(database)
    report = verify(database)
    broken = {where for kind, where in told(report) if kind == "body"}
    assert len(broken) == len(shared) and broken <= {plain, secret}
    assert ("use", "uses of piece 1") in told(report) if damage is lose_piece else ("piece", "piece 1") in told(report)


def test_a_changed_content_record_is_found(database: Database) -> None:
    plain, secret, _ = fill(database)
    with database.read() as connection:
        other = connection.execute(text("SELECT zstd FROM contents WHERE number = 2")).scalar_one()
    change(database, "UPDATE contents SET zstd = :zstd WHERE number = 1", zstd=bytes(other)[:-3])
    assert told(verify(database)) == {("content", plain)}
    change(database, "DELETE FROM contents WHERE number = 2")
    assert ("content", secret) in told(verify(database))


def test_bodies_of_another_exchange_are_not_taken_for_its_own(database: Database) -> None:
    plain, _, _ = fill(database)
    store_rows.write(database, [exchange("Where is my parcel?", "Lost.")])
    with database.read() as connection:
        stored = connection.execute(text("SELECT zstd FROM contents WHERE number = 4")).scalar_one()
        good = connection.execute(text("SELECT zstd FROM contents WHERE number = 1")).scalar_one()

    forged = replace(decode(bytes(good)), response=decode(bytes(stored)).response)
    change(database, "UPDATE contents SET zstd = :zstd WHERE number = 1", zstd=encode(forged))
    assert told(verify(database)) == {("body", plain)}


def test_uses_that_are_missing_or_too_many_are_found(database: Database) -> None:
    plain, _, _ = fill(database)
    with database.read() as connection:
        piece = connection.execute(text("SELECT min(piece) FROM piece_uses WHERE exchange = 1")).scalar_one()
    change(database, "DELETE FROM piece_uses WHERE piece = :piece AND exchange = 1", piece=piece)
    change(database, "INSERT INTO piece_uses (piece, exchange) VALUES (:piece, 99)", piece=piece)
    assert told(verify(database)) >= {("use", plain), ("use", "uses by exchange 99")}


def test_a_piece_that_nobody_uses_is_found(database: Database) -> None:
    fill(database)
    change(
        database, "INSERT INTO pieces (number, hash, size, zstd) VALUES (77, :hash, 2, :zstd)", hash=b"h" * 20, zstd=pack(b"{}")
    )
    assert told(verify(database)) == {("piece", "piece 77"), ("use", "piece 77")}


def test_content_without_exchange_is_found(database: Database) -> None:
    fill(database)
    change(database, "DELETE FROM exchanges WHERE number = 3")
    assert ("content", "contents of exchange 3") in told(verify(database))


def test_an_answer_that_cannot_be_searched_is_found(database: Database) -> None:
    plain, _, _ = fill(database)
    if database.is_sqlite:
        change(database, "UPDATE exchanges SET output_text = 'zebra' WHERE number = 1")
    else:
        change(database, "DELETE FROM exchange_words WHERE number = 1")
    assert told(verify(database)) == {("words", plain)}


def test_a_hash_of_what_was_asked_that_is_not_that_of_the_request_is_found(database: Database) -> None:
    plain, secret, _ = fill(database)
    change(database, "UPDATE exchanges SET input_hash = 'b2:00' WHERE number <= 2")
    assert told(verify(database)) == {("input", plain), ("input", secret)}


@pytest.mark.parametrize("encoding", ["", "gzip", "unheard-of"])
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/responses", "/v1/models"])
@pytest.mark.parametrize("asked", ["Where is it? \ud800 \0 \u2028" * 9, f"My key is {SECRET}."])
def test_what_was_asked_is_hashed_in_every_form_as_it_was_when_stored(
    sqlite: Database, encoding: str, path: str, asked: str
) -> None:
    store_rows.write(sqlite, [exchange(asked, "Late.", encoding=encoding, path=path)])
    assert verify(sqlite).faults == []


def test_the_hash_of_what_was_asked_is_not_looked_at_where_the_request_is_not_whole(database: Database) -> None:
    fill(database)
    change(database, "UPDATE exchanges SET input_hash = 'b2:00', content = 'cut' WHERE number = 1")
    change(database, "UPDATE exchanges SET input_hash = 'b2:00', content = 'masked' WHERE number = 2")
    assert verify(database).faults == []


def test_content_that_was_to_be_left_out_is_found(database: Database) -> None:
    plain, _, omitted = fill(database)
    change(database, "UPDATE exchanges SET content = 'omitted' WHERE number = 1")
    change(database, "UPDATE exchanges SET input_hash = 'b2:00' WHERE number = 3")
    assert {("content", plain), ("content", omitted)} <= told(verify(database))


@pytest.mark.parametrize("broken", ["substr(zstd, 1, 12) || x'41' || substr(zstd, 14)", "CAST(zstd AS TEXT)", "7"])
def test_a_value_of_the_wrong_type_is_one_fault_and_the_rest_is_looked_at(sqlite: Database, broken: str) -> None:
    plain, _, _ = fill(sqlite)
    pieces = verify(sqlite).pieces
    change(sqlite, f"UPDATE pieces SET zstd = {broken} WHERE number = 2")
    change(sqlite, f"UPDATE contents SET zstd = {broken} WHERE number = 1")
    change(sqlite, "UPDATE exchanges SET output_text = CAST(x'ff41' AS TEXT) WHERE number = 1")
    report = verify(sqlite)
    assert {("content", plain), ("piece", "piece 2")} <= told(report)
    assert (report.exchanges, report.pieces) == (3, pieces)
    assert all(fault.where.isprintable() and fault.what.encode() for fault in report.faults)


def test_a_piece_whose_hash_or_size_is_of_the_wrong_type_is_found(sqlite: Database) -> None:
    fill(sqlite)
    change(sqlite, "UPDATE pieces SET hash = 'text' WHERE number = 1")
    change(sqlite, "UPDATE pieces SET size = 'long' WHERE number = 2")
    assert told(verify(sqlite)) == {("piece", "piece 1"), ("piece", "piece 2")}


def test_a_damaged_file_of_sqlite_is_a_fault_and_not_an_exception(sqlite: Database, tmp_path: Path) -> None:
    store_rows.write(sqlite, [exchange(f"question {n} " * 40, f"answer {n}") for n in range(300)])
    with sqlite.read() as connection:
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
        page = connection.exec_driver_sql("SELECT rootpage FROM sqlite_master WHERE name = 'pieces_by_hash'").scalar_one()
        size = connection.exec_driver_sql("PRAGMA page_size").scalar_one()
    sqlite.engine.dispose()
    with (tmp_path / "store" / "potstill.db").open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(b"\xff" * 200)
    report = verify(sqlite)
    assert "database" in {fault.kind for fault in report.faults}


def test_many_faults_are_counted_and_the_first_thousand_told() -> None:
    report = VerifyReport()
    for number in range(1_500):
        report.add("body", f"ex_{number}", "broken")
    assert (report.fault_count, len(report.faults)) == (1_500, 1_000)


def test_progress_tells_both_stages_to_their_end(database: Database) -> None:
    fill(database)
    seen: list[tuple[str, int, int]] = []
    report = verify(database, on_progress=lambda *step: seen.append(step))
    assert ("exchanges", 3, 3) in seen and seen[-1] == ("pieces", report.pieces, report.pieces)


@settings(max_examples=40, deadline=None)
@given(answers=st.lists(st.text(max_size=80) | st.text("żółw 東京 한국 ไทย ŉ ﬁ ½ a-b", max_size=30), min_size=1, max_size=20))
def test_whatever_was_answered_is_whole_and_can_be_searched(tmp_path_factory: pytest.TempPathFactory, answers: list[str]) -> None:
    opened = open_database(f"sqlite:///{tmp_path_factory.mktemp('any') / 'potstill.db'}")
    try:
        store_rows.write(opened, [exchange("question", answer) for answer in answers])
        assert verify(opened).faults == []
    finally:
        opened.close()


def test_every_kind_of_fault_has_a_next_step() -> None:
    assert {"body", "content", "input", "piece", "use", "words", "database", "dataset"} == set(NEXT_STEPS)
