"""Recomputes every hash in the store: are the bodies what was relayed, and do all parts of the store fit each other?

Reads by pages, each of them in one snapshot, so it may run beside the store writer. What is wrong is told, never mended.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, text

from capture.assemble import assemble, input_hash
from capture.content import StoredContent, assemble_content, decode, is_sealed, unpack
from capture.database import Database
from capture.errors import StoreError
from capture.exchange import KEPT, OMITTED, Content
from capture.fulltext import searchable
from capture.pieces import piece_hash
from capture.progress import Progress, tell_nobody
from capture.statements import among, few
from capture.transcript import SWITCHED

BODY, CONTENT, INPUT, PIECE, USE, WORDS = "body", "content", "input", "piece", "use", "words"
DATABASE, DATASET = "database", "dataset"
NEXT_STEPS: Mapping[str, str] = {
    BODY: "Take the store from a backup; `potstill forget --exchange ID` removes an exchange that has none.",
    CONTENT: "Take the store from a backup; `potstill forget --exchange ID` removes an exchange that has none.",
    INPUT: "If an older Potstill stored it, that one read such a request in another way, and no body is lost; "
    "else take the store from a backup: datasets, `input:` and forgetting go by this hash.",
    PIECE: "Take the store from a backup: every exchange that holds this piece is damaged.",
    USE: "Take the store from a backup before you delete exchanges: deleting may remove too much or too little.",
    WORDS: "Searching may miss exchanges; everything else is not touched by it. Take the store from a backup.",
    DATABASE: "Stop Potstill, copy the store away, and take it from a backup; sqlite3's .recover reads what is left.",
    DATASET: "Build the dataset again: the same exchanges give the same version.",
}
"""What to do about a fault, by its kind."""


_PAGE = 200
_MOST_FAULTS = 1_000


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong: its `kind` (see `NEXT_STEPS`), where, and what."""

    kind: str
    where: str
    what: str


@dataclass(slots=True)
class VerifyReport:
    """`as_relayed` exchanges have the very bytes that were relayed; `changed` ones are as they were stored, without secrets.

    `omitted` ones were never to have content. `fault_count` counts all faults, `faults` holds the first 1,000.
    """

    exchanges: int = 0
    as_relayed: int = 0
    changed: int = 0
    omitted: int = 0
    pieces: int = 0
    fault_count: int = 0
    faults: list[Fault] = field(default_factory=list)

    def add(self, kind: str, where: str, what: str) -> None:
        """Takes in one more fault."""
        self.fault_count += 1
        if len(self.faults) < _MOST_FAULTS:
            self.faults.append(Fault(kind, where, what))


@dataclass(frozen=True, slots=True)
class _Row:
    number: int
    status: int
    id: str
    content: str
    output_text: str
    input_hash: str
    protocol: str
    path: str


def verify(
    database: Database,
    *,
    since_us: int = 0,
    limit: int | None = None,
    is_deep: bool = False,
    on_progress: Progress = tell_nobody,
) -> VerifyReport:
    """Checks the exchanges that began at `since_us` or later, the newest `limit` of them, and without both also the pieces.

    `is_deep` lets SQLite compare its indexes with its tables, which takes long on a large store.
    """
    report = VerifyReport()
    _check_database(database, report, is_deep)
    try:
        _check_exchanges(database, since_us, limit, report, on_progress)
        if not since_us and limit is None:
            _check_pieces(database, report, on_progress)
            _check_strays(database, report)
    except StoreError as error:
        if not report.fault_count:
            raise
        report.add(DATABASE, "the store", f"It cannot be read to its end: {error.what}")
    return report


def _check_exchanges(database: Database, since_us: int, limit: int | None, report: VerifyReport, tell: Progress) -> None:
    first, last, total = _range(database, since_us, limit)
    tell("exchanges", 0, total)
    for rows in _pages(database, first, last, since_us, report):
        report.exchanges += len(rows)
        tell("exchanges", min(report.exchanges, total), total)
    tell("exchanges", total, total)


@contextmanager
def _snapshot(database: Database) -> Iterator[Connection]:
    """A connection whose reads all see the store as it is at one moment."""
    with _reading(database) as connection:
        connection.exec_driver_sql("BEGIN" if database.is_sqlite else "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        yield connection


@contextmanager
def _reading(database: Database) -> Iterator[Connection]:
    """A connection on which text that is no UTF-8 comes as lone surrogates and does not end the reading of its page."""
    with database.read() as connection:
        driver = connection.connection.driver_connection
        if not isinstance(driver, sqlite3.Connection):
            yield connection
            return
        usual = driver.text_factory
        driver.text_factory = lambda raw: raw.decode("utf-8", "surrogateescape")
        try:
            yield connection
        finally:
            driver.text_factory = usual


def _check_database(database: Database, report: VerifyReport, is_deep: bool) -> None:
    """SQLite's own look at its pages and, when deep, at its indexes."""
    if not database.is_sqlite:
        return
    try:
        with database.read() as connection:
            rows = connection.exec_driver_sql("PRAGMA integrity_check" if is_deep else "PRAGMA quick_check").all()
    except StoreError as error:
        report.add(DATABASE, "SQLite", error.what)
        return
    for row in rows:
        if row[0] != "ok":
            report.add(DATABASE, "SQLite", str(row[0])[:500])


def _range(database: Database, since_us: int, limit: int | None) -> tuple[int, int, int]:
    """The first and last number to look at, and about how many exchanges that are."""
    with database.read() as connection:
        wanted = {"since": since_us}
        found = connection.execute(
            text("SELECT min(number), max(number), count(*) FROM exchanges WHERE started_us >= :since"), wanted
        ).one()
        first, last, total = int(found[0] or 0), int(found[1] or 0), int(found[2])
        if limit is not None and limit < total:
            number = connection.execute(
                text("SELECT number FROM exchanges WHERE started_us >= :since ORDER BY number DESC LIMIT 1 OFFSET :skip"),
                {**wanted, "skip": max(limit, 1) - 1},
            ).scalar_one()
            return int(number), last, limit
    return first, last, total


def _pages(database: Database, first: int, last: int, since_us: int, report: VerifyReport) -> Iterator[list[_Row]]:
    query = text(
        "SELECT number, status, id, content, output_text, input_hash, protocol, path FROM exchanges "
        "WHERE number >= :first AND number <= :last AND started_us >= :since ORDER BY number LIMIT :many"
    )
    while True:
        with _snapshot(database) as connection:
            found = connection.execute(query, {"first": first, "last": last, "since": since_us, "many": _PAGE})
            rows = [_row(int(number), int(status), values, report) for number, status, *values in found]
            if not rows:
                return
            _check_page(connection, rows, report)
        yield rows
        first = rows[-1].number + 1


def _row(number: int, status: int, values: Sequence[Any], report: VerifyReport) -> _Row:
    texts = [_readable(value) for value in values]
    if texts != list(values):
        report.add(CONTENT, texts[0], "a value in its row is no text")
    return _Row(number, status, *texts)


def _readable(value: object) -> str:
    return str(value).encode("utf-8", "replace").decode("utf-8")


def _check_page(connection: Connection, rows: list[_Row], report: VerifyReport) -> None:
    records = _records(connection, rows, report)
    pieces = _readable_pieces(connection, {piece for record in records.values() for piece in record.piece_numbers})
    for row in rows:
        if row.number in records:
            _check_bodies(row, records[row.number], pieces, report)
    _check_uses(connection, rows, records, report)
    _check_words(connection, [row for row in rows if row.content != OMITTED and row.number in records], report)


def _records(connection: Connection, rows: list[_Row], report: VerifyReport) -> dict[int, StoredContent]:
    """The content records that can be read; those that are missing or damaged are faults."""
    numbers = [row.number for row in rows]
    found = connection.execute(among("SELECT number, zstd FROM contents WHERE number IN :numbers"), {"numbers": numbers})
    packed = {int(row[0]): row[1] for row in found}
    records = {}
    for row in rows:
        if row.number not in packed:
            report.add(CONTENT, row.id, "it has no content record")
            continue
        try:
            records[row.number] = decode(_bytes(packed[row.number]))
        except StoreError as error:
            report.add(CONTENT, row.id, error.what)
    return records


def _readable_pieces(connection: Connection, numbers: Iterable[int]) -> dict[int, bytes]:
    """The bytes of these pieces; damaged ones are left out here and told when the pieces themselves are looked at."""
    wanted, found = sorted(numbers), dict[int, bytes]()
    query = among("SELECT number, zstd FROM pieces WHERE number IN :numbers")
    for some in few(wanted):
        for row in connection.execute(query, {"numbers": some}):
            try:
                found[int(row[0])] = unpack(_bytes(row[1]))
            except StoreError:
                continue  # its exchanges become faults for want of it
    return found


def _check_bodies(row: _Row, record: StoredContent, pieces: Mapping[int, bytes], report: VerifyReport) -> None:
    try:
        content = assemble_content(record, pieces)
    except StoreError:
        missing = sorted(piece for piece in record.piece_numbers if piece not in pieces)
        report.add(BODY, row.id, f"piece {missing[0] if missing else '?'} of a body is missing or damaged")
        return
    if not is_sealed(record, content):
        report.add(BODY, row.id, "its bodies are not those that were stored: their SHA-256 differs")
        return
    _check_input(row, content, report)
    if row.content == OMITTED:
        report.omitted += 1
        if content.request_body or content.response_body or row.output_text or row.input_hash:
            report.add(CONTENT, row.id, "its content was to be left out, and some of it is stored")
    elif any(record.seals):
        report.changed += 1
    else:
        report.as_relayed += 1


def _check_input(row: _Row, content: Content, report: VerifyReport) -> None:
    """Whether the hash of what was asked is that of the stored request; where all of it is stored as it was hashed."""
    if row.content != KEPT:
        return
    label = content.request_headers.get("content-encoding", "")
    transcript = content.response_body if row.status == SWITCHED else b""
    asked = assemble(row.protocol, row.path, False, content.request_body, transcript, "", row.status, request_encoding=label)
    if input_hash(asked.conversation) != row.input_hash:
        report.add(INPUT, row.id, "its hash of what was asked is not that of its request")


def _check_uses(connection: Connection, rows: list[_Row], records: Mapping[int, StoredContent], report: VerifyReport) -> None:
    """Whether each exchange is written down as a user of just the pieces that it holds."""
    wanted = {(piece, number) for number, record in records.items() for piece in record.piece_numbers}
    pieces, found = sorted({piece for piece, _ in wanted}), set[tuple[int, int]]()
    query = among("SELECT piece, exchange FROM piece_uses WHERE piece IN :numbers AND exchange BETWEEN :first AND :last")
    span = {"first": rows[0].number, "last": rows[-1].number}
    for some in few(pieces):
        found |= {(int(row[0]), int(row[1])) for row in connection.execute(query, {"numbers": some, **span})}
    names = {row.number: row.id for row in rows}
    for piece, number in sorted(wanted - found):
        report.add(USE, names[number], f"it holds piece {piece}, which does not count it as a user")
    for piece, number in sorted(found - wanted):
        if number in records:
            report.add(USE, names[number], f"it counts as a user of piece {piece}, which it does not hold")


def _check_words(connection: Connection, rows: Sequence[_Row], report: VerifyReport) -> None:
    """Whether the first word of each answer finds it."""
    for row in rows:
        words = searchable(row.output_text).split(maxsplit=1)
        if not words:
            continue
        if connection.dialect.name == "sqlite":
            query = text("SELECT 1 FROM exchange_words WHERE exchange_words MATCH :word AND rowid = :number")
            has_words = connection.execute(query, {"word": f'"{words[0]}"', "number": row.number}).first() is not None
        else:
            query = text("SELECT 1 FROM exchange_words WHERE number = :number")
            has_words = connection.execute(query, {"number": row.number}).first() is not None
        if not has_words:
            report.add(WORDS, row.id, "the full-text index does not know its answer")


def _check_pieces(database: Database, report: VerifyReport, tell: Progress) -> None:
    """Whether each piece has the bytes that its hash names, and somebody who uses it."""
    query = text(
        "SELECT number, hash, size, zstd, EXISTS (SELECT 1 FROM piece_uses WHERE piece = pieces.number) FROM pieces "
        "WHERE number > :last ORDER BY number LIMIT :many"
    )
    with database.read() as connection:
        total = int(connection.execute(text("SELECT count(*) FROM pieces")).scalar_one())
    last = 0
    tell("pieces", 0, total)
    while True:
        with _reading(database) as connection:
            rows = connection.execute(query, {"last": last, "many": _PAGE}).all()
        for number, hash, size, packed, is_used in rows:
            _check_piece(int(number), hash, size, packed, bool(is_used), report)
        if not rows:
            tell("pieces", total, total)
            return
        last = int(rows[-1][0])
        report.pieces += len(rows)
        tell("pieces", min(report.pieces, total), total)


def _check_piece(number: int, hash: object, size: object, packed: object, is_used: bool, report: VerifyReport) -> None:
    where = f"piece {number}"
    try:
        data = unpack(_bytes(packed))
    except StoreError as error:
        report.add(PIECE, where, error.what)
        return
    if len(data) != size or not isinstance(hash, bytes | memoryview) or piece_hash(data) != bytes(hash):
        report.add(PIECE, where, "its bytes are not those that its hash names")
    if not is_used:
        report.add(USE, where, "no exchange uses it, and yet it is kept")


def _check_strays(database: Database, report: VerifyReport) -> None:
    """Rows whose exchange or piece is not there."""
    queries = [
        (CONTENT, "contents of exchange {}", "SELECT number FROM contents WHERE number NOT IN (SELECT number FROM exchanges)"),
        (
            USE,
            "uses by exchange {}",
            "SELECT DISTINCT exchange FROM piece_uses WHERE exchange NOT IN (SELECT number FROM exchanges)",
        ),
        (USE, "uses of piece {}", "SELECT DISTINCT piece FROM piece_uses WHERE piece NOT IN (SELECT number FROM pieces)"),
    ]
    if not database.is_sqlite:
        words = "SELECT number FROM exchange_words WHERE number NOT IN (SELECT number FROM exchanges)"
        queries.append((WORDS, "words of exchange {}", words))
    with _snapshot(database) as connection:
        for kind, where, sql in queries:
            for row in connection.execute(text(f"{sql} LIMIT {_MOST_FAULTS}")):
                report.add(kind, where.format(row[0]), "what they belong to is not in the store")


def _bytes(value: object) -> bytes:
    """The bytes of a column; StoreError when it holds something else, which SQLite allows."""
    if isinstance(value, bytes | memoryview):
        return bytes(value)
    raise StoreError(f"A value in the store is {type(value).__name__} where bytes should be.", "Run `potstill verify`.")
