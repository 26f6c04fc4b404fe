"""Cuts a stream of bytes into the values of a JSON array, one after the other, in bounded memory.

It looks at quotes and brackets only; whether a value is valid JSON is for its reader to find out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

_CHUNK = 1 << 20
_OUTSIDE, _INSIDE = re.compile(rb'["\[\]{},]'), re.compile(rb'["\\]')
_BLANK = b" \t\r\n"


@dataclass(frozen=True, slots=True)
class Piece:
    """One value as bytes, and the line that it begins on. `data` is None when it is larger than was allowed.

    `is_torn`: the stream ended within it.
    """

    line: int
    data: bytes | None
    is_torn: bool = False


class _Cutter:
    """Cuts at commas and brackets `depth` deep; keeps its place between chunks."""

    def __init__(self, depth: int, most: int) -> None:
        self._wanted, self._most = depth, most
        self._depth = 0
        self._in_string = self._is_escaped = False
        self._parts: list[bytes] = []
        self._size = 0
        self._line = self._first_line = 1
        self._is_ended = False

    def feed(self, chunk: bytes) -> Iterator[Piece]:
        """The values that end in `chunk`."""
        start = position = 0
        while not self._is_ended and position < len(chunk):
            if self._is_escaped:
                self._is_escaped, position = False, position + 1
                continue
            found = (_INSIDE if self._in_string else _OUTSIDE).search(chunk, position)
            if found is None:
                break
            position = found.end()
            mark = found.group()
            if self._in_string:
                self._is_escaped, self._in_string = mark == b"\\", mark == b"\\"
            elif mark == b'"':
                self._in_string = True
            elif mark in b"[{":
                self._depth += 1
                if self._depth == self._wanted:
                    self._forget(chunk[start:position])
                    start = position
            elif mark == b"," and self._depth == self._wanted:
                self._keep(chunk[start : position - 1])
                yield from self._take()
                start = position
            elif mark in b"]}":
                if self._depth == self._wanted:
                    self._keep(chunk[start : position - 1])
                    yield from self._take()
                    start, self._is_ended = position, True
                self._depth -= 1
        if not self._is_ended:
            self._keep(chunk[start:])

    def end(self) -> Iterator[Piece]:
        """What is left when the stream is over."""
        if not self._is_ended:
            for piece in self._take():
                yield Piece(piece.line, piece.data, is_torn=True)

    def _keep(self, data: bytes) -> None:
        if not self._size:
            rest = data.lstrip(_BLANK)
            self._line += data[: len(data) - len(rest)].count(b"\n")
            self._first_line, data = self._line, rest
        self._line += data.count(b"\n")
        self._size += len(data)
        if self._size > self._most:
            self._parts.clear()
        elif data:
            self._parts.append(data)

    def _forget(self, data: bytes) -> None:
        """What comes before the first value."""
        self._line += data.count(b"\n")
        self._parts, self._size = [], 0

    def _take(self) -> Iterator[Piece]:
        data = b"".join(self._parts).rstrip(_BLANK)
        if self._size > self._most:
            yield Piece(self._first_line, None)
        elif data:
            yield Piece(self._first_line, data)
        self._parts, self._size = [], 0


def pieces(read: Callable[[int], bytes], depth: int, most: int) -> Iterator[Piece]:
    """The values of the first array that stands `depth` brackets deep in what `read` gives; none larger than `most` bytes."""
    cutter = _Cutter(depth, most)
    while chunk := read(_CHUNK):
        yield from cutter.feed(chunk)
    yield from cutter.end()
