"""A small toy base and a frozen dataset version, each made once, and houses of their own in which runs take place."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import text

from capture.database import Database, open_database
from capture.settings import Settings, load_settings
from curate import datasets
from curate.datasets import DatasetVersion
from curate.settings import CurateSettings
from proxy.tickets import make_tickets
from tests.curate.sending import Sent, Traffic

ROOT = Path(__file__).resolve().parents[2]
MAKE_TOY_BASE = """
import sys
from pathlib import Path
from proxy.tickets import make_tickets
from train.toy_base import build_toy_base
known = [
    (ticket.system_prompt, ticket.user_prompt, ticket.gold)
    for task in ("it_desk", "urgency")
    for ticket in make_tickets(7, 80, task)
]
prompts = sorted({(ticket.system_prompt, ticket.user_prompt) for ticket in make_tickets(8, 120, "triage")})
build_toy_base(Path(sys.argv[1]), known, unlabelled=prompts, steps=30)
"""


@dataclass(frozen=True)
class House:
    """Settings, store and dataset version of one test."""

    settings: Settings
    database: Database
    version: DatasetVersion


def _shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


@pytest.fixture(scope="session")
def toy_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A toy base of 30 steps: good to be trained on, knows next to nothing. Made in a child: torch stays out of this process."""
    root = _shared_folder(tmp_path_factory)
    with (root / "toy_base.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        folder = root / "toy_base"
        if not folder.is_dir():
            environment = {**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}
            made = subprocess.run(
                [sys.executable, "-c", MAKE_TOY_BASE, str(folder)], cwd=ROOT, env=environment, capture_output=True, text=True
            )
            assert made.returncode == 0, made.stderr
    return folder


@pytest.fixture(scope="session")
def frozen_house(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with 220 captured tickets and a dataset version of them."""
    folder = tmp_path_factory.mktemp("frozen") / "data"
    (folder / "spool").mkdir(parents=True)
    database = open_database(f"sqlite:///{folder / 'potstill.db'}")
    tickets = make_tickets(3, 220)
    Traffic(database, folder / "spool").send(
        [
            Sent(
                ticket.user_prompt, ticket.gold, task="triage", system=ticket.system_prompt, user=ticket.user,
                protocol="anthropic" if number % 3 == 0 else "openai",
                path="/v1/messages" if number % 3 == 0 else "/v1/chat/completions",
                upstream="anthropic" if number % 3 == 0 else "openai",
            )
            for number, ticket in enumerate(tickets)
        ]
    )  # fmt: skip
    version = datasets.build(database, folder, "triage", CurateSettings())
    assert version.train >= 100
    assert min(version.val, version.test) >= 5
    database.close()
    return folder


@contextmanager
def open_house(folder: Path, frozen: Path) -> Iterator[House]:
    """A copy of the frozen data folder in `folder`, so that it may be spoiled."""
    shutil.copytree(frozen, folder / "data")
    path = folder / "potstill.toml"
    path.write_text('[store]\ndata_folder = "data"\n\n[train]\nheartbeat_s = 0.2\nteacher_timeout_s = 5.0\n', "utf-8")
    settings = load_settings(path, environ={})
    database = open_database(settings.database_url)
    try:
        old = datasets.get_version(database, "triage")
        here = settings.data_folder / old.folder.relative_to(frozen.resolve())
        with database.write() as connection:
            connection.execute(text("UPDATE dataset_versions SET folder = :folder"), {"folder": str(here)})
        yield House(settings, database, datasets.get_version(database, "triage"))
    finally:
        database.close()


@pytest.fixture
def house(tmp_path: Path, frozen_house: Path) -> Iterator[House]:
    """A house of one test's own."""
    with open_house(tmp_path, frozen_house) as opened:
        yield opened
