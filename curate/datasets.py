"""Dataset versions: built from a task's traffic, frozen with a bill that adds up and a certificate without overlap."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Row, text

from capture import clock, ids
from capture.database import Database
from capture.errors import NotFoundError, StoreError
from capture.progress import Progress, tell_nobody
from capture.statements import insert
from curate.examples import Example as Example
from curate.examples import from_line
from curate.freeze import check_manifest, is_whole, read_file, to_json, version_folder, write_folder
from curate.selection import require_task
from curate.settings import CurateSettings
from curate.splits import SPLITS, TRAIN
from curate.tasks.aliases import canonical, expand

if TYPE_CHECKING:
    from curate.building import MadeVersion


@dataclass(frozen=True, slots=True)
class DatasetVersion:
    """A frozen dataset of one task; `train`, `val` and `test` count its examples, `created_us` is UTC microseconds.

    `hash` covers content, bill and settings, not the number: equal content has an equal hash. `is_new` is what `build` says of
    a version that it has just frozen.
    """

    id: str
    task: str
    number: int
    hash: str
    train: int
    val: int
    test: int
    folder: Path
    manifest: Mapping[str, Any]
    created_us: int
    is_new: bool = field(default=False, compare=False)


def build(
    database: Database,
    folder: Path,
    task: str,
    settings: CurateSettings,
    *,
    forced: str = "",
    on_progress: Progress = tell_nobody,
) -> DatasetVersion:
    """Builds and freezes the next version of `task` in the data folder `folder`.

    Equal content gives the latest version again instead of a new one, its files restored where they were lost or changed.
    `forced` says why answers stay whose terms would leave them out. `on_progress` is told stage, done and total. NotFoundError
    for an unknown task, NotEnoughError with the bill when too little is left, StoreError while another build of the task is
    under way.
    """
    from curate.building import make_version  # numpy; whoever only lists versions does not wait for it
    from curate.tasks.names import apply_names

    apply_names(database, on_progress=on_progress)
    task = canonical(database, task)
    tags = expand(database, task)
    require_task(database, task, tags)
    with alone(folder, task):
        earlier = versions(database, task)
        held_out = (example for tag in tags for version in versions(database, tag) for example in _held_out_of(version))
        made = make_version(
            database, task, tags, settings, forced, on_progress, lambda name: _train_of(database, name), held_out
        )  # fmt: skip
        on_progress("write", 0, 1)
        version = _freeze(database, folder, made, earlier)
        on_progress("write", 1, 1)
    return version


def versions(database: Database, task: str = "") -> list[DatasetVersion]:
    """All dataset versions, of one task or of all, by task and number."""
    query = text("SELECT * FROM dataset_versions WHERE task = :task OR :task = '' ORDER BY task, number")
    with database.read() as connection:
        return [_version(row) for row in connection.execute(query, {"task": task})]


def get_version(database: Database, task: str, number: int | None = None) -> DatasetVersion:
    """Version `number` of `task`, or its latest; NotFoundError when there is none, StoreError when its manifest was changed.

    An alias names the versions of its task, and its own of before only until that one has any.
    """
    of_task = (versions(database, canonical(database, task)) or versions(database, task)) if task else []
    found = [version for version in of_task if number in (None, version.number)]
    if found:
        check_manifest(found[-1].folder, found[-1].manifest)
        return found[-1]
    if of_task:
        numbers = ", ".join(f"v{version.number}" for version in of_task)
        raise NotFoundError(f"There is no version {number} of dataset {task!r}.", f"Versions: {numbers}.")
    names = sorted({version.task for version in versions(database)})
    known = f" Datasets: {', '.join(names)}." if names else ""
    raise NotFoundError(f"There is no dataset {task!r}.", f"Build it with `potstill dataset build {task or 'TASK'}`.{known}")


def load_split(version: DatasetVersion, split: str) -> list[Example]:
    """The examples of one split (train, val or test); StoreError when the file was changed or is gone."""
    if split not in SPLITS:
        raise NotFoundError(f"There is no split {split!r}.", f"Splits: {', '.join(SPLITS)}.")
    lines = read_file(version.folder, version.manifest, f"{split}.jsonl")
    return [from_line(line, version.task, split) for line in lines.split("\n") if line]


def _train_of(database: Database, task: str) -> list[Example]:
    return load_split(get_version(database, task), TRAIN)


def _held_out_of(version: DatasetVersion) -> Iterator[Example]:
    """What a version did not train on. Nothing of a file that is gone or was changed: whoever builds counts what is missing."""
    for name in ("val.jsonl", "test.jsonl", "golden.jsonl"):
        if name in version.manifest["files"]:
            with suppress(StoreError):
                lines = read_file(version.folder, version.manifest, name).split("\n")
                yield from [from_line(line, version.task, name.removesuffix(".jsonl")) for line in lines if line]


def _freeze(database: Database, data_folder: Path, made: MadeVersion, earlier: Sequence[DatasetVersion]) -> DatasetVersion:
    from curate.building import remember

    task, manifest = made.manifest["task"], made.manifest
    if earlier and earlier[-1].hash == manifest["hash"]:
        same = earlier[-1]
        if not is_whole(same.folder, same.manifest):
            write_folder(same.folder, {**manifest, "number": same.number}, made.files)
        with database.write() as connection:
            remember(connection, made, same.number)
        return same
    number = earlier[-1].number + 1 if earlier else 1
    manifest = {**manifest, "number": number}
    folder = version_folder(data_folder, task, number)
    write_folder(folder, manifest, made.files)
    train, val, test = (manifest["counts"][split] for split in SPLITS)
    now_us = clock.now_us()
    version = DatasetVersion(ids.new_id("dsv"), task, number, manifest["hash"], train, val, test, folder, manifest, now_us, True)
    with database.write() as connection:
        remember(connection, made, number)
        _insert(connection, version)
    return version


def _insert(connection: Connection, version: DatasetVersion) -> None:
    names = ("id", "task", "number", "hash", "train", "val", "test", "created_us")
    values: dict[str, object] = {name: getattr(version, name) for name in names}
    values |= {"folder": str(version.folder), "manifest": to_json(version.manifest)}
    insert(connection, "dataset_versions", [values])


def _version(row: Row[Any]) -> DatasetVersion:
    counts = row.train, row.val, row.test
    folder, manifest = Path(row.folder), json.loads(row.manifest)
    return DatasetVersion(row.id, row.task, row.number, row.hash, *counts, folder, manifest, row.created_us)


@contextmanager
def alone(data_folder: Path, task: str) -> Iterator[None]:
    """Keeps builds of `task` out, and whoever pins inputs of it. StoreError while one of them is at work."""
    folder = version_folder(data_folder, task, 0).parent
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise StoreError(
                f"Another build of dataset {task!r} is under way, or inputs are pinned.", "Wait for it to end."
            ) from error
        yield
