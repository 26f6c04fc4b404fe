"""A toy base model from the scripted provider's other tasks: it knows the shape of tickets, not the task to be learnt."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

from proxy.tickets import TASKS, make_tickets
from train.toy_base import build_toy_base
from train.toy_training import ToyProgress

_TARGET_TASK = "triage"
_SEED = 20_261
_PER_TASK = 200
_UNLABELLED = 2_400


def toy_conversations(task: str = _TARGET_TASK) -> list[tuple[str, str, str]]:
    """(system, user, answer) of every closed-label ticket task but `task`, in one seeded order."""
    conversations = [
        (ticket.system_prompt, ticket.user_prompt, ticket.gold)
        for number, other in enumerate(sorted(set(TASKS) - {task, "reply"}))
        for ticket in make_tickets(_SEED + number, _PER_TASK, other)
    ]
    random.Random(_SEED).shuffle(conversations)
    return conversations


def unlabelled_prompts(task: str = _TARGET_TASK) -> list[tuple[str, str]]:
    """(system, user) of tickets of `task`, each once, without their answers; none of them is sent by the demo."""
    return list(
        dict.fromkeys((ticket.system_prompt, ticket.user_prompt) for ticket in make_tickets(_SEED - 1, _UNLABELLED, task))
    )


def make_toy_base(folder: Path, *, steps: int = 0, on_progress: Callable[[ToyProgress], None] | None = None) -> Path:
    """Makes the toy base in `folder`, or returns at once when it is complete there; `steps` as in `build_toy_base`."""
    return build_toy_base(folder, toy_conversations(), unlabelled=unlabelled_prompts(), on_progress=on_progress, steps=steps)
