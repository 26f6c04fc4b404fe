"""Tasks, Datasets and Runs: named in the header, said plainly to follow, with the command that does it today."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from textual.app import ComposeResult
from textual.screen import Screen
from textual.widgets import Static

from tui import actions
from tui.actions import DATASETS, RUNS, TASKS, TRAFFIC, State
from tui.desk import Desk
from tui.widgets.footer import Footer
from tui.widgets.header import Header

_WORDS = {
    TASKS: (
        "the tasks of your traffic, what they cost and how far each has come",
        ("potstill tasks", "potstill exchanges list task:NAME"),
    ),
    DATASETS: (
        "frozen dataset versions, what changed between them and who uses them",
        ("potstill dataset list", "potstill dataset build TASK", "potstill dataset show TASK"),
    ),
    RUNS: (
        "runs with their curves, evaluations and logs",
        ("potstill runs list", "potstill train TASK"),
    ),
}


class ComingScreen(Screen[None], inherit_bindings=False):
    """A screen that follows in a later version."""

    def __init__(self, desk: Desk, name: str) -> None:
        super().__init__()
        self._desk = desk
        self._name_of_screen = name
        for binding in actions.bindings(name):
            self._bindings.bind(binding.key, binding.action, binding.description, show=False)

    def compose(self) -> ComposeResult:
        """Header, what will be here, what to do today, footer."""
        what, commands = _WORDS[self._name_of_screen]
        lines = [f" {self._name_of_screen.title()} follows: {what}.", "", " Until then the command line does it:", ""]
        yield Header(self._name_of_screen, self._desk)
        yield Static("\n".join(lines + [f"   {command}" for command in commands]), id="coming", markup=False)
        yield Footer(self._name_of_screen)

    def state(self) -> State:
        """What the actions need to know."""
        return State(self._name_of_screen, self._desk.is_read_only, self._desk.task)

    def handlers(self) -> Mapping[str, Callable[[], None]]:
        """Back is to Traffic."""
        return {"app.back": self._leave}

    def _leave(self) -> None:
        self.app.switch_mode(TRAFFIC)

    def store_changed(self) -> None:
        """Shows nothing that could change."""
