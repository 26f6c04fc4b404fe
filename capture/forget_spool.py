"""Takes exchanges out of spools and quarantine: what the store has and must no longer have may not come back from there.

Records are overwritten in place by empty ones with the same place and number, because the relay goes on writing behind
them. An exchange that is still under way is left alone.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
from sqlalchemy import text

from capture import frames, ids, records
from capture.carried import carry, pick_up
from capture.database import Database
from capture.errors import SpoolError
from capture.frames import Damage, Record
from capture.quarantine import quarantine_of
from capture.records import Begin, Note
from capture.spool import LOCK_NAME, SEGMENT_SUFFIX
from capture.subject import Subject

_CARRIED, _SCRUBBED = "carried-", ".carried-scrubbed"


@dataclass(slots=True)
class Spooled:
    """Ids of exchanges in the spools: those that are over, and those still under way."""

    over: set[str] = field(default_factory=set)
    under_way: set[str] = field(default_factory=set)


def find_spooled(root: Path, subject: Subject) -> Spooled:
    """What the spools under `root` hold of `subject`."""
    found = Spooled()
    for folder in _folders(root):
        begun: set[bytes] = set()
        ended: set[bytes] = set()
        for path in _segments(folder):
            for record in _records(path):
                if record.type == records.BEGIN and _is_meant(record, subject):
                    begun.add(record.exchange_id)
                elif record.type == records.END:
                    ended.add(record.exchange_id)
        over = begun & ended if _has_relay(folder) else begun
        found.over |= {ids.format_id("ex", raw) for raw in over}
        found.under_way |= {ids.format_id("ex", raw) for raw in begun - over}
    return found


def is_stored(database: Database, exchange_ids: Iterable[str]) -> bool:
    """Whether the store has every one of these, be it as a dead letter."""
    sql = text("SELECT 1 FROM exchanges WHERE id = :id UNION ALL SELECT 1 FROM dead_letters WHERE exchange_id = :id")
    with database.read() as connection:
        return all(connection.execute(sql, {"id": id}).first() is not None for id in exchange_ids)


def scrub(root: Path, subject: Subject, exchange_ids: Iterable[str], sessions: Iterable[str]) -> int:
    """Empties every record of these exchanges, and feedback on them; how many. SpoolError when a spool cannot be written."""
    raw_ids = {ids.parse_id(id) for id in exchange_ids}
    notes = _Notes(subject, frozenset(exchange_ids), frozenset(sessions))
    emptied = 0
    try:
        for folder in _folders(root):
            for path in _segments(folder):
                emptied += _scrub_segment(path, raw_ids, notes)
            for path in sorted(folder.glob(f"{_CARRIED}*")):
                emptied += _scrub_carried(path, raw_ids)
    except OSError as error:
        raise SpoolError(f"The spool under {root} cannot be cleaned: {error}.", "Run potstill forget again.") from error
    return emptied


def drop_quarantined(root: Path, subject: Subject, exchange_ids: Iterable[str]) -> int:
    """Removes quarantined segments that name one of these exchanges, or the user; how many.

    They are taken away whole, because nobody can tell whose the unreadable bytes in them are.
    """
    names = [msgspec.msgpack.encode(name) for name in (subject.user, subject.session) if name]  # as records spell them
    raw_ids = {ids.parse_id(id) for id in exchange_ids}
    removed = 0
    for path in sorted(quarantine_of(root).glob(f"*/*{SEGMENT_SUFFIX}")):
        data = path.read_bytes()
        if any(name in data for name in names) or ids.has_raw_id(data, raw_ids):
            path.unlink(missing_ok=True)
            removed += 1
    return removed


@dataclass(frozen=True, slots=True)
class _Notes:
    subject: Subject
    exchange_ids: frozenset[str]
    sessions: frozenset[str]

    def has(self, record: Record) -> bool:
        try:
            note = records.decode(record.payload, Note)
        except ValueError:  # written by another version
            return False
        return (
            note.exchange_id in self.exchange_ids
            or (bool(note.session_name) and note.session_name in self.sessions)
            or self.subject.gave(note.who, note.session_name, note.exchange_id)
        )


def _scrub_segment(path: Path, raw_ids: set[bytes], notes: _Notes) -> int:
    salt, emptied, damaged = frames.salt_of(path.parent.name), 0, list[Damage]()
    try:
        fd = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return 0  # drained meanwhile
    with os.fdopen(fd, "r+b", buffering=0) as file:
        for found in frames.scan(file.readall(), 0, salt):
            if isinstance(found, Damage):
                damaged.append(found)
            elif found.exchange_id in raw_ids or (found.type == records.NOTE and notes.has(found)):
                payload = bytes(len(found.payload))
                frame = frames.frame(salt, records.ERASED, found.seq, found.monotonic_ns, found.wall_ns, bytes(16), payload)
                os.pwrite(fd, frame + payload, found.position)
                emptied += 1
        for stretch in damaged if emptied else ():  # it may be theirs, and nobody can read it anyway
            os.pwrite(fd, bytes(stretch.end - stretch.position), stretch.position)
        if emptied:
            os.fsync(fd)
    return emptied


def _scrub_carried(path: Path, raw_ids: set[bytes]) -> int:
    segment, _, offset = path.name.removeprefix(_CARRIED).partition("-")
    at = int(segment), int(offset)
    try:
        exchanges, _ = pick_up(path.parent, at)
        kept = {raw: exchange for raw, exchange in exchanges.items() if raw not in raw_ids}
        if len(kept) < len(exchanges):
            carry(path.parent, at, kept, _SCRUBBED)
    except FileNotFoundError:
        return 0  # drained meanwhile
    return len(exchanges) - len(kept)


def _is_meant(record: Record, subject: Subject) -> bool:
    try:
        begin = records.decode(record.payload, Begin)
    except ValueError:  # written by another version
        return False
    return subject.matches(begin.user_name, begin.session_name, ids.format_id("ex", record.exchange_id))


def _folders(root: Path) -> list[Path]:
    return sorted(path for path in root.glob("sp_*") if path.is_dir())


def _segments(folder: Path) -> list[Path]:
    return sorted(folder.glob(f"*{SEGMENT_SUFFIX}"))


def _records(path: Path) -> Iterator[Record]:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return  # drained meanwhile
    for found in frames.scan(data, 0, frames.salt_of(path.parent.name)):
        if isinstance(found, Record):
            yield found


def _has_relay(folder: Path) -> bool:
    try:
        fd = os.open(folder / LOCK_NAME, os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False
