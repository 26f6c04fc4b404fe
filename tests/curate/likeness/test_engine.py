from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from curate.likeness.engine import LOCAL, engine_for
from curate.settings import CurateSettings
from tests.curate.sending import Traffic, mails

SCRIPT = """
import hashlib, json, sys
from pathlib import Path
import numpy as np
from curate.likeness.engine import engine_for
from curate.likeness.near import find_pairs
from curate.settings import CurateSettings
from curate.likeness.similarity import arrow_texts
from capture.database import open_database
from capture.errors import StoreError
from curate.datasets import build

name, folder = sys.argv[1], Path(sys.argv[2])
engine = engine_for(CurateSettings(engine=name))
words = "where is my parcel i have waited for it since the day that you sent the other one to leeds".split()
texts = [" ".join(words[:5 + n % 9] + [f"w{n // 9}"] + words[9:]) for n in range(400)]
texts += [f"look alike since {n} days and nights" for n in range(150)] + ["", "ok"]
pairs = find_pairs(arrow_texts(texts), 0.5, engine)
digest = hashlib.blake2b(b"".join(column.tobytes() for column in (pairs.a, pairs.b, pairs.similarity))).hexdigest()
left, right = np.arange(40, dtype=np.uint64), np.array([3, 3, 39, 2**63], np.uint64)
database = open_database(f"sqlite:///{folder / 'potstill.db'}")
version = build(database, folder / "out", "mail", CurateSettings(engine=name))
database.close()
again = engine_for(CurateSettings(engine=name))
refused = ""
if name != "local":
    try:
        engine_for(CurateSettings(engine="ray" if name == "daft" else "daft"))
    except StoreError as error:
        refused = str(error)
joined = engine.semi_join(left, right).nonzero()[0].tolist()
print(json.dumps([digest, len(pairs.a), pairs.crowded, joined, version.hash, version.train, bool(refused)]))
"""


def run(name: str, folder: Path) -> list[Any]:
    """What the script says on this engine; each has a process of its own, for a process can have one runner."""
    home = folder / "home"
    home.mkdir()
    environment = {**os.environ, "HOME": str(home), "PYTHONPATH": str(Path(__file__).parents[3])}
    command = [sys.executable, "-W", "ignore", "-c", textwrap.dedent(SCRIPT), name, str(folder)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-3000:]
    found: list[Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def test_every_engine_finds_the_same_pairs_byte_for_byte_and_builds_the_same_version(traffic: Traffic, tmp_path: Path) -> None:
    sent = mails(60)
    traffic.send([*sent, *(replace(one, question=f"{one.question} please") for one in sent[:20])])
    traffic.database.close()
    names = ("local", "daft", "ray")
    for name in names:
        (tmp_path / name).mkdir()
        shutil.copy(tmp_path / "store" / "potstill.db", tmp_path / name)
    with ThreadPoolExecutor(len(names)) as pool:
        found = dict(zip(names, pool.map(lambda name: run(name, tmp_path / name), names), strict=True))
    *local, refused = found["local"]
    assert local[1] > 400 and local[2] > 0 and local[3] == [3, 39] and local[5] > 40 and not refused
    assert found["daft"] == [*local, True]
    assert found["ray"] == [*local, True]


def test_the_default_engine_needs_no_daft() -> None:
    script = "import sys; from curate.likeness import duplicates, engine; from curate.settings import CurateSettings\n"
    script += "engine.engine_for(CurateSettings()); print('daft' in sys.modules or 'ray' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True).stdout.strip() == "False"


def test_a_semi_join_with_nothing_finds_nothing() -> None:
    nothing, some = np.empty(0, np.uint64), np.arange(3, dtype=np.uint64)
    assert LOCAL.semi_join(some, nothing).tolist() == [False] * 3
    assert LOCAL.semi_join(nothing, some).tolist() == []
    assert engine_for(CurateSettings()) is LOCAL
