"""The look-alikes of a card, to be decided together after one question."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Static

from tui.screens.overlays import ConfirmScreen
from tui.screens.review_cards import words
from tui.text import wrap
from tui.widgets.text_view import SCROLLING, TextView

if TYPE_CHECKING:
    from curate.reviewing.review import LookAlikes, ReviewCard

_LINES = 2
_CELLS = 66


class LookAlikesScreen(ModalScreen[str | None]):
    """Ends with the verdict for all of them, or with None."""

    BINDINGS: ClassVar[list[Any]] = [
        Binding("a", "decide('accept')", show=False),
        Binding("r", "decide('reject')", show=False),
        Binding("escape,q,b", "dismiss(None)", show=False),
        *SCROLLING,
    ]

    def __init__(self, found: LookAlikes) -> None:
        super().__init__()
        self._found = found

    def compose(self) -> ComposeResult:
        """How many there are, and each in a few lines."""
        count = len(self._found.exchange_ids)
        with Vertical(classes="overlay tall"):
            yield Static(
                f" {count:,} look alike   [a]accept all [r]reject all [j/k]scroll [esc]back", markup=False, classes="title"
            )
            yield TextView()

    def on_mount(self) -> None:
        """Shows them."""
        blocks = [block for number, card in enumerate(self._found.cards, 1) for block in _blocks(number, card)]
        hidden = len(self._found.exchange_ids) - len(self._found.cards)
        self.query_one(TextView).show_blocks([*blocks, *([("", f"and {hidden:,} more")] if hidden > 0 else [])])

    def action_scroll(self, by: int) -> None:
        """Moves the text."""
        self.query_one(TextView).move(by)

    def action_decide(self, verdict: str) -> None:
        """Asks once, then ends with `verdict`."""

        def answered(is_yes: bool | None) -> None:
            if is_yes:
                self.dismiss(verdict)

        question = f"{verdict.title()} all {len(self._found.exchange_ids):,} look-alikes?   One undo takes all of it back."
        self.app.push_screen(ConfirmScreen(question), answered)


def _blocks(number: int, card: ReviewCard) -> list[tuple[str, str]]:
    asked = next((message.text for message in reversed(card.messages) if message.role == "user"), "")
    asked, target = ("\n".join(wrap(each, _CELLS, _LINES)) for each in (asked, words(card.answer)))
    return [(f"{number}", asked), ("target", target)]
