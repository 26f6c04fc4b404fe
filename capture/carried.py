"""Exchanges that stay open long, copied out of old segments, so that the segments can go.

A file `carried-<segment>-<offset>` in the spool's folder holds all records, up to that position, of the exchanges that
were open there. Whoever starts to read at exactly that position takes them from the file. It appears whole or not at
all, and is removed once the store knows a later position.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec

from capture import frames
from capture.frames import Damage
from capture.spooled import Position, SpooledExchange

_PATTERN, _PART = "carried-*", ".carried"
_KIND = 100
_decode = msgspec.msgpack.Decoder(SpooledExchange).decode


def carry(folder: Path, at: Position, exchanges: Mapping[bytes, SpooledExchange], part: str = _PART) -> None:
    """Makes the file for position `at`, durably; OSError when it cannot be written.

    Whoever may do it beside the spool's reader gives a temporary name of their own, which begins with `.carried`.
    """
    salt, half = frames.salt_of(folder.name), folder / part
    fd = os.open(half, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600)
    with os.fdopen(fd, "wb") as file:
        for left, (raw_id, exchange) in zip(range(len(exchanges) - 1, -1, -1), exchanges.items(), strict=True):
            payload = msgspec.msgpack.encode(exchange)
            file.write(frames.frame(salt, _KIND, left, exchange.last_ns, 0, raw_id, payload))
            file.write(payload)
        file.flush()
        os.fsync(file.fileno())
    half.rename(folder / _name(at))
    folder_fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder_fd)
    finally:
        os.close(folder_fd)


def pick_up(folder: Path, at: Position) -> tuple[dict[bytes, SpooledExchange], bool]:
    """The exchanges carried to `at`, and whether all of them could be read; none when there is no such file."""
    path = folder / _name(at)
    if not path.exists():
        return {}, True
    exchanges: dict[bytes, SpooledExchange] = {}
    left = -1
    is_whole = True
    for found in frames.scan(path.read_bytes(), 0, frames.salt_of(folder.name)):
        if isinstance(found, Damage):
            is_whole = False
            continue
        left = found.seq
        try:
            exchange = _decode(found.payload)
        except ValueError:  # written by another version
            is_whole = False
            continue
        exchange.begin_at = at
        exchanges[found.exchange_id] = exchange
    return exchanges, is_whole and left == 0


def drop_carried(folder: Path, before: Position | None = None) -> None:
    """Removes the files for positions `before` that one; all of them, unfinished ones too, when None."""
    paths: Iterable[Path] = [*folder.glob(_PATTERN), *(folder.glob(f"{_PART}*") if before is None else [])]
    for path in paths:
        if before is None or path.name < _name(before):
            path.unlink(missing_ok=True)


def _name(at: Position) -> str:
    return f"carried-{at[0]:010d}-{at[1]:012d}"
