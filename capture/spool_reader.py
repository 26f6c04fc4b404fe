"""The store writer's side of a spool: follows the segments of one relay and gathers records into whole exchanges.

`low_water` is where reading must begin again after a crash: the oldest BEGIN that is not finished. Segments wholly before
it hold nothing that is not in the store, once what was handed out has been committed.
"""

from __future__ import annotations

import fcntl
import logging
import os
from dataclasses import dataclass, field
from pathlib import Path

from capture import frames, ids, records
from capture.errors import SpoolError
from capture.frames import Damage, Record
from capture.records import Begin, End, Gap, Head, Note
from capture.reserve import RESERVE_NAME
from capture.spool import LOCK_NAME, SEGMENT_SUFFIX, segment_name

_log = logging.getLogger(__name__)
_BATCH_BYTES = 64 * 1024 * 1024
Position = tuple[int, int]
"""Segment number and byte offset in it."""


@dataclass(slots=True)
class SpooledExchange:
    """The records of one exchange. `end` is None when its relay died before it was over.

    `is_damaged`: records of its spool were unreadable while it was open, or its relay could not write some of them.
    """

    id: str
    begin: Begin
    begin_at: Position
    started_us: int
    begin_ns: int
    last_ns: int
    head: Head | None = None
    parts: list[bytes] = field(default_factory=list)
    end: End | None = None
    is_damaged: bool = False
    body_parts: list[bytes] = field(default_factory=list)

    def request_body(self) -> bytes:
        """All of the request body that was captured."""
        return b"".join((self.begin.body, *self.body_parts)) if self.body_parts else self.begin.body

    def response_body(self) -> bytes:
        """All of the response body that was captured, as relayed."""
        return self.parts[0] if len(self.parts) == 1 else b"".join(self.parts)

    @property
    def ended_us(self) -> int:
        """When its last record was written, by the monotonic clock, so never before its start."""
        return self.started_us + max(0, self.last_ns - self.begin_ns) // 1000


@dataclass(frozen=True, slots=True)
class SpooledGap:
    """A loss, with an id that is the same however often it is read."""

    id: str
    gap: Gap


@dataclass(frozen=True, slots=True)
class SpooledNote:
    """Feedback, with an id that is the same however often it is read."""

    id: str
    note: Note


@dataclass(slots=True)
class SpoolBatch:
    """What one reading of a spool gave, and how many bytes of bodies that is."""

    finished: list[SpooledExchange] = field(default_factory=list)
    gaps: list[SpooledGap] = field(default_factory=list)
    size: int = 0
    notes: list[SpooledNote] = field(default_factory=list)

    def add(self, exchange: SpooledExchange) -> None:
        """Takes in one more exchange that is over."""
        self.finished.append(exchange)
        self.size += len(exchange.begin.body) + sum(map(len, exchange.body_parts)) + sum(map(len, exchange.parts))

    def is_enough(self, want: int) -> bool:
        """Whether there are `want` exchanges, or so many bytes that memory would suffer."""
        return len(self.finished) >= want or self.size >= _BATCH_BYTES


class SpoolReader:
    """Follows the spool in `folder` from `start` on (from its first segment when None)."""

    def __init__(self, folder: Path, start: Position | None) -> None:
        self.folder = folder
        self.spool_id = folder.name
        self.is_dead = False
        """Its relay is gone and everything was read: the folder may be removed once the store has it all."""
        self._salt = frames.salt_of(self.spool_id)
        self._open: dict[bytes, SpooledExchange] = {}
        self._lock: int | None = None
        self._wall_us = 0
        oldest = min(self._segments(), default=1)
        self._cursor = start if start is not None and start[0] >= oldest else (oldest, 0)

    @property
    def cursor(self) -> Position:
        """How far the spool was read."""
        return self._cursor

    @property
    def low_water(self) -> Position:
        """Everything before this position is finished."""
        return min((exchange.begin_at for exchange in self._open.values()), default=self._cursor)

    def read(self, want: int) -> SpoolBatch:
        """The next exchanges that are over: about `want` of them, the rest next time; none when nothing new is there."""
        batch = SpoolBatch()
        has_no_relay = self._take_lock()
        while not batch.is_enough(want):
            number, position = self._cursor
            # Asked before reading: once there is a next segment, nothing more is written to this one.
            is_sealed = (self.folder / segment_name(number + 1)).exists()
            is_through = self._read_segment(number, position, is_sealed, want, batch)
            if not is_through:
                return batch
            if not is_sealed:
                if has_no_relay:
                    for exchange in self._open.values():
                        batch.add(exchange)
                    self._open.clear()
                    self.is_dead = True
                return batch
            self._cursor = (number + 1, 0)
        return batch

    def drop_before(self, low_water: Position) -> None:
        """Removes the segments wholly before `low_water`; the whole folder when the relay is dead and all was read."""
        numbers = self._segments() if self.is_dead else [number for number in self._segments() if number < low_water[0]]
        for number in numbers:
            (self.folder / segment_name(number)).unlink(missing_ok=True)
        if self.is_dead:
            for name in (RESERVE_NAME, LOCK_NAME):
                (self.folder / name).unlink(missing_ok=True)
            self.close()
            try:
                self.folder.rmdir()
            except OSError as error:
                _log.warning("spool: the empty folder %s stays: %s", self.folder, error)

    def close(self) -> None:
        """Lets go of the lock that a dead relay left."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _segments(self) -> list[int]:
        return sorted(int(path.name.removesuffix(SEGMENT_SUFFIX)) for path in self.folder.glob(f"*{SEGMENT_SUFFIX}"))

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

    def _read_segment(self, number: int, position: int, is_sealed: bool, want: int, batch: SpoolBatch) -> bool:
        """Reads on in segment `number`; False when `want` was reached before its end."""
        path = self.folder / segment_name(number)
        try:
            with path.open("rb") as file:
                file.seek(position)
                data = file.read()
        except FileNotFoundError:
            return True
        except OSError as error:
            raise SpoolError(f"The spool segment {path} cannot be read: {error}.", "Check the disk.") from error
        last = 0
        for found in frames.scan(data, 0, self._salt):
            last = found.end
            if isinstance(found, Damage):
                self._damage((number, position + found.position), found.end - found.position, batch)
            else:
                self._take_or_damage(found, (number, position + found.position), batch)
            self._cursor = (number, position + last)
            if batch.is_enough(want):
                return False
        if last < len(data) and (is_sealed or self._lock is not None):
            self._damage((number, position + last), len(data) - last, batch, is_tail=not is_sealed)
            self._cursor = (number, position + len(data))
        return True

    def _damage(self, at: Position, size: int, batch: SpoolBatch, is_tail: bool = False) -> None:
        """Notes unreadable bytes. A torn tail is what a killed relay leaves; its last write reached nobody."""
        _log.warning("spool %s: %d unreadable bytes in segment %d at %d", self.spool_id, size, *at)
        if is_tail:
            return
        for exchange in self._open.values():
            exchange.is_damaged = True
        gap = Gap(self._wall_us, self._wall_us, 1, f"{size} unreadable bytes in the spool")
        batch.gaps.append(SpooledGap(f"gap_{self.spool_id}_{at[0]}_{at[1]}", gap))

    def _take_or_damage(self, record: Record, at: Position, batch: SpoolBatch) -> None:
        try:
            self._take(record, at, batch)
        except ValueError:  # a payload that this version cannot read
            self._damage(at, record.end - record.position, batch)

    def _take(self, record: Record, at: Position, batch: SpoolBatch) -> None:
        self._wall_us = record.wall_ns // 1000
        if record.type == records.BEGIN:
            begin = records.decode(record.payload, Begin)
            id = ids.format_id("ex", record.exchange_id)
            exchange = SpooledExchange(id, begin, at, self._wall_us, record.monotonic_ns, record.monotonic_ns)
            self._open.setdefault(record.exchange_id, exchange)
            return
        if record.type == records.GAP:
            gap = records.decode(record.payload, Gap)
            batch.gaps.append(SpooledGap(f"gap_{self.spool_id}_{record.seq}", gap))
            for raw_id in gap.broken:
                self._finish(raw_id, batch, is_damaged=True)
            return
        if record.type == records.NOTE:
            batch.notes.append(SpooledNote(ids.format_id("fb", record.exchange_id), records.decode(record.payload, Note)))
            return
        known = self._open.get(record.exchange_id)
        if known is None:
            return  # stored before a restart: reading began behind its BEGIN
        known.last_ns = record.monotonic_ns
        if record.type == records.HEAD:
            known.head = records.decode(record.payload, Head)
        elif record.type == records.BODY:
            known.body_parts.append(record.payload)
        elif record.type == records.PART:
            known.parts.append(record.payload)
        elif record.type == records.END:
            known.end = records.decode(record.payload, End)
            self._finish(record.exchange_id, batch)

    def _finish(self, raw_id: bytes, batch: SpoolBatch, is_damaged: bool = False) -> None:
        exchange = self._open.pop(raw_id, None)
        if exchange is not None:
            exchange.is_damaged = exchange.is_damaged or is_damaged
            batch.add(exchange)
