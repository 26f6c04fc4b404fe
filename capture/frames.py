"""The frame around each spool record: found again after any damage, and never forged by what it carries.

    magic u16 | type u8 | flags u8 | length u32 | check u32 | seq u64 | monotonic_ns i64 | wall_ns i64 | exchange id | payload

Little-endian, ids of 16 bytes. Magic and check depend on the spool's own id, so that a body which happens to hold spool
records is never taken for some, and the check covers frame and payload. It is half of an XXH3 where `flags` is 1. Where
it is 0, as in older spools, it is a CRC-32, and the magic is the same in all of them.
"""

from __future__ import annotations

from binascii import crc32
from collections.abc import Iterator
from dataclasses import dataclass
from struct import Struct
from typing import NamedTuple

from xxhash import xxh3_64_intdigest

HEADER_SIZE = 52
MAX_PAYLOAD = 1 << 30
OLD_MAGIC = 0xB05D
_OLD_FLAGS, _FLAGS = 0, 1
_MOST_TO_SEEK = 1 << 20  # larger records behind damage are passed over, which bounds the time that the search can take
_HEAD, _TAIL, _WHOLE = Struct("<HBBII"), Struct("<Qqq16s"), Struct("<HBBIIQqq16s")
_pack_head, _pack_tail, _unpack = _HEAD.pack, _TAIL.pack, _WHOLE.unpack_from
_new = tuple.__new__  # what Record(...) does, with one call less


class Record(NamedTuple):
    """One record as read; `position` and `end` are its byte offsets in what was scanned. A tuple, as millions are made."""

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
    """What the magic and the checks of spool `spool_id` are made with."""
    return crc32(spool_id.encode())


def frame(
    salt: int, kind: int, seq: int, monotonic_ns: int, wall_ns: int, exchange_id: bytes, payload: bytes | memoryview
) -> bytes:
    """The frame that goes in front of `payload`."""
    length = len(payload)
    tail = _pack_tail(seq, monotonic_ns, wall_ns, exchange_id)
    check = xxh3_64_intdigest(tail, xxh3_64_intdigest(payload, salt) ^ (kind << 32 | length)) & 0xFFFFFFFF
    return _pack_head((salt ^ OLD_MAGIC) & 0xFFFF, kind, _FLAGS, length, check) + tail


def read_at(data: bytes, position: int, salt: int, most: int = MAX_PAYLOAD) -> Record | None:
    """The record at `position`; None when there is none, or not all of it, or one of more than `most` bytes."""
    start = position + HEADER_SIZE
    if start > len(data):
        return None
    magic, kind, flags, length, check, seq, monotonic_ns, wall_ns, exchange_id = _unpack(data, position)
    end = start + length
    if end > len(data) or length > most:
        return None
    payload = data[start:end]
    if flags == _FLAGS:
        if magic != (salt ^ OLD_MAGIC) & 0xFFFF:
            return None
        tail = data[position + 12 : start]
        found = xxh3_64_intdigest(tail, xxh3_64_intdigest(payload, salt) ^ (kind << 32 | length)) & 0xFFFFFFFF
    elif flags == _OLD_FLAGS and magic == OLD_MAGIC:
        found = crc32(payload, crc32(data[position : position + 8] + b"\0\0\0\0" + data[position + 12 : start], salt))
    else:
        return None
    if found != check:
        return None
    return _new(Record, (kind, seq, monotonic_ns, wall_ns, exchange_id, payload, position, end))


def size_at(data: bytes, position: int, salt: int) -> int:
    """How many bytes the record at `position` says it takes, frame included; 0 when no record begins there."""
    if position + HEADER_SIZE > len(data):
        return HEADER_SIZE
    magic, _, flags, length, *_ = _unpack(data, position)
    is_header = magic == ((salt ^ OLD_MAGIC) & 0xFFFF if flags == _FLAGS else OLD_MAGIC)
    return HEADER_SIZE + length if is_header and length <= MAX_PAYLOAD else 0


def is_old(segment: bytes) -> bool:
    """Whether a segment that begins with these bytes was written with the older magic and check."""
    return segment[:2] == OLD_MAGIC.to_bytes(2, "little") and segment[3:4] == bytes([_OLD_FLAGS])


def seek(data: bytes, position: int, salt: int, *, is_old: bool = False) -> Record | None:
    """The first readable record that begins at `position` or later; of more than a MiB, none is found."""
    pattern = ((OLD_MAGIC if is_old else salt ^ OLD_MAGIC) & 0xFFFF).to_bytes(2, "little")
    while (position := data.find(pattern, position)) >= 0:
        record = read_at(data, position, salt, _MOST_TO_SEEK)
        if record is not None:
            return record
        position += 1
    return None


def scan(data: bytes, position: int, salt: int) -> Iterator[Record | Damage]:
    """Records of a segment from byte `position` on; stops where nothing readable follows (a torn or growing tail)."""
    while True:
        record = read_at(data, position, salt)
        if record is None:
            record = seek(data, position + 1, salt, is_old=is_old(data))
            if record is None:
                return
            yield Damage(position, record.position)
        yield record
        position = record.end
