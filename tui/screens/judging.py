"""Feedback from the keyboard: good, bad or a comment on the exchange in front, straight into the store."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from textual.screen import Screen

from capture import feedback
from capture.feedback_forms import COMMENT, make_feedback
from tui.background import in_thread
from tui.desk import Desk
from tui.screens.overlays import EditScreen

_NO_WORDS = "its content is not stored, so no words on it are"


def judging(
    screen: Screen[Any], desk: Desk, exchange_id: Callable[[], str], done: Callable[[], None]
) -> Mapping[str, Callable[[], None]]:
    """What the actions of feedback do on `screen`, whose exchange in front has the id that `exchange_id` gives.

    `done` is called once a feedback is stored.
    """

    def say(id: str, said: str, fields: Mapping[str, object]) -> None:
        given = make_feedback({**fields, "user": desk.who}, source=feedback.BY_SCREEN, exchange_id=id)

        def stored(added: feedback.Added) -> None:
            is_kept = not added.left_out
            screen.app.notify(f"{said}: {id}" if is_kept else f"{_NO_WORDS}: {id}", markup=False)
            done()

        in_thread(screen, "feedback", lambda: feedback.add(desk.database, given.notes, desk.personal), stored, lock=desk.writes)

    def comment() -> None:
        id = exchange_id()

        def written(text: str | None) -> None:
            if text is not None:
                say(id, "comment kept", {COMMENT: text})

        screen.app.push_screen(EditScreen("", _as_comment, "Comment on the answer"), written)

    return {
        "feedback.good": lambda: say(exchange_id(), "good", {"value": True}),
        "feedback.bad": lambda: say(exchange_id(), "bad", {"value": False}),
        "feedback.comment": comment,
    }


def _as_comment(text: str) -> str | None:
    return None if text.strip() else "A comment cannot be empty; esc leaves without one."
