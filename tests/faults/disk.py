"""A disk that remembers what a power cut may take: every write under a folder, and what was synced when.

The rule is the weakest that POSIX allows. A write is safe once its file was synced after it; the name of a file, once its
folder was. Of all the rest any part may be missing after the cut: single writes, half writes, names.
"""

from __future__ import annotations

import errno
import os
import random
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

_SHARES = (0.0, 0.2, 0.5, 0.9, 1.0)
"""How much of what is not safe survives; each cut draws one."""


@dataclass
class Change:
    """One change to file `node` (bytes at `offset`, or a new `size`), or to the names in folder `node`."""

    at: int
    node: int
    offset: int = 0
    data: bytes = b""
    size: int | None = None
    removed: str = ""
    added: str = ""
    target: int = 0
    safe_at: int | None = None
    """When a sync that covers it was over; None until then."""
    is_forgotten: bool = False
    """A sync that failed has dropped it from memory: no later sync makes it safe, though it will say so."""

    def is_safe(self, moment: int) -> bool:
        """Whether no power cut at `moment` or later can take it."""
        return self.safe_at is not None and self.safe_at <= moment


class Disk:
    """Watches the folder `root` while `watching`. `clock` counts changes and syncs; `changes` is all that happened."""

    def __init__(self, root: Path) -> None:
        root.mkdir(parents=True, exist_ok=True)
        self.root = root
        self.clock = 0
        self.refusals = 0
        """How many of the next syncs fail."""
        self.changes: list[Change] = []
        self._nodes = {root: 0}
        self._folders = {0}
        self._count = 0
        self._open: dict[int, int] = {}
        self._lock = threading.RLock()

    @property
    def volatile(self) -> list[Change]:
        """What a power cut at this moment could take."""
        with self._lock:
            return [change for change in self.changes if change.safe_at is None and self._is_reachable(change)]

    def _is_reachable(self, change: Change) -> bool:
        """Bytes of a file that has been removed again need not be safe."""
        return change.node in self._nodes.values() or change.node in self._open.values()

    def survivors(self, moment: int, generator: random.Random, shares: Sequence[float] = _SHARES) -> list[Change]:
        """The changes that are on disk after a power cut at `moment`: all that are safe, and some of the others."""
        share = generator.choice(shares)
        before = [change for change in self.changes if change.at < moment]
        return [change for change in before if change.is_safe(moment) or generator.random() < share]

    def lay_out_safe(self, target: Path) -> None:
        """Makes `target` the least that the root may be after a power cut at this moment."""
        with self._lock:
            self.lay_out(self.clock, target, random.Random(0), (0.0,))

    def lay_out(self, moment: int, target: Path, generator: random.Random, shares: Sequence[float] = _SHARES) -> None:
        """Makes `target` what the root may be after a power cut at `moment`."""
        contents: dict[int, bytearray] = {}
        names: dict[int, dict[str, int]] = {}
        for change in self.survivors(moment, generator, shares):
            content = contents.setdefault(change.node, bytearray())
            if change.added or change.removed:
                folder = names.setdefault(change.node, {})
                folder.pop(change.removed, None)
                folder.update({change.added: change.target} if change.added else {})
            elif change.size is not None:
                content[:] = content[: change.size].ljust(change.size, b"\0")
            else:
                is_torn = not change.is_safe(moment) and generator.random() < 0.2
                data = change.data[: generator.randrange(len(change.data) + 1)] if is_torn else change.data
                content[:] = content.ljust(change.offset, b"\0")
                content[change.offset : change.offset + len(data)] = data
        self._write_out(0, target, contents, names)

    def _write_out(self, node: int, target: Path, contents: dict[int, bytearray], names: dict[int, dict[str, int]]) -> None:
        target.mkdir()
        for name, each in names.get(node, {}).items():
            if each in self._folders:
                self._write_out(each, target / name, contents, names)
            else:
                (target / name).write_bytes(contents.get(each, b""))

    @contextmanager
    def watching(self) -> Iterator[Disk]:
        """Listens to the `os` module while the context lasts; syncs are believed and not done. Space put aside is no content."""
        listeners: dict[str, Callable[[Any, tuple[Any, ...]], None]] = {
            "open": self._opened,
            "close": lambda _, arguments: self._open.pop(arguments[0], None) and None,
            "write": lambda size, arguments: self._wrote(arguments[0], [arguments[1]], size),
            "writev": lambda size, arguments: self._wrote(arguments[0], arguments[1], size),
            "pwrite": lambda size, arguments: self._wrote(arguments[0], [arguments[1]], size, arguments[2]),
            "ftruncate": lambda _, arguments: self._resized(arguments[0], arguments[1]),
            "mkdir": lambda _, arguments: self._made(Path(arguments[0])),
            "unlink": lambda _, arguments: self._removed(Path(arguments[0])),
            "rmdir": lambda _, arguments: self._removed(Path(arguments[0])),
            "rename": lambda _, arguments: self._renamed(Path(arguments[0]), Path(arguments[1])),
            "replace": lambda _, arguments: self._renamed(Path(arguments[0]), Path(arguments[1])),
        }
        with pytest.MonkeyPatch.context() as patch:
            for name, listener in listeners.items():
                patch.setattr(os, name, self._heard(getattr(os, name), listener))
            for name in ("fsync", "fdatasync"):
                patch.setattr(os, name, self._sync)
            yield self

    def _heard(self, real: Any, listener: Callable[[Any, tuple[Any, ...]], None]) -> Any:
        def call(*arguments: Any, **named: Any) -> Any:
            with self._lock:
                result = real(*arguments, **named)
                listener(result, arguments)
                return result

        return call

    def _note(self, node: int, **what: Any) -> None:
        self.changes.append(Change(self.clock, node, **what))
        self.clock += 1

    def _is_ours(self, path: Path) -> bool:
        return path.parent in self._nodes

    def _enter(self, path: Path) -> int:
        self._count += 1
        self._nodes[path] = self._count
        self._note(self._nodes[path.parent], added=path.name, target=self._count)
        return self._count

    def _opened(self, fd: int, arguments: tuple[Any, ...]) -> None:
        if isinstance(arguments[0], int):
            return
        path = Path(arguments[0])
        if path in self._nodes:
            self._open[fd] = self._nodes[path]
        elif self._is_ours(path):
            self._open[fd] = self._enter(path)

    def _wrote(self, fd: int, buffers: Sequence[Any], size: int, offset: int | None = None) -> None:
        if fd in self._open:
            data = b"".join(bytes(buffer) for buffer in buffers)[:size]
            start = os.lseek(fd, 0, os.SEEK_CUR) - size if offset is None else offset
            self._note(self._open[fd], offset=start, data=data)

    def _resized(self, fd: int, size: int) -> None:
        if fd in self._open:
            self._note(self._open[fd], size=size)

    def _made(self, path: Path) -> None:
        if self._is_ours(path):
            self._folders.add(self._enter(path))

    def _removed(self, path: Path) -> None:
        if path in self._nodes:
            del self._nodes[path]
            self._note(self._nodes[path.parent], removed=path.name)

    def _renamed(self, old: Path, new: Path) -> None:
        if old in self._nodes:
            assert old.parent == new.parent, "only within a folder"
            moved = {path: node for path, node in self._nodes.items() if path.is_relative_to(old)}
            for path in moved:
                del self._nodes[path]
            self._nodes |= {new / path.relative_to(old): node for path, node in moved.items()}
            self._note(self._nodes[new.parent], removed=old.name, added=new.name, target=moved[old])

    def _sync(self, fd: int) -> None:
        with self._lock:
            self.clock += 1
            unsafe = [change for change in self.changes if change.node == self._open.get(fd) and change.safe_at is None]
            is_refused = self.refusals > 0 and bool(unsafe)
            for change in unsafe:
                if is_refused:
                    change.is_forgotten = True
                elif not change.is_forgotten:
                    change.safe_at = self.clock
            if is_refused:
                self.refusals -= 1
                raise OSError(errno.EIO, os.strerror(errno.EIO))
