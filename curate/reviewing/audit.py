"""Audit: what share of a dataset version is wrong, found by people on a random sample of the whole version.

The sample is the beginning of a fixed order of all examples, shuffled by seed and version, so a larger sample contains the
smaller one and another version gets another. Each person's newest finding on an example counts; several people decide by
majority, and an even split counts as wrong. The interval is exact for a draw without replacement: `curate.reviewing.proportions`.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import blake2b
from typing import Any

from sqlalchemy import Connection, Row, text

from capture import clock, ids
from capture.database import Database
from capture.errors import NotFoundError, PotstillError
from capture.pseudonyms import KEEP_PERSONAL, PersonalPolicy
from capture.statements import insert
from curate.examples import Example
from curate.reviewing.proportions import CONFIDENCE, count_interval
from curate.reviewing.review import kept_words

RIGHT, WRONG = "right", "wrong"
FINDINGS = (RIGHT, WRONG)
DEFAULT_SIZE, DEFAULT_SEED = 100, 1
_FEW = 20
"""Groups with fewer judged examples get no figure of their own."""
_LABELS = 50
_LABEL_CHARACTERS = 60


class AuditError(PotstillError):
    """An audit, or a finding of one, cannot be as it was asked for."""


@dataclass(frozen=True, slots=True)
class Audit:
    """A sample of version `number` of `task`, in the order of drawing; `population` counts the examples it was drawn from."""

    id: str
    task: str
    number: int
    population: int
    exchange_ids: tuple[str, ...]
    seed: int
    who: str
    created_us: int


@dataclass(frozen=True, slots=True)
class Finding:
    """What a person found of one example of an audit."""

    audit_id: str
    exchange_id: str
    verdict: str
    who: str
    note: str
    created_us: int


@dataclass(frozen=True, slots=True)
class ErrorRate:
    """Of `judged` examples `wrong` are wrong; `rate` is None before the first. With 95 % confidence between `low` and `high`
    (shares of all `population` examples, `low_count` to `high_count` of them) are."""

    group: str
    judged: int
    wrong: int
    population: int
    rate: float | None
    low: float
    high: float
    low_count: int
    high_count: int


@dataclass(frozen=True, slots=True)
class AuditReport:
    """Where an audit stands. `uneven` examples split their judges evenly (they count as wrong).

    `by_split` and `by_label` have groups with at least 20 judged examples only; labels are short answers or called tools.
    """

    audit: Audit
    judges: tuple[str, ...]
    waiting: int
    uneven: int
    overall: ErrorRate
    by_split: tuple[ErrorRate, ...] = ()
    by_label: tuple[ErrorRate, ...] = ()

    @property
    def sentence(self) -> str:
        """The result in one plain sentence."""
        rate = self.overall
        if rate.rate is None:
            return f"No example of {rate.population:,} is judged yet."
        return (
            f"{rate.wrong:,} of {rate.judged:,} judged examples are wrong: with {CONFIDENCE:.0%} confidence between "
            f"{rate.low:.1%} and {rate.high:.1%} of the {rate.population:,} examples are."
        )


def start(
    database: Database, task: str, number: int, exchange_ids: Sequence[str], *, version_hash: str, size: int = DEFAULT_SIZE,
    seed: int = DEFAULT_SEED, who: str = "",
) -> Audit:  # fmt: skip
    """The audit of `size` of the examples of a version, given by `exchange_ids` in any order; the same one when it was begun.

    With another size the same examples stay in it, with what was found of them. AuditError for an empty version or size.
    """
    if size < 1:
        raise AuditError(f"A sample of {size} says nothing.", "Draw at least 1; 100 bound a rate of 2 % to about 0 to 7 %.")
    drawn = draw(exchange_ids, version_hash, size, seed)
    if not drawn:
        raise AuditError(f"Version {number} of {task!r} has no examples to draw from.", f"Run `potstill dataset build {task}`.")
    population = len(set(exchange_ids))
    audit = Audit(ids.new_id("au"), task, number, population, drawn, seed, who, clock.now_us())
    with database.write() as connection:
        begun = _latest(connection, task, number)
        if begun is not None and (begun.seed, set(begun.exchange_ids)) == (seed, set(drawn)):
            return begun
        insert(connection, "audits", [{**asdict(audit), "exchange_ids": json.dumps(drawn)}])
    return audit


def draw(exchange_ids: Sequence[str], version_hash: str, size: int, seed: int) -> tuple[str, ...]:
    """`size` of these, or all when there are fewer, uniformly at random by `seed` and version; not by their order."""

    def place(exchange_id: str) -> tuple[bytes, str]:
        return blake2b(f"{seed}\0{version_hash}\0{exchange_id}".encode(), digest_size=16).digest(), exchange_id

    return tuple(sorted(set(exchange_ids), key=place)[:size])


def latest_audit(database: Database, task: str, number: int) -> AuditReport | None:
    """The newest audit of this version, as far as it got; None when there is none."""
    with database.read() as connection:
        audit = _latest(connection, task, number)
        findings = _findings(connection, audit) if audit else []
    return _report(audit, findings) if audit else None


def next_up(database: Database, task: str, number: int, who: str, limit: int = 1, *, again: bool = False) -> list[str]:
    """The next exchanges of the newest audit, in the order of drawing, that nobody judged; with `again`, that `who` did not.

    NotFoundError when the version has no audit.
    """
    with database.read() as connection:
        audit = _require(connection, task, number)
        findings = _findings(connection, audit)
    done = {finding.exchange_id for finding in findings if finding.who == who or not again}
    return [exchange_id for exchange_id in audit.exchange_ids if exchange_id not in done][:limit]


def judge(
    database: Database, task: str, number: int, exchange_id: str, verdict: str, who: str, note: str = "",
    personal: PersonalPolicy = KEEP_PERSONAL,
) -> Finding:  # fmt: skip
    """Records what `who` found: `right` or `wrong`. Their newest finding on an example counts.

    AuditError for another word; NotFoundError when the version has no audit, or the exchange is not in its sample.
    """
    if verdict not in FINDINGS:
        raise AuditError(f"{verdict!r} is no finding.", f"Use one of {', '.join(FINDINGS)}.")
    with database.write() as connection:
        audit = _require(connection, task, number)
        if exchange_id not in audit.exchange_ids:
            what = f"Exchange {exchange_id!r} is not in the sample of {task}/v{number}."
            raise NotFoundError(what, f"Run `potstill review audit next {task}` to see which one comes next.")
        made = Finding(audit.id, exchange_id, verdict, who, kept_words(note, personal), clock.now_us())
        insert(connection, "audit_verdicts", [asdict(made)])
    return made


def report(database: Database, task: str, number: int, examples: Sequence[Example]) -> AuditReport:
    """The newest audit with its rates by split and label; `examples` are all of the version. NotFoundError without an audit."""
    with database.read() as connection:
        audit = _require(connection, task, number)
        findings = _findings(connection, audit)
    return _report(audit, findings, examples)


def _report(audit: Audit, findings: Sequence[Finding], examples: Sequence[Example] = ()) -> AuditReport:
    wrong, uneven = _wrong(audit, findings)
    labels = _labels(examples)
    return AuditReport(
        audit,
        tuple(sorted({finding.who for finding in findings})),
        len(audit.exchange_ids) - len(wrong),
        uneven,
        _rate("all", list(wrong.values()), audit.population),
        _groups(wrong, examples, lambda example: example.split),
        _groups(wrong, examples, lambda example: labels[example.exchange_id]) if labels else (),
    )


def _wrong(audit: Audit, findings: Sequence[Finding]) -> tuple[dict[str, bool], int]:
    """Which of the judged examples are wrong, in the order of drawing, and how many split their judges evenly."""
    newest: dict[str, dict[str, str]] = defaultdict(dict)
    for finding in findings:
        newest[finding.exchange_id][finding.who] = finding.verdict
    votes = {exchange_id: Counter(newest[exchange_id].values()) for exchange_id in audit.exchange_ids if exchange_id in newest}
    uneven = sum(vote[WRONG] == vote[RIGHT] for vote in votes.values())
    return {exchange_id: vote[WRONG] >= vote[RIGHT] for exchange_id, vote in votes.items()}, uneven


def _rate(group: str, wrong: Sequence[bool], population: int) -> ErrorRate:
    found, judged = sum(wrong), len(wrong)
    low, high = count_interval(found, judged, max(population, judged))
    share = max(population, judged, 1)
    return ErrorRate(group, judged, found, population, found / judged if judged else None, low / share, high / share, low, high)


def _groups(wrong: Mapping[str, bool], examples: Sequence[Example], group_of: Callable[[Example], str]) -> tuple[ErrorRate, ...]:
    """A sample of the whole is one of each group too, so each has its interval, where enough of it was judged."""
    populations = Counter(map(group_of, examples))
    judged: dict[str, list[bool]] = defaultdict(list)
    for example in examples:
        if example.exchange_id in wrong:
            judged[group_of(example)].append(wrong[example.exchange_id])
    return tuple(_rate(group, judged[group], count) for group, count in sorted(populations.items()) if len(judged[group]) >= _FEW)


def _labels(examples: Sequence[Example]) -> dict[str, str]:
    """The label of each example: the tools it calls, or its short answer; empty where answers are no labels."""
    labels = {
        example.exchange_id: ", ".join(call.name for call in example.calls) if example.calls else example.target.strip()
        for example in examples
    }
    different = set(labels.values())
    is_closed = len(different) <= _LABELS and all(len(label) <= _LABEL_CHARACTERS for label in different)
    return labels if is_closed else {}


def _latest(connection: Connection, task: str, number: int) -> Audit | None:
    sql = text("SELECT * FROM audits WHERE task = :task AND number = :number ORDER BY created_us DESC, id DESC LIMIT 1")
    row = connection.execute(sql, {"task": task, "number": number}).first()
    return _audit(row) if row is not None else None


def _require(connection: Connection, task: str, number: int) -> Audit:
    audit = _latest(connection, task, number)
    if audit is None:
        raise NotFoundError(
            f"{task}/v{number} has no audit.", f"Begin one: potstill review audit start {task} --version {number}"
        )
    return audit


def _audit(row: Row[Any]) -> Audit:
    listed = tuple(json.loads(row.exchange_ids))
    return Audit(row.id, row.task, row.number, row.population, listed, row.seed, row.who, row.created_us)


def _findings(connection: Connection, audit: Audit) -> list[Finding]:
    """What was found of the sample, oldest first, in this audit and in smaller or larger ones of the same draw."""
    sql = text("""SELECT audit_id, exchange_id, verdict, audit_verdicts.who, note, audit_verdicts.created_us FROM audit_verdicts
        JOIN audits ON audits.id = audit_verdicts.audit_id
        WHERE audits.task = :task AND audits.number = :number AND audits.seed = :seed ORDER BY audit_verdicts.number""")
    values = {"task": audit.task, "number": audit.number, "seed": audit.seed}
    drawn = set(audit.exchange_ids)
    return [Finding(*row) for row in connection.execute(sql, values) if row.exchange_id in drawn]
