"""Flag changes on SQLite and PostgreSQL: append-only, salts by experiment, refusals with a next step, rollback always."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from sqlalchemy import text

from capture.database import Database, open_database
from capture.errors import GateError, NotFoundError, SettingsError
from serve.flag_store import FlagChange, history, read_revision, read_snapshot, rollback, set_share
from serve.release_store import FAILED, PREPARING, RETIRED, Release

Maker = Callable[..., Release]


def share(database: Database, share_bp: int, release: str | int | None = None, unit: str | None = None) -> FlagChange:
    return set_share(database, "triage", share_bp, release=release, unit=unit, who="ada", why="because")


def test_a_share_is_in_the_snapshot_and_in_the_history_with_who_and_why(database: Database, ready_release: Maker) -> None:
    release = ready_release(database)
    change = share(database, 3_000)
    flag = read_snapshot(database).flags["triage"]
    assert (flag.share_bp, flag.engine_model, flag.release_id, flag.unit) == (3_000, "triage@r1", release.id, "auto")
    assert read_revision(database) == read_snapshot(database).revision == change.revision == flag.revision
    assert history(database, "triage") == [change]
    assert (change.who, change.why) == ("ada", "because")
    assert change.id.startswith("chg_")


def test_changing_the_share_of_the_same_release_keeps_the_salt(database: Database, ready_release: Maker) -> None:
    ready_release(database)
    salts = {share(database, share_bp).salt for share_bp in (100, 500, 2_500, 1_000)}
    assert len(salts) == 1


def test_a_new_release_and_a_new_unit_start_a_new_experiment(database: Database, ready_release: Maker) -> None:
    ready_release(database)
    ready_release(database)
    salts = [share(database, 500, 1).salt, share(database, 500, 2).salt, share(database, 500, 2, "user").salt]
    assert len(set(salts)) == 3


def test_a_share_without_release_and_unit_keeps_those_in_force(database: Database, ready_release: Maker) -> None:
    ready_release(database)
    first = share(database, 500, 1, "user")
    ready_release(database)
    second = share(database, 1_000)
    assert (second.release_id, second.unit, second.salt) == (first.release_id, "user", first.salt)


def test_after_a_rollback_the_next_share_is_a_new_experiment(database: Database, ready_release: Maker) -> None:
    ready_release(database)
    first = share(database, 500)
    back = rollback(database, "triage", "bob", "it lies")
    assert (back.share_bp, back.salt, back.who, back.why) == (0, first.salt, "bob", "it lies")
    assert read_snapshot(database).flags["triage"].share_bp == 0
    assert share(database, 500).salt != first.salt


def test_a_second_rollback_changes_nothing(database: Database, ready_release: Maker) -> None:
    ready_release(database)
    share(database, 500)
    assert rollback(database, "triage", "bob", "why") == rollback(database, "triage", "eve", "again")
    assert len(history(database, "triage")) == 2


@pytest.mark.parametrize("state", [RETIRED, FAILED])
def test_a_rollback_works_whatever_became_of_the_release(database: Database, ready_release: Maker, state: str) -> None:
    release = ready_release(database)
    share(database, 500)
    with database.write() as connection:
        connection.execute(text("UPDATE releases SET state = :state WHERE id = :id"), {"state": state, "id": release.id})
    assert rollback(database, "triage", "bob", "why").share_bp == 0


def test_the_rollback_of_a_task_that_never_had_a_flag_names_those_that_have(database: Database, ready_release: Maker) -> None:
    ready_release(database)
    share(database, 500)
    with pytest.raises(NotFoundError, match=r"no flag to roll back.*triage"):
        rollback(database, "triag", "bob", "why")


def test_an_unknown_task_or_release_is_refused_with_the_next_step(database: Database, ready_release: Maker) -> None:
    with pytest.raises(NotFoundError, match=r"'triage' has no release.*potstill release triage"):
        share(database, 500)
    ready_release(database)
    with pytest.raises(NotFoundError, match=r"no release 7.*triage#1"):
        share(database, 500, 7)
    assert history(database, "triage") == []


@pytest.mark.parametrize("state", [PREPARING, FAILED, RETIRED])
def test_a_release_that_is_not_ready_is_refused(database: Database, ready_release: Maker, state: str) -> None:
    ready_release(database, state=state)
    with pytest.raises(GateError, match=f"{state}, not ready.*potstill release"):
        share(database, 500, 1)
    with pytest.raises(NotFoundError, match="no ready release"):
        share(database, 500)


@pytest.mark.parametrize(("share_bp", "unit"), [(-1, "auto"), (10_001, "auto"), (500, "planet")])
def test_an_impossible_share_or_unit_is_refused(database: Database, ready_release: Maker, share_bp: int, unit: str) -> None:
    ready_release(database)
    with pytest.raises(SettingsError):
        share(database, share_bp, unit=unit)


@pytest.mark.parametrize("name", [1, "1", "r1", "triage#1", "triage@r1"])
def test_a_release_is_found_by_each_of_its_names(database: Database, ready_release: Maker, name: str | int) -> None:
    release = ready_release(database)
    ready_release(database)
    assert share(database, 500, name).release_id == release.id


def test_the_flags_of_two_tasks_do_not_touch(database: Database, ready_release: Maker) -> None:
    ready_release(database)
    ready_release(database, "invoice")
    share(database, 500)
    set_share(database, "invoice", 800, who="ada", why="")
    rollback(database, "triage", "ada", "")
    flags = read_snapshot(database).flags
    assert (flags["triage"].share_bp, flags["invoice"].share_bp) == (0, 800)


def test_changes_at_the_same_time_are_all_kept_in_one_order(database_url: str, ready_release: Maker) -> None:
    database = open_database(database_url)
    ready_release(database)
    others = [open_database(database_url) for _ in range(4)]

    def change(other: Database) -> None:
        for share_bp in range(1, 11):
            share(other, share_bp)

    threads = [threading.Thread(target=change, args=(other,)) for other in others]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    kept = history(database, "triage")
    assert len(kept) == 40
    assert len({one.salt for one in kept}) == 1
    assert [one.created_us for one in kept] == sorted(one.created_us for one in kept)
    for one in (database, *others):
        one.close()
