"""The bottom line: the keys that matter on this screen, made from the action registry."""

from __future__ import annotations

from textual.widgets import Static

from tui import actions


class Footer(Static):
    """One line of hints, as many as fit."""

    DEFAULT_CSS = "Footer { height: 1; background: $panel; color: $text; }"

    def __init__(self, screen: str, extra: str = "") -> None:
        super().__init__(markup=False)
        self._screen = screen
        self._extra = extra

    def on_resize(self) -> None:
        """Draws the hints for the width there is."""
        self.update_hints(self._extra)

    def update_hints(self, extra: str) -> None:
        """Draws the hints with `extra` before them."""
        self._extra = extra
        room = self.size.width - len(extra) - (1 if extra else 0)
        hints = actions.footer(self._screen, room)
        self.update(f" {extra}{hints}" if extra else hints)
