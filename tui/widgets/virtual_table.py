"""A list of any length: it holds a window of rows around the cursor and asks for more when the cursor nears an edge.

It never knows how many rows there are, so a million cost as much as a screenful. The owner answers `Wanted` with
`add_older` or `add_newer`; rows far from the cursor are dropped. Cells are captured text and are drawn as such.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Generic, TypeVar

from rich.segment import Segment
from textual import events
from textual.geometry import Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from tui.text import fit, pad

T = TypeVar("T")
PAGE = 200
"""Rows to fetch at once."""
KEPT = 5 * PAGE
"""Rows held at most."""
_MARGIN = PAGE // 4
_WHEEL = 3
CURSOR_MARK = ">"


@dataclass(frozen=True, slots=True)
class Column(Generic[T]):
    """`width` in cells without the blank after it; 0 takes what is left."""

    title: str
    width: int
    cell: Callable[[T], str]
    is_right: bool = False


class VirtualTable(ScrollView, Generic[T]):
    """Rows newest first, one line each, with a cursor. Keys come through its methods, not through focus."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {"virtual-table--head", "virtual-table--cursor", "virtual-table--failed"}
    DEFAULT_CSS = """
    VirtualTable { height: 1fr; overflow-x: hidden; scrollbar-size-vertical: 0; }
    VirtualTable > .virtual-table--head { text-style: bold; color: $text-muted; }
    VirtualTable > .virtual-table--cursor { text-style: bold; background: $boost; }
    VirtualTable > .virtual-table--failed { color: $text-error; }
    """

    class Moved(Message):
        """The cursor is on another row, or the row under it is another one; `is_by_hand` when a person did it."""

        def __init__(self, is_by_hand: bool) -> None:
            super().__init__()
            self.is_by_hand = is_by_hand

    class Wanted(Message):
        """Rows beyond an edge are needed: older ones below, or newer ones above."""

        def __init__(self, is_older: bool) -> None:
            super().__init__()
            self.is_older = is_older

    class Opened(Message):
        """The row under the cursor was clicked again."""

    def __init__(
        self, columns: Callable[[int], Sequence[Column[T]]], *, is_failed: Callable[[T], bool], id: str | None = None
    ) -> None:
        super().__init__(id=id)
        self.can_focus = False
        self.rows: list[T] = []
        self.cursor = 0
        self.has_older = False
        self.has_newer = False
        self._columns = columns
        self._is_failed = is_failed
        self._is_waiting = False

    @property
    def row(self) -> T | None:
        """The row under the cursor; None when there are none."""
        return self.rows[self.cursor] if self.rows else None

    def show(self, rows: Sequence[T], *, has_older: bool, has_newer: bool = False, cursor: int = 0) -> None:
        """Replaces all rows; `cursor` is clamped, and -1 is the last row."""
        self.rows = list(rows)
        self.has_older, self.has_newer = has_older, has_newer
        self._is_waiting = False
        self.cursor = max(0, min(cursor if cursor >= 0 else len(rows) - 1, len(rows) - 1))
        self._settle()
        self.post_message(self.Moved(is_by_hand=False))

    def add_older(self, rows: Sequence[T], *, has_older: bool) -> None:
        """Adds the rows below the last; the cursor stays on its row."""
        self.rows.extend(rows)
        self.has_older = has_older
        if (surplus := len(self.rows) - KEPT) > 0 and (surplus := min(surplus, self.cursor - self._visible)) > 0:
            del self.rows[:surplus]
            self.has_newer = True
            self._shift(-surplus)
        self._is_waiting = False
        self._settle()

    def add_newer(self, rows: Sequence[T], *, has_newer: bool) -> None:
        """Adds the rows (newest first) above the first; the cursor stays on its row."""
        self.rows[:0] = rows
        self.has_newer = has_newer
        if len(self.rows) > KEPT:
            keep = max(KEPT, self.cursor + len(rows) + self._visible)
            self.has_older = self.has_older or len(self.rows) > keep
            del self.rows[keep:]
        self._is_waiting = False
        self._shift(len(rows))
        self._settle()

    def give_up(self) -> None:
        """The rows that were wanted cannot be had; the next move asks again."""
        self._is_waiting = False

    def move(self, by: int) -> None:
        """Moves the cursor by so many rows, down when positive, as far as rows are held."""
        if not self.rows:
            return
        self.cursor = max(0, min(self.cursor + by, len(self.rows) - 1))
        self._settle()
        self.post_message(self.Moved(is_by_hand=True))

    def half_page(self) -> int:
        """Rows in half a screenful, at least one."""
        return max(self._visible // 2, 1)

    @property
    def _visible(self) -> int:
        return max(self.size.height - 1, 1)

    def _shift(self, by: int) -> None:
        self.cursor += by
        self.virtual_size = Size(self.size.width, len(self.rows) + 1)
        self.scroll_to(y=max(self.scroll_offset.y + by, 0), animate=False, force=True)

    def _settle(self) -> None:
        self.virtual_size = Size(self.size.width, len(self.rows) + 1)
        top = self.scroll_offset.y
        if self.cursor < top:
            self.scroll_to(y=self.cursor, animate=False, force=True)
        elif self.cursor >= top + self._visible:
            self.scroll_to(y=self.cursor - self._visible + 1, animate=False, force=True)
        self._want()
        self.refresh()

    def _want(self) -> None:
        if self._is_waiting or not self.rows:
            return
        if self.has_older and max(self.cursor, self.scroll_offset.y + self._visible) > len(self.rows) - _MARGIN:
            self._is_waiting = True
            self.post_message(self.Wanted(is_older=True))
        elif self.has_newer and self.scroll_offset.y < _MARGIN:
            self._is_waiting = True
            self.post_message(self.Wanted(is_older=False))

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        """Fetches more when the wheel nears an edge."""
        super().watch_scroll_y(old_value, new_value)
        self._want()

    def on_resize(self) -> None:
        """Keeps the cursor in sight."""
        self._settle()

    def on_click(self, event: events.Click) -> None:
        """A click moves the cursor; a click on the cursor opens."""
        at = self.scroll_offset.y + event.y - 1
        if event.y < 1 or at >= len(self.rows):
            return
        if at == self.cursor:
            self.post_message(self.Opened())
        self.move(at - self.cursor)

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        """The wheel moves the cursor, so that it pauses following as keys do."""
        event.prevent_default().stop()
        self.move(_WHEEL)

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        """As down."""
        event.prevent_default().stop()
        self.move(-_WHEEL)

    def render_line(self, y: int) -> Strip:
        """The head on top, then the rows from the scroll position on; every strip fills the width."""
        width = self.size.width
        columns = self._columns(width)
        if y == 0:
            return Strip([Segment(head(columns, width), self.get_component_rich_style("virtual-table--head"))], width)
        index = self.scroll_offset.y + y - 1
        if index >= len(self.rows):
            return Strip([Segment(" " * width, self.rich_style)], width)
        row = self.rows[index]
        style = self.rich_style
        if self._is_failed(row):
            style += self.get_component_rich_style("virtual-table--failed", partial=True)
        if index == self.cursor:
            style += self.get_component_rich_style("virtual-table--cursor", partial=True)
        mark = CURSOR_MARK if index == self.cursor else " "
        return Strip([Segment(mark + line(columns, [column.cell(row) for column in columns], width - 1), style)], width)


def head(columns: Sequence[Column[T]], width: int) -> str:
    """The titles over the columns, in exactly `width` cells."""
    return " " + line(columns, [column.title for column in columns], width - 1)


def line(columns: Sequence[Column[T]], cells: Sequence[str], width: int) -> str:
    """`cells` laid out in `columns`, in exactly `width` cells."""
    rest = max(width - sum(column.width for column in columns) - len(columns) + 1, 0)
    laid = [pad(cell, column.width or rest, column.is_right) for column, cell in zip(columns, cells, strict=True)]
    return fit(" ".join(laid), width)
