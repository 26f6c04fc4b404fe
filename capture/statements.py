"""What SQLAlchemy leaves to each store that writes its SQL by hand: lists in conditions, and new rows."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

import sqlalchemy
from sqlalchemy import Connection, TextClause, bindparam, column, table, text

_LIST = re.compile(r"\bIN :(\w+)")
_Value = TypeVar("_Value")


def among(sql: str) -> TextClause:
    """`sql` in which every `IN :name` takes a list: of numbers, or of at least one text."""
    return text(sql).bindparams(*(bindparam(name, expanding=True) for name in dict.fromkeys(_LIST.findall(sql))))


def few(values: Sequence[_Value], most: int = 500) -> Iterator[list[_Value]]:
    """`values` in their order, as many at a time as one statement may name."""
    for start in range(0, len(values), most):
        yield list(values[start : start + most])


def insert(connection: Connection, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Stores `rows`, which all have the same columns, in the table `name`."""
    if rows:
        connection.execute(sqlalchemy.insert(table(name, *map(column, rows[0]))), rows)
