"""The clock jumps: durations stay what they are, ids stay in order, and retention removes nothing that it should not."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import text

from capture import clock
from capture.capture_settings import CaptureSettings
from capture.database import Database
from capture.errors import RetentionError
from capture.retention import Retention, check, measure
from capture.spool import SpoolWriter
from tests.capture.planting import answer, chat, drain, write

HOUR_US, DAY_US = 3_600_000_000, 86_400_000_000
LIMITS = CaptureSettings(retention_days=30)


class Clock:
    """A wall clock and a monotonic one that a test turns."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.wall_us, self.steady_ns = clock.now_us(), clock.monotonic_ns()
        monkeypatch.setattr(clock, "now_us", lambda: self.wall_us)
        monkeypatch.setattr(clock, "monotonic_ns", lambda: self.steady_ns)

    def passes(self, us: int) -> None:
        self.wall_us += us
        self.steady_ns += us * 1000


@pytest.fixture
def turned(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def fill(database: Database, root: Path, count: int) -> None:
    spool = SpoolWriter(root, sync_interval_s=60)
    for number in range(count):
        write(spool, chat(f"question {number}"), answer("yes"))
    spool.close()
    drain(database, root)


def stored(database: Database) -> int:
    with database.read() as connection:
        return int(connection.execute(text("SELECT COUNT(*) FROM exchanges")).scalar_one())


@pytest.mark.faults
@pytest.mark.parametrize("jump_us", [-2 * HOUR_US, 2 * HOUR_US, 365 * DAY_US, -365 * DAY_US])
def test_f19_a_jump_of_the_clock_removes_nothing(database: Database, tmp_path: Path, turned: Clock, jump_us: int) -> None:
    retention = Retention(database, CaptureSettings(retention_days=30, retention_exchanges=9))
    fill(database, tmp_path / "spool", 10)
    turned.wall_us += jump_us
    with pytest.raises(RetentionError, match="clock"):
        retention.step()
    assert stored(database) == 10


@pytest.mark.faults
def test_f19_a_process_begun_after_the_jump_removes_nothing(database: Database, tmp_path: Path, turned: Clock) -> None:
    fill(database, tmp_path / "spool", 10)
    turned.wall_us += 365 * DAY_US
    with pytest.raises(RetentionError, match="10 of 10 exchanges") as refused:
        Retention(database, LIMITS).step()
    assert "--force" in refused.value.next_step and stored(database) == 10
    turned.wall_us -= 2 * 365 * DAY_US
    with pytest.raises(RetentionError, match="newest exchange"):
        check(database, measure(database, LIMITS))


@pytest.mark.faults
@pytest.mark.parametrize("leap_us", [-1_000_000, 1_000_000, -60_000_000, HOUR_US // 2])
def test_f19_a_small_correction_holds_nothing_up(database: Database, tmp_path: Path, turned: Clock, leap_us: int) -> None:
    retention = Retention(database, CaptureSettings(retention_exchanges=9))
    fill(database, tmp_path / "spool", 10)
    turned.wall_us += leap_us
    assert retention.step() == 1 and stored(database) == 9


@pytest.mark.faults
@pytest.mark.parametrize("jump_us", [-HOUR_US, 365 * DAY_US, -60_000_000])
def test_f19_durations_are_never_negative(database: Database, tmp_path: Path, turned: Clock, jump_us: int) -> None:
    spool = SpoolWriter(tmp_path / "spool", sync_interval_s=60)
    write(spool, chat("before"), answer("yes"))
    turned.wall_us += jump_us
    turned.steady_ns += 5_000_000
    write(spool, chat("after"), answer("yes"))
    spool.close()
    drain(database, tmp_path / "spool")
    with database.read() as connection:
        rows = connection.execute(text("SELECT id, ended_us - started_us, latency_us FROM exchanges ORDER BY number")).all()
    assert len({row[0] for row in rows}) == 2
    assert all(row[1] >= 0 and row[2] >= 0 for row in rows)
