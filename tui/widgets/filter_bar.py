"""The line of the filter: shows it, edits it after `/`, and says what is wrong with it without touching the list."""

from __future__ import annotations

import re

from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.message import Message
from textual.widgets import Input, Static

_WHOLE_TERM = re.compile(r'[:<>=][^=]|".+"$')


class FilterBar(Horizontal):
    """` / task:triage status>=400                 12 of 10,000+`"""

    DEFAULT_CSS = """
    FilterBar { height: 1; }
    FilterBar > #slash { width: 3; }
    FilterBar > Input { width: 1fr; height: 1; border: none; padding: 0; background: transparent; }
    FilterBar > Input:disabled { opacity: 1; color: $text; }
    FilterBar > #said { width: auto; max-width: 60%; padding: 0 1; text-align: right; }
    """

    class Typed(Message):
        """The text changed.

        `is_ready` is False while its last word may still become the name of a field, so that a list does not empty at
        every letter.
        """

        def __init__(self, text: str, is_ready: bool) -> None:
            super().__init__()
            self.text = text
            self.is_ready = is_ready

    def __init__(self) -> None:
        super().__init__()
        self._before = ""

    def compose(self) -> ComposeResult:
        """Slash, text, what is said about it."""
        yield Static(" / ", id="slash", markup=False)
        yield Input(placeholder="everything", disabled=True, compact=True, select_on_focus=False)
        yield Static("", id="said", markup=False)

    @property
    def text(self) -> str:
        """The filter as it stands in the line."""
        return self.query_one(Input).value

    @property
    def is_editing(self) -> bool:
        """True between `edit` and the end of editing."""
        return not self.query_one(Input).disabled

    def edit(self) -> None:
        """Puts the caret into the line."""
        line = self.query_one(Input)
        self._before = line.value
        line.disabled = False
        line.focus()

    def leave(self, *, is_kept: bool) -> None:
        """Ends editing with the text typed, or with the one before."""
        line = self.query_one(Input)
        line.disabled = True
        if not is_kept:
            line.value = self._before

    def clear(self) -> None:
        """Empties the line."""
        self.query_one(Input).value = ""

    def say(self, words: str) -> None:
        """Shows `words` at the right end: the count, or what is wrong."""
        self.query_one("#said", Static).update(words)

    def on_input_changed(self, event: Input.Changed) -> None:
        """Hands on what is typed."""
        event.stop()
        last = event.value.rpartition(" ")[2]
        self.post_message(
            self.Typed(event.value, is_ready=not self.is_editing or not last or _WHOLE_TERM.search(last) is not None)
        )

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Enter ends editing."""
        event.stop()
        self.leave(is_kept=True)
        self.post_message(self.Typed(event.value, is_ready=True))
