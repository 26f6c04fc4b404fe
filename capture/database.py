"""Opens the store, SQLite or PostgreSQL, and brings its schema up to date.

SQLite runs in WAL mode with `synchronous=FULL`, and only the store writer checkpoints (`is_checkpointer=True`): SQLite
before 3.51.3 can corrupt a WAL that two connections reset at once.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.exc import DBAPIError

from capture import clock, migrations
from capture.errors import NewerStoreError, StoreError

_CHECKPOINT_PAGES = 4_000
_WRITER_CACHE_KIB = 65_536


class Database:
    """A handle on the store, safe to share between threads. Close it when done."""

    def __init__(self, engine: Engine, url: str) -> None:
        self.engine = engine
        self.url = url

    @property
    def is_sqlite(self) -> bool:
        """True for the embedded store."""
        return self.engine.dialect.name == "sqlite"

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A connection for reading; nothing it does is kept."""
        try:
            with self.engine.connect() as connection:
                yield connection
                connection.rollback()
        except DBAPIError as error:
            raise StoreError(f"The store answered: {error.orig}.", "See `potstill doctor`.") from error

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """One transaction, committed at the end or rolled back whole; SQLite takes its write lock at once."""
        try:
            with self.engine.connect() as connection:
                if self.is_sqlite:
                    connection.exec_driver_sql("BEGIN IMMEDIATE")
                yield connection
                connection.commit()
        except DBAPIError as error:
            raise StoreError(f"The store answered: {error.orig}.", "See `potstill doctor`.") from error

    def close(self) -> None:
        """Closes every pooled connection; may be called twice."""
        self.engine.dispose()


def open_database(
    url: str, *, is_checkpointer: bool = False, busy_timeout_ms: int = 5_000, statement_timeout_s: float = 30.0
) -> Database:
    """Opens the store at SQLAlchemy address `url` and migrates it. No statement on PostgreSQL takes longer than its timeout.

    StoreError when it cannot be reached, NewerStoreError when a newer Potstill wrote it.
    """
    if url.startswith("sqlite"):
        engine = _sqlite_engine(url, is_checkpointer, busy_timeout_ms)
    else:
        from capture.postgresql import postgresql_engine

        engine = postgresql_engine(url, statement_timeout_s)
    database = Database(engine, url)
    try:
        _migrate(database)
    except DBAPIError as error:
        engine.dispose()
        raise StoreError(
            f"The store at {engine.url} cannot be opened: {error.orig}.", "Check [store] in potstill.toml."
        ) from error
    except BaseException:
        engine.dispose()
        raise
    return database


def _sqlite_engine(url: str, is_checkpointer: bool, busy_timeout_ms: int) -> Engine:
    path = Path(url.removeprefix("sqlite:///"))
    if not path.exists():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    engine = create_engine(url, connect_args={"timeout": busy_timeout_ms / 1000, "check_same_thread": False})

    @event.listens_for(engine, "connect")
    def prepare(connection: sqlite3.Connection, _record: object) -> None:
        connection.isolation_level = None
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA foreign_keys=ON")
        connection.execute("PRAGMA secure_delete=ON")
        connection.execute(f"PRAGMA wal_autocheckpoint={_CHECKPOINT_PAGES if is_checkpointer else 0}")
        if is_checkpointer:  # the store writer, whose indexes get keys all over the place
            connection.execute(f"PRAGMA cache_size=-{_WRITER_CACHE_KIB}")

    return engine


def _migrate(database: Database) -> None:
    known = {step.__name__ for step in migrations.HISTORY}
    with database.engine.connect() as connection:
        if _applied(connection) == known:
            return
    dialect = migrations.SQLITE if database.is_sqlite else migrations.POSTGRESQL
    with database.engine.connect() as connection:
        if database.is_sqlite:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        else:
            connection.execute(text("SELECT pg_advisory_xact_lock(7311404)"))
        connection.execute(text("CREATE TABLE IF NOT EXISTS migrations (name TEXT PRIMARY KEY, applied_us BIGINT NOT NULL)"))
        applied = _applied(connection)
        if applied - known:
            raise NewerStoreError(
                f"The store has migrations that this Potstill does not know: {', '.join(sorted(applied - known))}.",
                "Upgrade Potstill, or open another store.",
            )
        for step in migrations.HISTORY:
            if step.__name__ not in applied:
                for statement in step(dialect):
                    connection.exec_driver_sql(statement)
                if move := migrations.MOVES.get(step.__name__):
                    move(connection)
                connection.execute(
                    text("INSERT INTO migrations (name, applied_us) VALUES (:name, :us)"),
                    {"name": step.__name__, "us": clock.now_us()},
                )
        connection.commit()


def _applied(connection: Connection) -> set[str]:
    if not connection.dialect.has_table(connection, "migrations"):
        return set()
    return {row[0] for row in connection.execute(text("SELECT name FROM migrations"))}
