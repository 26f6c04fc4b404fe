"""Reads what the store knows about the answers to the inputs of a train split, for pairs of preferences.

Both sides of a pair are cleaned as examples are: with a secret, broken or too long they are left out, personal data is hidden.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import text

from capture import feed, feedback
from capture.database import Database
from capture.exchange import BASELINE, Content, Exchange
from capture.feedback import BY_COMMAND, BY_SCREEN
from capture.feedback_forms import BOOLEAN, DEFAULT_NAME
from capture.filters import parse_filter, quote
from capture.messages import Message
from capture.offered import Tool
from capture.progress import Progress, tell_nobody
from capture.statements import among, few
from curate.cleaning.clean import Cleaned, clean
from curate.examples import RELABEL
from curate.preferring.pairs import Evidence, Pairs, Rival, Scored, make_pairs
from curate.relabelling.relabel_store import Relabel, relabels
from curate.relabelling.targets import PAIR, WORSE, accepted_hashes, still_accepted
from curate.reviewing.review import EDIT, REJECT, as_message, hash_of, standing_verdicts
from curate.selection import Candidate
from curate.settings import CurateSettings
from curate.terms import DROPPED, row_terms, terms_of

STAGE = "prefer"
"""What progress is told under."""
_AT_ONCE = 50
_STUDENT = "engine"
_Input = tuple[tuple[Message, ...], tuple[Tool, ...]]


@dataclass(frozen=True, slots=True)
class _Opinion:
    name: str
    is_yes_or_no: bool
    value: float
    by_person: bool


def collect_pairs(
    database: Database, task: str, train: Sequence[Candidate], others: Sequence[Candidate], settings: CurateSettings,
    forced: str = "", on_progress: Progress = tell_nobody,
) -> Pairs:  # fmt: skip
    """The pairs for the inputs of `train`, candidates whose input may be trained on.

    `others` (dropped duplicates, losers of contradictions, rejected ones) count only where their input is the very same as one
    of `train`: anything else might be near an eval example. Reasons for which a side could not be used are counted with the
    rest. Other teachers' answers go by their terms as examples do, unless `forced` says why they stay.
    """
    allowed: dict[_Input, str] = {}
    for candidate in train:
        allowed.setdefault((candidate.messages, candidate.tools), candidate.exchange_id)
    wanted = {each.exchange_id: each for each in (*others, *train) if (each.messages, each.tools) in allowed}
    verdicts = {review.exchange_id: review for review in standing_verdicts(database, task) if review.exchange_id in wanted}
    hashes = accepted_hashes(database, task)
    accepted = still_accepted(list(wanted.values()), hashes)
    shown = feedback.demonstrations(database, sorted(wanted))
    told = relabels(database, task, sorted(wanted))
    opinions = _opinions(database, sorted(wanted), settings)
    unusable: Counter[str] = Counter()
    students = _answered_by_students(database, task, settings)
    done = _Done(on_progress, len(students) + len(wanted))
    done.add(0)
    rivals = _rivals(database, students, allowed, wanted.values(), opinions, _Reader(database, settings, unusable, done))
    compared = [
        exchange_id for exchange_id, candidate in sorted(wanted.items())
        if exchange_id in shown or told.get(exchange_id) or rivals.get((candidate.messages, candidate.tools))
        or (exchange_id in verdicts and verdicts[exchange_id].verdict == EDIT)
    ]  # fmt: skip
    done.add(len(wanted) - len(compared))
    evidence = []
    for exchange_id, cleaner in _Reader(database, settings, unusable, done).cleaners(compared):
        candidate, verdict = wanted[exchange_id], verdicts.get(exchange_id)
        edited = as_message(verdict.target) if verdict is not None and verdict.verdict == EDIT else None
        is_rejected = (verdict is not None and verdict.verdict == REJECT) or _is_bad(opinions.get(exchange_id, ()))
        rows = _under_terms(told.get(exchange_id, ()), settings, forced, unusable)
        if exchange_id in accepted:  # a person said that this answer is right: no judge's other choice is better
            rows = [row for row in rows if candidate.target_source == RELABEL and hash_of(row.answer) == hashes[exchange_id]]
        found = rivals.get((candidate.messages, candidate.tools), ())
        if not (edited is not None or exchange_id in shown or rows or found):
            continue
        chosen = next((row.answer for row in rows if not row.is_original and (row.is_chosen or exchange_id in accepted)), None)
        evidence.append(
            Evidence(
                exchange_id, candidate.messages, candidate.tools, cleaner.answer(),
                cleaner.given(edited) if edited is not None else None,
                cleaner.given(shown[exchange_id]) if exchange_id in shown else None,
                is_rejected, cleaner.given(chosen) if chosen is not None else None, _scored(rows, cleaner), tuple(found),
                cleaner.is_imported_pair,
            )
        )  # fmt: skip
    pairs = make_pairs(task, evidence)
    left_out = Counter(pairs.left_out) + Counter({f"unusable_{reason}": count for reason, count in unusable.items()})
    return Pairs(pairs.pairs, pairs.sources, dict(sorted(left_out.items())))


def figures(pairs: Pairs) -> dict[str, Any]:
    """What the manifest says of them."""
    return {"pairs": len(pairs.pairs), "sources": dict(pairs.sources), "left_out": dict(pairs.left_out)}


@dataclass(slots=True)
class _Done:
    """How many exchanges were looked at, of all that are to be."""

    on_progress: Progress
    total: int
    count: int = 0

    def add(self, count: int) -> None:
        self.count += count
        self.on_progress(STAGE, self.count, self.total)


@dataclass(frozen=True, slots=True)
class _Reader:
    """Reads exchanges, many at a time."""

    database: Database
    settings: CurateSettings
    unusable: Counter[str]
    done: _Done

    def cleaners(self, exchange_ids: Sequence[str]) -> Iterator[tuple[str, _Cleaner]]:
        """One for each of `exchange_ids`, in their order."""
        for some in few(exchange_ids, _AT_ONCE):
            chosen = parse_filter(f"id:{','.join(map(quote, some))}")
            found = {
                exchange.id: (exchange, content)
                for exchange, content in feed.with_readable(self.database, chosen)
                if content is not None
            }
            for exchange_id in some:
                yield exchange_id, _Cleaner(found.get(exchange_id), self.settings, self.unusable)
            self.done.add(len(some))


class _Cleaner:
    """Cleans answers to one captured input; the exchange is None when it was erased meanwhile or is damaged."""

    def __init__(self, read: tuple[Exchange, Content] | None, settings: CurateSettings, unusable: Counter[str]) -> None:
        self._settings, self._unusable = settings, unusable
        self._read = read

    @property
    def is_imported_pair(self) -> bool:
        """Whether the captured answer is the worse side of a pair in a data set of the team."""
        if self._read is None:
            return False
        exchange = self._read[0]
        return exchange.upstream.startswith("import:") and exchange.tags.get(PAIR) == WORSE

    def answer(self) -> Message | None:
        """The answer that was captured."""
        return self._message(None)

    def given(self, message: Message) -> Message | None:
        """What stands in for it."""
        return self._message(message)

    def input(self) -> _Input | None:
        """The input as examples have it."""
        cleaned = self._clean(None)
        return None if cleaned.reason else (cleaned.messages, cleaned.tools)

    def _message(self, given: Message | None) -> Message | None:
        cleaned = self._clean(given)
        if cleaned.reason:
            self._unusable[cleaned.reason] += 1
            return None
        return Message("assistant", cleaned.target, cleaned.calls)

    def _clean(self, given: Message | None) -> Cleaned:
        if self._read is None:
            return Cleaned("gone")
        exchange, content = self._read
        conversation, offered = feed.asked_of(exchange, content)
        return clean(exchange, conversation, self._settings, given, offered)


def _under_terms(rows: Sequence[Relabel], settings: CurateSettings, forced: str, unusable: Counter[str]) -> list[Relabel]:
    kept = []
    for row in rows:
        if row_terms(terms_of(row.model, teacher_terms=settings.teacher_terms), settings.terms, forced) is None:
            unusable[DROPPED] += 1
        else:
            kept.append(row)
    return kept


def _scored(rows: Sequence[Relabel], cleaner: _Cleaner) -> tuple[Scored, ...]:
    """The answers that the latest judge compared."""
    judged = [row for row in rows if row.score is not None]
    if not judged:
        return ()
    of_judge = [row for row in judged if row.judge == judged[-1].judge]
    found = ((cleaner.given(row.answer), row.score) for row in of_judge)
    return tuple(Scored(message, score) for message, score in found if message is not None and score is not None)


def _rivals(
    database: Database, students: Sequence[str], allowed: dict[_Input, str], wanted: Iterable[Candidate],
    opinions: dict[str, list[_Opinion]], reader: _Reader,
) -> dict[_Input, list[Rival]]:  # fmt: skip
    """Students' answers that somebody had an opinion of, by the input that they share with an example."""
    teachers: dict[_Input, list[_Opinion]] = defaultdict(list)
    for candidate in wanted:
        teachers[candidate.messages, candidate.tools] += opinions.get(candidate.exchange_id, ())
    said = _opinions(database, students, reader.settings)
    found: dict[_Input, list[Rival]] = defaultdict(list)
    for exchange_id, cleaner in reader.cleaners(students):
        asked = cleaner.input()
        if asked is None or asked not in allowed:
            continue
        message = cleaner.answer()
        if message is not None:
            found[asked].append(_rival(exchange_id, message, said.get(exchange_id, []), teachers[asked]))
    return found


def _rival(exchange_id: str, message: Message, own: Sequence[_Opinion], theirs: Sequence[_Opinion]) -> Rival:
    """Compared under the first name that both sides have, else under the first that the student has."""
    names = sorted({each.name for each in own})
    shared = [name for name in names if any(each.name == name for each in theirs)]
    name = (shared or names or [""])[0]
    mine = [each for each in own if each.name == name]
    others = [each.value for each in theirs if each.name == name]
    teacher = sum(others) / len(others) if others else None
    opinion = sum(each.value for each in mine) / len(mine) if mine else None
    by_person = any(each.by_person and (teacher is None or each.value > teacher) for each in mine)
    return Rival(exchange_id, message, opinion, teacher, all(each.is_yes_or_no for each in mine), by_person)


def _is_bad(opinions: Sequence[_Opinion]) -> bool:
    votes = [each.value for each in opinions if each.is_yes_or_no]
    return bool(votes) and sum(votes) / len(votes) < 0.5


def _answered_by_students(database: Database, task: str, settings: CurateSettings) -> list[str]:
    """Exchanges of the task that a student answered itself and that have an opinion, by id."""
    sql = """SELECT DISTINCT e.id FROM exchanges AS e JOIN feedback AS f ON f.exchange_id = e.id
        WHERE e.task IN (SELECT alias FROM task_aliases WHERE task = :task UNION SELECT CAST(:task AS TEXT)) AND e.purpose = 'app'
        AND e.upstream = :student AND e.variant <> :baseline AND f.name IN (:usual, :score) ORDER BY e.id"""
    asked = {"task": task, "student": _STUDENT, "baseline": BASELINE, "usual": DEFAULT_NAME, "score": settings.score_name}
    with database.read() as connection:
        return list(connection.execute(text(sql), asked).scalars())


def _opinions(database: Database, exchange_ids: Sequence[str], settings: CurateSettings) -> dict[str, list[_Opinion]]:
    """What counts of each exchange under the usual name of feedback and the one of [curate] score_name.

    One person's newest word under a name counts. A person is who says it at our own command line or screen, or the very user of
    the exchange; anybody else at the API may be a program.
    """
    statement = among(
        """SELECT f.exchange_id, f.name, f.kind, f.value, f.who, f.source, e.user_name FROM feedback AS f
        JOIN exchanges AS e ON e.id = f.exchange_id WHERE f.exchange_id IN :ids AND f.kind IN ('boolean', 'float')
        AND f.value IS NOT NULL AND f.name IN :names ORDER BY f.created_us, f.number"""
    )
    names = sorted({DEFAULT_NAME, settings.score_name} - {""})
    newest: dict[tuple[str, str, str], _Opinion] = {}
    with database.read() as connection:
        for some in few(exchange_ids):
            for row in connection.execute(statement, {"ids": some, "names": names}):
                is_person = row.source in (BY_COMMAND, BY_SCREEN) or (row.who != "" and row.who == row.user_name)
                newest[row.exchange_id, row.name, row.who] = _Opinion(row.name, row.kind == BOOLEAN, row.value, is_person)
    found: dict[str, list[_Opinion]] = defaultdict(list)
    for (exchange_id, _, _), opinion in newest.items():
        found[exchange_id].append(opinion)
    return dict(found)
