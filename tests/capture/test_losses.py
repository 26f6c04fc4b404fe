"""What was lost is listed, and what the store refused can be stored later."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from sqlalchemy import text

from capture import ids, store_rows
from capture.database import Database
from capture.derive import dead_letter
from capture.losses import read_letter, read_losses, retry_dead_letters
from capture.pricing import PriceTable
from capture.quarantine import quarantine_of
from capture.records import Begin, End, Gap, Head
from capture.spool_reader import SpooledExchange, SpooledGap
from capture.store_rows import DeadLetter

PRICES = PriceTable({})
SECRET = "sk-proj-abcdefghijklmnopqrstuvwx1234567890"


def spooled(asked: str = "Where is my parcel?", task: str = "parcels") -> SpooledExchange:
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": asked}]}).encode()
    choice = {"index": 0, "message": {"role": "assistant", "content": "Late."}, "finish_reason": "stop"}
    begin = Begin("POST", "/v1/chat/completions", "", "openai", task=task, body=body)
    made = SpooledExchange(ids.new_id("ex"), begin, (1, 0), 1_000, 0, 0)
    made.head, made.end = Head(200, {"content-type": "application/json"}), End(200, "complete", latency_us=1_500)
    made.parts = [json.dumps({"model": "m", "choices": [choice]}).encode()]
    return made


def letter(made: SpooledExchange, reason: str = "refused") -> DeadLetter:
    return DeadLetter(made.id, reason, dead_letter(made))


def stored(database: Database) -> list[tuple[str, str, int]]:
    with database.read() as connection:
        rows = connection.execute(text("SELECT id, output_text, started_us FROM exchanges ORDER BY number"))
        return [(str(row[0]), str(row[1]), int(row[2])) for row in rows]


def test_a_store_that_lost_nothing_says_so(database: Database, tmp_path: Path) -> None:
    losses = read_losses(database, tmp_path)
    assert (losses.lost, losses.gap_count, losses.dead_letter_count) == (0, 0, 0)
    assert (losses.gaps, losses.dead_letters, losses.quarantine) == ((), (), ())


def test_gaps_letters_and_damaged_segments_are_listed_newest_first(database: Database, tmp_path: Path) -> None:
    gaps = [("sp_a", SpooledGap(f"gap_{n}", Gap(n * 10, n * 10 + 5, n, f"reason {n}"))) for n in (1, 2, 3)]
    letters = [letter(spooled(), "no"), letter(spooled(), "never")]
    store_rows.write(database, (), letters, gaps)
    aside = quarantine_of(tmp_path / "spool") / "sp_a"
    aside.mkdir(parents=True)
    (aside / "000001.seg").write_bytes(b"torn")
    losses = read_losses(database, tmp_path, limit=2)
    assert (losses.lost, losses.gap_count, losses.dead_letter_count) == (6, 3, 2)
    assert [(gap.reason, gap.lost, gap.from_us, gap.to_us) for gap in losses.gaps] == [
        ("reason 3", 3, 30, 35),
        ("reason 2", 2, 20, 25),
    ]
    assert {found.reason for found in losses.dead_letters} == {"no", "never"}
    assert all(found.size > 0 and found.created_us > 0 for found in losses.dead_letters)
    assert losses.quarantine == ((str(aside / "000001.seg"), 4),)


def test_a_letter_that_can_be_stored_later_is_a_letter_no_longer(database: Database, tmp_path: Path) -> None:
    made = spooled()
    store_rows.write(database, (), [letter(made)])
    seen: list[tuple[int, int]] = []
    retried = retry_dead_letters(database, PRICES, on_progress=lambda done, total: seen.append((done, total)))
    assert (retried.stored, retried.known, retried.refused) == (1, 0, ())
    assert seen == [(1, 1)]
    began_us = int.from_bytes(ids.parse_id(made.id)[:6], "big") * 1000
    assert stored(database) == [(made.id, "Late.", began_us)]
    assert read_losses(database, tmp_path).dead_letter_count == 0
    assert retry_dead_letters(database, PRICES).stored == 0


def test_letters_that_fail_again_stay_and_do_not_stop_the_others(database: Database, tmp_path: Path) -> None:
    good, torn = spooled(), spooled()
    letters = [letter(spooled()) for _ in range(70)]
    store_rows.write(database, (), [*letters, letter(good), DeadLetter(torn.id, "no", b"torn"), DeadLetter("ex_odd", "no", b"")])
    retried = retry_dead_letters(database, PRICES)
    assert retried.stored == 71
    assert {id for id, _ in retried.refused} == {torn.id, "ex_odd"}
    assert all("cannot be read" in reason for _, reason in retried.refused)
    assert read_losses(database, tmp_path).dead_letter_count == 2


def test_a_letter_of_an_exchange_that_is_there_already_adds_nothing(database: Database) -> None:
    made = spooled()
    store_rows.write(database, (), [letter(made)])
    retry_dead_letters(database, PRICES)
    store_rows.write(database, (), [letter(made)])
    assert (retry_dead_letters(database, PRICES).known, len(stored(database))) == (1, 1)


def test_a_letter_that_was_cleaned_of_a_secret_is_whole_and_not_a_gap(database: Database) -> None:
    made = spooled(f"my key is {SECRET}")
    store_rows.write(database, (), [letter(made)])
    retry_dead_letters(database, PRICES)
    with database.read() as connection:
        state = connection.execute(text("SELECT state FROM exchanges")).scalar_one()
    assert state == "complete"


@pytest.mark.parametrize("record", [b"", b"torn", b"\x28\xb5\x2f\xfd\x00"])
def test_records_that_cannot_be_read_are_a_value_error(record: bytes) -> None:
    with pytest.raises(ValueError, match="cannot be read"):
        read_letter(ids.new_id("ex"), record)
