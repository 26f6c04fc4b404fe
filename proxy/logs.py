"""Keeps the logs of the processes under `potstill up` small: a log beyond its size is copied aside and emptied.

It is emptied in place, because the process that writes it holds it open; what it writes between the copy and the emptying,
some microseconds, is lost. Where there is no room for the copy the log is emptied all the same.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import BinaryIO

SUFFIX = ".log"


def rotate(folder: Path, max_bytes: int, keep: int) -> list[str]:
    """Rotates every log in `folder` that is larger than `max_bytes`; a sentence for each that made trouble."""
    troubles: list[str] = []
    for log in sorted(folder.glob(f"*{SUFFIX}")):
        try:
            if log.is_file() and log.stat().st_size > max_bytes:
                troubles += _rotate_one(log, keep)
        except OSError as error:
            troubles.append(f"{log} cannot be made smaller: {error.strerror or error}.")
    return troubles


def _rotate_one(log: Path, keep: int) -> list[str]:
    troubles = []
    try:
        _keep_aside(log, [log.with_name(f"{log.name}.{number}") for number in range(1, keep + 1)])
    except OSError as error:
        troubles.append(f"{log} is emptied without a copy: {error.strerror or error}.")
    os.truncate(log, 0)
    return troubles


def _keep_aside(log: Path, old: list[Path]) -> None:
    for younger, older in zip(reversed(old[:-1]), reversed(old[1:]), strict=True):
        if younger.exists():
            younger.replace(older)
    if not old:
        return
    with log.open("rb") as source, _private(old[0]) as copy:
        try:
            shutil.copyfileobj(source, copy)
        except OSError:
            old[0].unlink()  # half a copy would only take room
            raise


def _private(path: Path) -> BinaryIO:
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb")
