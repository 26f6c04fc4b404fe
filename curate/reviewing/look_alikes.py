"""Look-alikes: examples with similar inputs and the same answer, which one verdict can decide; and the sides of a question.

The mark of an example is its group of similar inputs, a dot, and its answer, both hashed: the same mark is a look-alike, the
same group with another answer another side of the same question. '' stands for an input that nothing else resembles.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b

from sqlalchemy import Connection

from capture.messages import Message, ToolCall
from capture.statements import among, few
from curate.examples import messages_of
from curate.tasks.aliases import names_of

_BYTES = 6


@dataclass(frozen=True, slots=True)
class Side:
    """Another answer to the same question: `count` exchanges gave it, `exchange_id` is one of them."""

    exchange_id: str
    target: str
    calls: tuple[ToolCall, ...]
    count: int


def marks(
    exchange_ids: Sequence[str], said: Sequence[str], nodes: Sequence[int], similar: Iterable[tuple[int, int]],
    same_question: Iterable[Iterable[int]] = (),
) -> list[str]:  # fmt: skip
    """The mark of each row; `said` is the comparable form of its target.

    `nodes` numbers the inputs of the rows, equal for equal wordings, and `similar` are pairs of such numbers. Groups follow
    the leader rule in the order of the rows (each member resembles its leader, so nothing is chained), except that the nodes
    of one `same_question` stay together.
    """
    together = {node: set(question) for question in map(tuple, same_question) for node in question}
    neighbours: dict[int, set[int]] = defaultdict(set)
    for left, right in similar:
        neighbours[left].add(right)
        neighbours[right].add(left)
    leader: dict[int, int] = {}
    for node in nodes:
        if node not in leader:
            core = together.get(node, set()) | {node}
            near = {other for each in core for other in neighbours[each]}
            for member in core | {other for other in near if other not in together}:
                leader.setdefault(member, node)
    first: dict[int, str] = {}
    for exchange_id, node in zip(exchange_ids, nodes, strict=True):
        first.setdefault(leader[node], exchange_id)
    sizes = Counter(leader[node] for node in nodes)
    return [
        f"{_hash(first[leader[node]])}.{_hash(answer)}" if sizes[leader[node]] > 1 else ""
        for node, answer in zip(nodes, said, strict=True)
    ]


def group_of(mark: str) -> str:
    """The group of similar inputs that `mark` names; '' for ''."""
    return mark.partition(".")[0]


def read_sides(connection: Connection, task: str, wanted: Iterable[str]) -> Mapping[str, tuple[Side, ...]]:
    """The other sides of the question behind each of these marks, most frequent first."""
    asked = {mark for mark in wanted if mark}
    if not asked:
        return {}
    groups = {group_of(mark) for mark in asked}
    sql = """SELECT look_alike, MIN(exchange_id), SUM(stands_for) FROM examples WHERE task IN :names AND look_alike <> ''
        GROUP BY look_alike"""
    query = among(sql)
    rows = connection.execute(query, {"names": names_of(connection, task)}).all()
    found = [(str(row[0]), str(row[1]), int(row[2])) for row in rows if group_of(row[0]) in groups]
    answers = read_answers(connection, [exchange_id for _, exchange_id, _ in found])
    by_group: dict[str, list[tuple[str, Side]]] = defaultdict(list)
    for mark, exchange_id, count in sorted(found, key=lambda row: (-row[2], row[1])):
        answer = answers[exchange_id]
        by_group[group_of(mark)].append((mark, Side(exchange_id, answer.text, answer.tool_calls, count)))
    return {mark: tuple(side for other, side in by_group[group_of(mark)] if other != mark) for mark in asked}


def read_answers(connection: Connection, exchange_ids: Sequence[str]) -> dict[str, Message]:
    """The target of each of these exchanges that has an example, by exchange id."""
    query = among("SELECT exchange_id, target, answer FROM examples WHERE exchange_id IN :ids")
    found: dict[str, Message] = {}
    for some in few(exchange_ids):
        for row in connection.execute(query, {"ids": some}):
            found[row.exchange_id] = answer_of(row.answer, row.target)
    return found


def answer_of(answer: str, target: str) -> Message:
    """The target as a message, from its columns: `answer` is JSON, '' in rows of before there were calls."""
    return messages_of([json.loads(answer)])[0] if answer else Message("assistant", target)


def _hash(words: str) -> str:
    return blake2b(words.encode("utf-8", "replace"), digest_size=_BYTES).hexdigest()
