"""Whether every engine gives the same: near duplicates of generated rows, and a dataset built from captured tickets.

    python -m benchmarks.curate.engines --engine local|daft|ray --rows FILE.arrow --store FOLDER

does both on one engine (a process can start one runner only) and prints one JSON object; `compared` runs all three. `ran` says
whether that engine really was at work during the build.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any

from benchmarks.curate import apart, build, generator
from benchmarks.curate.rows import kept_rows
from benchmarks.figures import Tell
from capture.database import open_database
from curate import datasets
from curate.likeness.engine import engine_for
from curate.settings import ENGINES, CurateSettings


def compared(folder: Path, rows: int, exchanges: int, tell: Tell) -> dict[str, Any]:
    """Hashes, CPU seconds and memory by engine; `identical` when all ran and all hashes agree."""
    store, file = build.capture(folder / "store", exchanges), folder / "rows.arrow"
    generator.write(file, rows, seed=2)
    found: dict[str, Any] = {}
    for engine in ENGINES:
        work = folder / f"store-{engine}"
        shutil.copytree(store, work)
        found[engine] = apart.run("engines", "--engine", engine, "--rows", str(file), "--store", str(work))
        tell(f"{engine}: dataset {found[engine]['dataset'][:12]}, {found[engine]['cpu_s']:.1f} CPU s")
    hashes = {(each["near"], each["dataset"]) for each in found.values()}
    return {"identical": len(hashes) == 1 and all(each["ran"] for each in found.values()), "engines": found}


def main(arguments: Sequence[str] | None = None) -> int:
    """One engine."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.curate.engines")
    parser.add_argument("--engine", choices=ENGINES, required=True)
    parser.add_argument("--rows", type=Path, required=True)
    parser.add_argument("--store", type=Path, required=True)
    options = parser.parse_args(arguments)
    settings = CurateSettings(engine=options.engine)
    database = open_database(f"sqlite:///{options.store / 'potstill.db'}")
    version = datasets.build(database, options.store, build.TASK, settings)
    ran = _at_work() == options.engine
    database.close()
    kept = kept_rows(options.rows, settings, engine_for(settings))
    near = blake2b(kept.tobytes(), digest_size=16).hexdigest()
    print(json.dumps({"dataset": version.hash, "near": near, "ran": ran, **apart.spent()}), flush=True)
    return 0


def _at_work() -> str:
    """The engine that this process has used until now."""
    if "daft" not in sys.modules:
        return "local"
    import ray

    return "ray" if ray.is_initialized() else "daft"


if __name__ == "__main__":
    sys.exit(main())
