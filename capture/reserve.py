"""Disk space put aside, so that the last words about what is going on can be written when the disk is full."""

from __future__ import annotations

import errno
import logging
import os
import shutil
from pathlib import Path

RESERVE_NAME = "reserve"
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
_log = logging.getLogger(__name__)


def is_disk_full(error: Exception) -> bool:
    """Whether `error` says that there is no space left."""
    return isinstance(error, OSError) and error.errno in _DISK_FULL


def quota(folder: Path, most: int, sharers: int = 1) -> int:
    """Bytes that a spool under `folder` may take: `most`, and never more than its share of a tenth of the free disk."""
    return min(most, shutil.disk_usage(folder).free // (10 * max(1, sharers)))


class Reserve:
    """`size` bytes of disk in a file of `folder`. While it is spent, nothing but last words may be written."""

    def __init__(self, folder: Path, size: int) -> None:
        self.is_spent = False
        self._path, self._size = folder / RESERVE_NAME, size
        self.take()

    def take(self) -> None:
        """Puts the space aside (again). It stays spent when the disk is full; other errors mean doing without."""
        try:
            fd = os.open(self._path, os.O_CREAT | os.O_RDWR, 0o600)
            try:
                os.posix_fallocate(fd, 0, self._size)
            finally:
                os.close(fd)
        except OSError as error:
            self._path.unlink(missing_ok=True)
            level = logging.DEBUG if self.is_spent else logging.WARNING  # while the disk is full, this is tried again and again
            self.is_spent = is_disk_full(error)
            _log.log(level, "spool: no space could be put aside as %s: %s", self._path, error)
            return
        self.is_spent = False

    def spend(self) -> bool:
        """Gives the space back to the disk; False when that was done before."""
        if self.is_spent:
            return False
        self.is_spent = True
        self._path.unlink(missing_ok=True)
        return True

    def moved(self, folder: Path) -> None:
        """To be told when the folder has a new name."""
        self._path = folder / RESERVE_NAME
