"""Keys in both stores: what goes in comes out, and every change has a revision of its own."""

from __future__ import annotations

import threading
from pathlib import Path

from sqlalchemy import text

from capture import clock
from capture.database import Database
from proxy.keys.key_store import add_key, get_key, limit_key, read_keys, read_revision, revoke_key, rotate_key
from proxy.keys.limits import Limits
from proxy.keys.pepper import make_pepper
from proxy.keys.virtual_key import matches

PEPPER = b"p" * 32


def test_a_key_comes_out_as_it_went_in_and_without_its_secret(database: Database) -> None:
    limits = Limits(1, 2, 3, 4, 5)
    key, made = add_key(
        database,
        PEPPER,
        "app",
        scopes=["relay", "label"],
        tasks=["t"],
        models=["m*"],
        upstreams=["u"],
        limits=limits,
        expires_us=9,
        who="ann",
    )
    revision, keys = read_keys(database)
    assert (revision, keys) == (1, [made])
    assert get_key(database, made.id[:5]) == get_key(database, "app") == made
    assert matches(PEPPER, key, made, 0)
    with database.read() as connection:
        row = connection.execute(text("SELECT * FROM keys")).one()
    assert all(key.removeprefix(f"ps-{made.id}-") not in str(value) for value in row)


def test_every_change_gives_the_table_a_higher_revision(database: Database) -> None:
    assert read_revision(database) == 0
    key, first = add_key(database, PEPPER, "a")
    add_key(database, PEPPER, "b")
    seen = [read_revision(database)]
    limit_key(database, first.id, Limits(concurrent=7))
    seen.append(read_revision(database))
    again, rotated = rotate_key(database, PEPPER, first.id, 1_000_000)
    seen.append(read_revision(database))
    assert (rotated.id, rotated.limits.concurrent) == (first.id, 7)
    now = clock.now_us()
    assert matches(PEPPER, again, rotated, now)
    assert (matches(PEPPER, key, rotated, now), matches(PEPPER, key, rotated, now + 2_000_000)) == (True, False)
    assert revoke_key(database, first.id).state(now) == "revoked"
    seen.append(read_revision(database))
    assert seen == [2, 3, 4, 5]


def test_changes_that_come_at_once_are_all_kept(database: Database) -> None:
    _, made = add_key(database, PEPPER, "a")
    threads = [threading.Thread(target=limit_key, args=(database, made.id, Limits(concurrent=n))) for n in range(1, 9)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(60)
    assert read_revision(database) == 9
    assert get_key(database, "a").limits.concurrent in range(1, 9)


def test_two_that_make_the_pepper_at_once_get_the_same(tmp_path: Path) -> None:
    found: list[bytes] = []
    threads = [threading.Thread(target=lambda: found.append(make_pepper(tmp_path / "keys" / "pepper"))) for _ in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(60)
    assert len(found) == 8
    assert len(set(found)) == 1
    assert [path.name for path in (tmp_path / "keys").iterdir()] == ["pepper"]
