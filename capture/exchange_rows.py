"""Exchanges into the store and out of it: rows, contents, pieces, full-text words, inside a transaction of the caller.

Numbers of exchanges and pieces are given here. That is safe because writers take turns: SQLite has one write lock, and on
PostgreSQL `take_turn` takes an advisory lock until the transaction ends. So numbers become visible in their order, too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from typing import Any
from zlib import crc32

import msgspec
import psycopg
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from capture import spend
from capture.content import StoredContent, StoredParts, encode, pack, read_undamaged
from capture.derive import StoredExchange, columns, said_in
from capture.exchange import Content, Exchange
from capture.fulltext import searchable, tsvector
from capture.pieces import Parts, piece_hash, take_apart, words_of
from capture.statements import among, few

COLUMNS = tuple(field.name for field in fields(Exchange))
_CONTENT_COLUMNS, _USE_COLUMNS = ("number", "zstd"), ("piece", "exchange")
_PSEUDONYM_COLUMNS = ("token", "exchange_id", "sealed")
_PIECE_COLUMNS = ("number", "hash", "size", "zstd")
_MANY = 500
_TURN = 7_311_405
_STALE = "words_stale"


def take_turn(connection: Connection) -> None:
    """Waits until no other writer of any host gives numbers; SQLite's write lock says the same."""
    if connection.dialect.name != "sqlite":
        connection.execute(text("SELECT pg_advisory_xact_lock(:turn)"), {"turn": _TURN})


def insert_exchanges(connection: Connection, exchanges: Sequence[StoredExchange], names: Sequence[str] = COLUMNS) -> int:
    """Stores those whose id is not in the store yet, and books what they cost; how many those were. The caller has its turn.

    `names` are the first columns that the table has, for a migration that stands before the others; it books nothing.
    """
    known = {row[0] for row in _known(connection, "SELECT id FROM exchanges WHERE id", [each.exchange.id for each in exchanges])}
    fresh = list({stored.exchange.id: stored for stored in exchanges if stored.exchange.id not in known}.values())
    if not fresh:
        return 0
    numbers, owners = _insert_pieces(connection, fresh)
    rows, contents, uses, words = [], [], [], []
    for number, stored in zip(_take_numbers(connection, "exchanges", len(fresh)), fresh, strict=True):
        introduced = [hash for hash in stored.request.hashes if owners.get(hash) is stored]
        said = document(stored.said, stored.request, introduced)
        record = StoredContent(
            stored.request_headers,
            stored.response_headers,
            stored.request_sha256,
            stored.response_sha256,
            _parts(stored.request, numbers),
            _parts(stored.response, numbers),
            stored.seals,
            [numbers[hash] for hash in introduced],
            crc32(said.encode()),
        )
        rows.append((number, *columns(stored.exchange)[1 : len(names)]))
        contents.append((number, encode(record)))
        uses += [(piece, number) for piece in record.piece_numbers]
        if said:
            words.append((number, said))
    _insert(connection, "exchanges", names, rows)
    _insert(connection, "contents", _CONTENT_COLUMNS, contents)
    _insert(connection, "piece_uses", _USE_COLUMNS, uses)
    _insert_words(connection, words)
    sealed = [(each.token, stored.exchange.id, each.sealed) for stored in fresh for each in stored.pseudonyms]
    _insert(connection, "pseudonyms", _PSEUDONYM_COLUMNS, sealed)
    if names is COLUMNS:
        spend.book(connection, [stored.exchange for stored in fresh])
    return len(fresh)


def delete_exchanges(connection: Connection, numbers: Sequence[int]) -> int:
    """Takes exchanges out with everything that only they hold: content, pieces, words, feedback; how many there were.

    What is damaged or missing goes like the rest.
    The caller has its turn. In SQLite's full-text index the words of what was deleted are gone from the file once it has
    been merged: see `merge_words`.
    """
    deleted = 0
    for some in few(numbers):
        deleted += _delete_some(connection, some)
    return deleted


def merge_words(connection: Connection) -> None:
    """Rewrites SQLite's full-text index, so that nothing of deleted documents is left in it; takes a while on a large one."""
    if connection.dialect.name != "sqlite":
        return
    if connection.execute(text("SELECT 1 FROM meta WHERE name = :name"), {"name": _STALE}).first():
        rebuild_words(connection)
    else:
        connection.exec_driver_sql("INSERT INTO exchange_words(exchange_words) VALUES ('optimize')")


def rebuild_words(connection: Connection) -> None:
    """Makes the full-text index anew from what is stored and can be read, page by page. The caller has its turn."""
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("INSERT INTO exchange_words(exchange_words) VALUES ('delete-all')")
    else:
        connection.exec_driver_sql("TRUNCATE exchange_words")
    last = 0
    while numbers := _page_of_numbers(connection, last):
        last = numbers[-1]
        for number, stored, said in _words(connection, *read_undamaged(connection, numbers)):
            if said:
                _insert_words(connection, [(number, said)])
            if (check := crc32(said.encode())) != stored.words_check:
                _update_record(connection, number, msgspec.structs.replace(stored, words_check=check))
    _set_stale(connection, False)


def document(said: str, request: Parts, introduced: Iterable[bytes]) -> str:
    """What the full-text index holds of an exchange: its answer, what it newly asks, and pieces that it brings with it."""
    new = frozenset(introduced)
    texts = [said, request.fresh_text]
    for piece, hash in zip(request.pieces, request.hashes, strict=True):
        if piece.is_fresh or hash in new:
            texts.append(words_of(piece.data))
    return searchable("\n".join(texts))


def _parts(parts: Parts, numbers: Mapping[bytes, int]) -> StoredParts:
    flat = [value for piece, hash in zip(parts.pieces, parts.hashes, strict=True) for value in (piece.gap, numbers[hash])]
    return StoredParts(parts.skeleton, flat)


def _known(connection: Connection, select: str, values: Sequence[Any]) -> Iterator[tuple[Any, ...]]:
    """Rows that `select` (names from code) finds for any of `values`, past SQLAlchemy's compiler."""
    for some in few(values):
        if connection.dialect.name == "sqlite":
            found = connection.exec_driver_sql(f"{select} IN ({', '.join('?' * len(some))})", tuple(some))
        else:
            found = connection.exec_driver_sql(f"{select} = ANY(%s)", (some,))
        yield from (tuple(row) for row in found)


def _insert_pieces(connection: Connection, fresh: list[StoredExchange]) -> tuple[dict[bytes, int], dict[bytes, StoredExchange]]:
    """Numbers of all pieces by hash, and for those that are new to the store the exchange that brings them."""
    owners: dict[bytes, StoredExchange] = {}
    data: dict[bytes, bytes] = {}
    for stored in fresh:
        for parts in (stored.request, stored.response):
            for piece, hash in zip(parts.pieces, parts.hashes, strict=True):
                owners.setdefault(hash, stored)
                data[hash] = piece.data
    hashes = sorted(data)
    known = _known(connection, "SELECT hash, number FROM pieces WHERE hash", hashes)
    numbers = {bytes(hash): int(number) for hash, number in known}
    new = [hash for hash in hashes if hash not in numbers]
    given = dict(zip(new, _take_numbers(connection, "pieces", len(new)), strict=True))
    _insert(connection, "pieces", _PIECE_COLUMNS, [(given[hash], hash, len(data[hash]), pack(data[hash])) for hash in new])
    return numbers | given, {hash: owners[hash] for hash in new}


def _take_numbers(connection: Connection, table: str, count: int) -> Sequence[int]:
    """The next `count` numbers of `table`; none is ever given twice."""
    if not count:
        return ()
    if connection.dialect.name == "sqlite":
        found = connection.execute(text("SELECT seq FROM sqlite_sequence WHERE name = :table"), {"table": table}).scalar()
        return range((found or 0) + 1, (found or 0) + 1 + count)
    taken = connection.execute(
        text("SELECT nextval(CAST(:name AS regclass)) FROM generate_series(1, :count)"),
        {"name": f"{table}_number_seq", "count": count},
    )
    return [int(row[0]) for row in taken]


def _insert(connection: Connection, table: str, names: Sequence[str], rows: list[tuple[Any, ...]]) -> None:
    """Many rows at once, past SQLAlchemy's compiler: on PostgreSQL by COPY."""
    if not rows:
        return
    listed = ", ".join(names)
    if connection.dialect.name == "sqlite":
        sql = f"INSERT INTO {table} ({listed}) VALUES ({', '.join('?' * len(names))})"  # noqa: S608  names from code
        connection.exec_driver_sql(sql, rows)
        return
    driver: Any = connection.connection.driver_connection
    sql = f"COPY {table} ({listed}) FROM STDIN"
    try:
        with driver.cursor() as cursor, cursor.copy(sql) as copy:
            for row in rows:
                copy.write_row(row)
    except psycopg.Error as error:
        raise DBAPIError.instance(sql, None, error, psycopg.Error, dialect=connection.dialect) from error


def _insert_words(connection: Connection, words: list[tuple[int, str]]) -> None:
    if not words:
        return
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("INSERT INTO exchange_words (rowid, words) VALUES (?, ?)", words)
    else:
        _insert(connection, "exchange_words", ("number", "words"), [(number, tsvector(said)) for number, said in words])


def _delete_some(connection: Connection, numbers: list[int]) -> int:
    wanted = {"numbers": numbers}
    stored, known_pieces, contents = read_undamaged(connection, numbers)
    _delete_words(connection, numbers, _words(connection, stored, known_pieces, contents))
    pieces = _delete_uses(connection, numbers, stored)
    unused = "DELETE FROM pieces WHERE number IN :numbers AND NOT EXISTS (SELECT 1 FROM piece_uses WHERE piece = pieces.number)"
    for some in few(pieces):
        connection.execute(among(unused), {"numbers": some})
    connection.execute(among("DELETE FROM contents WHERE number IN :numbers"), wanted)
    _hand_on_words(connection, sorted({piece for content in stored.values() for piece in content.introduced}))
    for table in ("feedback", "pseudonyms"):
        sql = f"DELETE FROM {table} WHERE exchange_id IN (SELECT id FROM exchanges WHERE number IN :numbers)"  # noqa: S608
        connection.execute(among(sql), wanted)
    return connection.execute(among("DELETE FROM exchanges WHERE number IN :numbers"), wanted).rowcount


def _delete_uses(connection: Connection, numbers: list[int], stored: Mapping[int, StoredContent]) -> list[int]:
    """Takes out what these exchanges use; the pieces that they used.

    Their records say it. Where one cannot be read, or says something else than the table, the whole table is searched.
    """
    uses = [{"piece": piece, "exchange": number} for number, content in stored.items() for piece in content.piece_numbers]
    pieces = {use["piece"] for use in uses}
    removed = 0
    if uses:
        removed = connection.execute(text("DELETE FROM piece_uses WHERE piece = :piece AND exchange = :exchange"), uses).rowcount
    if len(stored) < len(numbers) or removed != len(uses):
        more = connection.execute(
            among("DELETE FROM piece_uses WHERE exchange IN :numbers RETURNING piece"), {"numbers": numbers}
        )
        pieces |= {int(row[0]) for row in more}
    return sorted(pieces)


def _delete_words(connection: Connection, numbers: list[int], found: list[tuple[int, StoredContent, str]]) -> None:
    """SQLite's index has to be told exactly what it holds of a document; where that is not known it counts as stale."""
    if connection.dialect.name != "sqlite":
        connection.execute(among("DELETE FROM exchange_words WHERE number IN :numbers"), {"numbers": numbers})
        return
    known = [(number, said) for number, stored, said in found if crc32(said.encode()) == stored.words_check]
    if len(known) < len(numbers):
        _set_stale(connection, True)
    if gone := [each for each in known if each[1]]:
        connection.exec_driver_sql("INSERT INTO exchange_words (exchange_words, rowid, words) VALUES ('delete', ?, ?)", gone)


def _hand_on_words(connection: Connection, introduced: list[int]) -> None:
    """Has the words of these pieces, as far as they are left, found at the oldest exchange that still holds them."""
    heirs: dict[int, list[int]] = {}
    oldest = "SELECT piece, MIN(exchange) FROM piece_uses WHERE piece IN :numbers GROUP BY piece"
    for some in few(introduced):
        for piece, exchange in connection.execute(among(oldest), {"numbers": some}):
            heirs.setdefault(int(exchange), []).append(int(piece))
    for numbers in few(sorted(heirs)):
        stored, pieces, contents = read_undamaged(connection, numbers)
        _delete_words(connection, list(contents), _words(connection, stored, pieces, contents))
        for number in contents:
            brought = sorted({*stored[number].introduced, *heirs[number]})
            stored[number] = msgspec.structs.replace(stored[number], introduced=brought)
        for number, record, said in _words(connection, stored, pieces, contents):
            _insert_words(connection, [(number, said)])
            _update_record(connection, number, msgspec.structs.replace(record, words_check=crc32(said.encode())))


def _update_record(connection: Connection, number: int, record: StoredContent) -> None:
    sql = text("UPDATE contents SET zstd = :zstd WHERE number = :number")
    connection.execute(sql, {"zstd": encode(record), "number": number})


def _words(
    connection: Connection, stored: Mapping[int, StoredContent], pieces: Mapping[int, bytes], contents: Mapping[int, Content]
) -> list[tuple[int, StoredContent, str]]:
    """Exchanges with their record and the words that the full-text index holds of them, derived again from what is stored."""
    rows = connection.execute(
        among("SELECT number, protocol, path, is_stream, status FROM exchanges WHERE number IN :numbers"),
        {"numbers": list(contents)},
    )
    found = []
    for number, protocol, path, is_stream, status in rows:
        request = take_apart(contents[number].request_body)
        introduced = [piece_hash(pieces[piece]) for piece in stored[number].introduced if piece in pieces]
        said = said_in(str(protocol), str(path), bool(is_stream), contents[number], int(status))
        found.append((int(number), stored[number], document(said, request, introduced)))
    return found


def _page_of_numbers(connection: Connection, last: int) -> list[int]:
    sql = text("SELECT number FROM contents WHERE number > :last ORDER BY number LIMIT :many")
    return [int(row[0]) for row in connection.execute(sql, {"last": last, "many": _MANY})]


def _set_stale(connection: Connection, is_stale: bool) -> None:
    connection.execute(text("DELETE FROM meta WHERE name = :name"), {"name": _STALE})
    if is_stale:
        connection.execute(text("INSERT INTO meta (name, value) VALUES (:name, '1')"), {"name": _STALE})
