"""Finds dataset versions whose files are no longer what was frozen."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from capture.database import Database
from capture.errors import StoreError
from curate.datasets import DatasetVersion, versions
from curate.freeze import CARD, MANIFEST, check_manifest, read_bytes


@dataclass(frozen=True, slots=True)
class DamagedFile:
    """A file of a dataset version that is missing or was changed: whose it is, and the words for it."""

    version: str
    what: str
    next_step: str


def find_damage(database: Database, *, on_progress: Callable[[int, int], None] | None = None) -> Iterator[DamagedFile]:
    """Every file of every version that does not have its hash from the manifest, and every card that is missing.

    `on_progress` is told versions done and all. No hash is made of a card: a later Potstill may word it in another way.
    """
    found = versions(database)
    for done, version in enumerate(found, start=1):
        yield from _damage_of(version)
        if on_progress is not None:
            on_progress(done, len(found))


def _damage_of(version: DatasetVersion) -> Iterator[DamagedFile]:
    name = f"{version.task}/v{version.number}"
    for file in version.manifest["files"]:
        try:
            read_bytes(version.folder, version.manifest, file)
        except StoreError as error:
            yield DamagedFile(name, error.what, error.next_step)
    for path in (version.folder / MANIFEST, version.folder / CARD):
        if not path.is_file():
            yield DamagedFile(name, f"{path} is missing.", "Build the dataset again: the same exchanges give the same version.")
    try:
        check_manifest(version.folder, version.manifest)
    except StoreError as error:
        yield DamagedFile(name, error.what, error.next_step)
