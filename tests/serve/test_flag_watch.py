"""The watcher obeys within half a second, outlives a dead store, and gives up the share when it can no longer know."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from capture import clock
from capture.database import Database, open_database
from serve.flag_store import rollback, set_share
from serve.flag_watch import FlagWatcher
from serve.release_store import Release

Maker = Callable[..., Release]
Wait = Callable[..., float]


def shares(watcher: FlagWatcher) -> dict[str, int]:
    return {task: flag.share_bp for task, flag in watcher.current.flags.items()}


def test_a_change_and_a_rollback_are_obeyed_within_half_a_second(
    database: Database, ready_release: Maker, wait_until: Wait
) -> None:
    ready_release(database)
    watcher = FlagWatcher(database.engine.url.render_as_string(hide_password=False))
    assert watcher.wait_until_read(5.0)
    assert shares(watcher) == {}
    set_share(database, "triage", 3_000, who="ada", why="")
    assert wait_until(lambda: shares(watcher) == {"triage": 3_000}) < 0.5
    rollback(database, "triage", "ada", "")
    assert wait_until(lambda: shares(watcher) == {"triage": 0}) < 0.5
    assert watcher.failures == 0
    watcher.close()


def test_the_relay_can_start_while_the_store_cannot_be_opened(tmp_path: Path, ready_release: Maker, wait_until: Wait) -> None:
    path = tmp_path / "potstill.db"
    path.mkdir()
    watcher = FlagWatcher(f"sqlite:///{path}", interval_s=0.01)
    wait_until(lambda: watcher.failures > 1)
    assert watcher.current.flags == {}
    assert "cannot be opened" in watcher.last_error
    path.rmdir()
    database = open_database(f"sqlite:///{path}")
    ready_release(database)
    set_share(database, "triage", 100, who="ada", why="")
    wait_until(lambda: shares(watcher) == {"triage": 100})
    wait_until(lambda: watcher.last_error == "")
    watcher.close()
    database.close()


def test_an_unreachable_postgresql_is_counted_and_does_not_hold_up_the_start(wait_until: Wait) -> None:
    began = clock.monotonic_ns()
    watcher = FlagWatcher("postgresql+psycopg://nobody@127.0.0.1:1/none", interval_s=0.01)
    assert watcher.current.flags == {}
    assert clock.monotonic_ns() - began < 200_000_000
    wait_until(lambda: watcher.failures > 1)
    watcher.close()


def test_in_trouble_the_last_flags_stay_and_after_the_patience_every_share_is_nothing(
    tmp_path: Path, ready_release: Maker, wait_until: Wait
) -> None:
    url = f"sqlite:///{tmp_path / 'potstill.db'}"
    database = open_database(url)
    ready_release(database)
    change = set_share(database, "triage", 3_000, who="ada", why="")
    watcher = FlagWatcher(url, interval_s=0.01, patience_s=0.6)
    wait_until(lambda: shares(watcher) == {"triage": 3_000})
    with database.write() as connection:
        connection.exec_driver_sql("ALTER TABLE flag_changes RENAME TO gone")
    failures = watcher.failures
    wait_until(lambda: watcher.failures > failures)
    assert shares(watcher) == {"triage": 3_000}
    wait_until(lambda: watcher.is_stale)
    assert shares(watcher) == {"triage": 0}
    assert watcher.current.flags["triage"].revision == 0
    with database.write() as connection:
        connection.exec_driver_sql("ALTER TABLE gone RENAME TO flag_changes")
    wait_until(lambda: shares(watcher) == {"triage": 3_000})
    assert watcher.current.flags["triage"].revision == change.revision
    watcher.close()
    database.close()


def test_a_closed_watcher_leaves_no_thread(tmp_path: Path) -> None:
    watcher = FlagWatcher(f"sqlite:///{tmp_path / 'potstill.db'}")
    watcher.wait_until_read(5.0)
    watcher.close()
    watcher.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "flag-watcher"]
