"""Writes a dataset version's folder: files first, manifest last, the whole folder renamed into place.

So a folder with a manifest is complete, and the same content always gives the same bytes. A version that is written again stands
whole beside its place until the old folder has gone aside; a crash just then leaves no folder, which the next build puts back.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from capture.errors import StoreError
from capture.ids import content_hash
from curate.card import write_card

MANIFEST, CARD, DROPPED, TEMPLATE = "manifest.json", "card.md", "dropped.jsonl", "template.json"
DRAFTS = ".v*.draft"
"""What a build that was broken off leaves beside the versions of its task."""
PREFERENCES, GOLDEN_FILE = "preferences.jsonl", "golden.jsonl"
PHRASE_WARNING = "The phrase"
"""How a warning begins that quotes captured words."""


def version_folder(data_folder: Path, task: str, number: int) -> Path:
    """Where version `number` of `task` lives; any task name gives one safe folder name."""
    name = quote(task, safe="")
    if name.startswith("."):
        name = "%2E" + name[1:]
    return data_folder.resolve() / "datasets" / (name or "%20") / f"v{number}"


def hashed(manifest: Mapping[str, Any], files: Mapping[str, str | bytes]) -> dict[str, Any]:
    """`manifest` with the hashes of `files` and its own; number and hash do not count, so equal content is seen."""
    whole = {**manifest, "files": {name: content_hash(_bytes(content)) for name, content in sorted(files.items())}}
    whole["hash"] = content_hash(to_json({key: value for key, value in whole.items() if key != "number"}).encode())
    return whole


def write_folder(folder: Path, manifest: Mapping[str, Any], files: Mapping[str, str | bytes]) -> None:
    """Writes everything beside `folder` and renames it into place; what a crashed build left there is replaced.

    An old folder goes aside by a rename and is removed last, so that its place is empty for a moment only. StoreError when the
    disk is full or may not be written: then nothing is left of what was begun.
    """
    draft, old = folder.with_name(f".{folder.name}.draft"), folder.with_name(f".{folder.name}.old.draft")
    whole = {**files, CARD: write_card(manifest), MANIFEST: to_json(manifest, indent=2) + "\n"}
    try:
        for left in (draft, old):
            if left.exists():
                shutil.rmtree(left)
        draft.mkdir(mode=0o700, parents=True)
        for name, content in whole.items():
            _write(draft / name, _bytes(content))
    except OSError as error:
        shutil.rmtree(draft, ignore_errors=True)
        need = sum(len(_bytes(content)) for content in whole.values()) / 1e6
        raise StoreError(
            f"{folder} cannot be written: {error.strerror or error}.",
            f"It takes {need:.1f} MB: make room, or let this user write there. Then build again.",
        ) from error
    if folder.exists():
        folder.rename(old)
    draft.rename(folder)
    _sync(folder.parent)
    if old.exists():
        shutil.rmtree(old)


def read_file(folder: Path, manifest: Mapping[str, Any], name: str) -> str:
    """A text of a version, checked against its hash; StoreError when it is missing or was changed."""
    return read_bytes(folder, manifest, name).decode()


def read_bytes(folder: Path, manifest: Mapping[str, Any], name: str) -> bytes:
    """A file of a version, checked against its hash; StoreError when it is missing or was changed."""
    path = folder / name
    if not path.is_file():
        raise StoreError(f"{path} is missing.", "Build the dataset again: the same exchanges give the same version.")
    data = path.read_bytes()
    if content_hash(data) != manifest["files"][name]:
        raise StoreError(f"{path} was changed after it was frozen.", "Restore it, or build a new version.")
    return data


def check_manifest(folder: Path, manifest: Mapping[str, Any]) -> None:
    """StoreError when the manifest that stands in `folder` is not `manifest`. One that is gone was not changed."""
    path = folder / MANIFEST
    if not path.is_file():
        return
    try:
        is_same = to_json(json.loads(path.read_bytes())) == to_json(dict(manifest))
    except (ValueError, RecursionError):
        is_same = False
    if not is_same:
        raise StoreError(
            f"{path} was changed after it was frozen.",
            "Restore it, or build the dataset again: the same exchanges give the same version, and its files again.",
        )


def is_whole(folder: Path, manifest: Mapping[str, Any]) -> bool:
    """Whether every file of a version is there as it was frozen, its manifest too; and its card, which no hash is made of."""
    try:
        check_manifest(folder, manifest)
        for name in manifest["files"]:
            read_bytes(folder, manifest, name)
    except StoreError:
        return False
    return (folder / MANIFEST).is_file() and (folder / CARD).is_file()


def to_json(value: object, indent: int | None = None) -> str:
    """Canonical JSON: sorted keys, no spaces unless indented."""
    return json.dumps(value, ensure_ascii=False, sort_keys=True, indent=indent, separators=None if indent else (",", ":"))


def _bytes(content: str | bytes) -> bytes:
    return content.encode() if isinstance(content, str) else content


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
