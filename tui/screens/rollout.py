"""Rollout: one task's flag, its comparison, and the way back.

A share is staged first and asked about once before it is in force; giving everything back to the baseline is the safe
direction and happens at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from textual.app import ComposeResult
from textual.screen import Screen
from textual.widgets import Static

from capture import clock
from tui import actions, reading
from tui.actions import ROLLOUT, TRAFFIC, State
from tui.background import in_thread
from tui.desk import Desk
from tui.reading import Rollout
from tui.screens.overlays import ConfirmScreen
from tui.screens.rollout_table import empty_lines, rollout_lines
from tui.widgets.footer import Footer
from tui.widgets.header import Header
from tui.widgets.text_view import TextView
from tui.words import share

if TYPE_CHECKING:
    from serve.experiments import Comparison

_STEP_BP, _LARGE_STEP_BP, _WHOLE_BP = 100, 1_000, 10_000
_COMPARE_EVERY_US = 5_000_000


class RolloutScreen(Screen[None], inherit_bindings=False):
    """The flag of the task in focus."""

    BINDINGS = actions.bindings(ROLLOUT)  # type: ignore[assignment]

    def __init__(self, desk: Desk) -> None:
        super().__init__()
        self._desk = desk
        self._view = Rollout()
        self._staged_bp: int | None = None
        self._compared_us = 0
        self._is_loaded = False

    def compose(self) -> ComposeResult:
        """Header, the lines, the empty state, footer."""
        yield Header(ROLLOUT, self._desk)
        yield TextView(id="rollout", indent="")
        yield Static("\n".join(f" {line}" for line in empty_lines()), id="empty", markup=False)
        yield Footer(ROLLOUT)

    def on_screen_resume(self) -> None:
        """Shows the task in focus as it stands now."""
        self._load(self._desk.task, self._view.task)

    def on_resize(self) -> None:
        """Lays the lines out for the new width."""
        self._draw()

    def state(self) -> State:
        """What the actions need to know."""
        view = self._view
        return State(
            screen=ROLLOUT,
            is_read_only=self._desk.is_read_only,
            task=view.task,
            rows=1,
            has_release=view.candidate is not None,
            tasks=len(view.tasks),
            share_bp=view.share_bp,
            staged_bp=self._staged,
        )

    def handlers(self) -> Mapping[str, Callable[[], None]]:
        """What each action of this screen does."""
        lines = self.query_one("#rollout", TextView)
        half = max(lines.size.height // 2, 1)
        return {
            "list.down": lambda: self._choose(1),
            "list.up": lambda: self._choose(-1),
            "task.next": lambda: self._choose(1),
            "list.page_down": lambda: lines.move(half),
            "list.page_up": lambda: lines.move(-half),
            "list.top": lambda: lines.move(-len(self._view.history) - 100),
            "list.bottom": lambda: lines.move(len(self._view.history) + 100),
            "share.less": lambda: self._stage(-_STEP_BP),
            "share.more": lambda: self._stage(_STEP_BP),
            "share.much_less": lambda: self._stage(-_LARGE_STEP_BP),
            "share.much_more": lambda: self._stage(_LARGE_STEP_BP),
            "share.apply": self._ask,
            "share.rollback": self._roll_back,
            "app.back": self._drop,
        }

    def store_changed(self) -> None:
        """Reads flag and releases anew; the comparison at most every five seconds."""
        self._load(self._view.task, self._desk.task)

    @property
    def _staged(self) -> int:
        return self._view.share_bp if self._staged_bp is None else self._staged_bp

    def _load(self, *wanted: str) -> None:
        in_thread(self, "rollout", partial(reading.rollout, self._desk.database, wanted), self._loaded)

    def _loaded(self, view: Rollout) -> None:
        is_same = (view.task, view.revision) == (self._view.task, self._view.revision)
        if view.task != self._view.task:
            self._staged_bp = None
        self._view = replace(view, comparison=self._view.comparison if view.task == self._view.task else None)
        self._is_loaded = True
        self._draw(keep_place=is_same)
        if view.history and (not is_same or clock.now_us() - self._compared_us >= _COMPARE_EVERY_US):
            self._compared_us = clock.now_us()
            in_thread(self, "comparison", lambda: (view.task, reading.comparison(self._desk.database, view.task)), self._compared)

    def _compared(self, found: tuple[str, Comparison | None]) -> None:
        task, comparison = found
        if task == self._view.task:
            self._view = replace(self._view, comparison=comparison)
            self._draw(keep_place=True)

    def _draw(self, *, keep_place: bool = False) -> None:
        self.set_class(self._is_loaded and not self._view.tasks, "-empty")
        if self._view.task and self.size.width:
            lines = rollout_lines(self._view, self._staged, self.size.width, clock.now_us())
            self.query_one("#rollout", TextView).show("\n".join(lines), keep_place=keep_place)

    def _choose(self, by: int) -> None:
        tasks = self._view.tasks
        if len(tasks) > 1:
            self._desk.task = tasks[(tasks.index(self._view.task) + by) % len(tasks)]
            self._load(self._desk.task)

    def _stage(self, by_bp: int) -> None:
        self._staged_bp = max(0, min(self._staged + by_bp, _WHOLE_BP))
        self._draw(keep_place=True)

    def _drop(self) -> None:
        if self._staged_bp is None:
            self.app.switch_mode(TRAFFIC)
        self._staged_bp = None
        self._draw(keep_place=True)

    def _ask(self) -> None:
        view, staged_bp = self._view, self._staged
        if view.candidate is None:
            return
        release = view.candidate
        question = f"{view.task}: share of {release.name} {share(view.share_bp)} -> {share(staged_bp)}?"

        def answered(is_yes: bool | None) -> None:
            if is_yes:
                self._apply(view.task, release.number, view.share_bp, staged_bp)

        self.app.push_screen(ConfirmScreen(question), answered)

    def _apply(self, task: str, release: int, old_bp: int, new_bp: int) -> None:
        unit = self._view.unit

        def work() -> None:
            from serve import flag_store, flags

            flag_store.set_share(
                self._desk.database,
                task,
                new_bp,
                release=release,
                unit=unit or flags.AUTO,
                who=self._desk.who,
                why="set in the terminal interface",
            )

        self._change(work, f"{task}: {share(old_bp)} -> {share(new_bp)} is in force.")

    def _roll_back(self) -> None:
        task, old_bp = self._view.task, self._view.share_bp

        def work() -> None:
            from serve import flag_store

            flag_store.rollback(self._desk.database, task, who=self._desk.who, why="rollback in the terminal interface")

        self._change(work, f"{task}: rolled back, {share(old_bp)} -> 0%. The baseline answers everything.")

    def _change(self, work: Callable[[], None], said: str) -> None:
        def done(_: None) -> None:
            self._staged_bp = None
            self.app.notify(said, markup=False)
            self._load(self._view.task)

        in_thread(self, "change", work, done, lock=self._desk.writes)
