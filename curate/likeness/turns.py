"""Which inputs are turns of one conversation: an input that another one begins with came before it.

Apps send the whole conversation with every turn. So what was said once stands in many inputs, and two successive turns look much
alike; but they are neither many people's words nor the same question.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Sequence

_POPULAR = 5
"""An opening that so many conversations go on from is a phrase (`Hello`), and does not make them one conversation."""


def continued(inputs: Sequence[Sequence[Hashable]]) -> list[bool]:
    """Whether another input begins with all messages of this one and goes on."""
    ends, paths = _paths(inputs)
    inner = {node for path in paths for node in path[:-1]}
    return [end in inner for end in ends]


def continuations(inputs: Sequence[Sequence[Hashable]]) -> list[tuple[int, int]]:
    """Pairs of inputs that are successive turns of one conversation, each as the earlier and the later one.

    Equal inputs are left to others: one of them stands for all. An opening that five or more go on from has no pairs.
    """
    ends, paths = _paths(inputs)
    first: dict[int, int] = {}
    for row, end in enumerate(ends):
        first.setdefault(end, row)
    later: dict[int, list[int]] = defaultdict(list)
    for end, row in first.items():
        before = next((node for node in reversed(paths[row][:-1]) if node in first and node != end), None)
        if before is not None:
            later[first[before]].append(row)
    return [(row, after) for row, found in later.items() if len(found) < _POPULAR for after in found]


def _paths(inputs: Sequence[Sequence[Hashable]]) -> tuple[list[int], list[list[int]]]:
    """The node where each input ends, and all nodes on its way, in a tree whose branches are messages."""
    nodes: dict[tuple[int, Hashable], int] = {}
    paths = []
    for messages in inputs:
        path = [0]
        for message in messages:
            path.append(nodes.setdefault((path[-1], message), len(nodes) + 1))
        paths.append(path)
    return [path[-1] for path in paths], paths
