"""The audit of a dataset version: one example of its random sample at a time, right or wrong."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Static

from tui.background import in_thread
from tui.desk import Desk
from tui.reading import AuditPile
from tui.screens.review_cards import prompt_blocks, words
from tui.text import one_line
from tui.widgets.text_view import SCROLLING, TextView

if TYPE_CHECKING:
    from curate.examples import Example

_KEYS = "[a]right [r]wrong [u]previous [z]whole [esc]back"


class AuditScreen(ModalScreen[None]):
    """Shows the examples that wait, in the order of drawing. A finding that is given again replaces the one before."""

    BINDINGS: ClassVar[list[Any]] = [
        Binding("a", "find('right')", show=False),
        Binding("r", "find('wrong')", show=False),
        Binding("u", "previous", show=False),
        Binding("z", "expand", show=False),
        Binding("escape,q", "dismiss", show=False),
        *SCROLLING,
    ]

    def __init__(self, desk: Desk, pile: AuditPile) -> None:
        super().__init__()
        self._desk = desk
        self._pile = pile
        self._place = 0
        self._is_whole = False
        self._sentence = pile.sentence

    def compose(self) -> ComposeResult:
        """Where it stands, the example, its target, the result so far."""
        with Vertical(classes="overlay tall"):
            yield Static("", id="audit-title", markup=False, classes="title")
            yield TextView()
            yield Static("", id="audit-result", markup=False)

    def on_mount(self) -> None:
        """Shows the first."""
        self._draw()

    def action_find(self, verdict: str) -> None:
        """Records `verdict` and shows the next."""
        if self._example is None:
            return
        exchange_id = self._example.exchange_id
        self._place += 1
        self._is_whole = False
        self._draw()
        pile, desk = self._pile, self._desk

        def work() -> str:
            from curate.reviewing import audit

            audit.judge(desk.database, pile.task, pile.number, exchange_id, verdict, desk.who, personal=desk.personal)
            found = audit.latest_audit(desk.database, pile.task, pile.number)
            return found.sentence if found else ""

        in_thread(self, "findings", work, self._told, failed=partial(self._back_to, self._place - 1), lock=desk.writes)

    def action_previous(self) -> None:
        """Shows the one before again."""
        self._back_to(max(self._place - 1, 0))

    def action_expand(self) -> None:
        """Unfolds the prompt, or folds it again."""
        self._is_whole = not self._is_whole
        self._draw()

    def action_scroll(self, by: int) -> None:
        """Moves the text."""
        self.query_one(TextView).move(by)

    @property
    def _example(self) -> Example | None:
        return self._pile.examples[self._place] if self._place < len(self._pile.examples) else None

    def _back_to(self, place: int) -> None:
        self._place = place
        self._draw()

    def _told(self, sentence: str) -> None:
        self._sentence = sentence
        self._draw()

    def _draw(self) -> None:
        example = self._example
        where = f"{one_line(self._pile.task, 24)}/v{self._pile.number}"
        left = len(self._pile.examples) - self._place
        self.query_one("#audit-title", Static).update(f" Audit of {where}, {left:,} left   {_KEYS}")
        self.query_one("#audit-result", Static).update(f" {self._sentence}")
        if example is None:
            shown = [("", "The sample is judged."), ("", f"potstill review audit report {one_line(self._pile.task, 40)}")]
        else:
            shown = prompt_blocks(example.messages, example.tools, is_whole=self._is_whole)
            shown = [*shown, ("target", words(example.answer))]
        self.query_one(TextView).show_blocks(shown)
