"""A scrolling view of captured text: laid out once per width, drawn line by line, and never parsed."""

from __future__ import annotations

from collections.abc import Sequence

from rich.segment import Segment
from textual.binding import Binding
from textual.geometry import Size
from textual.scroll_view import ScrollView
from textual.strip import Strip

from tui.text import fit, wrap

_GUTTER = 10
SCROLLING = (
    Binding("j,down", "scroll(1)", show=False),
    Binding("k,up", "scroll(-1)", show=False),
    Binding("ctrl+d,pagedown,space", "scroll(8)", show=False),
    Binding("ctrl+u,pageup", "scroll(-8)", show=False),
)
"""Keys of screens that show such a text in a window; their `action_scroll` moves it."""


class TextView(ScrollView):
    """Shows a text from its top; keys come through `move`, not through focus."""

    DEFAULT_CSS = "TextView { height: 1fr; overflow-x: hidden; scrollbar-size-vertical: 0; }"

    def __init__(self, *, id: str | None = None, indent: str = " ") -> None:
        super().__init__(id=id)
        self.can_focus = False
        self._blocks: list[tuple[str, str]] = []
        self._indent = indent
        self._lines: list[str] = []

    @property
    def hidden_below(self) -> int:
        """Lines below the last one in sight."""
        return max(len(self._lines) - self.scroll_offset.y - self.size.height, 0)

    def show(self, text: str, *, keep_place: bool = False) -> None:
        """Shows `text` from its top, or from where the old text was scrolled to."""
        self._blocks = [("", text)]
        self._lay_out()
        if not keep_place:
            self.scroll_to(y=0, animate=False, force=True)

    def show_blocks(self, blocks: Sequence[tuple[str, str]]) -> None:
        """Shows texts, each with its name (at most eight cells) in a gutter on the left, from the top."""
        self._blocks = list(blocks)
        self._lay_out()
        self.scroll_to(y=0, animate=False, force=True)

    def move(self, by: int) -> None:
        """Scrolls by so many lines, down when positive."""
        self.scroll_to(y=max(self.scroll_offset.y + by, 0), animate=False, force=True)

    def on_resize(self) -> None:
        """Lays the text out for the new width."""
        self._lay_out()

    def _lay_out(self) -> None:
        self._lines = []
        for name, text in self._blocks if self.size.width else ():
            gutter = _GUTTER if name else 0
            for at, line in enumerate(wrap(text, self.size.width - 2 * len(self._indent) - gutter)):
                self._lines.append(f"{name if at == 0 else '':{gutter}}{line}" if gutter else line)
        self.virtual_size = Size(self.size.width, len(self._lines))
        self.refresh()

    def render_line(self, y: int) -> Strip:
        """The line at `y` of what is in sight, filling the width."""
        at = self.scroll_offset.y + y
        line = self._indent + self._lines[at] if at < len(self._lines) else ""
        return Strip([Segment(fit(line, self.size.width), self.rich_style)], self.size.width)
