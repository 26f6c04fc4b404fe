"""A team's own data set as exchanges of a task.

Each answer that a row teaches becomes an exchange with the upstream `import:dataset`, stored on the path of all imports: what
the store knows is not stored again, and bill, erasure and retention hold as for traffic. The model is `import:` and the name of
the teacher. Tags say what the row said: `split`, `terms`, `row` (its id). Scores become feedback.

Of two answers the one that was liked less is the exchange's, with the tag `preference: rejected`; the better one is its
demonstration (feedback `preference`), so that it stands in as the target, and both make a pair.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any

from sqlalchemy import text

from capture import clock, feedback, ids
from capture.database import Database
from capture.demonstrations import make_demonstration, write_message
from capture.errors import FeedbackError, SettingsError
from capture.feedback_forms import BOOLEAN, DEMONSTRATION, FLOAT
from capture.imports.imported import ImportedExchange, LineError
from capture.imports.importing import ImportReport, OnProgress, Read, import_reads
from capture.imports.spooled import raw_id
from capture.imports.values import as_text, body, tags, task_name
from capture.imports.wire import CHAT, LoggedUsage, WireForm, wire_form
from capture.pricing import PriceTable
from capture.pseudonyms import KEEP_PERSONAL, PersonalPolicy
from capture.records import Note
from curate.formats import bfcl
from curate.formats.entries import entries, files_in
from curate.formats.reading import BFCL, FORMATS, PARQUET, detect, read_row, split_name
from curate.formats.row import SYSTEM, Row, Taught
from curate.splits import SPLITS
from curate.terms import TERMS_TAG

AUTO = "auto"
SOURCE = "dataset"
"""Where the exchanges come from: their upstream is `import:dataset`."""
PREFERENCE, REJECTED = "preference", "rejected"
"""Tag, and name of the feedback, of an exchange whose answer was liked less than its demonstration."""
WHO = "import"
_LOOK_AHEAD = 50
_AT_ONCE = 1_000
_KEPT_OF_ANSWER = ("role", "content", "tool_calls", "refusal")


@dataclass(frozen=True, slots=True)
class UploadReport:
    """What came of an upload: `exchanges` as of any import, `pairs` of answers and `scores` among them.

    `other_terms` counts, by model, the answers of the task that were imported before and keep other terms than those given now.
    """

    exchanges: ImportReport
    pairs: int
    scores: int
    other_terms: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Upload:
    """What holds for every row. `columns` gives columns the names that formats know: {"input": "utterance"}.

    `system` is said to rows without a system prompt, `tools` are offered by rows that offer none, `terms` hold where a row
    names none. `teacher` is who answered, '' when nobody knows: then the task stands for it.
    """

    task: str
    format: str = AUTO
    columns: Mapping[str, str] = field(default_factory=dict)
    system: str = ""
    tools: Sequence[dict[str, Any]] = ()
    teacher: str = ""
    terms: str = ""


def import_dataset(
    database: Database | None,
    prices: PriceTable,
    files: Sequence[Path],
    upload: Upload,
    *,
    personal: PersonalPolicy = KEEP_PERSONAL,
    omit_tasks: Sequence[str] = (),
    on_progress: OnProgress | None = None,
) -> UploadReport:
    """Reads `files` (folders stand for the data files in them) and stores what they teach; without a database it only counts.

    Bad rows are told by number, good ones kept. NotEnoughError when no row can be read, SettingsError for a format that
    nobody knows or a name that no task can have, StoreError when the store cannot be written: running it again goes on.
    """
    if not upload.task or task_name(upload.task) != upload.task:
        raise SettingsError(f"{upload.task!r} is no name for a task.", "Use up to 100 letters, digits, '.', '_' and '-'.")
    paths = [path for given in files for path in files_in(given)]
    formats = {path: _format_of(path, upload) for path in paths}
    reader = _Reader(upload, formats, _gold(formats), database, personal)
    report = import_reads(
        database, prices, formats, reader.read, source=SOURCE, task=upload.task, personal=personal, omit_tasks=omit_tasks,
        on_progress=on_progress, next_step="See potstill dataset import --help.",
    )  # fmt: skip
    reader.tell()
    others = _other_terms(database, upload) if database is not None and upload.terms and report.known else {}
    return UploadReport(report, reader.pairs, reader.scores, others)


def _other_terms(database: Database, upload: Upload) -> dict[str, int]:
    """How many stored answers of the task have other terms than the upload's, by model."""
    sql = text("SELECT model_served, tags FROM exchanges WHERE task = :task AND upstream = :upstream")
    terms = tags({TERMS_TAG: upload.terms}).get(TERMS_TAG, "")
    with database.read() as connection:
        rows = connection.execute(sql, {"task": upload.task, "upstream": f"import:{SOURCE}"})
        found = Counter(str(row.model_served) for row in rows if json.loads(row.tags).get(TERMS_TAG, "") != terms)
    return dict(sorted(found.items()))


class _Reader:
    """Reads rows as exchanges, and tells the store what was thought of them."""

    def __init__(
        self,
        upload: Upload,
        formats: Mapping[Path, str],
        gold: Mapping[str, Sequence[Any]],
        database: Database | None,
        personal: PersonalPolicy,
    ) -> None:
        self._upload, self._formats, self._gold = upload, formats, gold
        self._database, self._personal = database, personal
        self._notes: list[Note] = []
        self._repeats: Counter[bytes] = Counter()
        self.pairs = self.scores = 0

    def read(self, path: Path) -> Iterator[Read]:
        """The exchanges of a file, row by row."""
        format, split = self._formats[path], _split_of(path)
        for entry in entries(path):
            try:
                if entry.problem:
                    raise LineError(entry.problem)
                row = read_row(format, renamed(entry.record, self._upload.columns), self._gold)
                taught = [(self._exchange(row, each, split), each) for each in row.taught]
                notes = [_notes(exchange, each, row.scores) for exchange, each in taught]
            except LineError as error:
                yield Read(entry.line, entry.position, error)
                continue
            for (exchange, each), said in zip(taught, notes, strict=True):
                yield Read(entry.line, entry.position, exchange)
                self.pairs += each.rejected is not None
                self.scores += len(row.scores)
                self._notes += said
            if len(self._notes) >= _AT_ONCE:
                self.tell()

    def tell(self) -> None:
        """Stores the feedback that is not stored yet."""
        if self._database is not None and self._notes:
            feedback.add(self._database, self._notes, self._personal)
        self._notes = []

    def _exchange(self, row: Row, taught: Taught, split: str) -> ImportedExchange:
        upload = self._upload
        asked: dict[str, Any] = {"messages": with_system(taught.asked, upload.system)}
        if tools := row.tools or tuple(upload.tools):
            asked["tools"] = list(tools)
        if row.parallel_tool_calls is not None:
            asked["parallel_tool_calls"] = row.parallel_tool_calls
        said = taught.answer if taught.rejected is None else taught.rejected
        form = wire_form(asked, said, model="", usage=LoggedUsage(), path=CHAT)
        told = {
            "imported_from": SOURCE,
            "split": row.split or split,
            TERMS_TAG: row.terms or upload.terms,
            "row": row.id,
            PREFERENCE: REJECTED if taught.rejected is not None else "",
        }
        model = f"import:{upload.teacher or upload.task}"
        return ImportedExchange(
            source_id=self._source_id(row, form), protocol=form.protocol, path=form.path, request=form.request,
            response=form.response, model_asked=model, model_served=model, session_name=_session(row), tags=tags(told),
            is_traffic=False,
        )  # fmt: skip

    def _source_id(self, row: Row, form: WireForm) -> str:
        """A row without an id is told from its equals by their number, so that what was said nine times counts nine times."""
        if row.id:
            return "\x1f".join((self._upload.task, row.id))
        digest = blake2b(form.request + b"\0" + form.response, digest_size=12).digest()
        self._repeats[digest] += 1
        number = self._repeats[digest]
        return "\x1f".join((self._upload.task, "" if number == 1 else f"#{number}"))


def _session(row: Row) -> str:
    """The answers of one conversation stay together."""
    if len(row.taught) < 2:
        return ""
    last = row.taught[-1]
    whole = body([row.id, list(last.asked), last.answer])
    return f"import-{blake2b(whole, digest_size=10).hexdigest()}"


def _notes(exchange: ImportedExchange, taught: Taught, scores: Mapping[str, float]) -> list[Note]:
    """What the row thinks of its answer, with ids of its own, so that the same row says it once."""
    exchange_id = ids.format_id("ex", raw_id(SOURCE, exchange))
    now_us = clock.now_us()
    notes = [
        Note(FLOAT, name, value, "", exchange_id, "", f"{exchange_id}.{name}", WHO, now_us, feedback.BY_IMPORT)
        for name, value in sorted(scores.items())
    ]
    if taught.rejected is None:
        return notes
    try:
        better = make_demonstration({key: taught.answer[key] for key in _KEPT_OF_ANSWER if key in taught.answer})
    except FeedbackError as error:
        raise LineError(f"its better answer cannot be learnt: {error.what}") from error
    id = f"{exchange_id}.{PREFERENCE}"
    return [
        *notes,
        Note(BOOLEAN, PREFERENCE, 0.0, "", exchange_id, "", id, WHO, now_us, feedback.BY_IMPORT),
        Note(
            DEMONSTRATION, PREFERENCE, None, write_message(better), exchange_id, "", f"{id}#{DEMONSTRATION}", WHO, now_us,
            feedback.BY_IMPORT,
        ),
    ]  # fmt: skip


def with_system(asked: Sequence[dict[str, Any]], system: str) -> list[dict[str, Any]]:
    """`asked`, after the system prompt `system` where it has none of its own."""
    has_one = not system or any(message["role"] in (SYSTEM, "developer") for message in asked)
    return list(asked) if has_one else [{"role": SYSTEM, "content": system}, *asked]


def renamed(record: Mapping[str, Any], columns: Mapping[str, str]) -> Mapping[str, Any]:
    """`record` with its columns under the names that formats know; LineError when one is missing."""
    if missing := [name for name in columns.values() if name not in record]:
        raise LineError(f"has no column {missing[0]!r} (columns: {', '.join(list(record)[:8])})")
    taken = {*columns, *columns.values()}
    kept = {name: value for name, value in record.items() if name not in taken}
    return kept | {name: record[column] for name, column in columns.items()}


def _format_of(path: Path, upload: Upload) -> str:
    """The format of `path`: of the first row that shows one."""
    if upload.format not in (AUTO, PARQUET):
        if upload.format not in FORMATS:
            raise SettingsError(f"There is no format {upload.format!r}.", f"Formats: {', '.join((AUTO, *FORMATS))}.")
        return upload.format
    first = "it has no rows"
    for number, entry in zip(range(_LOOK_AHEAD), entries(path), strict=False):
        try:
            found = detect(renamed(entry.record, upload.columns)) if entry.record else ""
        except LineError as error:
            found, entry_told = "", error.reason
        else:
            entry_told = entry.problem or f"has the columns {', '.join(list(entry.record)[:12])}"
        if found:
            return found
        first = f"line {entry.line} {entry_told}" if number == 0 else first
    raise SettingsError(
        f"The format of {path} is not known: {first}.",
        "Name it with --format, or its columns: --column input=QUESTION --column answer=LABEL.",
    )


def _gold(formats: Mapping[Path, str]) -> dict[str, Sequence[Any]]:
    """The calls that answer BFCL's questions, by id, out of all files of that format."""
    found: dict[str, Sequence[Any]] = {}
    for path, format in formats.items():
        if format == BFCL:
            found |= {
                as_text(entry.record.get("id")): entry.record["ground_truth"]
                for entry in entries(path)
                if bfcl.is_gold(entry.record) and isinstance(entry.record["ground_truth"], list)
            }
    return found


def _split_of(path: Path) -> str:
    """train, val or test where the file's name says so."""
    found = split_name(path.name.split(".")[0])
    return found if found in SPLITS else ""
