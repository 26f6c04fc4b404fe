"""How much traffic of each task a dataset can be made of."""

from __future__ import annotations

from sqlalchemy import text

from capture.database import Database


def from_apps(database: Database) -> dict[str, int]:
    """How many exchanges apps sent under each tag, '' for none; what Potstill asks itself (relabel, judge) is in no dataset."""
    sql = "SELECT task, COUNT(*) FROM exchanges WHERE purpose = 'app' GROUP BY task"
    with database.read() as connection:
        return {task: int(count) for task, count in connection.execute(text(sql))}
