from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
from sqlalchemy import text

from capture import clock, ids
from capture.capture_settings import CaptureSettings
from capture.database import Database
from capture.errors import RetentionError
from capture.pricing import PriceTable
from capture.retention import Retention, accept, by_task, check, measure, read_refusal, remove_some, stored_bytes
from capture.spool import SpoolWriter
from capture.writer import StoreWriter
from tests.capture.planting import MARK, answer, chat, drain, everything, write

DAY_US = 86_400_000_000


@pytest.fixture
def filled(database: Database, tmp_path: Path) -> Database:
    """Twenty exchanges a day apart, the oldest first, of tasks a and b in turn."""
    spool = SpoolWriter(tmp_path / "spool", sync_interval_s=60)
    written = [write(spool, chat(f"{MARK}{number:02}"), answer("yes"), task="ab"[number % 2]) for number in range(20)]
    spool.close()
    drain(database, tmp_path / "spool")
    now_us = clock.now_us()
    with database.write() as connection:
        for number, id in enumerate(written):
            us = now_us - (20 - number) * DAY_US + 60_000_000
            aged = ids.format_id("ex", (us // 1000).to_bytes(6, "big") + ids.parse_id(id)[6:])
            values = {"id": id, "aged": aged, "us": us}
            connection.execute(text("UPDATE exchanges SET id = :aged, started_us = :us, ended_us = :us WHERE id = :id"), values)
    return database


def left(database: Database) -> list[int]:
    with database.read() as connection:
        return [int(row[0]) for row in connection.execute(text("SELECT number FROM exchanges ORDER BY number"))]


def sweep(database: Database, settings: CaptureSettings, *, with_datasets: bool = False) -> int:
    due = measure(database, settings, with_datasets=with_datasets)
    removed = after = 0
    while (found := remove_some(database, due, after, limit=3))[0]:
        removed, after = removed + found[0], found[1]
    assert removed == due.count
    return removed


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ({"retention_days": 17}, 3),
        ({"retention_exchanges": 18}, 2),
        ({"retention_days": 17, "retention_exchanges": 18}, 3),
        ({"retention_days": 18, "retention_exchanges": 15}, 5),
        ({"retention_days": 300, "retention_exchanges": 200}, 0),
        ({}, 0),
    ],
)
def test_the_oldest_go(filled: Database, limits: dict[str, int], expected: int) -> None:
    settings = CaptureSettings(**limits)
    due = measure(filled, settings)
    assert (due.count, due.kept, due.stored) == (expected, 0, 20)
    assert sum(task.exchanges for task in by_task(filled, due)) == expected
    assert sweep(filled, settings) == expected
    assert left(filled) == list(range(1 + expected, 21))
    found = everything(filled)
    assert all((f"{MARK}{number:02}" in found) == (number >= expected) for number in range(20))


def test_the_plan_says_what_goes_by_task_and_age(filled: Database) -> None:
    first, second = by_task(filled, measure(filled, CaptureSettings(retention_exchanges=17)))
    assert (first.task, first.exchanges, second.task, second.exchanges) == ("a", 2, "b", 1)
    assert first.newest_us - first.oldest_us == 2 * DAY_US


def test_a_limit_of_size_takes_the_oldest(filled: Database) -> None:
    used = stored_bytes(filled)
    due = measure(filled, CaptureSettings(retention_gib=used * 0.93 / 2**30))
    assert due.count == 2
    assert measure(filled, CaptureSettings(retention_gib=used * 1.1 / 2**30)).count == 0


def test_what_a_dataset_holds_stays(filled: Database) -> None:
    with filled.write() as connection:
        ids_ = [row[0] for row in connection.execute(text("SELECT id FROM exchanges ORDER BY number LIMIT 2"))]
        for id in ids_:
            connection.execute(
                text(
                    "INSERT INTO examples (id, task, exchange_id, input_key, split, reason, messages, target, priority, note, "
                    "created_us) VALUES (:id, 'a', :exchange, 'k', 'test', '', '[]', 'x', 0, '', 0)"
                ),
                {"id": id.replace("ex", "eg"), "exchange": id},
            )
    settings = CaptureSettings(retention_days=17)
    assert (measure(filled, settings).count, measure(filled, settings).kept) == (1, 2)
    assert sweep(filled, settings) == 1 and left(filled)[:3] == [1, 2, 4]
    assert sweep(filled, settings, with_datasets=True) == 2 and left(filled)[:1] == [4]


def test_more_than_a_fifth_is_refused_with_the_next_step(filled: Database) -> None:
    check(filled, measure(filled, CaptureSettings(retention_exchanges=16)))
    with pytest.raises(RetentionError, match="5 of 20") as refused:
        check(filled, measure(filled, CaptureSettings(retention_exchanges=15)))
    assert "potstill retention run --force" in refused.value.next_step


def test_the_writer_removes_in_chunks_and_looks_again_after_an_hour(filled: Database) -> None:
    retention = Retention(filled, CaptureSettings(retention_exchanges=17))
    assert [retention.step(), retention.step(), retention.step()] == [3, 0, 0]
    assert Retention(filled, CaptureSettings()).step() == 0
    assert len(left(filled)) == 17


def test_the_store_writer_removes_what_is_due_while_it_runs(filled: Database, tmp_path: Path) -> None:
    retention, stop = Retention(filled, CaptureSettings(retention_exchanges=18)), threading.Event()
    writer = StoreWriter(filled, tmp_path / "spool", PriceTable({}, 0.0), retention=retention, poll_s=0.01)
    thread = threading.Thread(target=writer.run, args=(stop,))
    thread.start()
    deadline = time.monotonic() + 20
    while len(left(filled)) > 18 and time.monotonic() < deadline:
        time.sleep(0.01)
    stop.set()
    thread.join()
    writer.close()
    assert left(filled) == list(range(3, 21))


def test_dead_letters_of_that_age_go_too(filled: Database) -> None:
    with filled.write() as connection:
        for name, us in (("old", clock.now_us() - 40 * DAY_US), ("new", clock.now_us())):
            values = {"id": name, "us": us, "record": b"x"}
            connection.execute(
                text("INSERT INTO dead_letters (exchange_id, reason, record, created_us) VALUES (:id, '', :record, :us)"), values
            )
    sweep(filled, CaptureSettings(retention_days=30))
    with filled.read() as connection:
        assert [row[0] for row in connection.execute(text("SELECT exchange_id FROM dead_letters"))] == ["new"]


class Hours:
    """Lets both clocks run ahead; `off` is time that no process saw."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.wall_us, self.steady_ns = clock.now_us(), clock.monotonic_ns()
        monkeypatch.setattr(clock, "now_us", lambda: self.wall_us)
        monkeypatch.setattr(clock, "monotonic_ns", lambda: self.steady_ns)

    def pass_by(self, hours: float) -> None:
        self.wall_us += int(hours * 3_600_000_000)
        self.steady_ns += int(hours * 3_600_000_000_000)


@pytest.fixture
def hours(monkeypatch: pytest.MonkeyPatch) -> Hours:
    return Hours(monkeypatch)


def more(database: Database, folder: Path, count: int) -> None:
    spool = SpoolWriter(folder / "spool", sync_interval_s=60)
    for number in range(count):
        write(spool, chat(f"more {number}"), answer("yes"))
    spool.close()
    drain(database, folder / "spool")


def all_steps(retention: Retention) -> int:
    total = 0
    while removed := retention.step():
        total += removed
    return total


def test_steady_traffic_over_a_limit_of_count_is_never_refused(database: Database, tmp_path: Path, hours: Hours) -> None:
    retention = Retention(database, CaptureSettings(retention_exchanges=10))
    for hour in range(6):
        more(database, tmp_path, 4)
        all_steps(retention)
        assert len(left(database)) <= 10, f"hour {hour}"
        hours.pass_by(1.01)
    more(database, tmp_path, 30)
    assert all_steps(retention) == 30, "a busy hour is traffic too"
    assert read_refusal(database) is None


def test_a_machine_that_was_off_for_days_goes_on_removing(filled: Database, hours: Hours) -> None:
    settings = CaptureSettings(retention_days=21)
    assert all_steps(Retention(filled, settings)) == 0
    hours.pass_by(6.9 * 24)
    assert all_steps(Retention(filled, settings)) == 6
    assert read_refusal(filled) is None


def test_after_more_than_a_week_the_clock_is_not_believed_until_a_person_says_so(filled: Database, hours: Hours) -> None:
    settings = CaptureSettings(retention_days=21)
    assert all_steps(Retention(filled, settings)) == 0
    hours.pass_by(365 * 24)
    retention = Retention(filled, settings)
    for _ in range(3):
        with pytest.raises(RetentionError, match="20 of 20"):
            retention.step()
        hours.pass_by(1.01)
    assert len(left(filled)) == 20


def test_a_lowered_limit_is_refused_shown_and_accepted_once_by_force(filled: Database, hours: Hours) -> None:
    assert all_steps(Retention(filled, CaptureSettings(retention_exchanges=19))) == 1
    low = CaptureSettings(retention_exchanges=10)
    retention = Retention(filled, low)
    with pytest.raises(RetentionError, match="9 of 19"):
        retention.step()
    refusal = read_refusal(filled)
    assert refusal is not None
    assert ("9 of 19" in refusal.what, "potstill retention run --force" in refusal.next_step) == (True, True)
    accept(filled, measure(filled, low, with_datasets=True))
    assert read_refusal(filled) is not None, "that was about something else"
    accept(filled, measure(filled, low))
    assert read_refusal(filled) is None
    hours.pass_by(1.01)
    assert all_steps(retention) == 9


def test_a_failing_sweep_is_tried_again_after_an_hour_and_slows_no_draining(
    filled: Database, tmp_path: Path, hours: Hours, caplog: pytest.LogCaptureFixture
) -> None:
    with filled.write() as connection:
        ban = "CREATE TRIGGER no_going BEFORE DELETE ON exchanges "
        if filled.is_sqlite:
            connection.execute(text(ban + "BEGIN SELECT RAISE(ABORT, 'no'); END"))
        else:
            raising = "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no'; END $$"
            connection.exec_driver_sql(raising)
            connection.execute(text(ban + "FOR EACH ROW EXECUTE FUNCTION refuse()"))
    retention, stop = Retention(filled, CaptureSettings(retention_exchanges=18)), threading.Event()
    writer = StoreWriter(filled, tmp_path / "spool", PriceTable({}, 0.0), retention=retention, poll_s=0.01)
    spool = SpoolWriter(tmp_path / "spool", sync_interval_s=60)
    thread = threading.Thread(target=writer.run, args=(stop,))
    thread.start()
    try:
        for number in range(5):
            write(spool, chat(f"late {number}"), answer("yes"))
            deadline = time.monotonic() + 5
            while len(left(filled)) < 21 + number:
                assert time.monotonic() < deadline, "draining waits for retention"
                time.sleep(0.01)
    finally:
        stop.set()
        thread.join()
        writer.close()
        spool.close()
    assert caplog.text.count("retention failed") == 1
    assert retention.step() == 0, "it rests"
    with filled.write() as connection:
        connection.execute(text("DROP TRIGGER no_going" + ("" if filled.is_sqlite else " ON exchanges")))
    hours.pass_by(1.01)
    assert all_steps(retention) == 7
