"""The list of files that exchanges and datasets were written to, and taking exchanges out of those files again."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from sqlalchemy import text

from capture import clock
from capture.database import Database
from capture.errors import StoreError
from capture.ids import exchange_ids_in

JSONL, OTLP, DATASET = "jsonl", "otlp", "dataset"
"""Formats of exported files: an exchange a line; OpenTelemetry as JSON; examples a line, without ids."""
_COLLECTOR = "collector"


@dataclass(frozen=True, slots=True)
class Exported:
    """A file, its format, what was chosen for it (a filter, or task/version), and when (UTC microseconds)."""

    path: Path
    format: str
    filter: str
    created_us: int


def remember(database: Database, path: Path, format: str, filter: str) -> None:
    """Notes that `path` holds exported exchanges, so that an erasure finds them there."""
    _remember(database, str(path.resolve()), format, filter)


def remember_collector(database: Database, address: str) -> None:
    """Notes that exchanges were sent to the collector at `address`, without a user name or password in it."""
    parts = urlsplit(address)
    _remember(database, urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", "")), _COLLECTOR, "")


def collectors(database: Database) -> list[str]:
    """Addresses of the collectors that exchanges were sent to, which no erasure reaches."""
    with database.read() as connection:
        sql = text("SELECT path FROM exports WHERE format = :collector ORDER BY path")
        return [str(row[0]) for row in connection.execute(sql, {"collector": _COLLECTOR})]


def _remember(database: Database, path: str, format: str, filter: str) -> None:
    values = {"path": path, "format": format, "filter": filter, "us": clock.now_us()}
    with database.write() as connection:
        connection.execute(
            text(
                "INSERT INTO exports (path, format, filter, created_us) VALUES (:path, :format, :filter, :us) ON CONFLICT (path) "
                "DO UPDATE SET format = excluded.format, filter = excluded.filter, created_us = excluded.created_us"
            ),
            values,
        )


def exported(database: Database) -> list[Exported]:
    """Every file that is remembered, by path."""
    with database.read() as connection:
        sql = text("SELECT path, format, filter, created_us FROM exports WHERE format <> :collector ORDER BY path")
        rows = connection.execute(sql, {"collector": _COLLECTOR})
        return [Exported(Path(row[0]), *row[1:]) for row in rows]


def forget_name(database: Database, file: Exported, name: str) -> None:
    """Drops the filter of a remembered file where it says `name`."""
    if name and name in file.filter:
        with database.write() as connection:
            connection.execute(text("UPDATE exports SET filter = '' WHERE path = :path"), {"path": str(file.path)})


def erase_from(file: Exported, exchange_ids: Iterable[str], lines: Iterable[str]) -> int:
    """Takes exchanges out of a file in place: lines that name one, and lines equal to one of `lines`; how many.

    StoreError, with the reason, when it cannot be done: the file is not text, or cannot be written.
    """
    if not file.path.is_file():
        return 0
    names, equal = set(exchange_ids), set(lines)
    part = file.path.with_name(f".{file.path.name}.part")
    removed = 0
    try:
        with file.path.open(encoding="utf-8", newline="") as source, part.open("w", encoding="utf-8", newline="") as target:
            os.fchmod(target.fileno(), file.path.stat().st_mode & 0o777)
            for line in source:
                kept, gone = _without(line, file.format, names, equal)
                removed += gone
                target.write(kept)
            target.flush()
            os.fsync(target.fileno())
        if removed:
            part.replace(file.path)
    except (OSError, UnicodeDecodeError) as error:
        raise cannot_be_rewritten(file, error) from error
    finally:
        part.unlink(missing_ok=True)
    return removed


def cannot_be_rewritten(file: Exported, reason: Exception) -> StoreError:
    """What is said of a file from which nothing can be taken; never in the words of `reason`, which may quote what is erased."""
    why = (isinstance(reason, OSError) and reason.strerror) or type(reason).__name__
    return StoreError(f"Exported file {file.path} cannot be rewritten ({why}).", "Delete it.")


def _without(line: str, format: str, names: set[str], equal: set[str]) -> tuple[str, int]:
    if line.rstrip("\r\n") in equal:
        return "", 1
    if format == DATASET or names.isdisjoint(exchange_ids_in(line)):
        return line, 0
    if format != OTLP:
        return "", 1
    try:
        value = json.loads(line)
    except ValueError:
        return "", 1
    removed = _drop_spans(value, names)
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")) + "\n", removed


def _drop_spans(value: Any, names: set[str]) -> int:
    """Takes out of OpenTelemetry's `spans` those that name an exchange, and whatever else in a list does."""
    removed, waiting = 0, [value]
    while waiting:
        holder = waiting.pop()
        if isinstance(holder, dict):
            for key in ("spans", "logRecords"):
                if isinstance(holder.get(key), list):
                    kept = [each for each in holder[key] if not _names_one(each, names)]
                    removed += len(holder[key]) - len(kept)
                    holder[key] = kept
            waiting += holder.values()
        elif isinstance(holder, list):
            waiting += holder
    return removed


def _names_one(value: Any, names: set[str]) -> bool:
    return not names.isdisjoint(exchange_ids_in(json.dumps(value, ensure_ascii=False)))
