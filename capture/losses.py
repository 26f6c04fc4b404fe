"""What capture could not keep: gaps, dead letters (exchanges that the store refused) and damaged segments kept aside."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import msgspec
import zstandard
from sqlalchemy import text

from capture import ids, store_rows
from capture.database import Database
from capture.derive import derive
from capture.pricing import PriceTable
from capture.pseudonyms import KEEP_PERSONAL, PersonalPolicy
from capture.quarantine import FOLDER_NAME
from capture.records import Begin, End, Head
from capture.redact import redact_text
from capture.spool_reader import SpooledExchange

_MOST_BYTES = 1 << 30
_PAGE = 50


@dataclass(frozen=True, slots=True)
class LostStretch:
    """A stretch of time (UTC microseconds) in which `lost` exchanges were dropped."""

    spool_id: str
    from_us: int
    to_us: int
    lost: int
    reason: str


@dataclass(frozen=True, slots=True)
class LetterAside:
    """An exchange that the store refused; `size` bytes of its records are kept, 0 when none could be."""

    exchange_id: str
    reason: str
    size: int
    created_us: int


@dataclass(frozen=True, slots=True)
class Losses:
    """Counts since the store was made; of gaps and dead letters the newest are listed.

    `newest_us` is when the last of all this came about (UTC microseconds), 0 when nothing was lost.
    """

    lost: int
    gap_count: int
    gaps: tuple[LostStretch, ...]
    dead_letter_count: int
    dead_letters: tuple[LetterAside, ...]
    quarantine: tuple[tuple[str, int], ...]
    """Damaged segments with their bytes."""
    newest_us: int = 0


@dataclass(frozen=True, slots=True)
class RetriedLetters:
    """`stored` exchanges are in the store now, `known` were already; `refused` ones stay dead letters, with the reason."""

    stored: int
    known: int
    refused: tuple[tuple[str, str], ...]


def read_losses(database: Database, data_folder: Path, *, limit: int = 100) -> Losses:
    """What was lost, with at most `limit` of each kind listed."""
    with database.read() as connection:
        sums = text("SELECT coalesce(sum(lost), 0), count(*), coalesce(max(to_us), 0) FROM gaps")
        lost, gap_count, gap_us = connection.execute(sums).one()
        gaps = connection.execute(
            text("SELECT spool_id, from_us, to_us, lost, reason FROM gaps ORDER BY to_us DESC, id LIMIT :limit"), {"limit": limit}
        ).all()
        counts = text("SELECT count(*), coalesce(max(created_us), 0) FROM dead_letters")
        letter_count, letter_us = connection.execute(counts).one()
        letters = connection.execute(
            text(
                "SELECT exchange_id, reason, length(record), created_us FROM dead_letters "
                "ORDER BY created_us DESC, exchange_id LIMIT :limit"
            ),
            {"limit": limit},
        ).all()
    quarantine = data_folder / FOLDER_NAME
    aside = [(str(path), path.stat()) for path in sorted(quarantine.glob("sp_*/*")) if path.is_file()]
    return Losses(
        int(lost),
        int(gap_count),
        tuple(LostStretch(*row) for row in gaps),
        int(letter_count),
        tuple(LetterAside(*row) for row in letters),
        tuple((path, seen.st_size) for path, seen in aside),
        max(int(gap_us), int(letter_us), *(seen.st_ctime_ns // 1000 for _, seen in aside)),
    )


def retry_dead_letters(
    database: Database,
    prices: PriceTable,
    personal: PersonalPolicy = KEEP_PERSONAL,
    *,
    on_progress: Callable[[int, int], None] | None = None,
) -> RetriedLetters:
    """Derives and stores each dead letter once more; one that succeeds is a letter no longer.

    The letters hold no secrets any more, so an exchange that had some has the hashes of what is left of it.
    """
    with database.read() as connection:
        total = int(connection.execute(text("SELECT count(*) FROM dead_letters")).scalar_one())
    stored, known, refused = 0, 0, list[tuple[str, str]]()
    for done, (exchange_id, record) in enumerate(_letters(database), start=1):
        try:
            new = store_rows.write(database, [derive(read_letter(exchange_id, record), prices, personal)])
        except store_rows.RefusedError as error:
            refused.append((exchange_id, str(error)))
        except Exception as error:  # told and left as it is: one letter must not stop the others
            refused.append((exchange_id, redact_text(f"{type(error).__name__}: {error}")[0][:500]))
        else:
            stored, known = stored + new, known + 1 - new
            with database.write() as connection:
                connection.execute(text("DELETE FROM dead_letters WHERE exchange_id = :id"), {"id": exchange_id})
        if on_progress is not None:
            on_progress(done, total)
    return RetriedLetters(stored, known, tuple(refused))


def read_letter(exchange_id: str, record: bytes) -> SpooledExchange:
    """The records in a dead letter; ValueError when they cannot be read. It began when its id says."""
    try:
        plain = zstandard.ZstdDecompressor().decompress(record, max_output_size=_MOST_BYTES)
        begin, head, response, end = msgspec.msgpack.decode(plain, type=tuple[Begin, Head | None, bytes, End | None])
    except (zstandard.ZstdError, msgspec.MsgspecError) as error:
        raise ValueError(f"its records cannot be read: {error}") from error
    started_us = int.from_bytes(ids.parse_id(exchange_id)[:6], "big") * 1000
    last_ns = 0
    if end is not None:
        last_ns = (end.latency_us or 0) * 1000
        is_same = (end.request_sha256, end.response_sha256) == (sha256(begin.body).hexdigest(), sha256(response).hexdigest())
        if not is_same:
            end = msgspec.structs.replace(end, request_sha256="", response_sha256="")
    return SpooledExchange(exchange_id, begin, (0, 0), started_us, 0, last_ns, head, [response], end)


def _letters(database: Database) -> Iterator[tuple[str, bytes]]:
    """All dead letters by id, a page at a time, each of them once."""
    query = text("SELECT exchange_id, record FROM dead_letters WHERE exchange_id > :last ORDER BY exchange_id LIMIT :many")
    last = ""
    while True:
        with database.read() as connection:
            rows = connection.execute(query, {"last": last, "many": _PAGE}).all()
        if not rows:
            return
        for row in rows:
            yield str(row[0]), bytes(row[1])
        last = str(rows[-1][0])
