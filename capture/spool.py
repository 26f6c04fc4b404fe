"""The relay's side of capture: an append-only log on local disk, one folder per process.

A record is in the kernel when the method returns, so it survives the death of the process; a background thread makes it
survive a power cut within `sync_interval_s`. Nothing here raises to the relay: what cannot be written is counted in
`dropped` and leaves a GAP record as soon as writing works again.
"""

from __future__ import annotations

import fcntl
import logging
import os
import threading
from collections import deque
from collections.abc import Iterator
from pathlib import Path

from capture import clock, frames, ids, records
from capture.errors import SpoolError
from capture.frames import Record
from capture.records import Begin, End, Gap, Head, Note

LOCK_NAME = "lock"
SEGMENT_SUFFIX = ".seg"
MIB = 1024 * 1024
_NOBODY = bytes(16)
_GAP_US = 1_000_000  # while the spool is full, losses are written down once a second
_log = logging.getLogger(__name__)


def segment_name(number: int) -> str:
    """The file name of segment `number`."""
    return f"{number:010d}{SEGMENT_SUFFIX}"


def read_records(path: Path, position: int = 0) -> Iterator[Record]:
    """Readable records of segment `path` from byte `position` on; damage in the middle is skipped, a torn tail ends it."""
    for found in frames.scan(path.read_bytes(), position, frames.salt_of(path.parent.name)):
        if isinstance(found, Record):
            yield found


class SpoolWriter:
    """Writes one process's spool under `root`. All methods but `close` belong to one thread, the event loop's.

    `max_bytes` is the most that may wait for the store writer; beyond it new exchanges are dropped and counted.
    """

    def __init__(
        self,
        root: Path,
        *,
        sync_interval_s: float = 0.1,
        segment_bytes: int = 16 * MIB,
        segment_seconds: float = 5.0,
        max_bytes: int = 2048 * MIB,
    ) -> None:
        self.spool_id = ids.new_id("sp")
        self.folder = root / self.spool_id
        self.dropped = 0
        """Exchanges that could not be kept whole, since the start."""
        self._segment_bytes, self._segment_ns = segment_bytes, int(segment_seconds * 1e9)
        self._max_bytes, self._sync_interval_s = max_bytes, sync_interval_s
        self._salt = frames.salt_of(self.spool_id)
        self._seq = 0
        self._waiting_bytes = 0
        self._kept: set[bytes] = set()
        self._gap: Gap | None = None
        self._must_rotate = False
        self._retired: deque[int] = deque()
        self._dirty = threading.Event()
        self._closing = threading.Event()
        self._create(root)
        self._syncer = threading.Thread(target=self._sync_forever, name="spool-sync", daemon=True)
        self._syncer.start()

    def _create(self, root: Path) -> None:
        """Locks the folder before the store writer can see it, else it would take us for dead."""
        hidden = root / f".{self.spool_id}"
        try:
            hidden.mkdir(mode=0o700, parents=True)
            self._lock = os.open(hidden / LOCK_NAME, os.O_CREAT | os.O_RDWR, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._number = 0
            self._open_segment(hidden)
            hidden.rename(self.folder)
            self._folder_fd = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY)
            os.fsync(self._folder_fd)
            root_fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
            os.fsync(root_fd)
            os.close(root_fd)
        except OSError as error:
            raise SpoolError(f"The spool folder {root} cannot be used: {error}.", "Give it space and write access.") from error

    def _open_segment(self, folder: Path) -> None:
        path = folder / segment_name(self._number + 1)
        self._fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_APPEND, 0o600)
        self._number += 1
        self._size = 0
        self._opened_ns = clock.monotonic_ns()

    def begin(self, raw_id: bytes, begin: Begin) -> bool:
        """Keeps the request; True when it is safe. The rest of an exchange whose BEGIN was lost is not kept either."""
        if self._is_full:
            self._dirty.set()  # has the sync thread measure again
            self._lose(raw_id, "the spool is full", has_begin=False)
            return False
        self._kept.add(raw_id)
        return self._append(records.BEGIN, raw_id, records.encode(begin), has_begin=False)

    def head(self, raw_id: bytes, head: Head) -> bool:
        """Keeps status and headers of the response."""
        return self._append(records.HEAD, raw_id, records.encode(head))

    def part(self, raw_id: bytes, data: bytes | memoryview) -> bool:
        """Keeps response bytes; to be called before they are forwarded."""
        return self._append(records.PART, raw_id, data)

    def end(self, raw_id: bytes, end: End) -> bool:
        """Closes the exchange; to be called before its last byte is forwarded."""
        is_kept = self._append(records.END, raw_id, records.encode(end))
        self._kept.discard(raw_id)
        return is_kept

    def note(self, raw_id: bytes, note: Note) -> bool:
        """Keeps feedback under `raw_id`, an id of its own; True when it is safe, and False is the sender's to hear."""
        if self._is_full:
            self._dirty.set()
            return False
        try:
            self._write(records.NOTE, raw_id, records.encode(note))
        except OSError as error:
            _log.warning("spool: feedback could not be kept: %s", error)
            return False
        return True

    def close(self) -> None:
        """Makes everything durable and lets go of the folder; what is still open will be stored as interrupted."""
        if self._closing.is_set():
            return
        self._closing.set()
        self._dirty.set()
        self._syncer.join()
        self._write_gap()
        self._sync()
        for fd in (self._fd, self._folder_fd, self._lock):
            os.close(fd)

    def _append(self, kind: int, raw_id: bytes, payload: bytes | memoryview, has_begin: bool = True) -> bool:
        if raw_id not in self._kept:
            return False
        try:
            if self._gap is not None and not self._is_full:
                self._write_gap()
            self._write(kind, raw_id, payload)
        except OSError as error:
            self._kept.discard(raw_id)
            self._lose(raw_id, f"the spool could not be written: {error.strerror}", has_begin)
            return False
        return True

    def _write(self, kind: int, raw_id: bytes, payload: bytes | memoryview) -> None:
        now = clock.monotonic_ns()
        if self._size and (self._size >= self._segment_bytes or self._must_rotate or now - self._opened_ns >= self._segment_ns):
            self._rotate()
        header = frames.frame(self._salt, kind, self._seq, now, clock.now_us() * 1000, raw_id, payload)
        length = len(header) + len(payload)
        written = 0
        try:
            written = os.writev(self._fd, (header, payload))
            if written < length:
                rest = memoryview(header + bytes(payload))
                while written < length:
                    written += os.write(self._fd, rest[written:])
        except OSError:
            if written:
                self._size += written
                self._cut_back(written)
            raise
        self._seq += 1
        self._size += length
        self._dirty.set()

    def _cut_back(self, torn: int) -> None:
        """Takes half a record off the end; should that fail too, the reader finds the next record behind it."""
        try:
            os.ftruncate(self._fd, self._size - torn)
            self._size -= torn
        except OSError as error:
            _log.warning("spool: a torn record stays in %s: %s", self.folder / segment_name(self._number), error)

    @property
    def _is_full(self) -> bool:
        return self._waiting_bytes > self._max_bytes

    def _rotate(self) -> None:
        """The next segment; the old one stays in use when none can be opened (no file descriptors left)."""
        old = self._fd
        try:
            self._open_segment(self.folder)
        except OSError as error:
            self._opened_ns = clock.monotonic_ns()
            _log.warning("spool: no new segment in %s: %s", self.folder, error)
            return
        self._must_rotate = False
        self._retired.append(old)

    def _lose(self, raw_id: bytes, reason: str, has_begin: bool) -> None:
        self.dropped += 1
        now, gap = clock.now_us(), self._gap
        broken = [*(gap.broken if gap else []), *([raw_id] if has_begin else [])]
        self._gap = Gap(gap.from_us if gap else now, now, (gap.lost if gap else 0) + 1, gap.reason if gap else reason, broken)
        if now - self._gap.from_us > _GAP_US:
            self._write_gap()

    def _write_gap(self) -> None:
        if self._gap is None:
            return
        try:
            self._write(records.GAP, _NOBODY, records.encode(self._gap))
        except OSError as error:
            _log.debug("spool: still not writable: %s", error)
            return
        self._gap = None

    def _sync_forever(self) -> None:
        while not self._closing.is_set():
            self._dirty.wait()
            self._closing.wait(self._sync_interval_s)
            self._dirty.clear()
            self._sync()

    def _sync(self) -> None:
        number = self._number
        try:
            while self._retired:
                fd = self._retired.popleft()
                try:
                    os.fdatasync(fd)
                finally:
                    os.close(fd)
            os.fdatasync(self._fd)
            os.fsync(self._folder_fd)
            with os.scandir(self.folder) as entries:
                self._waiting_bytes = sum(entry.stat().st_size for entry in entries)
        except FileNotFoundError:
            self._dirty.set()  # the store writer took a segment away while we were counting
        except OSError as error:
            # After a failed sync the kernel may have forgotten the pages: never trust this descriptor again.
            self._must_rotate = True
            _log.error("spool: segment %d in %s could not be made durable: %s", number, self.folder, error)
