"""The migrated store and the tables that the packages declare are one schema."""

from __future__ import annotations

import importlib
from typing import Any

from sqlalchemy import BigInteger, Float, Integer, LargeBinary, MetaData, Text, inspect
from sqlalchemy.types import TypeEngine
from sqlmodel import SQLModel

from capture.database import Database

PACKAGES = ("capture", "curate", "train", "serve", "proxy.keys")
FAMILIES = ((LargeBinary, "bytes"), (Float, "real"), (BigInteger, "integer"), (Integer, "integer"))


def family(kind: TypeEngine[Any]) -> str:
    """What a column holds; text of any length is text, whole numbers of any width are whole numbers."""
    for cls, name in FAMILIES:
        if isinstance(kind, cls):
            return name
    assert isinstance(kind, Text) or hasattr(kind, "length"), kind
    return "text"


def declared() -> MetaData:
    for package in PACKAGES:
        importlib.import_module(f"{package}.tables")
    return SQLModel.metadata


def test_every_table_is_declared_by_exactly_the_migrations(database: Database) -> None:
    with database.read() as connection:
        stored = set(inspect(connection).get_table_names())
    bookkeeping = {name for name in stored if name.startswith("exchange_words")} | {"migrations", "sqlite_sequence"}
    assert stored - bookkeeping == set(declared().tables)


def test_every_column_has_the_declared_name_kind_and_nullability(database: Database) -> None:
    with database.read() as connection:
        inspector = inspect(connection)
        for name, table in declared().tables.items():
            stored = {
                column["name"]: (family(column["type"]), column["nullable"] and not column.get("primary_key"))
                for column in inspector.get_columns(name)
            }
            wanted = {column.name: (family(column.type), bool(column.nullable)) for column in table.columns}
            assert stored == wanted, name


def test_primary_keys_are_the_declared_ones(database: Database) -> None:
    with database.read() as connection:
        inspector = inspect(connection)
        for name, table in declared().tables.items():
            assert set(inspector.get_pk_constraint(name)["constrained_columns"]) == {c.name for c in table.primary_key}, name
