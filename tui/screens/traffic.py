"""Traffic: every exchange as it is stored, newest on top, with its detail, a filter and the health of capture.

While it follows, the newest is on top; moving the cursor pauses it, and nothing shifts under the cursor until `f`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from textual.app import ComposeResult
from textual.containers import Container
from textual.screen import Screen
from textual.widgets import Static

from capture import clock, feed
from capture.errors import PotstillError
from capture.exchange import Exchange
from capture.filters import Filter, parse_filter
from capture.health import Health, read_health
from tui import actions, reading
from tui.actions import TRAFFIC, State
from tui.background import in_thread
from tui.clipboard import copy
from tui.desk import Desk
from tui.reading import Detail
from tui.screens import traffic_rows
from tui.screens.judging import judging
from tui.screens.opened import OpenedScreen
from tui.text import one_line
from tui.widgets.filter_bar import FilterBar
from tui.widgets.footer import Footer
from tui.widgets.header import Header
from tui.widgets.virtual_table import PAGE, VirtualTable

_COUNT_CAP = 10_000
_NEWER_AT_ONCE = 1_000
_TYPING_PAUSE_S = 0.12
_HEALTH_EVERY_S = 1.0


class TrafficScreen(Screen[None], inherit_bindings=False):
    """The screen people live in."""

    BINDINGS = actions.bindings(TRAFFIC)  # type: ignore[assignment]

    def __init__(self, desk: Desk) -> None:
        super().__init__()
        self._desk = desk
        self._filter: Filter = parse_filter("")
        self._is_following = True
        self._newer = 0
        self._newest_counted = 0
        self._health: Health | None = None
        self._shown: tuple[Exchange, Detail] | None = None

    def compose(self) -> ComposeResult:
        """Header, filter, list and detail, health, footer."""
        yield Header(TRAFFIC, self._desk)
        yield FilterBar()
        with Container(id="traffic-body"):
            yield Static("", id="empty", markup=False)
            yield VirtualTable[Exchange](traffic_rows.columns, is_failed=lambda exchange: not exchange.is_success, id="exchanges")
            yield Static("", id="detail", markup=False)
        yield Static("", id="health", markup=False)
        yield Footer(TRAFFIC)

    def on_mount(self) -> None:
        """Reads the first page, and health from now on."""
        self._load_newest()
        self._count()
        self._read_health()
        self.set_interval(_HEALTH_EVERY_S, self._read_health)

    def state(self) -> State:
        """What the actions need to know."""
        row = self._table.row
        return State(
            screen=TRAFFIC,
            is_read_only=self._desk.is_read_only,
            task=self._desk.task,
            exchange_id=row.id if row else "",
            filter=self._bar.text,
            rows=len(self._table.rows),
        )

    def handlers(self) -> Mapping[str, Callable[[], None]]:
        """What each action of this screen does."""
        table = self._table
        return {
            "list.down": lambda: table.move(1),
            "list.up": lambda: table.move(-1),
            "list.page_down": lambda: table.move(table.half_page()),
            "list.page_up": lambda: table.move(-table.half_page()),
            "list.top": self._go_top,
            "list.bottom": self._go_bottom,
            "exchange.open": self._open,
            "list.filter": self._bar.edit,
            "list.follow": self._follow_or_pause,
            "exchange.copy": self._copy,
            "app.back": self._back,
            **judging(self, self._desk, lambda: self.state().exchange_id, self._read_detail),
        }

    def store_changed(self) -> None:
        """Follows, or counts what is newer."""
        if self._is_following:
            self._load_newest()
        else:
            self._count_newer()
            self._read_detail()
        self._count()

    @property
    def _table(self) -> VirtualTable[Exchange]:
        return self.query_one("#exchanges", VirtualTable)

    @property
    def _bar(self) -> FilterBar:
        return self.query_one(FilterBar)

    def _load_newest(self, delay_s: float = 0.0) -> None:
        chosen = self._filter = parse_filter(self._filter.text)  # anew, so that `since:1h` moves on

        def done(rows: list[Exchange]) -> None:
            self._newer = 0
            self._newest_counted = rows[0].number if rows else 0
            self._table.show(rows, has_older=len(rows) == PAGE)
            self._say_empty()
            self._draw_health()

        in_thread(self, "list", lambda: feed.page(self._desk.database, chosen, limit=PAGE), done, delay_s=delay_s)

    def _count_newer(self) -> None:
        chosen, last = self._filter, self._newest_counted

        def done(rows: list[Exchange]) -> None:
            if rows and last == self._newest_counted:
                self._newer += len(rows)
                self._newest_counted = rows[-1].number
                self._table.has_newer = True
                self._draw_health()

        in_thread(self, "newer", lambda: feed.after(self._desk.database, chosen, after=last, limit=_NEWER_AT_ONCE), done)

    def _count(self, delay_s: float = 0.0) -> None:
        chosen, text = self._filter, self._filter.text

        def done(found: int) -> None:
            self._bar.say(f"{found:,}{'+' if found >= _COUNT_CAP else ''}{' match' if text else ''}")

        in_thread(self, "count", lambda: feed.count(self._desk.database, chosen, cap=_COUNT_CAP), done, delay_s=delay_s)

    def _read_health(self) -> None:
        def done(health: Health) -> None:
            self._health = health
            self._draw_health()

        in_thread(
            self,
            "health",
            lambda: read_health(self._desk.database, self._desk.spool_folder, now_us=clock.now_us()),
            done,
        )

    def _draw_health(self) -> None:
        width = self.size.width
        line = traffic_rows.health_line(self._health, is_following=self._is_following, newer=self._newer, width=width)
        self.query_one("#health", Static).update(line)

    def _say_empty(self) -> None:
        is_empty = not self._table.rows
        self.set_class(is_empty, "-empty")
        if is_empty and self._filter.text:
            words = " No exchange matches this filter.\n\n [esc] clears it   [/] changes it"
        elif is_empty:
            words = (
                " Nothing captured yet.\n\n Start the relay with `potstill up`, then point a client here:\n\n"
                f"   {self._base_url_line()}\n\n [y] copies that line   `potstill demo` shows the whole loop without a key"
            )
        else:
            words = ""
        self.query_one("#empty", Static).update(words)

    def _base_url_line(self) -> str:
        return f"OPENAI_BASE_URL={self._desk.relay_url}/v1"

    def on_virtual_table_wanted(self, event: VirtualTable.Wanted) -> None:
        """Fetches the next page beyond an edge of the list."""
        table, chosen, rows = self._table, self._filter, self._table.rows
        if event.is_older:
            last = rows[-1].number

            def add_older(found: list[Exchange]) -> None:
                if table.rows and table.rows[-1].number == last:
                    table.add_older(found, has_older=len(found) == PAGE)

            work = partial(feed.page, self._desk.database, chosen, before=last, limit=PAGE)
            in_thread(self, "list", work, add_older, failed=table.give_up)
        elif not self._is_following:
            first = rows[0].number

            def add_newer(found: list[Exchange]) -> None:
                if table.rows and table.rows[0].number == first:
                    self._newer = max(self._newer - len(found), 0)
                    table.add_newer(found[::-1], has_newer=len(found) == PAGE)
                    self._draw_health()

            work = partial(feed.after, self._desk.database, chosen, after=first, limit=PAGE)
            in_thread(self, "list", work, add_newer, failed=table.give_up)

    def on_virtual_table_moved(self, event: VirtualTable.Moved) -> None:
        """Shows the exchange under the cursor; a person's move pauses and takes its task into focus."""
        row = self._table.row
        if event.is_by_hand and row is not None:
            self._is_following = False
            self._desk.task = row.task or self._desk.task
            self._draw_health()
        self._read_detail()

    def _read_detail(self) -> None:
        row = self._table.row
        if row is None or self.query_one("#detail").display is False:
            self._shown = None
            self._draw_detail()
            return

        def done(detail: Detail) -> None:
            self._shown = (row, detail)
            self._draw_detail()

        in_thread(self, "detail", lambda: reading.detail(self._desk.database, row), done, failed=lambda: done(Detail()))

    def on_virtual_table_opened(self) -> None:
        """A click on the cursor opens, as enter does."""
        self._open()

    def on_resize(self) -> None:
        """Lays the lines out for the new width."""
        self.call_after_refresh(self._draw_detail)
        self._draw_health()

    def on_filter_bar_typed(self, event: FilterBar.Typed) -> None:
        """Narrows the list while the filter is typed; one that cannot be read leaves the list as it was."""
        try:
            chosen = parse_filter(event.text)
        except PotstillError as error:
            self._bar.say(one_line(f"! {error.what} {error.next_step}", self.size.width * 6 // 10 - 2))
            return
        if event.is_ready and chosen.text != self._filter.text:
            self._filter = chosen
            self._is_following = True
            self._bar.say("searching")
            self._load_newest(_TYPING_PAUSE_S)
        self._count(_TYPING_PAUSE_S)

    def _draw_detail(self) -> None:
        pane = self.query_one("#detail", Static)
        if self._shown is None or not pane.size.width:
            pane.update("")
            return
        pane.update("\n".join(traffic_rows.detail(*self._shown, pane.size.width, pane.size.height)))

    def _go_top(self) -> None:
        if self._newer or self._table.has_newer:
            self._load_newest()
        else:
            self._table.move(-len(self._table.rows))

    def _go_bottom(self) -> None:
        table, chosen = self._table, self._filter
        if not table.has_older:
            table.move(len(table.rows))
            return
        self._is_following = False

        def done(rows: list[Exchange]) -> None:
            table.show(rows[::-1], has_older=False, has_newer=len(rows) == PAGE, cursor=-1)
            self._draw_health()

        in_thread(self, "list", lambda: feed.after(self._desk.database, chosen, limit=PAGE), done)

    def _follow_or_pause(self) -> None:
        self._is_following = not self._is_following
        if self._is_following:
            self._load_newest()
        self._draw_health()

    def _open(self) -> None:
        if (row := self._table.row) is not None:
            self._is_following = False
            self._draw_health()
            self.app.push_screen(OpenedScreen(self._desk, row))

    def _copy(self) -> None:
        row = self._table.row
        if row is None:
            copy(self.app, "the address for clients", self._base_url_line())
        else:
            copy(self.app, f"the answer of {row.id}", row.output_text)

    def _back(self) -> None:
        if self._bar.is_editing:
            self._bar.leave(is_kept=False)
        elif self._bar.text:
            self._bar.clear()
