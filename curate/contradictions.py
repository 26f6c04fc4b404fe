"""Same input, different target: finds it and lets the majority decide.

Inputs are the same when their variable parts are equal or near duplicates of at least `contradiction_threshold`. Targets
are compared by kind: JSON by its canonical form, labels by normalised wording, free text by its numbers alone, because two
honest wordings of one answer do not contradict each other.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from capture.messages import Message
from curate.duplicates import Comparison, leaders
from curate.wording import normalise, numbers

JSON, LABEL, TEXT = "json", "label", "text"
_LABEL_CHARACTERS = 60


@dataclass(frozen=True, slots=True)
class Contradiction:
    """Rows with the same input and more than one answer: `winner` stands, `losers` go.

    `counts` says how many rows gave each answer, by the first row that gave it.
    """

    winner: int
    losers: tuple[int, ...]
    counts: Mapping[int, int]


def kind_of(targets: Sequence[str]) -> str:
    """json, label or text: how targets of this task are compared."""
    if all(_parsed(target) is not None for target in targets):
        return JSON
    return LABEL if all(len(target) <= _LABEL_CHARACTERS for target in targets) else TEXT


def answers(targets: Sequence[Message]) -> list[str]:
    """One text per target; equal texts mean that the targets say the same.

    Targets that call tools are compared by the names and canonical arguments of their calls, whatever is said beside them.
    """
    texts = _answers([target.text for target in targets if not target.tool_calls])
    rest = iter(texts)
    return [_called(target) if target.tool_calls else next(rest) for target in targets]


def _called(target: Message) -> str:
    calls = []
    for call in target.tool_calls:
        arguments = _parsed(call.arguments)
        calls.append([call.name, call.arguments if arguments is None else arguments])
    return f"calls {json.dumps(calls, sort_keys=True, ensure_ascii=False)}"


def _answers(targets: Sequence[str]) -> list[str]:
    kind = kind_of(targets)
    if kind == JSON:
        return [json.dumps(_parsed(target), sort_keys=True, ensure_ascii=False) for target in targets]
    return [normalise(target) if kind == LABEL else " ".join(numbers(target)) for target in targets]


def resolve(
    comparison: Comparison, alive: Sequence[int], said: Sequence[str], rank: Sequence[int], is_reviewed: Sequence[bool],
    newest: Sequence[int], threshold: float,
) -> list[Contradiction]:  # fmt: skip
    """Every group among the rows `alive` that contradict each other.

    A reviewed answer wins over any other, then the majority, then the newest.

    `rank` orders rows by how much they are worth keeping, `newest` is their time. Which rows belong together does not depend
    on rank, so a dataset that is built again comes out the same.
    """
    close = comparison.near.where(comparison.near.similarity >= threshold)
    best = comparison.best_rows(alive, range(len(said)))
    living = set(alive)
    leader = leaders(len(comparison.rows), close, sorted(best, key=best.__getitem__, reverse=True))
    groups: dict[int, list[int]] = defaultdict(list)
    for node in best:
        groups[leader[node]] += [row for row in comparison.rows[node] if row in living]
    contradicting = [sorted(rows) for rows in groups.values() if len({said[row] for row in rows}) > 1]
    return [_settled(rows, said, rank, is_reviewed, newest) for rows in sorted(contradicting)]


def _settled(
    rows: Sequence[int], said: Sequence[str], rank: Sequence[int], is_reviewed: Sequence[bool], newest: Sequence[int]
) -> Contradiction:
    by_answer: dict[str, list[int]] = defaultdict(list)
    for row in rows:
        by_answer[said[row]].append(row)

    def weight(answer: str) -> tuple[bool, int, int, str]:
        given = by_answer[answer]
        return any(is_reviewed[row] for row in given), len(given), max(newest[row] for row in given), answer

    winning = max(by_answer, key=weight)
    winner = min(by_answer[winning], key=rank.__getitem__)
    losers = tuple(sorted(row for row in rows if said[row] != winning))
    return Contradiction(winner, losers, {min(given): len(given) for given in by_answer.values()})


def _parsed(target: str) -> Any:
    if not target.lstrip().startswith(("{", "[")):
        return None
    try:
        return json.loads(target)
    except ValueError:
        return None
