"""Same input, different target: finds it, says who said what, and decides by the policy of the task.

A person's word wins under every policy. Else:

majority  the answer that most rows give; a tie goes to the teacher that appeared last in the task, then to the latest row
newest    what the teacher that appeared last says most often
judge     the answer with the best mean score; the majority where none of them has a score
person    nobody yet: all rows wait for a review
drop      nobody: all rows go

Three kinds are told apart. `teachers`: two models disagree, each by what it says most often. `wording`: equal wordings agree and
near-equal ones differ, so the difference may be meant. `variance`: a teacher answers the same input now so, now so, as it does at
a temperature above 0.

Inputs are the same when their variable parts are equal or near duplicates of at least `contradiction_threshold`. Targets
are compared by the kind that at least 95 % of the task's are: JSON by its canonical form, labels by normalised wording, free
text by its numbers alone, because two honest wordings of one answer do not contradict each other. What is no JSON or no label
in a task of those is compared by its own wording, and JSON is compared as JSON in every task.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from capture.loose_json import parse
from capture.messages import Message
from curate.likeness.duplicates import Comparison, leaders
from curate.likeness.wording import normalise, numbers

JSON, LABEL, TEXT = "json", "label", "text"
MAJORITY, NEWEST, JUDGE, PERSON, DROP = "majority", "newest", "judge", "person", "drop"
REVIEW, TIE = "review", "tie"
"""What decided beside a policy: a person's word; the newest teacher, where the majority was undecided."""
TEACHERS, WORDING, VARIANCE = "teachers", "wording", "variance"
_LABEL_CHARACTERS = 60
_LEAST_SHARE = 0.95


@dataclass(frozen=True, slots=True)
class Side:
    """One answer to an input: the rows that give it (ascending), how many of each teacher, the newest of them (UTC microseconds)
    and their mean score, None without any."""

    said: str
    rows: tuple[int, ...]
    teachers: Mapping[str, int]
    is_reviewed: bool
    newest_us: int
    score: float | None


@dataclass(frozen=True, slots=True)
class Contradiction:
    """Rows with the same input and more than one answer: `winner` stands, `losers` go. None stands where nobody decided yet.

    `sides` begins with the one that stands, the others by their rows. `decided_by` is a policy, `review` or `tie`; `kind` is
    `teachers`, `wording` or `variance`.
    """

    winner: int | None
    losers: tuple[int, ...]
    sides: tuple[Side, ...]
    decided_by: str
    kind: str

    @property
    def counts(self) -> dict[int, int]:
        """How many rows gave each answer, by the first row that gave it."""
        return {side.rows[0]: len(side.rows) for side in self.sides}

    @property
    def rows(self) -> tuple[int, ...]:
        """All rows of all sides, ascending."""
        return tuple(sorted(row for side in self.sides for row in side.rows))


@dataclass(frozen=True, slots=True)
class Kind:
    """How the targets of a task are compared: `name` is json, label or text.

    Of the `plain` targets, which call no tool, `odd` are otherwise: no JSON, no label, or in a task of free text JSON or as
    short as labels are.
    """

    name: str
    plain: int
    odd: int


def kind_of(targets: Sequence[Message]) -> Kind:
    """What at least 95 % of the targets without calls are; free text where that is neither JSON nor labels."""
    plain = [target.text for target in targets if not target.tool_calls]
    is_json = [_canonical(text) is not None for text in plain]
    is_short = [len(text) <= _LABEL_CHARACTERS for text in plain]
    for name, fits in ((JSON, is_json), (LABEL, is_short)):
        if sum(fits) >= _LEAST_SHARE * len(plain):
            return Kind(name, len(plain), len(plain) - sum(fits))
    return Kind(TEXT, len(plain), sum(map(max, is_json, is_short)))


def answers(targets: Sequence[Message], kind: Kind | None = None) -> list[str]:
    """One text per target; equal texts mean that the targets say the same. `kind` is that of the task, of `targets` if None.

    Targets that call tools are compared by the names and canonical arguments of their calls, whatever is said beside them.
    """
    name = (kind or kind_of(targets)).name
    return [_called(target) if target.tool_calls else _answer(target.text, name) for target in targets]


def _called(target: Message) -> str:
    calls = []
    for call in target.tool_calls:
        arguments = _canonical(call.arguments)
        calls.append(f"[{_text(call.name)}, {_text(call.arguments) if arguments is None else arguments}]")
    return f"calls [{', '.join(calls)}]"


def _answer(target: str, kind: str) -> str:
    canonical = _canonical(target)
    if canonical is not None:
        return canonical
    return " ".join(numbers(target)) if kind == TEXT else normalise(target)


def resolve(
    comparison: Comparison, alive: Sequence[int], said: Sequence[str], rank: Sequence[int], is_reviewed: Sequence[bool],
    newest: Sequence[int], threshold: float, policy: str = MAJORITY, teachers: Sequence[str] = (),
    scores: Sequence[float | None] = (),
) -> list[Contradiction]:  # fmt: skip
    """Every group among the rows `alive` that contradict each other, settled by `policy`.

    `rank` orders rows by how much they are worth keeping, `newest` is their time, `teachers` and `scores` say who answered and
    how well (empty: nothing is known). Which rows belong together does not depend on rank, so a dataset that is built again
    comes out the same.
    """
    close = comparison.near.where(comparison.near.similarity >= threshold)
    best = comparison.best_rows(alive, range(len(said)))
    living = set(alive)
    leader = leaders(len(comparison.rows), close, sorted(best, key=best.__getitem__, reverse=True))
    groups: dict[int, list[list[int]]] = defaultdict(list)
    for node in best:
        groups[leader[node]].append([row for row in comparison.rows[node] if row in living])
    known = _Known(
        said, rank, is_reviewed, newest, teachers or [""] * len(said), scores or [None] * len(said), _first_seen(teachers, newest)
    )
    contradicting = [nodes for nodes in groups.values() if len({said[row] for rows in nodes for row in rows}) > 1]
    return [_settled(nodes, known, policy) for nodes in sorted(contradicting, key=lambda nodes: min(map(min, nodes)))]


@dataclass(frozen=True, slots=True)
class _Known:
    said: Sequence[str]
    rank: Sequence[int]
    is_reviewed: Sequence[bool]
    newest: Sequence[int]
    teachers: Sequence[str]
    scores: Sequence[float | None]
    first_seen: Mapping[str, int]


def _first_seen(teachers: Sequence[str], times_us: Sequence[int]) -> dict[str, int]:
    first: dict[str, int] = {"": 0}
    for teacher, time in zip(teachers, times_us, strict=False):
        first[teacher] = min(first.get(teacher, time), time)
    return first


def _settled(nodes: Sequence[Sequence[int]], known: _Known, policy: str) -> Contradiction:
    by_answer: dict[str, list[int]] = defaultdict(list)
    for rows in nodes:
        for row in rows:
            by_answer[known.said[row]].append(row)
    sides = [_side(answer, sorted(rows), known) for answer, rows in sorted(by_answer.items())]
    stands, decided_by = _decided(sides, known, policy)
    ordered = sorted(sides, key=lambda side: (side is not stands, -len(side.rows), side.rows))
    winner = None if stands is None else min(stands.rows, key=known.rank.__getitem__)
    losers = tuple(sorted(row for side in sides if side is not stands for row in side.rows))
    return Contradiction(winner, losers, tuple(ordered), decided_by, _kind(nodes, known))


def _side(answer: str, rows: Sequence[int], known: _Known) -> Side:
    scores = [score for row in rows if (score := known.scores[row]) is not None]
    return Side(
        answer,
        tuple(rows),
        dict(sorted(Counter(known.teachers[row] for row in rows).items())),
        any(known.is_reviewed[row] for row in rows),
        max(known.newest[row] for row in rows),
        sum(scores) / len(scores) if scores else None,
    )


def _decided(sides: Sequence[Side], known: _Known, policy: str) -> tuple[Side | None, str]:
    """The side that stands and what decided."""
    if reviewed := [side for side in sides if side.is_reviewed]:
        return _by_majority(reviewed, known)[0], REVIEW
    if policy in (PERSON, DROP):
        return None, policy
    if policy == NEWEST:
        return _by_newest(sides, known), NEWEST
    if policy == JUDGE and (scored := [side.score for side in sides if side.score is not None]):
        return _by_majority([side for side in sides if side.score == max(scored)], known)[0], JUDGE
    return _by_majority(sides, known)


def _by_majority(sides: Sequence[Side], known: _Known) -> tuple[Side, str]:
    most = max(len(side.rows) for side in sides)
    tied = [side for side in sides if len(side.rows) == most]
    return (tied[0], MAJORITY) if len(tied) == 1 else (_by_newest(tied, known), TIE)


def _by_newest(sides: Sequence[Side], known: _Known) -> Side:
    spoke = {teacher for side in sides for teacher in side.teachers}
    newest = max(spoke, key=lambda teacher: (known.first_seen.get(teacher, 0), teacher))
    return max(sides, key=lambda side: (side.teachers.get(newest, 0), side.newest_us, side.said))


def _kind(nodes: Sequence[Sequence[int]], known: _Known) -> str:
    rows = [row for node in nodes for row in node]
    usual = {_usual(group, known.said) for group in _by_teacher(rows, known).values()}
    if len(usual) > 1:
        return TEACHERS
    return VARIANCE if len({_usual(node, known.said) for node in nodes}) == 1 else WORDING


def _by_teacher(rows: Sequence[int], known: _Known) -> dict[str, list[int]]:
    groups: dict[str, list[int]] = defaultdict(list)
    for row in rows:
        groups[known.teachers[row]].append(row)
    return groups


def _usual(rows: Sequence[int], said: Sequence[str]) -> str:
    counts = Counter(said[row] for row in rows)
    return max(counts, key=lambda answer: (counts[answer], answer))


def _canonical(target: str) -> str | None:
    """The object or list in `target` as JSON that is equal for equal values; None for everything else, and nesting too deep."""
    if not target.lstrip().startswith(("{", "[")):
        return None
    try:
        return json.dumps(parse(target.encode("utf-8", "replace")), sort_keys=True, ensure_ascii=False)
    except (ValueError, RecursionError):
        return None


def _text(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
