"""One exchange, whole: facts, messages, answer and headers, to read and to copy."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from textual.app import ComposeResult
from textual.screen import Screen
from textual.widgets import Static

from capture.exchange import Exchange
from tui import actions, reading
from tui.actions import OPENED, TRAFFIC, State
from tui.background import in_thread
from tui.clipboard import copy
from tui.desk import Desk
from tui.reading import Detail
from tui.screens import traffic_rows
from tui.screens.judging import judging
from tui.widgets.footer import Footer
from tui.widgets.header import Header
from tui.widgets.text_view import TextView


class OpenedScreen(Screen[None], inherit_bindings=False):
    """Stands above Traffic until `esc`."""

    BINDINGS = actions.bindings(OPENED)  # type: ignore[assignment]

    def __init__(self, desk: Desk, exchange: Exchange) -> None:
        super().__init__()
        self._desk = desk
        self._exchange = exchange
        self._text = ""

    def compose(self) -> ComposeResult:
        """Header, the text, footer."""
        yield Header(TRAFFIC, self._desk)
        yield Static(f" exchange {self._exchange.id}   [esc] back", id="title", markup=False)
        yield TextView()
        yield Footer(OPENED)

    def on_mount(self) -> None:
        """Reads the conversation and the feedback."""
        self._read()

    def _read(self) -> None:
        in_thread(
            self, "detail", lambda: reading.detail(self._desk.database, self._exchange), self._show,
            failed=lambda: self._show(Detail()),
        )  # fmt: skip

    def _show(self, detail: Detail) -> None:
        text = traffic_rows.whole(self._exchange, detail)
        if text != self._text:
            self.query_one(TextView).show(text, keep_place=bool(self._text))
            self._text = text

    def state(self) -> State:
        """What the actions need to know."""
        return State(OPENED, self._desk.is_read_only, self._desk.task, self._exchange.id, rows=1)

    def handlers(self) -> Mapping[str, Callable[[], None]]:
        """What each action of this screen does."""
        view = self.query_one(TextView)
        half = max(view.size.height // 2, 1)
        return {
            "list.down": lambda: view.move(1),
            "list.up": lambda: view.move(-1),
            "list.page_down": lambda: view.move(half),
            "list.page_up": lambda: view.move(-half),
            "list.top": lambda: view.move(-len(self._text)),
            "list.bottom": lambda: view.move(len(self._text)),
            "exchange.copy": lambda: copy(self.app, f"exchange {self._exchange.id}", self._text),
            "app.back": self._leave,
            **judging(self, self._desk, lambda: self._exchange.id, self._read),
        }

    def _leave(self) -> None:
        self.app.pop_screen()

    def store_changed(self) -> None:
        """Reads the feedback anew; the exchange itself never changes."""
        self._read()
