"""Pairs of a better and a worse answer to one input, for DPO: what the evidence about the answers gives. Pure.

A pair needs somebody who preferred: a reviewer's or a user's own answer, a rejection, feedback on both sides of an experiment, a
judge that scored several answers, or a data set that says so. A student's answer is the worse side; the better one only where a
person said so.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from capture.messages import Message
from capture.offered import Tool
from curate.doubting.sameness import answer_key
from curate.preferring.preferences import AB, BEST_OF_N, EDIT, IMPORTED, REJECTION, Preference, preference_id

MARGIN = 2.0
"""Points (of ten) by which a judge must prefer the best of n answers to the worst."""
STRENGTH = (EDIT, REJECTION, IMPORTED, AB, BEST_OF_N)
"""Sources, the strongest first."""


@dataclass(frozen=True, slots=True)
class Scored:
    """An answer and the judge's score from 0 to 10."""

    message: Message
    score: float


@dataclass(frozen=True, slots=True)
class Rival:
    """A student's answer to the same input and what people thought of both: mean opinions under one name, None without one.

    `by_person`: a person said the good word about the student, and no program.
    """

    exchange_id: str
    message: Message
    opinion: float | None
    teacher_opinion: float | None
    is_yes_or_no: bool
    by_person: bool


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known about the answers to one input; every message is clean, None where there is none or it cannot be used.

    `is_rejected`: a reviewer or a user said that the answer is bad. `relabel` is the chosen answer of another teacher, `scored`
    are all answers that one judge compared. `is_imported`: the demonstration is the better side of a team's own pair.
    """

    exchange_id: str
    messages: tuple[Message, ...]
    tools: tuple[Tool, ...] = ()
    answer: Message | None = None
    edit: Message | None = None
    demonstration: Message | None = None
    is_rejected: bool = False
    relabel: Message | None = None
    scored: tuple[Scored, ...] = ()
    rivals: tuple[Rival, ...] = ()
    is_imported: bool = False


@dataclass(frozen=True, slots=True)
class Pairs:
    """The pairs in order of their ids, how many of each source, and how many did not become one, by reason."""

    pairs: tuple[Preference, ...]
    sources: dict[str, int]
    left_out: dict[str, int]


def make_pairs(task: str, evidence: Iterable[Evidence]) -> Pairs:
    """The pairs that `evidence` gives, one for an input: that of the strongest source.

    Left out and counted: sides that say the same, and weaker pairs. The same evidence in any order gives the same.
    """
    left_out: Counter[str] = Counter()
    of_input: dict[Any, list[Preference]] = {}
    for each in sorted(evidence, key=lambda one: one.exchange_id, reverse=True):  # ids sort by time: the newest first
        for pair in _pairs_of(task, each):
            if answer_key(pair.chosen) == answer_key(pair.rejected):
                left_out["same"] += 1
            else:
                of_input.setdefault((pair.messages, pair.tools), []).append(pair)
    kept: list[Preference] = []
    for pairs in of_input.values():
        strongest = sorted(pairs, key=lambda pair: STRENGTH.index(pair.source))  # stable: the newest of a source first
        consistent = _consistent(strongest, left_out)
        kept.append(consistent[0])
        if len(consistent) > 1:
            left_out["weaker"] += len(consistent) - 1
    kept.sort(key=lambda pair: pair.id)
    sources = Counter(pair.source for pair in kept)
    return Pairs(tuple(kept), {source: sources[source] for source in STRENGTH if sources[source]}, dict(sorted(left_out.items())))


def _consistent(pairs: Sequence[Preference], left_out: Counter[str]) -> list[Preference]:
    """`pairs` without those that say again, or the opposite of, what a stronger one said of the same two answers."""
    found: list[Preference] = []
    known: set[frozenset[str]] = set()
    for pair in pairs:
        sides = frozenset((answer_key(pair.chosen), answer_key(pair.rejected)))
        if sides in known:
            left_out["said_before"] += 1
        else:
            known.add(sides)
            found.append(pair)
    return found


def _pairs_of(task: str, each: Evidence) -> list[Preference]:
    found: list[tuple[str, Message, Message, str]] = []
    better = each.edit or each.demonstration
    if each.answer is not None and each.edit is not None:
        found.append((EDIT, each.edit, each.answer, "a reviewer's edit"))
    elif each.answer is not None and each.demonstration is not None:
        source = IMPORTED if each.is_imported else REJECTION if each.is_rejected else EDIT
        found.append((source, each.demonstration, each.answer, "" if each.is_imported else "a demonstration from feedback"))
    elif each.answer is not None and each.is_rejected and each.relabel is not None:
        found.append((REJECTION, each.relabel, each.answer, "another teacher's answer"))
    found += [pair for rival in each.rivals for pair in _against(rival, better or each.answer, each.is_rejected)]
    found += _best_of(each.scored)
    counts: Counter[str] = Counter()
    pairs = []
    for source, chosen, rejected, note in found:
        counts[source] += 1
        id = preference_id(each.exchange_id, source, counts[source])
        pairs.append(Preference(id, each.exchange_id, task, each.messages, each.tools, chosen, rejected, source, note))
    return pairs


def _against(rival: Rival, teacher: Message | None, is_rejected: bool) -> list[tuple[str, Message, Message, str]]:
    """The student's answer against the teacher's, where what was said of it decides."""
    if rival.opinion is None or teacher is None:
        return []
    note = f"the student answered in {rival.exchange_id}"
    theirs = rival.teacher_opinion
    is_worse = theirs is not None and rival.opinion < theirs
    is_bad = rival.is_yes_or_no and rival.opinion < 0.5 and (theirs is None or theirs > rival.opinion)
    if (is_worse or is_bad) and not is_rejected:
        return [(AB, teacher, rival.message, note)]
    if theirs is not None and rival.opinion > theirs and rival.by_person:
        return [(AB, rival.message, teacher, note)]
    return []


def _best_of(scored: Sequence[Scored]) -> list[tuple[str, Message, Message, str]]:
    if len(scored) < 2:
        return []
    best, worst = max(scored, key=lambda one: one.score), min(scored, key=lambda one: one.score)
    if best.score - worst.score < MARGIN:
        return []
    return [(BEST_OF_N, best.message, worst.message, f"scored {best.score:g} and {worst.score:g} of 10")]
