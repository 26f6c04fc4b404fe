from __future__ import annotations

import pytest
from sqlalchemy import text

from capture import migrations
from capture.database import Database, open_database
from capture.errors import NewerStoreError, StoreError


def test_opening_a_store_twice_migrates_it_once(database: Database, database_url: str) -> None:
    again = open_database(database_url)
    with again.read() as connection:
        names = [row[0] for row in connection.execute(text("SELECT name FROM migrations ORDER BY name"))]
    again.close()
    assert names == [step.__name__ for step in migrations.HISTORY]


def test_a_store_of_a_newer_potstill_is_refused(database: Database, database_url: str) -> None:
    with database.write() as connection:
        connection.execute(text("INSERT INTO migrations (name, applied_us) VALUES ('m999_future', 1)"))
    with pytest.raises(NewerStoreError, match="m999_future"):
        open_database(database_url)


def test_a_failed_transaction_leaves_nothing(database: Database) -> None:
    with pytest.raises(StoreError), database.write() as connection:
        connection.execute(text("INSERT INTO spools VALUES ('sp_1', 1, 1, 1)"))
        connection.execute(text("INSERT INTO spools VALUES ('sp_1', 1, 1, 1)"))
    with database.read() as connection:
        assert connection.execute(text("SELECT COUNT(*) FROM spools")).scalar_one() == 0


def test_an_unreachable_store_says_so() -> None:
    with pytest.raises(StoreError, match="cannot be opened"):
        open_database("postgresql+psycopg://nobody@127.0.0.1:1/none")
