"""Imports log files into the store: the same derivation as captured traffic, in batches, and nothing twice.

Each line has an id of its own content, so an import that was broken off is simply run again.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from capture import store_rows
from capture.database import Database
from capture.derive import StoredExchange, derive
from capture.errors import NotEnoughError, SettingsError, StoreError
from capture.imports import formats, openai_jsonl
from capture.imports.batch_requests import BatchRequests
from capture.imports.imported import FORMATS, OPENAI_JSONL, ImportedExchange, LineError
from capture.imports.sources import Entry, read_entries
from capture.imports.spooled import to_spooled
from capture.pricing import PriceTable
from capture.pseudonyms import KEEP_PERSONAL, PersonalPolicy
from capture.records import OMIT
from capture.spool_reader import SpooledExchange
from capture.statements import among

AUTO = "auto"
OnProgress = Callable[[Path, int, int], None]
"""Told the file, the bytes of it that were read, and its size."""

_BATCH, _BATCH_BYTES = 200, 16 * 1024 * 1024
_MOST_PROBLEMS, _MOST_GROUPS = 100, 1_000
_LOOK_AHEAD = 50


@dataclass(frozen=True, slots=True)
class LineProblem:
    """A line that gave no exchange, and why. Line 0 is the file as a whole."""

    file: str
    line: int
    reason: str


@dataclass(frozen=True, slots=True)
class ImportGroup:
    """How many exchanges of one task and model were read, and how many of these were new to the store."""

    task: str
    model: str
    exchanges: int
    new: int = 0


@dataclass(frozen=True, slots=True)
class ImportReport:
    """What an import did. `read` exchanges are `stored` plus `known` (in the store already, or the same line twice).

    `skipped` lines were no exchanges, by reason; `bad` ones could not be read, the first 100 of them are in `problems`.
    """

    formats: dict[str, str]
    read: int
    stored: int
    known: int
    skipped: dict[str, int]
    bad: int
    problems: tuple[LineProblem, ...]
    groups: tuple[ImportGroup, ...]
    is_dry_run: bool


@dataclass(frozen=True, slots=True)
class Read:
    """What a file holds at a line: an exchange, or the reason why there is none. `position` counts bytes read."""

    line: int
    position: int
    found: ImportedExchange | LineError


Reader = Callable[[Path], Iterator[Read]]

_Group = tuple[str, str]
"""Task and model."""


@dataclass(frozen=True, slots=True)
class _Line:
    """Where an exchange stands in its file, and the group that it counts in."""

    number: int
    group: _Group


@dataclass(slots=True)
class _Tally:
    formats: dict[str, str] = field(default_factory=dict)
    read: int = 0
    stored: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    bad: int = 0
    problems: list[LineProblem] = field(default_factory=list)
    groups: Counter[_Group] = field(default_factory=Counter)
    new: Counter[_Group] = field(default_factory=Counter)

    def reject(self, path: Path, line: int, error: LineError) -> None:
        if not error.is_bad:
            self.skipped[error.reason[:100] if len(self.skipped) < _MOST_GROUPS else "other"] += 1
            return
        self.bad += 1
        if len(self.problems) < _MOST_PROBLEMS:
            self.problems.append(LineProblem(str(path), line, error.reason))

    def accept(self, task: str, imported: ImportedExchange) -> _Group:
        self.read += 1
        group = (task or imported.task, imported.model_served or imported.model_asked)
        group = group if group in self.groups or len(self.groups) < _MOST_GROUPS else ("(others)", "")
        self.groups[group] += 1
        return group

    def take_back(self, path: Path, line: _Line, error: LineError) -> None:
        """An exchange that was accepted is a bad line after all."""
        self.read -= 1
        self.groups[line.group] -= 1
        self.reject(path, line.number, error)

    def keep(self, written: int, batch: Sequence[tuple[_Line, StoredExchange]]) -> None:
        """Of `batch`, `written` exchanges were new: each that stands in it, a line that stands there twice counting once."""
        self.stored += written
        firsts = {stored.exchange.id: line for line, stored in reversed(batch)}
        self.new.update([line.group for line in firsts.values()][:written])

    def report(self, *, is_dry_run: bool) -> ImportReport:
        groups = tuple(
            ImportGroup(*key, count, self.new[key])
            for key, count in sorted(self.groups.items(), key=lambda item: (-item[1], item[0]))
            if count
        )
        known = 0 if is_dry_run else self.read - self.stored
        problems = tuple(self.problems)
        return ImportReport(
            self.formats, self.read, self.stored, known, dict(self.skipped), self.bad, problems, groups, is_dry_run
        )


def import_files(
    database: Database | None,
    prices: PriceTable,
    files: Sequence[Path],
    *,
    format: str = AUTO,
    task: str = "",
    personal: PersonalPolicy = KEEP_PERSONAL,
    omit_tasks: Sequence[str] = (),
    on_progress: OnProgress | None = None,
) -> ImportReport:
    """Reads `files` and stores their exchanges; without a database it only counts them (a dry run).

    `task` names the task of every exchange; without it the logs' own names count. `personal` and `omit_tasks` (names, with
    * for any letters) are what is done with personal data, and whose texts are left out. NotEnoughError when no line at
    all could be read, StoreError when the store cannot be written: what was read until then is stored.
    """
    if format not in (AUTO, *FORMATS):
        raise SettingsError(f"There is no format {format!r}.", f"Formats: {', '.join((AUTO, *FORMATS))}.")
    tally = _Tally()
    with BatchRequests() as requests:
        for path in files:
            tally.formats[str(path)] = _format_of(path, format)
            _gather_requests(path, tally.formats[str(path)], requests)
        for path in files:
            kind = tally.formats[str(path)]
            wishes = _Wishes(kind, task, path.stat().st_mtime_ns // 1000, personal, _pattern(omit_tasks))
            _import_file(database, prices, path, wishes, tally, _reads(path, kind, requests), on_progress)
    return _reported(tally, database, "See potstill import --help.")


def import_reads(
    database: Database | None,
    prices: PriceTable,
    files: Mapping[Path, str],
    read: Reader,
    *,
    source: str,
    task: str,
    personal: PersonalPolicy = KEEP_PERSONAL,
    omit_tasks: Sequence[str] = (),
    on_progress: OnProgress | None = None,
    next_step: str = "",
) -> ImportReport:
    """As `import_files`, with the exchanges that the caller's `read` finds in a file.

    `files` names the format of each for the report. The upstream of the exchanges is `import:` and `source`, which goes into
    their ids too. `next_step` is for when no line at all could be read.
    """
    tally = _Tally(formats={str(path): format for path, format in files.items()})
    for path in files:
        wishes = _Wishes(source, task, path.stat().st_mtime_ns // 1000, personal, _pattern(omit_tasks))
        _import_file(database, prices, path, wishes, tally, read(path), on_progress)
    return _reported(tally, database, next_step)


def _reported(tally: _Tally, database: Database | None, next_step: str) -> ImportReport:
    report = tally.report(is_dry_run=database is None)
    if not report.read and (report.bad or not report.skipped):
        first = report.problems[0] if report.problems else None
        where = f" {first.file}, line {first.line}: {first.reason}." if first else " The files are empty."
        raise NotEnoughError(f"Nothing could be imported: {report.bad} lines are bad.{where}", next_step)
    return report


def _format_of(path: Path, format: str) -> str:
    """The format of `path`: of the first line that shows one."""
    if format != AUTO:
        return format
    seen: Entry | None = None
    for _, entry in zip(range(_LOOK_AHEAD), read_entries(path), strict=False):
        if entry.record and (found := formats.detect(entry.record)):
            return found
        seen = seen or entry
    if seen is None:
        return OPENAI_JSONL  # an empty file is of any format
    keys = ", ".join(list(seen.record)[:12]) if seen.record else ""
    told = f"its first line has {keys}" if keys else f"line {seen.line} {seen.problem}"
    raise SettingsError(f"The format of {path} is not known: {told}.", f"Name it with --format: {', '.join(FORMATS)}.")


def _gather_requests(path: Path, format: str, requests: BatchRequests) -> None:
    """Keeps the requests of a batch's input, which the lines of its output refer to."""
    if format != OPENAI_JSONL:
        return
    has_any = False
    for number, entry in enumerate(read_entries(path)):
        if openai_jsonl.is_batch_request(entry.record):
            requests.add(entry.record)
            has_any = True
        elif number >= _LOOK_AHEAD and not has_any:
            return


@dataclass(frozen=True, slots=True)
class _Wishes:
    """How the exchanges of one file are stored; `fallback_us` is its age."""

    format: str
    task: str
    fallback_us: int
    personal: PersonalPolicy
    omitted: re.Pattern[str] | None

    def spool(self, imported: ImportedExchange) -> SpooledExchange:
        spooled = to_spooled(self.format, imported, task=self.task, fallback_us=self.fallback_us)
        if self.omitted is not None and self.omitted.fullmatch(spooled.begin.task):
            spooled.begin = msgspec.structs.replace(spooled.begin, content=OMIT)
        return spooled


def _pattern(tasks: Sequence[str]) -> re.Pattern[str] | None:
    patterns = [".*".join(map(re.escape, name.split("*"))) for name in tasks]
    return re.compile("|".join(patterns)) if patterns else None


def _import_file(
    database: Database | None,
    prices: PriceTable,
    path: Path,
    wishes: _Wishes,
    tally: _Tally,
    reads: Iterator[Read],
    on_progress: OnProgress | None,
) -> None:
    batch: list[tuple[_Line, SpooledExchange]] = []
    size = 0
    for line, imported in _good(path, reads, tally, on_progress):
        group = tally.accept(wishes.task, imported)
        if database is None:
            continue
        batch.append((_Line(line, group), wishes.spool(imported)))
        size += len(imported.request) + len(imported.response)
        if len(batch) >= _BATCH or size >= _BATCH_BYTES:
            _store(database, path, _derived(database, prices, path, wishes, batch, tally), tally)
            batch, size = [], 0
    if database is not None:
        _store(database, path, _derived(database, prices, path, wishes, batch, tally), tally)
    if on_progress is not None:
        total = path.stat().st_size
        on_progress(path, total, total)


def _good(
    path: Path, reads: Iterator[Read], tally: _Tally, on_progress: OnProgress | None
) -> Iterator[tuple[int, ImportedExchange]]:
    """The exchanges of a file with their lines; what is none is told."""
    size = path.stat().st_size
    for number, read in enumerate(reads):
        if on_progress is not None and number % _BATCH == 0:
            on_progress(path, read.position, size)
        if isinstance(read.found, LineError):
            tally.reject(path, read.line, read.found)
        else:
            yield read.line, read.found


def _reads(path: Path, format: str, requests: BatchRequests) -> Iterator[Read]:
    for entry in read_entries(path):
        found: ImportedExchange | LineError
        try:
            found = LineError(entry.problem) if entry.problem else formats.parse(format, entry.record, requests.find)
        except LineError as error:
            found = error
        yield Read(entry.line, entry.position, found)


def _derived(
    database: Database,
    prices: PriceTable,
    path: Path,
    wishes: _Wishes,
    batch: list[tuple[_Line, SpooledExchange]],
    tally: _Tally,
) -> list[tuple[_Line, StoredExchange]]:
    """What of `batch` is not in the store yet, derived; an exchange that cannot be derived is a bad line."""
    known = _known(database, [spooled.id for _, spooled in batch])
    found = []
    for line, spooled in batch:
        if spooled.id in known:
            continue
        try:
            found.append((line, derive(spooled, prices, wishes.personal)))
        except Exception as error:  # told by its line: one exchange must not stop the others
            tally.take_back(path, line, LineError(f"cannot be read: {type(error).__name__}"))
    return found


def _known(database: Database, exchange_ids: list[str]) -> set[str]:
    query = among("SELECT id FROM exchanges WHERE id IN :ids")
    with database.read() as connection:
        return {str(row[0]) for row in connection.execute(query, {"ids": exchange_ids})} if exchange_ids else set()


def _store(database: Database, path: Path, batch: list[tuple[_Line, StoredExchange]], tally: _Tally) -> None:
    """One transaction; a line that the store refuses is found by halves and told, the others are kept."""
    if not batch:
        return
    try:
        tally.keep(store_rows.write(database, [stored for _, stored in batch]), batch)
    except store_rows.RefusedError as error:
        if len(batch) == 1:
            tally.take_back(path, batch[0][0], LineError(f"the store refuses it: {error}"))
            return
        middle = len(batch) // 2
        _store(database, path, batch[:middle], tally)
        _store(database, path, batch[middle:], tally)
    except StoreError as error:
        told = f"{error.what} {tally.stored} exchanges are stored, up to about line {batch[0][0].number} of {path}."
        raise StoreError(told, "Run the same import again: what is stored already is left alone.") from error
