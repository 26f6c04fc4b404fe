"""The top line: the six screens with the one in front in brackets, and how many cards wait in Review."""

from __future__ import annotations

from textual.widgets import Static

from tui.actions import REVIEW, SCREENS
from tui.desk import Desk


class Header(Static):
    """One line, made anew by `update_line`."""

    DEFAULT_CSS = "Header { height: 1; background: $panel; color: $text; }"

    def __init__(self, screen: str, desk: Desk) -> None:
        super().__init__(markup=False)
        self._screen = screen
        self._desk = desk

    def on_mount(self) -> None:
        """Draws the line."""
        self.update_line()

    def on_resize(self) -> None:
        """Draws the line for the new width."""
        self.update_line()

    def update_line(self) -> None:
        """Draws the line from the desk as it stands."""
        self.update(header_line(self._screen, self._desk.waiting, self.size.width))


def header_line(screen: str, waiting: int | None, width: int) -> str:
    """The line for `screen` in at most `width` cells where that is possible; digits alone when it is narrow."""
    names = [_name(name, place, screen, waiting) for place, name in enumerate(SCREENS, 1)]
    roomy = "".join(name if name[0] == "[" else f" {name} " for name in names).rstrip()
    digits = [name if name[0] == "[" else str(place) for place, name in enumerate(names, 1)]
    choices = (f" potstill  {roomy}", f" {roomy}", " ".join(names), " ".join(digits))
    return next((line for line in choices if len(line) <= width), choices[-1][:width])


def _name(name: str, place: int, screen: str, waiting: int | None) -> str:
    words = f"{place} {name.title()}"
    if name == REVIEW and waiting:
        words += f" {min(waiting, 9_999)}"
    return f"[{words}]" if name == screen else words
