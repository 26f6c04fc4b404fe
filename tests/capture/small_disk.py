"""A disk that is full or ill, for code that appends with the `os` module: bytes count down, space put aside counts too."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from capture.reserve import RESERVE_NAME

_CALLS = ("write", "writev", "unlink", "posix_fallocate", "fdatasync")


class SmallDisk:
    """While `left` is a number, so many bytes may still be written; what does not fit is written in part, as on a real disk.

    The next `failing_syncs` syncs of data fail.
    """

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.left: int | None = None
        self.failing_syncs = 0
        self._real = {name: getattr(os, name) for name in _CALLS}
        for name in _CALLS:
            patch.setattr(os, name, getattr(self, f"_{name}"))

    def _take(self, size: int) -> int:
        if self.left is None:
            return size
        if self.left <= 0 < size:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        taken = min(size, self.left)
        self.left -= taken
        return taken

    def _write(self, fd: int, data: bytes | memoryview) -> int:
        return int(self._real["write"](fd, data[: self._take(len(data))]))

    def _writev(self, fd: int, pieces: Sequence[bytes | memoryview]) -> int:
        size = sum(map(len, pieces))
        taken = self._take(size)
        return int(self._real["writev"](fd, pieces) if taken == size else self._real["write"](fd, b"".join(pieces)[:taken]))

    def _fdatasync(self, fd: int) -> None:
        if self.failing_syncs:
            self.failing_syncs -= 1
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        self._real["fdatasync"](fd)

    def _posix_fallocate(self, fd: int, offset: int, size: int) -> None:
        if self.left is not None:
            if self.left < size:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            self.left -= size
        self._real["posix_fallocate"](fd, offset, size)

    def _unlink(self, path: Any, **named: Any) -> None:
        is_reserve = Path(path).name == RESERVE_NAME
        size = os.stat(path).st_size if is_reserve and Path(path).exists() else 0
        self._real["unlink"](path, **named)
        if self.left is not None:
            self.left += size
