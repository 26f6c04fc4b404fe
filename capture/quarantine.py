"""Copies of segments with unreadable bytes, for a person to look at: `quarantine/<spool id>/` beside the spool."""

from __future__ import annotations

import logging
import os
import shutil
from pathlib import Path

FOLDER_NAME = "quarantine"
LIMIT_BYTES = 256 * 1024 * 1024
_log = logging.getLogger(__name__)


def quarantine_of(spool_root: Path) -> Path:
    """The quarantine of the spools under `spool_root`."""
    return spool_root.parent / FOLDER_NAME


def held(quarantine: Path) -> tuple[int, int]:
    """How many segments are kept there, and their bytes."""
    sizes = [path.stat().st_size for path in quarantine.glob("sp_*/*") if path.is_file()]
    return len(sizes), sum(sizes)


def put_aside(segment: Path, quarantine: Path, limit: int = LIMIT_BYTES) -> str:
    """Copies `segment` whole, unless the quarantine would pass `limit` bytes. Says in words for people what became of it."""
    place = quarantine / segment.parent.name / segment.name
    shown = f"{FOLDER_NAME}/{segment.parent.name}/{segment.name}"
    if place.exists():
        return f"kept in {shown}"
    try:
        files, size = held(quarantine)
        if size + segment.stat().st_size > limit:
            _log.error("spool: the quarantine %s is full with %d segments; %s is not kept", quarantine, files, segment)
            return "not kept, as the quarantine is full"
        _copy(segment, place)
    except OSError as error:
        _log.error("spool: damaged segment %s could not be kept in %s: %s", segment, quarantine, error)
        return f"not kept, as the quarantine cannot be written: {error.strerror}"
    _log.error("spool: segment %s has unreadable bytes; a copy is kept as %s", segment, place)
    return f"kept in {shown}"


def _copy(segment: Path, place: Path) -> None:
    for folder in (place.parent.parent, place.parent):
        folder.mkdir(mode=0o700, exist_ok=True)
    half = place.with_name(f".{place.name}")
    fd = os.open(half, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600)
    with os.fdopen(fd, "wb") as target, segment.open("rb") as source:
        shutil.copyfileobj(source, target, 1024 * 1024)
        target.flush()
        os.fsync(target.fileno())
    half.rename(place)
