"""A toy base model from the scripted provider's other tasks: it knows the shape of tickets, not the task to be learnt."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path

from proxy.tickets import TASKS, make_tickets
from train.toy_base import ToyProgress, build_toy_base

_TARGET_TASK = "triage"
_SEED = 20_261
_PER_TASK = 1_200


def toy_conversations(task: str = _TARGET_TASK) -> list[tuple[str, str, str]]:
    """(system, user, answer) of every closed-label ticket task but `task`, in one seeded order."""
    conversations = [
        (ticket.system_prompt, ticket.user_prompt, ticket.gold)
        for number, other in enumerate(sorted(set(TASKS) - {task, "reply"}))
        for ticket in make_tickets(_SEED + number, _PER_TASK, other)
    ]
    random.Random(_SEED).shuffle(conversations)
    return conversations


def toy_vocabulary(task: str = _TARGET_TASK) -> Sequence[str]:
    """Texts of `task` without their answers next to them: the tokenizer must be able to spell its words."""
    tickets = make_tickets(_SEED - 1, 400, task)
    return [*(ticket.user_prompt for ticket in tickets), *sorted({ticket.gold for ticket in tickets}), tickets[0].system_prompt]


def make_toy_base(folder: Path, *, on_progress: Callable[[ToyProgress], None] | None = None) -> Path:
    """Makes the toy base in `folder`, or returns at once when it is complete there."""
    return build_toy_base(folder, toy_conversations(), vocabulary_texts=toy_vocabulary(), on_progress=on_progress)
