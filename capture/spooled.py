"""What reading a spool gives: exchanges that are over, losses and feedback."""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec

from capture.records import Begin, End, Gap, Head, Note

_BATCH_BYTES = 32 * 1024 * 1024
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
        """All of the request body that was captured. Its parts give way to the whole, so that it is not held twice."""
        if self.body_parts:
            whole = b"".join((self.begin.body, *self.body_parts))
            self.begin, self.body_parts = msgspec.structs.replace(self.begin, body=whole), []
        return self.begin.body

    def response_body(self) -> bytes:
        """All of the response body that was captured, as relayed. Its parts give way to the whole."""
        if len(self.parts) != 1:
            self.parts = [b"".join(self.parts)]
        return self.parts[0]

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
        parts = exchange.parts
        self.size += len(exchange.begin.body) + (len(parts[0]) if len(parts) == 1 else sum(map(len, parts)))
        if exchange.body_parts:
            self.size += sum(map(len, exchange.body_parts))

    def is_enough(self, want: int) -> bool:
        """Whether there are `want` exchanges and notes, or so many bytes that memory would suffer."""
        return len(self.finished) + len(self.notes) >= want or self.size >= _BATCH_BYTES
