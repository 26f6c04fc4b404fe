"""Stores that are filled through the real path; see `sending`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from capture.database import Database, open_database
from curate.settings import CurateSettings
from tests.curate.sending import Traffic


@pytest.fixture
def new_traffic(tmp_path: Path) -> Iterator[Callable[[str], Traffic]]:
    """Makes named, empty SQLite stores."""
    opened: list[Database] = []

    def make(name: str) -> Traffic:
        spool_root = tmp_path / name / "spool"
        spool_root.mkdir(parents=True)
        opened.append(open_database(f"sqlite:///{tmp_path / name / 'potstill.db'}"))
        return Traffic(opened[-1], spool_root)

    yield make
    for database in opened:
        database.close()


@pytest.fixture
def traffic(new_traffic: Callable[[str], Traffic]) -> Traffic:
    """An empty SQLite store."""
    return new_traffic("store")


@pytest.fixture
def both_traffic(database: Database, tmp_path: Path) -> Traffic:
    """An empty store; the test runs on SQLite and on PostgreSQL."""
    spool_root = tmp_path / "spool"
    spool_root.mkdir()
    return Traffic(database, spool_root)


@pytest.fixture
def small() -> CurateSettings:
    """Settings under which a handful of examples is enough."""
    return CurateSettings(minimum_examples=3)
