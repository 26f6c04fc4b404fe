"""Imports feedback from a file with one JSON object a line, in any of the shapes that the relay takes.

A line without an id gets one from its text and its number, so that the same file can be imported again and nothing doubles.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import blake2b
from typing import BinaryIO

from capture import feedback
from capture.database import Database
from capture.errors import FeedbackError
from capture.feedback_forms import MAX_BYTES, read_feedback
from capture.pseudonyms import PersonalPolicy
from capture.records import Note

_AT_ONCE = 1_000
_MOST_NAMED = 100


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line that is no feedback, by its number from 1, and why."""

    line: int
    reason: str


@dataclass(frozen=True, slots=True)
class ImportedFeedback:
    """What came of a file: lines read, rows new to the store, rows that were there already, and how many lines were bad.

    `bad_lines` names the first hundred of them. A line with a value and a comment makes two rows. `left_out` counts rows that
    are words on exchanges whose content is not stored.
    """

    lines: int
    stored: int
    known: int
    bad: int
    bad_lines: tuple[BadLine, ...]
    left_out: int = 0


def import_feedback(
    database: Database, file: BinaryIO, personal: PersonalPolicy, tell: Callable[[int], None] = lambda _bytes: None
) -> ImportedFeedback:
    """Stores every good line of `file`, a thousand in each transaction, as `personal` wants it.

    `tell` hears how many bytes were read.
    """
    lines = bytes_read = stored = left_out = told = bad = 0
    bad_lines: list[BadLine] = []
    waiting: list[Note] = []
    for line in _lines(file):
        lines += 1
        bytes_read += len(line)
        if not line.strip():
            continue
        try:
            waiting += _notes(line, lines)
        except FeedbackError as error:
            bad += 1
            bad_lines += [BadLine(lines, str(error))][: _MOST_NAMED - len(bad_lines)]
        if len(waiting) >= _AT_ONCE:
            added = feedback.add(database, waiting, personal)
            stored, left_out = stored + added.new, left_out + added.left_out
            told += len(waiting)
            waiting = []
            tell(bytes_read)
    added = feedback.add(database, waiting, personal)
    stored, left_out = stored + added.new, left_out + added.left_out
    told += len(waiting)
    tell(bytes_read)
    return ImportedFeedback(lines, stored, told - stored - left_out, bad, tuple(bad_lines), left_out)


def _lines(file: BinaryIO) -> Iterator[bytes]:
    """The lines of `file`; of one that is too long, only so much that it is seen to be."""
    while line := file.readline(MAX_BYTES + 2):
        yield line
        while not line.endswith(b"\n") and len(line) == MAX_BYTES + 2:
            line = file.readline(MAX_BYTES + 2)


def _notes(line: bytes, number: int) -> list[Note]:
    text = line.strip()
    id = f"fb_{blake2b(text + b'%d' % number, digest_size=16).hexdigest()}"
    return [note for given in read_feedback(text, source=feedback.BY_IMPORT, id=id) for note in given.notes]
