"""The terminal interface: six screens that keep their place, one action registry, one task in focus.

The event loop never waits for the store: reads and writes run in threads, and a poll of the store's revision tells the
screen in front when something has changed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, ClassVar, Protocol, runtime_checkable

from textual.app import App

from capture import feed
from capture.capture_settings import CaptureSettings
from capture.database import Database, open_database
from capture.person import who_am_i
from capture.pseudonyms import PersonalPolicy, read_policy
from capture.settings import Settings
from tui import actions
from tui.actions import DATASETS, REVIEW, ROLLOUT, RUNS, SCREENS, TASKS, TRAFFIC, State
from tui.background import in_thread
from tui.desk import Desk
from tui.palette import ActionProvider
from tui.screens.coming import ComingScreen
from tui.screens.overlays import CommandScreen, HelpScreen
from tui.screens.review import ReviewScreen
from tui.screens.rollout import RolloutScreen
from tui.screens.traffic import TrafficScreen
from tui.theme import DARK, LIGHT
from tui.widgets.header import Header

POLL_EVERY_S = 0.2


@runtime_checkable
class Working(Protocol):
    """What every screen of the app offers to it."""

    def state(self) -> State:
        """What the actions need to know."""

    def handlers(self) -> Mapping[str, Callable[[], None]]:
        """What each action of this screen does, by action id."""

    def store_changed(self) -> None:
        """The store has a new revision."""


class PotstillApp(App[None]):
    """`potstill tui`. The desk's store stays open after it."""

    CSS_PATH = "potstill.tcss"
    TITLE = "Potstill"
    DEFAULT_MODE = TRAFFIC
    COMMANDS: ClassVar[set[Any]] = {ActionProvider}
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (78, "-normal"), (120, "-wide")]  # noqa: RUF012  Textual declares it
    VERTICAL_BREAKPOINTS = [(0, "-short"), (20, "-tall")]  # noqa: RUF012

    def __init__(self, desk: Desk) -> None:
        super().__init__()
        self.desk = desk
        self._revision: int | None = None
        self._is_polling = False

        for theme in (DARK, LIGHT):
            self.register_theme(theme)
        for name in (TASKS, DATASETS, RUNS):
            self.add_mode(name, partial(ComingScreen, desk, name))
        self.add_mode(TRAFFIC, partial(TrafficScreen, desk))
        self.add_mode(REVIEW, partial(ReviewScreen, desk))
        self.add_mode(ROLLOUT, partial(RolloutScreen, desk))

    def on_mount(self) -> None:
        """Begins to watch the store; the theme is ours unless the environment names another."""
        if "TEXTUAL_THEME" not in os.environ:
            self.theme = DARK.name
        self.poll()
        self.set_interval(POLL_EVERY_S, self.poll)

    def poll(self) -> None:
        """Asks the store for its revision, unless the last question is still open."""
        if self._is_polling:
            return
        self._is_polling = True
        in_thread(self, "poll", lambda: feed.revision(self.desk.database), self._polled, failed=self._poll_failed)

    def _polled(self, revision: int) -> None:
        self._is_polling = False
        is_new = revision != self._revision
        self._revision = revision
        if is_new and isinstance(self.screen, Working):
            self.screen.store_changed()

    def _poll_failed(self) -> None:
        self._is_polling = False

    def action_perform(self, action_id: str) -> None:
        """Does the action on the screen in front, or says why that is not possible."""
        screen = self.screen
        if not isinstance(screen, Working):
            return
        action = actions.by_id(action_id)
        if reason := action.unavailable(screen.state()):
            self.notify(reason, severity="warning", markup=False)
            return
        {**self._handlers(), **screen.handlers()}[action_id]()

    def action_perform_digit(self, digit: int) -> None:
        """A digit in Review: a frequent target while a card is shown, else a screen."""
        if isinstance(self.screen, Working) and (action := actions.for_digit(digit, self.screen.state())) is not None:
            self.action_perform(action.id)

    def perform_from_palette(self, action_id: str) -> None:
        """Does the action when it belongs to the screen in front; else goes to its screen and names its key."""
        action = actions.by_id(action_id)
        here = self.screen.state().screen if isinstance(self.screen, Working) else ""
        if here in action.screens:
            self.action_perform(action_id)
            return
        there = next(name for name in action.screens if name in SCREENS)
        self._go(there)
        self.notify(f"{action.label}: {actions.shown_keys(action)} does it here.", markup=False)

    def action_command_palette(self) -> None:
        """Opens the palette above a screen of ours, not above an overlay."""
        if isinstance(self.screen, Working):
            super().action_command_palette()

    def _handlers(self) -> Mapping[str, Callable[[], None]]:
        return {
            **{f"go.{name}": partial(self._go, name) for name in SCREENS},
            "go.next": lambda: self._step(1),
            "go.previous": lambda: self._step(-1),
            "app.command": self._show_command,
            "app.help": self._show_help,
            "app.palette": self.action_command_palette,
            "app.quit": self.exit,
        }

    def _go(self, name: str) -> None:
        if name != self.current_mode:
            self.switch_mode(name)
        elif len(self.screen_stack) > 1:
            self.pop_screen()

    def _step(self, by: int) -> None:
        self._go(SCREENS[(SCREENS.index(self.current_mode) + by) % len(SCREENS)])

    def _show_command(self) -> None:
        if isinstance(self.screen, Working):
            self.push_screen(CommandScreen(self.screen.state()))

    def _show_help(self) -> None:
        if isinstance(self.screen, Working):
            name = self.screen.state().screen
            self.push_screen(HelpScreen(name))

    def update_headers(self) -> None:
        """Draws the top line of the screen in front anew."""
        for header in self.screen.query(Header):
            header.update_line()


def make_desk(settings: Settings, database: Database, *, read_only: bool = False) -> Desk:
    """What the screens share, from the settings and an open store; SettingsError when pseudonyms lack their key."""
    relay = settings.sections.get("relay", {})
    host, port = relay.get("host", "127.0.0.1"), relay.get("port", 8484)
    return Desk(
        database=database,
        who=who_am_i(),
        relay_url=f"http://{'127.0.0.1' if host in ('0.0.0.0', '::') else host}:{port}",
        spool_folder=settings.data_folder / "spool",
        is_read_only=read_only,
        personal=PersonalPolicy() if read_only else read_policy(settings.section("capture", CaptureSettings), os.environ),
    )


def run(settings: Settings, read_only: bool = False) -> None:
    """Opens the store and shows the interface until the person leaves; StoreError when it cannot be opened."""
    database = open_database(settings.database_url)
    try:
        PotstillApp(make_desk(settings, database, read_only=read_only)).run()
    finally:
        database.close()
