"""Takes exchanges out of the store for good: rows, bodies, words of the index, feedback, dead letters, and the log of all that.

SQLite overwrites what it deletes (`secure_delete`); the index is rewritten and the WAL emptied, so that no byte is left.
PostgreSQL's tables are rewritten; its own WAL, archives and backups are beyond our reach.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

import msgspec
import zstandard
from sqlalchemy import Connection, text
from sqlalchemy.exc import ProgrammingError

from capture import clock
from capture.content import read_undamaged
from capture.database import Database
from capture.errors import NotFoundError
from capture.exchange_rows import delete_exchanges, merge_words, take_turn
from capture.pieces import take_apart
from capture.statements import among, few, insert
from capture.subject import Subject, Target

_CHUNK, _MANY = 200, 10_000
_PENDING = "erasure:"
_WAL_WAIT_S = 30.0
_ID_LETTERS = 29
_TABLES = (
    "exchanges", "contents", "pieces", "piece_uses", "exchange_words", "feedback", "pseudonyms", "dead_letters", "examples",
    "reviews", "splits", "dataset_versions", "golden", "relabels", "audits", "audit_verdicts",
    "task_templates", "exports", "meta",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Begun:
    """What an erasure is about: ids of exchanges, names of sessions, and the dataset versions that hold them.

    `versions` has, by id, the hash before the first change and how many lines of each file are to go.
    """

    exchange_ids: list[str]
    sessions: list[str] = field(default_factory=list)
    versions: dict[str, tuple[str, dict[str, int]]] = field(default_factory=dict)


def begin_erasure(connection: Connection, erasure_id: str, begun: Begun) -> None:
    """Notes what is about to be erased, so that an erasure that is cut short can be finished, and tell all that it touched."""
    values = {"name": _PENDING + erasure_id, "value": json.dumps(asdict(begun))}
    insert(connection, "meta", [values])


def unfinished(connection: Connection) -> dict[str, Begun]:
    """Erasures that were cut short, oldest first, by id."""
    sql = text("SELECT name, value FROM meta WHERE name LIKE :start ORDER BY name")
    rows = connection.execute(sql, {"start": f"{_PENDING}%"})
    return {row[0].removeprefix(_PENDING): msgspec.json.decode(row[1], type=Begun) for row in rows}


def end_erasures(connection: Connection, finished: Iterable[str], erasure_id: str, receipt: str) -> None:
    """Keeps the receipt and drops the notes of the erasures that it is about."""
    for id in (*finished, erasure_id):
        connection.execute(text("DELETE FROM meta WHERE name = :name"), {"name": _PENDING + id})
    values = {"id": erasure_id, "receipt": receipt, "created_us": clock.now_us()}
    insert(connection, "erasures", [values])


def amend_receipt(connection: Connection, erasure_id: str, receipt: str) -> None:
    """Replaces a receipt by what came to light after it was kept."""
    connection.execute(text("UPDATE erasures SET receipt = :receipt WHERE id = :id"), {"id": erasure_id, "receipt": receipt})


def find_exchange_id(database: Database, start: str) -> str:
    """The only id of a stored exchange or dead letter that is `start`, or begins so; NotFoundError when none or more do."""
    low = start if start.startswith("ex_") else f"ex_{start}"
    sql = text(
        "SELECT id FROM exchanges WHERE id >= :low AND id <= :high UNION "
        "SELECT exchange_id FROM dead_letters WHERE exchange_id >= :low AND exchange_id <= :high LIMIT 2"
    )
    found: list[str] = []
    if low.isascii() and low.isprintable():
        with database.read() as connection:
            rows = connection.execute(sql, {"low": low.ljust(_ID_LETTERS, "0"), "high": low.ljust(_ID_LETTERS, "z")})
            found = [str(row[0]) for row in rows]
    if len(found) == 1:
        return found[0]
    what = f"More than one exchange starts with {start!r}." if found else f"There is no exchange {start!r}."
    raise NotFoundError(what, "Give more of the id." if found else "List them with `potstill exchanges list`.")


def remove_rows(database: Database, targets: Sequence[Target], on_progress: Callable[[int, int], None]) -> int:
    """Removes stored exchanges a few at a time, oldest first; how many. What was removed stays removed if it is cut short."""
    removed = 0
    for start in range(0, len(targets), _CHUNK):
        with database.write() as connection:
            take_turn(connection)
            removed += delete_exchanges(connection, [target.number for target in targets[start : start + _CHUNK]])
        on_progress(min(start + _CHUNK, len(targets)), len(targets))
    return removed


def remove_feedback(connection: Connection, subject: Subject, exchange_ids: Sequence[str], sessions: Sequence[str]) -> int:
    """Removes feedback that the subject gave (see `Subject.gave`), or that is about these exchanges or sessions; how many."""
    removed = 0
    if subject.user and not subject.exchange_id:
        also = " AND session_name = :session AND exchange_id = ''" if subject.session else ""
        own = {"who": subject.user, "session": subject.session}
        removed += connection.execute(text(f"DELETE FROM feedback WHERE who = :who{also}"), own).rowcount  # noqa: S608
    for column, values in (("exchange_id", exchange_ids), ("session_name", sessions)):
        for some in few(values, _CHUNK):
            sql = among(f"DELETE FROM feedback WHERE {column} IN :values")  # noqa: S608
            removed += connection.execute(sql, {"values": some}).rowcount
    return removed


def find_letters(database: Database, subject: Subject, exchange_ids: Iterable[str]) -> list[str]:
    """Ids of the dead letters that are about the subject."""
    known, found = set(exchange_ids), []
    with database.read() as connection:
        letter_ids = [row[0] for row in connection.execute(text("SELECT exchange_id FROM dead_letters ORDER BY exchange_id"))]
        for id in letter_ids:
            if id in known:
                found.append(id)
                continue
            sql = text("SELECT record FROM dead_letters WHERE exchange_id = :id")
            user, session = _named_in(bytes(connection.execute(sql, {"id": id}).scalar_one()))
            if subject.matches(user, session, id):
                found.append(id)
    return found


def remove_letters(connection: Connection, exchange_ids: Sequence[str]) -> int:
    """Removes these dead letters; how many."""
    return sum(
        connection.execute(text("DELETE FROM dead_letters WHERE exchange_id = :id"), {"id": id}).rowcount for id in exchange_ids
    )


def sessions_left_empty(connection: Connection, sessions: Iterable[str]) -> list[str]:
    """Those of `sessions` that no stored exchange belongs to."""
    named, used = sorted({session for session in sessions if session}), set[str]()
    sql = among("SELECT DISTINCT session_name FROM exchanges WHERE session_name IN :some")
    for some in few(named, _MANY):  # each is a look at the whole table
        used.update(row[0] for row in connection.execute(sql, {"some": some}))
    return [session for session in named if session not in used]


def find_repeats(database: Database, targets: Sequence[Target]) -> tuple[set[int], int]:
    """Numbers of other exchanges whose requests hold, byte for byte, what the targets newly said: later turns, mostly.

    And of how many targets nobody can tell, because what they said cannot be read.
    """
    own, found, readable = {target.number for target in targets}, set[int](), 0
    users = among(
        "SELECT piece_uses.exchange FROM piece_uses JOIN pieces ON pieces.number = piece_uses.piece WHERE pieces.hash IN :hashes"
    )
    with database.read() as connection:
        for some in few(targets, _CHUNK):
            *_, contents = read_undamaged(connection, [target.number for target in some])
            readable += len(contents)
            hashes = sorted({hash for content in contents.values() for hash in _fresh_pieces(content.request_body)})
            for few_hashes in few(hashes, _CHUNK):
                found |= {int(row[0]) for row in connection.execute(users, {"hashes": few_hashes})}
    return found - own, len(own) - readable


def merge(database: Database) -> None:
    """Rewrites the full-text index where words of removed exchanges might still be in it."""
    with database.write() as connection:
        take_turn(connection)
        merge_words(connection)


def wipe(database: Database, *, is_alone: bool) -> bool:
    """Has what was deleted leave the files: empties SQLite's WAL, rewrites PostgreSQL's tables, each locked meanwhile.

    False when the WAL could not be emptied.

    Only one process may ever empty the WAL: us when we hold the place of the store writer (`is_alone`), else the store
    writer does, soon, and this waits for it.
    """
    if not database.is_sqlite:
        _vacuum(database)
        return True
    deadline = time.monotonic() + _WAL_WAIT_S
    wal = Path(database.url.removeprefix("sqlite:///") + "-wal")
    while True:
        if is_alone:
            with database.read() as connection:
                connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)").all()
        if not wal.exists() or wal.stat().st_size == 0:
            return True
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)


def _fresh_pieces(body: bytes) -> list[bytes]:
    parts = take_apart(body)
    return [hash for piece, hash in zip(parts.pieces, parts.hashes, strict=True) if piece.is_fresh]


def _vacuum(database: Database) -> None:
    with database.engine.connect() as connection:
        connection = connection.execution_options(isolation_level="AUTOCOMMIT")
        connection.exec_driver_sql("SET statement_timeout = 0")
        for name in _TABLES:
            connection.exec_driver_sql(f"VACUUM (FULL) {name}")  # plain VACUUM leaves the bytes in the pages that it frees
        with suppress(ProgrammingError):  # not everybody may ask for it; the server does it by itself within minutes
            connection.exec_driver_sql("CHECKPOINT")
        connection.invalidate()  # nobody else shall get it without its timeout


def _named_in(record: bytes) -> tuple[str, str]:
    """User and session in a dead letter; empty when it cannot be read."""
    try:
        begin = msgspec.msgpack.decode(zstandard.ZstdDecompressor().decompress(record, max_output_size=1 << 30))[0]
        return str(begin[7]), str(begin[8])
    except (msgspec.DecodeError, zstandard.ZstdError, IndexError, TypeError):
        return "", ""
