"""The prompt template of a task as an artefact with versions: kept, used again, shown, compared, and forgotten in part.

A build uses the newest version again as long as it explains the task's inputs, so that what counts as boilerplate does not
drift with every new exchange. Otherwise what was mined becomes the next version.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from typing import Any

from sqlalchemy import Connection, Row, text

from capture import clock, feed
from capture.database import Database
from capture.errors import NotFoundError, StoreError
from capture.filters import parse_filter, quote
from capture.ids import content_hash
from capture.personal_data import pseudonymise
from capture.progress import Progress
from capture.statements import few, insert
from curate.likeness.templates import MINED_SHARE, Asked, Span, Stripper, Template, read_input, still_said
from curate.likeness.wording import normalise
from curate.tasks.aliases import expand

_SENTENCE, _MANY_INPUTS, _MOST_INPUTS = 8, 0.1, 5_000
_LEAST, _ENOUGH = 5, 100
_BATCH, _FEW = 200, 50
_SHOWN = 20
_MASKS = re.compile("§[itu]")
VARIABLE = "{variable}"
"""Stands for what varies where a template is shown."""
_PIECES = ("context", "segments", "phrases")


@dataclass(frozen=True, slots=True)
class TemplateVersion:
    """Version `number` of a task's template; `first_us` is when the first input that it was mined from was asked (UTC)."""

    task: str
    number: int
    fingerprint: str
    template: Template
    distinct_inputs: int
    first_us: int
    created_us: int


@dataclass(frozen=True, slots=True)
class Change:
    """What one version of a template says and the other does not, as lines for people: the piece with its kind."""

    before: int
    after: int
    added: tuple[str, ...]
    removed: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Settled:
    """The template that is used for some inputs of `task`: version `number`, not stored yet when it `is_new`.

    `change` says what is not as in the version before, when it is another one.
    """

    task: str
    template: Template
    number: int
    is_new: bool
    change: Change | None


def settle_template(stored: Sequence[TemplateVersion], task: str, mined: Template, inputs: Sequence[Asked]) -> Settled:
    """Which template to use for these inputs of `task`: one of those `stored` (oldest first), or the one just `mined`. Pure.

    The newest stored version stays while it explains the inputs: see `explains`. One that was mined from few inputs may hold
    no piece that `mined` does not, once there are twice as many: five people's words may have looked like the app's. A template
    that was there before gets its old number again.
    """
    if stored and explains(stored[-1].template, mined, inputs):
        is_young = stored[-1].distinct_inputs < _ENOUGH and mined.distinct >= 2 * stored[-1].distinct_inputs
        if not (is_young and compare(stored[-1].template, mined).removed):
            return Settled(task, stored[-1].template, stored[-1].number, False, None)
    mark = template_fingerprint(mined)
    same = next((version for version in stored if version.fingerprint == mark), None)
    number = same.number if same is not None else stored[-1].number + 1 if stored else 1
    change = compare(stored[-1].template, mined, stored[-1].number, number) if stored else None
    return Settled(task, mined if same is None else same.template, number, same is None, change)


def keep_template(connection: Connection, settled: Settled, first_us: int = 0) -> None:
    """Stores a new version; one that is stored already stays as it is. `first_us` is when its first input was asked."""
    if not settled.is_new:
        return
    values = {
        "task": settled.task, "version": settled.number, "fingerprint": template_fingerprint(settled.template),
        "template": to_json(settled.template), "distinct_inputs": settled.template.distinct, "first_us": first_us,
        "created_us": clock.now_us(),
    }  # fmt: skip
    insert(connection, "task_templates", [values])


def explains(kept: Template, mined: Template, inputs: Sequence[Asked]) -> bool:
    """Whether `kept` takes away from the inputs (nearly) all that `mined` does.

    It does while fewer of them than a template is mined from keep a sentence that `mined` takes away, and at most a tenth keeps
    any word. Of many inputs some thousands are looked at.
    """
    distinct = list(dict.fromkeys(inputs))
    distinct = distinct[:: 1 + len(distinct) // _MOST_INPUTS]
    old, new = Stripper(kept), Stripper(mined)
    more = [_left(old, asked) - _left(new, asked) for asked in distinct]
    sentences = sum(words >= _SENTENCE for words in more)
    few = max(_LEAST, math.ceil(MINED_SHARE * len(distinct)))
    return sentences < few and sum(words > 0 for words in more) <= _MANY_INPUTS * len(distinct)


def template_versions(database: Database, task: str) -> list[TemplateVersion]:
    """The versions of a task's template, the oldest first."""
    sql = "SELECT * FROM task_templates WHERE task = :task AND task <> '' ORDER BY version"
    with database.read() as connection:
        return [_version(row) for row in connection.execute(text(sql), {"task": task})]


def get_template(database: Database, task: str, number: int | None = None) -> TemplateVersion:
    """Version `number` of a task's template, or the newest; NotFoundError."""
    stored = template_versions(database, task)
    found = [version for version in stored if number in (None, version.number)]
    if found:
        return found[-1]
    if stored:
        numbers = ", ".join(str(version.number) for version in stored)
        raise NotFoundError(f"There is no version {number} of the template of {task!r}.", f"Versions: {numbers}.")
    raise NotFoundError(
        f"Task {task!r} has no template yet.", f"One is mined when a dataset is built: potstill dataset build {task}"
    )


def show_template(database: Database, version: TemplateVersion) -> list[Span]:
    """The newest prompt of the task that is stored, as `version` reads it: what varies is only the mark `{variable}`.

    What the template masks (`§i`, `§t`, `§u`) varies, too. Empty where no prompt of the task is stored any more.
    """
    names = ",".join(map(quote, expand(database, version.task)))
    newest = feed.page(database, parse_filter(f"task:{names} purpose:app -content:omitted"), limit=_SHOWN)
    for exchange, content in feed.readable(database, newest):
        if content is None:
            continue
        conversation, offered = feed.asked_of(exchange, content)
        if asked := conversation.asked:
            hidden, _ = pseudonymise([message.text for message in asked])  # as in the examples that it was mined from
            ways = (asked, [replace(message, text=said) for message, said in zip(asked, hidden, strict=True)])
            marked = [Stripper(version.template).marks(read_input(way, offered.tools)) for way in ways]
            return _merged(max(marked, key=lambda spans: sum(len(span.text) for span in spans if span.is_app)))
    return []


def _merged(spans: Iterable[Span]) -> list[Span]:
    """Neighbours of one kind as one span; stretches that vary as one mark, with the blanks around it."""
    found: list[Span] = []
    for span in spans:
        shown = replace(span, text=_MASKS.sub(VARIABLE, span.text))
        if not span.is_app:
            head, tail = re.match(r"\s*", span.text), re.search(r"\s*$", span.text)
            shown = replace(span, text=f"{head[0] if head else ''}{VARIABLE}{tail[0] if tail else ''}")
        last = found[-1] if found else None
        if last is None or last.role != shown.role or last.is_app != shown.is_app:
            found.append(shown)
        elif shown.is_app:
            found[-1] = replace(last, text=last.text + shown.text)
        else:
            found[-1] = replace(last, text=last.text.rstrip() + (re.search(r"\s*$", shown.text) or [""])[0])
    return found


def compare(before: Template, after: Template, number_before: int = 0, number_after: int = 0) -> Change:
    """What `after` says and `before` does not, and the other way round; how often does not count."""
    old, new = _lines(before), _lines(after)
    added = tuple(line for line in new if line not in old)
    return Change(number_before, number_after, added, tuple(line for line in old if line not in new))


def template_fingerprint(template: Template) -> str:
    """Twelve letters that are equal for templates with equal pieces; counts do not matter."""
    return content_hash(json.dumps(list(_lines(template)), ensure_ascii=False).encode("utf-8", "replace"))[3:15]


def to_json(template: Template) -> str:
    """`template` as canonical JSON; `from_json` reads it."""
    frames = {first: sorted(words) for first, words in template.frames.items()}
    return json.dumps({**asdict(template), "frames": frames}, ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def from_json(given: str) -> Template:
    """The template that `to_json` wrote, or a dataset version's template.json; StoreError when it is none."""
    try:
        found = json.loads(given)
        pieces = {name: {str(key): int(count) for key, count in found[name].items()} for name in _PIECES}
        frames = {str(first): frozenset(map(str, words)) for first, words in found["frames"].items()}
        return Template(int(found["distinct"]), int(found["minimum"]), frames=frames, **pieces)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StoreError(f"What is kept is no template: {error!r}.", "Build the dataset again.") from error


def forget_templates(database: Database, exchange_ids: Sequence[str], on_progress: Progress) -> int:
    """Takes out of all stored templates what only these exchanges said; how many pieces that were.

    Call it while the exchanges are still stored: they tell which pieces are at risk. Those stay that any other stored exchange of
    the task says; the rest goes. Where one of these is damaged, every piece is at risk. Doing it twice does no harm.
    """
    with database.read() as connection:
        rows = connection.execute(text("SELECT DISTINCT task FROM task_templates WHERE task <> '' ORDER BY task"))
        with_template = [row[0] for row in rows]
    names = {task: expand(database, task) for task in with_template}
    erased: dict[str, list[Asked | None]] = {}
    if names:
        for some in few(exchange_ids, _BATCH):
            for tag, asked in _inputs(database, "id:" + ",".join(map(quote, some))):
                erased.setdefault(tag, []).append(asked)
    tasks = [task for task, tags in names.items() if not erased.keys().isdisjoint(tags)]
    wanted, gone = set(exchange_ids), 0
    for done, task in enumerate(tasks):
        on_progress("forget templates", done, len(tasks))
        given = [asked for tag in names[task] for asked in erased.get(tag, ())]
        said = [asked for asked in given if asked]
        stored = [(version, json.loads(to_json(version.template))) for version in template_versions(database, task)]
        # What cannot be read may have said anything.
        at_risk = [whole if len(said) < len(given) else still_said(whole, said) for _, whole in stored]
        others = (asked for _, asked in _inputs(database, "task:" + ",".join(map(quote, names[task])), wanted) if asked)
        while any(map(_count, at_risk)) and (more := list(islice(others, _BATCH))):
            at_risk = [_without(pieces, still_said(pieces, more)) if _count(pieces) else pieces for pieces in at_risk]
        for (version, whole), pieces in zip(stored, at_risk, strict=True):
            if lost := _count(pieces):
                left = from_json(json.dumps(_without(whole, pieces)))
                with database.write() as connection:
                    _replace(connection, version, left)
                gone += lost
    return gone


def _inputs(database: Database, wanted: str, without: Collection[str] = ()) -> Iterator[tuple[str, Asked | None]]:
    """Tag and input of each stored exchange that a filter wants, but for those with the ids `without`; None for a damaged one."""
    number = 0
    while batch := feed.after(database, parse_filter(wanted), after=number, limit=_FEW, longest_s=feed.PATIENT_S):
        number = batch[-1].number
        for exchange, content in feed.readable(database, [each for each in batch if each.id not in without]):
            if content is None:
                yield exchange.task, None
                continue
            conversation, offered = feed.asked_of(exchange, content)
            if conversation.asked:
                yield exchange.task, read_input(conversation.asked, offered.tools)


def _without(template: Mapping[str, Any], taken: Mapping[str, Any]) -> dict[str, Any]:
    """`template` without the pieces of `taken`; a framing line without its words goes whole."""
    frames = {}
    for first, words in template["frames"].items():
        left = [word for word in words if word not in taken["frames"].get(first, ())]
        if left:
            frames[first] = left
    kept = {name: {piece: count for piece, count in template[name].items() if piece not in taken[name]} for name in _PIECES}
    return {**template, **kept, "frames": frames}


def _count(template: Mapping[str, Any]) -> int:
    return sum(len(template[name]) for name in _PIECES) + sum(map(len, template["frames"].values()))


def _replace(connection: Connection, version: TemplateVersion, left: Template) -> None:
    values = {
        "task": version.task, "number": version.number, "template": to_json(left), "fingerprint": template_fingerprint(left),
    }  # fmt: skip
    sql = "UPDATE task_templates SET template = :template, fingerprint = :fingerprint WHERE task = :task AND version = :number"
    connection.execute(text(sql), values)


def _left(stripper: Stripper, asked: Asked) -> int:
    return len(normalise(stripper.variable_part(asked)).split())


def _lines(template: Template) -> dict[str, None]:
    """The pieces in a fixed order, each on one line."""
    found: Iterable[str] = (
        *(f"message ({role}): {text}" for role, _, text in (piece.partition("\n") for piece in sorted(template.context))),
        *(f"framing line: {first} {' '.join(sorted(words - {first}))}" for first, words in sorted(template.frames.items())),
        *(f"segment: {piece}" for piece in sorted(template.segments)),
        *(f"words: {piece}" for piece in sorted(template.phrases)),
    )
    return dict.fromkeys(line.rstrip() for line in found)


def _version(row: Row[Any]) -> TemplateVersion:
    template = from_json(row.template)
    counts = int(row.distinct_inputs), int(row.first_us), int(row.created_us)
    return TemplateVersion(row.task, int(row.version), row.fingerprint, template, *counts)
