"""The store writer's side of a spool: follows the segments of one relay and gathers records into whole exchanges.

`low_water` is where reading must begin again after a crash: the oldest BEGIN that is not finished, or where the open
exchanges were carried to. Segments wholly before it hold nothing that is not in the store, once what was handed out has
been committed.
"""

from __future__ import annotations

import fcntl
import logging
import os
from pathlib import Path

from msgspec.msgpack import Decoder

from capture import frames, ids, quarantine, records
from capture.carried import carry, drop_carried, pick_up
from capture.errors import SpoolError
from capture.frames import Record
from capture.records import Begin, End, Gap, Head, Note
from capture.reserve import RESERVE_NAME
from capture.spool import LOCK_NAME, SEGMENT_SUFFIX, segment_name
from capture.spooled import Position, SpoolBatch, SpooledExchange, SpooledGap, SpooledNote

__all__ = ["Position", "SpoolBatch", "SpoolReader", "SpooledExchange", "SpooledGap", "SpooledNote"]

_log = logging.getLogger(__name__)
_WINDOW = 1024 * 1024
_CARRY_AFTER = 8
_MOST_HOLES = 100_000
_decode_begin, _decode_head, _decode_end = Decoder(Begin).decode, Decoder(Head).decode, Decoder(End).decode


class SpoolReader:
    """Follows the spool in `folder` from `start` on (from its first segment when None).

    An exchange that stays open over `carry_after` segments no longer holds them back. Damaged segments are copied to the
    quarantine beside the spool.
    """

    def __init__(self, folder: Path, start: Position | None, *, carry_after: int = _CARRY_AFTER) -> None:
        self.folder = folder
        self.spool_id = folder.name
        self.is_dead = False
        """Its relay is gone and everything was read: the folder may be removed once the store has it all."""
        self._salt = frames.salt_of(self.spool_id)
        self._carry_after = carry_after
        self._open: dict[bytes, SpooledExchange] = {}
        self._lock: int | None = None
        self._segment: tuple[int, int] | None = None
        self._is_sealed = False
        self._damaged: set[int] = set()
        self._wall_us = 0
        self._next_seq = -1
        self._excused_seq = -1
        self._holes: set[int] = set()
        self._early: list[SpooledGap] = []
        self._strangers: set[str] = set()
        oldest = min(self._segments(), default=1)
        self._cursor = start if start is not None and start[0] >= oldest else (oldest, 0)
        self._pick_up()

    @property
    def cursor(self) -> Position:
        """How far the spool was read."""
        return self._cursor

    @property
    def low_water(self) -> Position:
        """Everything before this position is finished, or was carried to it."""
        return min((exchange.begin_at for exchange in self._open.values()), default=self._cursor)

    def read(self, want: int) -> SpoolBatch:
        """The next exchanges that are over: about `want` of them, the rest next time; none when nothing new is there.

        SpoolError when the spool cannot be read on; what comes before that place was given by the call before, and the next
        call tries that place again.
        """
        batch = SpoolBatch()
        try:
            self._gather(want, batch)
        except OSError as error:
            self._close_segment()
            if batch.finished or batch.gaps or batch.notes:
                return batch  # the error comes again
            path = self.folder / segment_name(self._cursor[0])
            raise SpoolError(f"The spool segment {path} cannot be read: {error}.", "Check the disk.") from error
        return batch

    def _gather(self, want: int, batch: SpoolBatch) -> None:
        has_no_relay = self._take_lock()
        batch.gaps, self._early = self._early, []
        while not batch.is_enough(want):
            # Asked before reading: once there is a next segment, nothing more is written to this one.
            following = self._following()
            self._is_sealed = following is not None
            is_through = self._read_segment(want, batch)
            if not is_through:
                return
            if following is None:
                if has_no_relay:
                    for exchange in self._open.values():
                        batch.add(exchange)
                    self._open.clear()
                    self.is_dead = True
                return
            self._leave_segment(following)

    def drop_before(self, low_water: Position) -> None:
        """Removes the segments wholly before `low_water`; the whole folder when the relay is dead and all was read."""
        numbers = self._segments() if self.is_dead else [number for number in self._segments() if number < low_water[0]]
        for number in numbers:
            (self.folder / segment_name(number)).unlink(missing_ok=True)
        drop_carried(self.folder, None if self.is_dead else low_water)
        if self.is_dead:
            for name in (RESERVE_NAME, LOCK_NAME):
                (self.folder / name).unlink(missing_ok=True)
            self.close()
            try:
                self.folder.rmdir()
            except OSError as error:
                _log.warning("spool: everything in %s is stored, but the folder stays: %s", self.folder, error)

    def close(self) -> None:
        """Lets go of the files, and of the lock that a dead relay left."""
        self._close_segment()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _segments(self) -> list[int]:
        numbers = []
        for path in self.folder.glob(f"*{SEGMENT_SUFFIX}"):
            stem = path.name.removesuffix(SEGMENT_SUFFIX)
            if stem.isascii() and stem.isdecimal():
                numbers.append(int(stem))
            elif path.name not in self._strangers:
                self._strangers.add(path.name)
                _log.warning("spool: %s is no segment of ours and is not read", path)
        return sorted(numbers)

    def _take_lock(self) -> bool:
        """True when the relay is gone: it holds the lock as long as it lives."""
        if self._lock is not None:
            return True
        fd = os.open(self.folder / LOCK_NAME, os.O_CREAT | os.O_RDWR, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return False
        self._lock = fd
        return True

    def _open_segment(self, number: int) -> int | None:
        """The descriptor of segment `number`, kept open while it is read; None when it is gone."""
        if self._segment is not None and self._segment[0] == number:
            return self._segment[1]
        self._close_segment()
        try:
            fd = os.open(self.folder / segment_name(number), os.O_RDONLY)
        except FileNotFoundError:
            return None
        self._segment = (number, fd)
        return fd

    def _close_segment(self) -> None:
        if self._segment is not None:
            os.close(self._segment[1])
            self._segment = None

    def _following(self) -> int | None:
        """The segment after the one of the cursor; None when that is the last."""
        number = self._cursor[0]
        if (self.folder / segment_name(number + 1)).exists():
            return number + 1
        if self._lock is None and (self.folder / segment_name(number)).exists():
            return None
        return min((each for each in self._segments() if each > number), default=None)

    def _leave_segment(self, following: int) -> None:
        """On to the next segment; what has been open for long is carried along."""
        number = self._cursor[0]
        if number in self._damaged:
            self._damaged.discard(number)
            quarantine.put_aside(self.folder / segment_name(number), quarantine.quarantine_of(self.folder.parent))
        self._close_segment()
        self._cursor = (following, 0)
        if following - self.low_water[0] < self._carry_after:
            return
        try:
            carry(self.folder, self._cursor, self._open)
        except OSError as error:
            _log.warning("spool %s: open exchanges hold segments back: %s", self.spool_id, error)
            return
        for exchange in self._open.values():
            exchange.begin_at = self._cursor

    def _pick_up(self) -> None:
        """Takes the exchanges that were carried to where reading begins."""
        self._open, is_whole = pick_up(self.folder, self._cursor)
        if not is_whole:
            gap = Gap(self._wall_us, self._wall_us, 1, "exchanges carried out of old segments cannot be read")
            self._early.append(SpooledGap(f"gap_{self.spool_id}_carried_{self._cursor[0]}_{self._cursor[1]}", gap))

    def _read_segment(self, want: int, batch: SpoolBatch) -> bool:
        """Reads on in the segment of the cursor, a window at a time; False when `want` was reached before its end."""
        number, position = self._cursor
        fd = self._open_segment(number)
        if fd is None:
            return True
        while data := os.pread(fd, _WINDOW, position):
            used = self._take_all(data, number, position, want, batch) or self._take_hard(fd, number, position, batch)
            position += used
            self._cursor = (number, position)
            if batch.is_enough(want):
                return False
            if not used:
                return True
        return True

    def _take_all(self, data: bytes, number: int, base: int, want: int, batch: SpoolBatch) -> int:
        """Takes the whole records at the beginning of `data`; how many bytes they are."""
        position, salt, read_at = 0, self._salt, frames.read_at
        while (record := read_at(data, position, salt)) is not None:
            if record.seq == self._next_seq or self._is_new(record.seq, (number, base + position), batch):
                self._take(record, (number, base + position), batch)
            position = record.end
            if record.type > records.PART and batch.is_enough(want):
                break
        return position

    def _take_hard(self, fd: int, number: int, position: int, batch: SpoolBatch) -> int:
        """Takes what begins no readable record within a window: a long record, or damage. How many bytes; 0 to wait."""
        left = os.fstat(fd).st_size - position
        size = frames.size_at(os.pread(fd, frames.HEADER_SIZE, position), 0, self._salt)
        if size <= left:
            record = frames.read_at(os.pread(fd, size, position), 0, self._salt)
            if record is not None:
                if self._is_new(record.seq, (number, position), batch):
                    self._take(record, (number, position), batch)
                return record.end
        data = os.pread(fd, left, position)
        found = frames.seek(data, 1, self._salt, is_old=frames.is_old(os.pread(fd, frames.HEADER_SIZE, 0)))
        if found is not None:
            self._damage((number, position), found.position, batch)
            return found.position
        if self._is_sealed or self._lock is not None:
            self._damage((number, position), len(data), batch, is_tail=not self._is_sealed)
            return len(data)
        return 0

    def _damage(self, at: Position, size: int, batch: SpoolBatch, is_tail: bool = False) -> None:
        """Notes unreadable bytes. A torn tail is what a killed relay leaves; its last write reached nobody."""
        _log.warning("spool %s: %d unreadable bytes in segment %d at %d", self.spool_id, size, *at)
        if is_tail:
            return
        kept = "in the segment that is being written"
        if self._is_sealed:
            path = self.folder / segment_name(at[0])
            kept = quarantine.put_aside(path, quarantine.quarantine_of(self.folder.parent))
        else:
            self._damaged.add(at[0])
        self._excused_seq = self._next_seq
        self._lose(at, f"{size} unreadable bytes in the spool, {kept}", batch)

    def _lose(self, at: Position, reason: str, batch: SpoolBatch) -> None:
        for exchange in self._open.values():
            exchange.is_damaged = True
        gap = Gap(self._wall_us, self._wall_us, 1, reason)
        batch.gaps.append(SpooledGap(f"gap_{self.spool_id}_{at[0]}_{at[1]}", gap))

    def _is_new(self, seq: int, at: Position, batch: SpoolBatch) -> bool:
        """Whether a record out of turn is seen for the first time: after a failed sync, records stand in the spool twice."""
        expected = self._next_seq
        if seq == expected:
            return True
        if seq < expected:
            is_new = seq in self._holes
            self._holes.discard(seq)
            return is_new
        if expected >= 0:
            self._holes.update(range(expected, min(seq, expected + _MOST_HOLES)))
            if expected != self._excused_seq:
                self._lose(at, f"{seq - expected} records are missing from the spool", batch)
        return True

    def _take(self, record: Record, at: Position, batch: SpoolBatch) -> None:
        kind, seq, monotonic_ns, wall_ns, raw_id, payload, position, end = record
        if seq >= self._next_seq:
            self._next_seq = seq + 1
        self._wall_us = wall_ns // 1000
        known = self._open.get(raw_id)
        try:
            if known is None:
                self._take_first(record, at, batch)
                return
            known.last_ns = monotonic_ns
            if kind == records.PART:
                known.parts.append(payload)
            elif kind == records.HEAD:
                known.head = _decode_head(payload)
            elif kind == records.BODY:
                known.body_parts.append(payload)
            elif kind == records.END:
                known.end = _decode_end(payload)
                del self._open[raw_id]
                batch.add(known)
        except ValueError:  # a payload that this version cannot read
            self._damage(at, end - position, batch)

    def _take_first(self, record: Record, at: Position, batch: SpoolBatch) -> None:
        """Takes a record of no open exchange. Parts and ends of one were stored before a restart."""
        raw_id = record.exchange_id
        if record.type == records.BEGIN:
            begin = _decode_begin(record.payload)
            id, now = ids.format_id("ex", raw_id), record.monotonic_ns
            self._open[raw_id] = SpooledExchange(id, begin, at, self._wall_us, now, now)
        elif record.type == records.GAP:
            gap = records.decode(record.payload, Gap)
            batch.gaps.append(SpooledGap(f"gap_{self.spool_id}_{record.seq}", gap))
            for broken in gap.broken:
                exchange = self._open.pop(broken, None)
                if exchange is not None:
                    exchange.is_damaged = True
                    batch.add(exchange)
        elif record.type == records.NOTE:
            batch.notes.append(SpooledNote(ids.format_id("fb", raw_id), records.decode(record.payload, Note)))
