"""The relay's side of capture: an append-only log on local disk, one folder per process.

A record is in the kernel when the method returns, so it survives the death of the process; a background thread makes it
survive a power cut within `sync_interval_s`, or as soon as somebody waits for that. Nothing here raises to the relay: what
cannot be written is counted in `dropped` and leaves a GAP record as soon as writing works again.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import threading
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path

from capture import clock, frames, ids, records
from capture.errors import SpoolError
from capture.frames import Record, frame
from capture.records import Begin, End, Gap, Head, Note, Payload
from capture.reserve import Reserve, is_disk_full
from capture.spool_sync import RING_BYTES, Ring, Syncer, Tell

LOCK_NAME = "lock"
SEGMENT_SUFFIX = ".seg"
MIB = 1024 * 1024
PIECE_BYTES = 256 * 1024
"""Most of a body that one record carries."""
_NOBODY = bytes(16)
_SEGMENTS = 8  # a full spool has at least so many, so that what is stored can go piece by piece
_GAP_US = 1_000_000  # while the spool is full, losses are written down once a second
_LAST_WORDS = (records.END, records.GAP)
_log = logging.getLogger(__name__)


def segment_name(number: int) -> str:
    """The file name of segment `number`."""
    return f"{number:010d}{SEGMENT_SUFFIX}"


def read_records(path: Path, position: int = 0) -> Iterator[Record]:
    """Readable records of segment `path` from byte `position` on; damage in the middle is skipped, a torn tail ends it."""
    for found in frames.scan(path.read_bytes(), position, frames.salt_of(path.parent.name)):
        if isinstance(found, Record):
            yield found


def _close(descriptors: list[int]) -> None:
    for fd in descriptors:
        try:
            os.close(fd)
        except OSError as error:  # the kernel has let go of it all the same
            _log.error("spool: closing a segment said: %s", error)


class SpoolWriter:
    """Writes one process's spool under `root`. All methods but `close` and `sync` belong to one thread, the event loop's.

    `max_bytes` is the most that may wait for the store writer; beyond it new exchanges are dropped and counted.
    `reserve_bytes` of disk are put aside for the ENDs and GAPs of a full disk.
    """

    def __init__(
        self,
        root: Path,
        *,
        sync_interval_s: float = 0.1,
        segment_bytes: int = 16 * MIB,
        segment_seconds: float = 5.0,
        max_bytes: int = 2048 * MIB,
        ring_bytes: int = RING_BYTES,
        reserve_bytes: int = MIB,
    ) -> None:
        self.spool_id = ids.new_id("sp")
        self.folder = root / self.spool_id
        self.max_bytes = max_bytes
        self.dropped = 0
        """Exchanges that could not be kept whole, since the start."""
        self.sync_failures = 0
        """How often the disk refused to make records durable, since the start."""
        self.unsure = 0
        """Records that a failed sync may have cost should the power fail, because they did not fit in memory any more."""
        self.sync_us = 0
        """How long the last sync took, in microseconds."""
        self.synced = (1, 0)
        """Segment and offset before which everything survives a power cut."""
        self._segment_bytes, self._segment_ns = min(segment_bytes, max_bytes // _SEGMENTS), int(segment_seconds * 1e9)
        self._reserve_bytes = reserve_bytes
        self._look_ns, self._looked_ns = int(sync_interval_s * 1e9), 0
        self._salt = frames.salt_of(self.spool_id)
        self._seq = self._synced_seq = 0
        self._ring = Ring(ring_bytes)
        self._waiting_bytes = 0
        self._kept: set[bytes] = set()
        self._gap: Gap | None = None
        self._losing = threading.RLock()  # held for every change to the gap
        self._retired: list[int] = []
        self._must_start_over = False
        self._is_closed = False
        self._files = threading.Lock()  # held for every change to the segments
        self._syncing = threading.Lock()
        self._create(root)
        self._syncer = Syncer(self._sync_and_look, sync_interval_s, idle_s=segment_seconds)
        self._dirty = self._syncer.dirty

    def _create(self, root: Path) -> None:
        """Locks the folder before the store writer can see it, else it would take us for dead."""
        hidden = root / f".{self.spool_id}"
        try:
            hidden.mkdir(mode=0o700, parents=True)
            self._lock = os.open(hidden / LOCK_NAME, os.O_CREAT | os.O_RDWR, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._number = 0
            self._open_segment(hidden)
            self._reserve = Reserve(hidden, self._reserve_bytes)
            hidden.rename(self.folder)
            self._reserve.moved(self.folder)
            self._folder_fd = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY)
            os.fsync(self._folder_fd)
            self._listed = self._number
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
        """Keeps the request; True when it is safe. The rest of an exchange whose BEGIN was lost is not kept either.

        Of a large body `begin` has the first `PIECE_BYTES`, and `body` is called with the rest.
        """
        if self._is_full:
            self._dirty.set()  # has the sync thread look again
            self._lose(raw_id, "the disk is full" if self._reserve.is_spent else "the spool is full", has_begin=False)
            return False
        self._kept.add(raw_id)
        return self._append(records.BEGIN, raw_id, begin, has_begin=False)

    def body(self, raw_id: bytes, data: bytes | memoryview) -> bool:
        """Keeps the next bytes of a large request body."""
        return self._append_pieces(records.BODY, raw_id, data)

    def head(self, raw_id: bytes, head: Head) -> bool:
        """Keeps status and headers of the response."""
        return self._append(records.HEAD, raw_id, head)

    def part(self, raw_id: bytes, data: bytes | memoryview) -> bool:
        """Keeps response bytes; to be called before they are forwarded."""
        if len(data) > PIECE_BYTES:
            return self._append_pieces(records.PART, raw_id, data)
        return self._append(records.PART, raw_id, data)

    def end(self, raw_id: bytes, end: End) -> bool:
        """Closes the exchange; to be called before its last byte is forwarded."""
        is_kept = self._append(records.END, raw_id, end)
        self._kept.discard(raw_id)
        return is_kept

    def answer(self, raw_id: bytes, head: Head, body: bytes, end: End) -> bool:
        """Keeps an answer that is whole already, as `head`, `part` and `end` do, with one write where that is possible."""
        if raw_id in self._kept and self._gap is None and not self._is_full and len(body) <= PIECE_BYTES:
            try:
                parts = [(records.PART, body)] if body else []
                self._write_together(raw_id, [(records.HEAD, records.encode(head)), *parts, (records.END, records.encode(end))])
            except Exception as error:  # record by record it goes as far as it can, and what fails is counted
                _log.debug("spool: an answer could not be written at once: %s", error)
            else:
                self._kept.discard(raw_id)
                return True
        if not self.head(raw_id, head):
            return False
        if body:
            self.part(raw_id, body)
        return self.end(raw_id, end)

    def note(self, raw_id: bytes, note: Note) -> bool:
        """Keeps feedback under `raw_id`, an id of its own; True when it is safe, and False is the sender's to hear."""
        if self._is_full:
            self._dirty.set()
            return False
        try:
            self._write(records.NOTE, raw_id, records.encode(note))
        except Exception as error:  # capture must not fail the relay
            _log.warning("spool: feedback could not be kept: %s", error)
            return False
        return True

    def when_durable(self, tell: Tell) -> None:
        """Has `tell` called, on another thread, with whether all that was appended so far survives a power cut."""
        self._syncer.when_durable(tell)

    def close(self) -> None:
        """Makes everything durable and lets go of the folder; what is still open will be stored as interrupted."""
        if self._is_closed:
            return
        self._is_closed = True
        self._syncer.close()
        self._write_gap()
        if not self.sync():
            self.sync()
        self._reserve.spend()
        for fd in (self._fd, self._folder_fd, self._lock):
            os.close(fd)

    def _append_pieces(self, kind: int, raw_id: bytes, data: bytes | memoryview) -> bool:
        view = memoryview(data)
        return all(self._append(kind, raw_id, view[start : start + PIECE_BYTES]) for start in range(0, len(view), PIECE_BYTES))

    def _append(self, kind: int, raw_id: bytes, payload: bytes | memoryview | Payload, has_begin: bool = True) -> bool:
        if raw_id not in self._kept:
            return False
        try:
            if self._gap is not None and not self._is_full:
                self._write_gap()
            self._write(kind, raw_id, payload if isinstance(payload, (bytes, memoryview)) else records.encode(payload))
        except Exception as error:  # whatever it is: capture must not fail the relay
            if not isinstance(error, OSError):
                _log.exception("spool: a record of exchange %s could not be made", ids.format_id("ex", raw_id))
            self._kept.discard(raw_id)
            reason = (isinstance(error, OSError) and error.strerror) or type(error).__name__
            self._lose(raw_id, f"the spool could not be written: {reason}", has_begin)
            return False
        return True

    def _write(self, kind: int, raw_id: bytes, payload: bytes | memoryview) -> None:
        now = clock.monotonic_ns()
        if self._reserve.is_spent and kind not in _LAST_WORDS:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        with self._files:
            if self._size and (self._size >= self._segment_bytes or now - self._opened_ns >= self._segment_ns):
                self._rotate()
            record = (frame(self._salt, kind, self._seq, now, clock.now_us() * 1000, raw_id, payload), payload)
            try:
                size = self._put(record)
            except OSError as error:
                if not (is_disk_full(error) and kind in _LAST_WORDS and self._reserve.spend()):
                    raise
                _log.error("spool: the disk of %s is full; no exchange is kept until there is space", self.folder)
                size = self._put(record)
            self._ring.keep((record,), size)
            self._seq += 1
        if not self._dirty.is_set():
            self._dirty.set()

    def _write_together(self, raw_id: bytes, found: list[tuple[int, bytes]]) -> None:
        """Writes several records of one exchange, or none of them."""
        now = clock.monotonic_ns()
        with self._files:
            if self._size and (self._size >= self._segment_bytes or now - self._opened_ns >= self._segment_ns):
                self._rotate()
            wall, salt, seq = clock.now_us() * 1000, self._salt, self._seq
            framed = []
            for kind, payload in found:
                framed.append((frame(salt, kind, seq, now, wall, raw_id, payload), payload))
                seq += 1
            self._ring.keep(framed, self._put(list(chain.from_iterable(framed))))
            self._seq = seq
        if not self._dirty.is_set():
            self._dirty.set()

    def _put(self, pieces: Sequence[bytes | memoryview]) -> int:
        """Writes records to the end of the segment, or nothing of them; how many bytes that is."""
        length = sum(map(len, pieces))
        written = os.writev(self._fd, pieces)
        if written < length:
            self._put_rest(memoryview(b"".join(pieces)), written)
        self._size += length
        self._waiting_bytes += length
        return length

    def _put_rest(self, record: memoryview, written: int) -> None:
        try:
            while written < len(record):
                written += os.write(self._fd, record[written:])
        except OSError:
            self._size += written
            self._cut_back(written)
            raise

    def _cut_back(self, torn: int) -> None:
        """Takes half a record off the end; should that fail too, the reader finds the next record behind it."""
        try:
            os.ftruncate(self._fd, self._size - torn)
            self._size -= torn
        except OSError as error:
            _log.warning("spool: a torn record stays in %s: %s", self.folder / segment_name(self._number), error)

    @property
    def _is_full(self) -> bool:
        return self._waiting_bytes > self.max_bytes or self._reserve.is_spent

    def _rotate(self) -> None:
        """The next segment; the old one stays in use when none can be opened (no file descriptors left)."""
        old = self._fd
        try:
            self._open_segment(self.folder)
        except OSError as error:
            self._opened_ns = clock.monotonic_ns()
            _log.warning("spool: no new segment in %s: %s", self.folder, error)
            return
        self._retired.append(old)

    def _lose(self, raw_id: bytes, reason: str, has_begin: bool) -> None:
        self.dropped += 1
        now = clock.now_us()
        with self._losing:
            gap = self._gap
            broken = [*(gap.broken if gap else []), *([raw_id] if has_begin else [])]
            self._gap = Gap(gap.from_us if gap else now, now, (gap.lost if gap else 0) + 1, gap.reason if gap else reason, broken)
            self._write_old_gap()
        self._dirty.set()  # should nothing follow, the sync thread writes the gap

    def _write_old_gap(self) -> None:
        """Writes a gap that has waited for a second, however full the spool is."""
        if self._gap is not None and abs(clock.now_us() - self._gap.from_us) > _GAP_US:
            self._write_gap()

    def _write_gap(self) -> None:
        with self._losing:
            if self._gap is None:
                return
            try:
                self._write(records.GAP, _NOBODY, records.encode(self._gap))
            except OSError as error:
                _log.debug("spool: still not writable: %s", error)
                return
            self._gap = None

    def _sync_and_look(self) -> bool:
        is_durable = self.sync()
        if clock.monotonic_ns() - self._looked_ns >= self._look_ns:  # in strict mode there are many syncs
            self.look()
        with self._losing:
            self._write_old_gap() if self._is_full else self._write_gap()
            if self._gap is not None:
                self._dirty.set()
        return is_durable

    def look(self) -> None:
        """Looks how much waits for the store writer, and whether the disk has space again. The thread does so with its syncs."""
        self._looked_ns = clock.monotonic_ns()
        try:
            with os.scandir(self.folder) as entries:
                waiting = sum(entry.stat().st_size for entry in entries if entry.name.endswith(SEGMENT_SUFFIX))
        except OSError:
            self._dirty.set()  # the store writer took a segment away while we were counting
        else:
            self._waiting_bytes = waiting
            self._roll_on(is_full=waiting > self.max_bytes)
        if self._reserve.is_spent and not self._is_closed:
            self._reserve.take()

    def _roll_on(self, is_full: bool) -> None:
        """Ends the segment when it is old or takes space that is wanted, so that nothing stays on disk that is stored."""
        with self._files:
            if self._size and (is_full or clock.monotonic_ns() - self._opened_ns >= self._segment_ns):
                self._rotate()
                self._dirty.set()

    def sync(self) -> bool:
        """Makes durable what was appended before the call; may be called from any thread. False when the disk refuses.

        After a refusal the records that are not known to be durable stand in a new segment, and the next sync is about it.
        """
        with self._syncing:
            if self._must_start_over:
                self._start_over()
                if self._must_start_over:
                    return False
            with self._files:
                retired, self._retired = self._retired, []
                fd, number, seq, at = self._fd, self._number, self._seq, (self._number, self._size)
            started_ns = clock.monotonic_ns()
            try:
                for each in (*retired, fd):
                    os.fdatasync(each)
                if number != self._listed:
                    os.fsync(self._folder_fd)
            except OSError as error:
                # The kernel may have forgotten the pages: a second try on this descriptor could succeed without them.
                self.sync_failures += 1
                _log.error("spool: segment %d in %s could not be made durable: %s", number, self.folder, error)
                self._start_over()
                return False
            finally:
                _close(retired)
                self.sync_us = (clock.monotonic_ns() - started_ns) // 1000
            with self._files:
                self._ring.forget(seq)
            self._listed, self._synced_seq, self.synced = number, seq, at
            return True

    def _start_over(self) -> None:
        """Writes what is not known to be durable to a new segment; `_must_start_over` stays set when that does not work."""
        self._must_start_over = True
        with self._files:
            distrusted = [*self._retired, self._fd]
            try:
                self._open_segment(self.folder)
            except OSError as error:
                _log.error("spool: no new segment in %s after a failed sync: %s", self.folder, error)
                return
            self._retired = []
            _close(distrusted)
            self.unsure += max(0, self._ring.first - self._synced_seq)
            self._synced_seq = max(self._synced_seq, self._ring.first)
            try:
                for record in self._ring:
                    self._put(record)
            except OSError as error:
                _log.error("spool: records could not be written again in %s: %s", self.folder, error)
                return
            self._must_start_over = False
