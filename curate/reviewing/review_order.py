"""The order of the review queue: what a verdict is expected to teach, times the examples that it decides.

How likely a target is wrong comes from everything that speaks against it; the bits of that belief, up to one, are what a
verdict is worth. Contradictions come first: there a person is sure to be needed. Of each side of one only the newest
example comes early, because its look-alikes can be decided with it.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

_LABELS = 50
"""More different answers than this are free text: rarity says nothing there."""
_SIDES_FIRST = 5
_TOLD = 5
_IN_A_ROW = 2
_LOWEST_SCORES = 0.1
_MANY_DECIDED = 5
_DISAGREES, _DICTATED, _REFUSES, _SCORED_LOW, _RARE, _BASE = 0.5, 0.5, 0.4, 0.3, 0.2, 0.02
"""How likely a target is wrong for each thing that speaks against it: settled by judgement, not measured."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """An example that may wait for a verdict.

    `said` is the comparable form of its target. `question` names a contradiction that it is a side of ('' for none), and
    `answers` how often each target was given there, as people read them. `neighbour` is what a near duplicate was answered,
    `suspicion` (0 to 1) how sure the rest of the task is that the target is wrong and `expected` what it says instead,
    `trigger` a phrase that seems to dictate the target. `score` is what feedback gave. It stands for `stands_for` exchanges;
    `look_alike` is its mark, see `curate.reviewing.look_alikes`.
    """

    exchange_id: str
    said: str
    started_us: int
    question: str = ""
    answers: Mapping[str, int] = field(default_factory=dict)
    neighbour: str = ""
    looks_refused: bool = False
    suspicion: float = 0.0
    expected: str = ""
    trigger: str = ""
    score: float | None = None
    stands_for: int = 1
    look_alike: str = ""


@dataclass(frozen=True, slots=True)
class Placed:
    """An example in its place: what a verdict on it is worth, in bits times examples, and why a person should look."""

    exchange_id: str
    value: float
    note: str


def order(rows: Sequence[Waiting]) -> list[Placed]:
    """All of `rows`, the most urgent first; the same rows give the same order, whatever theirs was."""
    low = _low_score(rows)
    frequency = Counter(row.said for row in rows if not row.question)
    decides = _decides(rows)
    answers = {row.question: row.answers for row in rows if row.question}
    asked = {question: _asked(given) for question, given in answers.items()}
    doubts = {
        row.exchange_id: asked[row.question] if row.question else _doubt(row, low, frequency, decides[row.exchange_id])
        for row in rows
    }
    value = {row.exchange_id: doubts[row.exchange_id][0] * decides[row.exchange_id] for row in rows}
    notes = {exchange_id: note for exchange_id, (_, note) in doubts.items()}

    def urgency(row: Waiting) -> tuple[float, int, str]:
        return -value[row.exchange_id], -row.started_us, row.exchange_id

    questions = _by_question(rows)
    early = {row.exchange_id for row in questions}
    rest = [row for row in rows if row.exchange_id not in early]
    value |= {row.exchange_id: _BASE * row.stands_for for row in rest if row.question}  # another verdict decides these
    rest.sort(key=urgency)
    return [Placed(row.exchange_id, value[row.exchange_id], notes[row.exchange_id]) for row in (*questions, *_spread(rest))]


def short(text: str) -> str:
    """`text` as notes quote it: on one line of at most 60 characters."""
    line = " ".join(text.split())
    return line if len(line) <= 60 else line[:59] + "…"


def _decides(rows: Iterable[Waiting]) -> dict[str, int]:
    """How many exchanges a verdict decides: the newest of look-alikes stands for them all, the others for themselves."""
    of_mark: dict[str, list[Waiting]] = defaultdict(list)
    decides: dict[str, int] = {}
    for row in rows:
        decides[row.exchange_id] = row.stands_for
        if row.look_alike:
            of_mark[row.look_alike].append(row)
    for alike in of_mark.values():
        newest = max(alike, key=lambda row: (row.started_us, row.exchange_id))
        decides[newest.exchange_id] = sum(row.stands_for for row in alike)
    return decides


def _asked(answers: Mapping[str, int]) -> tuple[float, str]:
    """Bits of a contradiction, and its answers, the most frequent first.

    How often each was given is left to the sides of the card: they count all look-alikes, not the same input alone.
    """
    ordered = sorted(answers, key=lambda target: (-answers[target], target))
    told = ", ".join(short(target) for target in ordered[:_TOLD])
    more = f", and {len(ordered) - _TOLD} more" if len(ordered) > _TOLD else ""
    return _entropy(answers.values()), f"same input, {len(ordered)} answers: {told}{more}"


def _doubt(row: Waiting, low: float | None, frequency: Mapping[str, int], decides: int) -> tuple[float, str]:
    """Bits that a verdict is expected to give, and the strongest of what speaks against the target."""
    same = frequency[row.said] if len(frequency) <= _LABELS else 0
    against = [
        (_DISAGREES, f"a near duplicate was answered: {short(row.neighbour)}") if row.neighbour else (0.0, ""),
        (_DICTATED, f"a rare phrase seems to dictate the target: {short(row.trigger)}") if row.trigger else (0.0, ""),
        (min(max(row.suspicion, 0.0), 1.0), _suspected(row)),
        (_REFUSES, "reads like a refusal") if row.looks_refused else (0.0, ""),
        (_SCORED_LOW, f"one of the lowest scores: {row.score:g}") if low is not None and _at_most(row.score, low) else (0.0, ""),
        (_RARE / same, "no other example has this target" if same == 1 < len(frequency) else "") if same else (0.0, ""),
        (_BASE, f"one verdict decides {decides} exchanges" if decides >= _MANY_DECIDED else ""),
    ]
    wrong = 1 - math.prod(1 - chance for chance, _ in against)
    note = next((note for _, note in sorted(against, key=lambda each: -each[0]) if note), "")
    return 1.0 if wrong >= 0.5 else _entropy((wrong, 1 - wrong)), note


def _suspected(row: Waiting) -> str:
    if row.suspicion <= 0:
        return ""
    instead = f", {short(row.expected)} fits better" if row.expected else ""
    return f"unlike the rest of the task ({row.suspicion:.0%} sure){instead}"


def _at_most(score: float | None, low: float) -> bool:
    return score is not None and score <= low


def _low_score(rows: Iterable[Waiting]) -> float | None:
    """The score below which a tenth of the scored rows lie; None when nothing is below the rest."""
    scores = sorted(row.score for row in rows if row.score is not None)
    if not scores:
        return None
    low = scores[int(_LOWEST_SCORES * (len(scores) - 1))]
    return low if low < scores[-1] else None


def _entropy(weights: Iterable[float]) -> float:
    """Bits of a choice with these weights."""
    given = [weight for weight in weights if weight > 0]
    total = sum(given)
    return max(0.0, -sum(weight / total * math.log2(weight / total) for weight in given))


def _by_question(rows: Sequence[Waiting]) -> list[Waiting]:
    """The newest example of each side of each contradiction, sides together, the most frequent side first."""
    of_question: dict[str, dict[str, list[Waiting]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        if row.question:
            of_question[row.question][row.said].append(row)
    asked: list[tuple[float, str, list[Waiting]]] = []
    for question, by_answer in of_question.items():
        sides = [
            (-sum(row.stands_for for row in side), said, max(side, key=lambda row: (row.started_us, row.exchange_id)))
            for said, side in by_answer.items()
        ]
        front = [newest for _, _, newest in sorted(sides, key=lambda side: side[:2])[:_SIDES_FIRST]]
        bits = sum(front[0].answers.values()) * _entropy(front[0].answers.values())
        asked.append((-bits, question, front))
    return [row for _, _, front in sorted(asked, key=lambda each: each[:2]) for row in front]


def _spread(rows: Iterable[Waiting]) -> list[Waiting]:
    """`rows` with at most two look-alikes in a row, as long as there is anything else.

    What is put off has one mark only, and comes again after the next example of another mark.
    """
    placed: list[Waiting] = []
    put_off: deque[Waiting] = deque()
    coming = deque(rows)
    while coming or put_off:
        last = {row.look_alike for row in placed[-_IN_A_ROW:]}
        tired = next(iter(last)) if len(last) == 1 and len(placed) >= _IN_A_ROW else ""
        if put_off and (put_off[0].look_alike != tired or not coming):
            placed.append(put_off.popleft())
        elif coming[0].look_alike == tired and tired:
            put_off.append(coming.popleft())
        else:
            placed.append(coming.popleft())
    return placed
