"""The frame around each spool record: found again after any damage, and never forged by what it carries.

    magic u16 | type u8 | flags u8 | length u32 | crc32 u32 | seq u64 | monotonic_ns u64 | wall_ns u64 | exchange id | payload

Little-endian, ids of 16 bytes. The checksum covers frame and payload and starts from the spool's own id, so that a body
which happens to hold spool records is never taken for some.
"""

from __future__ import annotations

from binascii import crc32
from collections.abc import Iterator
from dataclasses import dataclass
from struct import Struct

HEADER = Struct("<HBBIIQQQ16s")
MAGIC = 0xB05D
MAX_PAYLOAD = 1 << 30
_MAGIC_BYTES = MAGIC.to_bytes(2, "little")


@dataclass(frozen=True, slots=True)
class Record:
    """One record as read; `position` and `end` are its byte offsets in the segment."""

    type: int
    seq: int
    monotonic_ns: int
    wall_ns: int
    exchange_id: bytes
    payload: bytes
    position: int
    end: int


@dataclass(frozen=True, slots=True)
class Damage:
    """Bytes `position` to `end` of a segment that hold no readable record."""

    position: int
    end: int


def salt_of(spool_id: str) -> int:
    """Where the checksums of spool `spool_id` start."""
    return crc32(spool_id.encode())


def frame(
    salt: int, kind: int, seq: int, monotonic_ns: int, wall_ns: int, exchange_id: bytes, payload: bytes | memoryview
) -> bytes:
    """The frame that goes in front of `payload`."""
    bare = HEADER.pack(MAGIC, kind, 0, len(payload), 0, seq, monotonic_ns, wall_ns, exchange_id)
    check = crc32(payload, crc32(bare, salt))
    return bare[:8] + check.to_bytes(4, "little") + bare[12:]


def scan(data: bytes, position: int, salt: int) -> Iterator[Record | Damage]:
    """Records of a segment from byte `position` on; stops where nothing readable follows (a torn or growing tail)."""
    while True:
        record = _read(data, position, salt)
        if record is None:
            found = _resync(data, position + 1, salt)
            if found is None:
                return
            yield Damage(position, found.position)
            record = found
        yield record
        position = record.end


def _read(data: bytes, position: int, salt: int) -> Record | None:
    start = position + HEADER.size
    if start > len(data):
        return None
    magic, kind, _flags, length, check, seq, monotonic_ns, wall_ns, exchange_id = HEADER.unpack_from(data, position)
    end = start + length
    if magic != MAGIC or length > MAX_PAYLOAD or end > len(data):
        return None
    view = memoryview(data)
    bare = data[position : position + 8] + b"\0\0\0\0" + data[position + 12 : start]
    if crc32(view[start:end], crc32(bare, salt)) != check:
        return None
    return Record(kind, seq, monotonic_ns, wall_ns, exchange_id, data[start:end], position, end)


def _resync(data: bytes, position: int, salt: int) -> Record | None:
    while (position := data.find(_MAGIC_BYTES, position)) >= 0:
        record = _read(data, position, salt)
        if record is not None:
            return record
        position += 1
    return None
