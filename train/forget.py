"""Takes examples out of what runs wrote down: their test predictions, and output that may quote what they read."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from train import adapters, runs
from train.evaluate import PREDICTIONS
from train.launch import OUTPUT

if TYPE_CHECKING:
    from capture.database import Database
    from train.adapters import Adapter
    from train.runs import Run


@dataclass(frozen=True, slots=True)
class ErasedRun:
    """A run whose dataset lost examples. `is_under_way`: it has not ended, so nothing can be erased yet."""

    id: str
    number: int
    task: str
    dataset_version_id: str
    predictions: int
    is_under_way: bool


def touched_runs(database: Database, version_ids: Iterable[str]) -> list[Run]:
    """The runs on these dataset versions, oldest first."""
    wanted = set(version_ids)
    return [run for run in reversed(runs.list_runs(database)) if run.dataset_version_id in wanted]


def touched_adapters(database: Database, version_ids: Iterable[str]) -> list[Adapter]:
    """The adapters that were trained on these dataset versions, oldest first."""
    wanted = set(version_ids)
    return [adapter for adapter in reversed(adapters.list_adapters(database)) if adapter.dataset_version_id in wanted]


def erase_from_run(run: Run, example_ids: Iterable[str]) -> ErasedRun:
    """Removes the predictions on these examples, and the whole output of an ended run."""
    wanted = set(example_ids)
    path, gone = run.folder / PREDICTIONS, 0
    if path.is_file():
        lines = path.read_text("utf-8").splitlines()
        kept = [line for line in lines if json.loads(line)["id"] not in wanted]
        gone = len(lines) - len(kept)
        if gone:
            _replace(path, "".join(f"{line}\n" for line in kept))
    output = run.folder / OUTPUT
    if run.is_ended and output.is_file() and output.stat().st_size:
        _replace(output, "The output is erased: it might quote an exchange that was forgotten.\n")
    return ErasedRun(run.id, run.number, run.task, run.dataset_version_id, gone, not run.is_ended)


def _replace(path: Path, content: str) -> None:
    part = path.with_name(f".{path.name}.part")
    with part.open("w", encoding="utf-8", newline="\n") as file:
        os.fchmod(file.fileno(), path.stat().st_mode & 0o777)
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
