"""Feedback: what somebody thought of an exchange, or of all exchanges of a session. Written once, never changed.

A row that is there already stays as it is (the first with an id wins). Where one person said several things about the same
thing under one name, all are kept and shown, and the newest counts. Nothing asks whether the exchange is known: feedback may
come before it, and what never finds one is kept and counted.

Where the content of an exchange is not stored, no words about it are either: of what is said of it, or of a session that it
is in, values are kept, but neither comments nor demonstrations, whichever of the two comes first.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

from sqlalchemy import Connection, text

from capture.database import Database
from capture.demonstrations import read_message, write_message
from capture.exchange import BASELINE, CANDIDATE, OMITTED, Exchange
from capture.exchange_rows import take_turn
from capture.feedback_forms import BOOLEAN, CATEGORY, COMMENT, DEFAULT_NAME, DEMONSTRATION, FLOAT
from capture.filters import Filter
from capture.loose_json import clean_text
from capture.messages import Message
from capture.pseudonyms import KEEP_PERSONAL, PersonalPolicy
from capture.records import Note
from capture.redact import redact_text
from capture.spool_reader import SpooledNote
from capture.statements import among, few

BY_API, BY_COMMAND, BY_SCREEN, BY_IMPORT = "api", "command", "screen", "import"
"""How feedback came in."""


@dataclass(frozen=True, slots=True)
class Feedback:
    """One thing said. `value` is 0 or 1 of a boolean, the number of a float; `text` the category, comment or demonstration.

    `number` counts in the order of storing, 0 before that. `exchange_id` goes before `session_name` where both are given.
    `who` said it, '' when unknown; `source` is api, command, screen or import; `created_us` is UTC microseconds.
    """

    id: str
    exchange_id: str
    session_name: str
    name: str
    kind: str
    value: float | None
    text: str
    who: str
    source: str
    tags: Mapping[str, str]
    created_us: int
    number: int = 0


@dataclass(frozen=True, slots=True)
class Added:
    """What came of storing feedback: rows `new` to the store, and rows `left_out`, being words where no content is stored."""

    new: int
    left_out: int = 0


@dataclass(frozen=True, slots=True)
class Figures:
    """What counts of one name on some exchanges: how often, the mean value (of a boolean the share that is true), categories."""

    n: int = 0
    mean: float | None = None
    categories: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class FeedbackSummary:
    """The figures of one name and kind, over all exchanges and by the variant that these were assigned."""

    name: str
    kind: str
    total: Figures
    baseline: Figures
    candidate: Figures


@dataclass(frozen=True, slots=True)
class Score:
    """A boolean or number that counts for one exchange, with the exchange's variant and sticky unit."""

    name: str
    kind: str
    value: float
    variant: str
    unit: str


_NAMES = [each.name for each in fields(Feedback) if each.name != "number"]
_COLUMNS = ", ".join(f"f.{name}" for name in (*_NAMES, "number"))
_INSERT = text(
    f"INSERT INTO feedback ({', '.join(_NAMES)}) VALUES ({', '.join(':' + name for name in _NAMES)}) "  # noqa: S608  names
    "ON CONFLICT (id) DO NOTHING"
)
_WORDS = (COMMENT, DEMONSTRATION)
_DROP_WORDS = "DELETE FROM feedback WHERE kind IN ('comment', 'demonstration') AND "
_DROP_OF_EXCHANGES = among(f"{_DROP_WORDS} exchange_id IN :names")
_DROP_OF_SESSIONS = among(f"{_DROP_WORDS} exchange_id = '' AND session_name IN :names")
# One person has one opinion of one thing under one name: the newest. A comment or a demonstration goes beside it.
_TOLD = """told AS (SELECT f.*, ROW_NUMBER() OVER (
    PARTITION BY f.exchange_id, CASE WHEN f.exchange_id = '' THEN f.session_name ELSE '' END, f.name, f.who,
        CASE WHEN f.kind IN ('comment', 'demonstration') THEN f.kind ELSE '' END
    ORDER BY f.created_us DESC, f.number DESC) AS place FROM feedback AS f)"""
_SAME_SESSION = "session_name = f.session_name AND exchanges.session_name <> ''"  # as the index on sessions has it
_MATCHES = "EXISTS (SELECT 1 FROM exchanges WHERE exchanges.number = e.number AND ({where}))"
_COUNTED = """counted AS (
    SELECT t.name, t.kind, t.value, t.text, e.variant, e.unit FROM told AS t JOIN exchanges AS e ON e.id = t.exchange_id
        WHERE t.place = 1 AND {matches}
    UNION ALL
    SELECT t.name, t.kind, t.value, t.text, e.variant, e.unit FROM told AS t
        JOIN exchanges AS e ON e.session_name = t.session_name AND e.session_name <> ''
        WHERE t.place = 1 AND t.exchange_id = '' AND {matches})"""


def rows(notes: Iterable[SpooledNote], personal: PersonalPolicy = KEEP_PERSONAL) -> list[Feedback]:
    """The notes of a spool as both stores accept them, without secrets; one without an id of its own has its record's.

    `personal` wants personal data out of what was said. A pseudonym can be turned back where an exchange has the same datum.
    """
    return [_row(spooled.note, spooled.note.id or spooled.id, personal) for spooled in notes]


def insert(connection: Connection, feedbacks: Sequence[Feedback]) -> Added:
    """Stores what is new, by id, as part of the caller's transaction, without words on exchanges whose content is omitted.

    The caller has its turn (`take_turn`), so that no such exchange is stored meanwhile.
    """
    kept = _without_words(connection, feedbacks)
    values = [{**_values(each), "tags": json.dumps(dict(each.tags), ensure_ascii=False)} for each in kept]
    new = max(0, connection.execute(_INSERT, values).rowcount) if values else 0
    return Added(new, len(feedbacks) - len(kept))


def add(database: Database, notes: Iterable[Note], personal: PersonalPolicy = KEEP_PERSONAL) -> Added:
    """Stores notes that did not come through a spool, in one transaction. `personal` as in `rows`."""
    found = [_row(note, note.id, personal) for note in notes]
    with database.write() as connection:
        take_turn(connection)
        return insert(connection, found)


def drop_words(connection: Connection, exchanges: Iterable[Exchange]) -> int:
    """Takes away the words on those of `exchanges` whose content is omitted, and on their sessions; how many rows there were.

    To be called in the transaction that stores the exchanges, for what was said before they came.
    """
    gone = 0
    omitted = [each for each in exchanges if each.content == OMITTED]
    for some in few(omitted):
        gone += connection.execute(_DROP_OF_EXCHANGES, {"names": [each.id for each in some]}).rowcount
        if sessions := [each.session_name for each in some if each.session_name]:
            gone += connection.execute(_DROP_OF_SESSIONS, {"names": sessions}).rowcount
    return gone


def of_exchange(database: Database, exchange_id: str) -> list[Feedback]:
    """Everything said about the exchange with this whole id, or about its session as such, oldest first."""
    where = (
        "f.number IN (SELECT number FROM feedback WHERE exchange_id = :id UNION ALL SELECT number FROM feedback "
        "WHERE exchange_id = '' AND session_name = (SELECT session_name FROM exchanges WHERE id = :id AND session_name <> ''))"
    )
    return _select(database, f"{where} ORDER BY f.created_us, f.number", {"id": exchange_id})


def of_session(database: Database, session: str) -> list[Feedback]:
    """Everything said with this session named, oldest first."""
    return _select(database, "f.session_name = :session ORDER BY f.created_us, f.number", {"session": session})


def page(database: Database, filter: Filter, *, before: int = 0, limit: int = 100) -> list[Feedback]:
    """Newest stored first: at most `limit`, stored before number `before` (from the newest when 0).

    With a filter, only what is about a stored exchange that matches; without, what found no exchange too.
    """
    conditions = [f"f.number < {int(before)}"] if before else []
    if filter.text:
        matches = filter.where(is_sqlite=database.is_sqlite)
        inside = f"SELECT 1 FROM exchanges WHERE exchanges.{{key}} AND ({matches})"  # noqa: S608  from code, values bound
        by_id, by_session = inside.format(key="id = f.exchange_id"), inside.format(key=_SAME_SESSION)
        conditions.append(f"(EXISTS ({by_id}) OR (f.exchange_id = '' AND EXISTS ({by_session})))")
    where = f"{' AND '.join(conditions) or '1 = 1'} ORDER BY f.number DESC LIMIT :most"
    return _select(database, where, {**filter.params, "most": limit})


def summary(database: Database, filter: Filter) -> list[FeedbackSummary]:
    """Per name and kind what counts on the exchanges that match; feedback on a session counts on each of its exchanges."""
    sql = (
        f"WITH {_TOLD}, {_counted(database, filter)} SELECT name, kind, variant, "  # noqa: S608  names
        "CASE WHEN kind = 'category' THEN text ELSE '' END AS category, COUNT(*) AS n, SUM(value) AS total "
        "FROM counted GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4"
    )
    with database.read() as connection:
        found = connection.execute(text(sql), filter.params).all()
    groups: dict[tuple[str, str], list[Any]] = {}
    for row in found:
        groups.setdefault((row.name, row.kind), []).append(row)
    return [
        FeedbackSummary(
            name,
            kind,
            _figures(kind, group),
            _figures(kind, [row for row in group if row.variant == BASELINE]),
            _figures(kind, [row for row in group if row.variant == CANDIDATE]),
        )
        for (name, kind), group in groups.items()
    ]


def scores(database: Database, task: str, flag_revisions: Sequence[int]) -> list[Score]:
    """The booleans and numbers that count on the app's exchanges of `task` that were assigned under these revisions of a flag.

    One for each exchange, name and person.
    """
    matches = "e.task = :task AND e.variant <> '' AND e.purpose = 'app' AND e.flag_revision IN :revisions"
    statement = among(
        f"WITH {_TOLD}, {_COUNTED.format(matches=matches)} SELECT name, kind, value, variant, unit FROM counted "  # noqa: S608
        "WHERE kind IN ('boolean', 'float') AND value IS NOT NULL ORDER BY name, kind, unit"
    )
    with database.read() as connection:
        found = connection.execute(statement, {"task": task, "revisions": list(flag_revisions)})
        return [Score(*row) for row in found]


def values(database: Database, name: str, filter: Filter) -> dict[str, float]:
    """The mean over people of the boolean or number `name` that counts for each exchange that matches, by exchange id.

    What is said of an exchange itself goes before what is said of its session.
    """
    matches = _MATCHES.format(where=filter.where(is_sqlite=database.is_sqlite)) if filter.text else "1 = 1"
    wanted = f"t.place = 1 AND t.name = :score_name AND t.value IS NOT NULL AND {matches}"
    sql = (
        f"WITH {_TOLD} SELECT e.id, AVG(t.value) FROM told AS t JOIN exchanges AS e "  # noqa: S608  names, values are bound
        f"ON e.session_name = t.session_name AND e.session_name <> '' WHERE t.exchange_id = '' AND {wanted} GROUP BY e.id",
        f"WITH {_TOLD} SELECT e.id, AVG(t.value) FROM told AS t JOIN exchanges AS e "  # noqa: S608
        f"ON e.id = t.exchange_id WHERE {wanted} GROUP BY e.id",
    )
    found: dict[str, float] = {}
    with database.read() as connection:
        for one in sql:
            rows = connection.execute(text(one), {**filter.params, "score_name": name})
            found |= {row[0]: float(row[1]) for row in rows}
    return found


def unmatched(database: Database) -> int:
    """How many are about an exchange or a session that the store does not have, or not yet."""
    sql = """SELECT COUNT(*) FROM feedback AS f WHERE
        CASE WHEN f.exchange_id <> '' THEN NOT EXISTS (SELECT 1 FROM exchanges WHERE exchanges.id = f.exchange_id)
        ELSE NOT EXISTS (SELECT 1 FROM exchanges WHERE exchanges.session_name = f.session_name AND exchanges.session_name <> '')
        END"""
    with database.read() as connection:
        return int(connection.execute(text(sql)).scalar_one())


def demonstrations(database: Database, exchange_ids: Sequence[str]) -> dict[str, Message]:
    """The newest demonstration of each of these exchanges that has one; those of sessions are about no single answer."""
    statement = among(
        "SELECT exchange_id, text FROM feedback WHERE kind = 'demonstration' AND exchange_id IN :ids ORDER BY created_us, number"
    )
    found: dict[str, Message] = {}
    with database.read() as connection:
        for some in few(exchange_ids):
            for row in connection.execute(statement, {"ids": some}):
                found[row.exchange_id] = read_message(row.text)
    return found


def words(feedback: Feedback) -> str:
    """What `feedback` says, in a few words for people; a demonstration as the answer that it shows."""
    if feedback.kind == BOOLEAN:
        yes, no = ("good", "bad") if feedback.name == DEFAULT_NAME else ("true", "false")
        return yes if feedback.value else no
    if feedback.kind == FLOAT:
        return "" if feedback.value is None else f"{feedback.value:g}"
    if feedback.kind == DEMONSTRATION:
        message = read_message(feedback.text)
        calls = [f"-> {call.name}({call.arguments})" for call in message.tool_calls]
        return "\n".join([message.text, *calls] if message.text else calls)
    return feedback.text


def _without_words(connection: Connection, feedbacks: Sequence[Feedback]) -> list[Feedback]:
    """`feedbacks` without the comments and demonstrations about exchanges and sessions whose content is not stored."""
    said = [each for each in feedbacks if each.kind in _WORDS]
    ids = _omitted(connection, "id", {each.exchange_id for each in said if each.exchange_id})
    sessions = _omitted(connection, "session_name", {each.session_name for each in said if not each.exchange_id})
    return [
        each
        for each in feedbacks
        if each.kind not in _WORDS or (each.exchange_id not in ids if each.exchange_id else each.session_name not in sessions)
    ]


def _omitted(connection: Connection, column: str, names: set[str]) -> set[str]:
    """Those of `names` that exchanges without content have in `column`."""
    statement = among(
        f"SELECT DISTINCT {column} FROM exchanges WHERE content = :omitted AND {column} <> '' AND {column} IN :names"  # noqa: S608
    )
    found = set[str]()
    for some in few(sorted(names)):
        found.update(connection.execute(statement, {"omitted": OMITTED, "names": some}).scalars())
    return found


def _counted(database: Database, filter: Filter) -> str:
    where = filter.where(is_sqlite=database.is_sqlite)
    return _COUNTED.format(matches=_MATCHES.format(where=where) if filter.text else "1 = 1")


def _figures(kind: str, found: Sequence[Any]) -> Figures:
    n = sum(row.n for row in found)
    categories: dict[str, int] = {}
    if kind == CATEGORY:
        for row in found:
            categories[row.category] = categories.get(row.category, 0) + row.n
    is_measured = kind in (BOOLEAN, FLOAT) and n > 0
    return Figures(n, sum(row.total for row in found) / n if is_measured else None, categories)


def _row(note: Note, id: str, personal: PersonalPolicy) -> Feedback:
    hiding = personal.hiding()

    def kept(said: str) -> str:
        redacted = redact_text(clean_text(said))[0]
        return redacted if hiding is None else hiding.text(redacted)

    said = _kept_answer(note.text, kept) if note.kind == DEMONSTRATION else kept(note.text)
    return Feedback(
        clean_text(id), clean_text(note.exchange_id), clean_text(note.session_name), clean_text(note.name),
        note.kind, note.value, said, clean_text(note.who), note.source,
        {clean_text(key): kept(value) for key, value in note.tags.items()}, note.created_us,
    )  # fmt: skip


def _kept_answer(said: str, kept: Callable[[str], str]) -> str:
    """What is kept of a demonstration; each of its texts is looked at alone, so that the JSON around them stays whole."""
    try:
        message = read_message(said)
    except ValueError:
        message = Message("assistant", said)
    calls = tuple(replace(call, arguments=kept(call.arguments)) for call in message.tool_calls)
    return write_message(replace(message, text=kept(message.text), tool_calls=calls))


def _values(feedback: Feedback) -> dict[str, Any]:
    return {name: getattr(feedback, name) for name in _NAMES}


def _select(database: Database, condition: str, params: Mapping[str, Any]) -> list[Feedback]:
    sql = f"SELECT {_COLUMNS} FROM feedback AS f WHERE {condition}"  # noqa: S608  names from code, values bound
    with database.read() as connection:
        return [Feedback(**{**row, "tags": json.loads(row["tags"])}) for row in connection.execute(text(sql), params).mappings()]
