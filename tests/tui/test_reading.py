"""What screens read of a store in which a task has several names."""

from __future__ import annotations

from typing import Any

from curate.reviewing import review
from curate.tasks.aliases import add_alias
from tui import reading


def test_review_shows_a_task_by_one_name_whichever_is_in_focus(captured: Any) -> None:
    captured.send(*captured.tickets(40), every_s=0.1)
    captured.build()
    waiting = review.progress(captured.database, "triage").waiting
    add_alias(captured.database, "desk", "triage")
    for wanted in ("triage", "desk"):
        pile = reading.pile(captured.database, [wanted], 100)
        assert (pile.task, pile.tasks, len(pile.cards)) == ("desk", ("desk",), waiting)
        assert {card.task for card in pile.cards} == {"desk"}
