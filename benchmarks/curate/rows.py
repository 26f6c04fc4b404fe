"""The rows that methods are measured on: the shared benchmark of prompts in full, or a file of the generator."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.curate.bases import SHARED
from benchmarks.curate.generator import read
from benchmarks.curate.truth import Rows
from capture.messages import Message
from curate.likeness.duplicates import Wording, compare, find_duplicates, read_wordings
from curate.likeness.engine import LOCAL, Engine
from curate.likeness.templates import read_input
from curate.likeness.wording import critical, mask, normalise
from curate.settings import CurateSettings

PROMPTS = SHARED / "nearup" / "nearup_10000.parquet"


def is_prompts(path: Path) -> bool:
    """Whether `path` holds whole prompts, of which the part that varies has to be found first."""
    return path.suffix == ".parquet"


def truth(path: Path) -> tuple[Rows, Any]:
    """Cluster and kind of each row."""
    if is_prompts(path):
        from pyarrow import parquet

        table = parquet.read_table(path, columns=["cluster", "kind"])
        return table["cluster"].to_numpy().astype(np.int64), table["kind"].to_numpy()
    columns = [(batch.column("cluster").to_numpy(), batch.column("kind").to_numpy(zero_copy_only=False)) for batch in read(path)]
    cluster, kind = zip(*columns, strict=True)
    return np.concatenate(cluster), np.concatenate(kind)


def batches(path: Path) -> Iterator[Any]:
    """Record batches with `id` and `text` of a file of the generator."""
    for batch in read(path):
        yield batch.select(["id", "text"])


def wordings_by_task(path: Path) -> list[tuple[Rows, list[Wording]]]:
    """The rows of each task and their wordings, of prompts without the task's template; rows of the generator are one task."""
    if not is_prompts(path):
        wordings = [_worded(text) for batch in batches(path) for text in batch.column("text").to_pylist()]
        return [(np.arange(len(wordings)), wordings)]
    from pyarrow import parquet

    rows = parquet.read_table(path, columns=["task", "system", "user"]).to_pylist()
    found = []
    for task in sorted({row["task"] for row in rows}):
        places = [place for place, row in enumerate(rows) if row["task"] == task]
        asked = [read_input((Message("system", rows[at]["system"] or ""), Message("user", rows[at]["user"]))) for at in places]
        found.append((np.array(places, dtype=np.int64), read_wordings(asked, ["same"] * len(places))[1]))
    return found


def kept_rows(path: Path, settings: CurateSettings, engine: Engine = LOCAL) -> Rows:
    """For each row the row that stays for it, by the steps of a build: masking, comparing and removing, task by task."""
    by_task = wordings_by_task(path)
    kept = np.arange(sum(len(rows) for rows, _ in by_task))
    for rows, wordings in by_task:
        said, order = ["same"] * len(rows), range(len(rows))
        for row, removal in find_duplicates(compare(wordings, settings, engine), order, said, order).items():
            kept[rows[row]] = rows[removal.kept]
    return kept


def _worded(text: str) -> Wording:
    flat = normalise(mask(text))
    return Wording(flat, flat, critical(text))
