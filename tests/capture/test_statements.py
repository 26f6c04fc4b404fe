"""Lists in conditions and new rows, on both kinds of store."""

from __future__ import annotations

from sqlalchemy import text

from capture.database import Database
from capture.statements import among, few, insert


def test_rows_are_stored_and_found_by_lists_of_any_length(database: Database) -> None:
    rows = [{"name": f"n{place}", "value": f"v{place % 2}"} for place in range(7)]
    query = among("SELECT name FROM meta WHERE name IN :names AND (value IN :values OR name IN :names) ORDER BY name")
    with database.write() as connection:
        insert(connection, "meta", rows[:6])
        insert(connection, "meta", rows[6:])
        insert(connection, "meta", [])
        assert connection.execute(query, {"names": ["n1", "n6", "none"], "values": ["v0"]}).scalars().all() == ["n1", "n6"]
        assert connection.execute(text("SELECT COUNT(*) FROM meta WHERE name LIKE 'n_'")).scalar_one() == 7


def test_few_keeps_the_order_and_leaves_nothing_out() -> None:
    assert list(few("abcde", 2)) == [["a", "b"], ["c", "d"], ["e"]]
    assert list(few([], 2)) == []
    assert list(few("abcd", 2)) == [["a", "b"], ["c", "d"]]
