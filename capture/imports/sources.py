"""Reads log files record by record in bounded memory: JSON lines, a JSON array (bare or under `data`), CSV; gzip or not."""

from __future__ import annotations

import csv
import gzip
import io
import re
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, cast

from capture import loose_json
from capture.errors import NotFoundError
from capture.imports.json_stream import pieces

MOST_BYTES = 64 * 1024 * 1024
"""Longest line or array element that is read."""
MOST_CSV_BYTES, MOST_COLUMNS = 16 * 1024 * 1024, 1_000
"""Longest line or field of CSV, and its most columns: text of so many empty fields would take up many times its size."""
_PEEK = 64 * 1024
_DATA = re.compile(rb'\s*\{\s*"(?:data|logs|observations|results)"\s*:\s*\[')
_DAMAGE = (OSError, EOFError, zlib.error)
_TOO_LONG = "is longer than {} MiB"


@dataclass(frozen=True, slots=True)
class Entry:
    """One record of a file and the line that it begins on; `problem` says why there is none. `position` counts bytes read."""

    line: int
    position: int
    record: dict[str, Any] = field(default_factory=dict)
    problem: str = ""


def read_entries(path: Path) -> Iterator[Entry]:
    """The records of `path` in order. NotFoundError when it cannot be opened; damage in it is a problem of an entry."""
    with _opened(path) as (stream, raw):
        head = _peek(stream)
        if head.startswith(b"\xef\xbb\xbf"):
            stream.read(3)
            head = head[3:]
        first = head.lstrip()[:1]
        if head.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in head[:1024]:
            yield Entry(1, raw.tell(), problem="is not UTF-8 text; convert the file first")
        elif _DATA.match(head) and not _is_lines(head):
            yield from _read_array(stream, raw, 2)
        elif first == b"[":
            yield from _read_array(stream, raw, 1)
        elif first in (b"{", b""):
            yield from _read_lines(stream, raw)
        else:
            yield from _read_csv(stream, raw)


@contextmanager
def _opened(path: Path) -> Iterator[tuple[io.BufferedReader, BinaryIO]]:
    """The stream of `path`, unpacked, and the file beneath it, which says how far reading has come."""
    try:
        raw = path.open("rb")
    except OSError as error:
        raise NotFoundError(f"{path} cannot be read: {error.strerror}.", "Name an existing file.") from error
    with raw:
        is_packed = raw.peek(2)[:2] == b"\x1f\x8b"
        yield (io.BufferedReader(cast(io.RawIOBase, gzip.GzipFile(fileobj=raw))) if is_packed else raw), raw


def _peek(stream: io.BufferedReader) -> bytes:
    try:
        return stream.peek(_PEEK)[:_PEEK]
    except _DAMAGE:
        return b"{"  # damaged gzip: reading lines says so


def _is_lines(head: bytes) -> bool:
    """Whether the first line is a whole value already."""
    line, newline, _rest = head.partition(b"\n")
    if not newline:
        return False
    try:
        loose_json.parse(line)
    except ValueError:
        return False
    return True


def _read_array(stream: io.BufferedReader, raw: BinaryIO, depth: int) -> Iterator[Entry]:
    reader = _Reader(stream)
    for piece in pieces(reader.read, depth, MOST_BYTES):
        if piece.data is None:
            yield Entry(piece.line, raw.tell(), problem=_TOO_LONG.format(MOST_BYTES // 2**20))
        elif piece.is_torn:
            yield Entry(piece.line, raw.tell(), problem="is cut: the file ends within it")
        else:
            yield _entry(piece.line, raw.tell(), piece.data)
    if reader.damage:
        yield Entry(0, raw.tell(), problem=reader.damage)


def _read_lines(stream: io.BufferedReader, raw: BinaryIO) -> Iterator[Entry]:
    for line, data in _lines(stream, MOST_BYTES):
        if isinstance(data, str):
            yield Entry(line, raw.tell(), problem=data)
        elif data.strip():
            yield _entry(line, raw.tell(), data)


def _entry(line: int, position: int, data: bytes) -> Entry:
    try:
        value = loose_json.parse(data)
    except ValueError as error:
        return Entry(line, position, problem=f"is not JSON: {str(error)[:200]}")
    if not isinstance(value, dict):
        return Entry(line, position, problem="is not an object")
    return Entry(line, position, value)


def _lines(stream: io.BufferedReader, most: int) -> Iterator[tuple[int, bytes | str]]:
    """Number and bytes of each line; a text instead of bytes says why they cannot be had."""
    reader, number = _Reader(stream), 0
    while data := reader.readline(most + 1):
        number += 1
        if len(data) <= most:
            yield number, data
            continue
        while data and not data.endswith(b"\n"):
            data = reader.readline(1 << 20)
        yield number, _TOO_LONG.format(most // 2**20)
    if reader.damage:
        yield number + 1, reader.damage


class _Reader:
    """Reads on until the end or the first damage of a packed file, which `damage` then names."""

    def __init__(self, stream: io.BufferedReader) -> None:
        self._stream = stream
        self.damage = ""

    def read(self, size: int) -> bytes:
        return self._guarded(lambda: self._stream.read(size))

    def readline(self, size: int) -> bytes:
        return self._guarded(lambda: self._stream.readline(size))

    def _guarded(self, read: Any) -> bytes:
        try:
            return cast(bytes, read())
        except _DAMAGE as error:
            self.damage = f"the file cannot be read any further: {error}"
            return b""


def _read_csv(stream: io.BufferedReader, raw: BinaryIO) -> Iterator[Entry]:
    """Rows as objects of texts. A field that never closes its quote ends at the limit, and reading goes on behind it."""
    csv.field_size_limit(MOST_CSV_BYTES)
    damage: list[tuple[int, str]] = []

    def texts() -> Iterator[str]:
        for number, data in _lines(stream, MOST_CSV_BYTES):
            if isinstance(data, str):
                damage.append((number, data))
            else:
                yield data.decode("utf-8", "replace").replace("\0", "\ufffd")

    rows = csv.reader(texts())
    columns: list[str] = []
    line = 1
    while True:
        try:
            row = next(rows)
        except StopIteration:
            break
        except csv.Error as error:
            yield Entry(line, raw.tell(), problem=f"is not CSV: {error}")
            line = rows.line_num + 1
            continue
        if not columns and len(row) > MOST_COLUMNS:
            yield Entry(line, raw.tell(), problem=f"has {len(row)} columns, more than {MOST_COLUMNS}")
            return
        if not columns:
            columns = [name.strip() for name in row]
            if twice := [name for name, count in Counter(columns).items() if name and count > 1]:
                yield Entry(line, raw.tell(), problem=f"has several columns {twice[0]!r}; rename or remove all but one")
                return
        elif len(row) > len(columns):
            yield Entry(line, raw.tell(), problem=f"has {len(row)} fields under {len(columns)} columns")
        elif any(row):
            yield Entry(line, raw.tell(), dict(zip(columns, row, strict=False)))
        line = rows.line_num + 1
    for number, problem in damage:
        yield Entry(number, raw.tell(), problem=problem)
