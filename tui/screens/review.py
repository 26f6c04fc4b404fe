"""Review: one card, one key. The verdict is on its way to the store while the next card, already loaded, is drawn.

Verdicts are written in the order of their keys. Should one not be written, a toast says why and the pile is read anew.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from textual.app import ComposeResult
from textual.containers import Vertical
from textual.screen import Screen
from textual.widgets import Static

from capture import clock
from tui import actions, reading
from tui.actions import REVIEW, TRAFFIC, State
from tui.background import in_thread
from tui.desk import Desk
from tui.reading import Pile
from tui.screens import review_cards
from tui.screens.overlays import EditScreen
from tui.text import fit, one_line
from tui.widgets.footer import Footer
from tui.widgets.header import Header
from tui.widgets.text_view import TextView

if TYPE_CHECKING:
    from curate.review import Review, ReviewCard

_LOADED = 100
_TALL = 20
_REFILL_BELOW = 30
_PAST = {"accept": "accepted", "reject": "rejected", "edit": "edited", "skip": "skipped"}


@dataclass(frozen=True, slots=True)
class _Given:
    card: ReviewCard
    verdict: str
    at_us: int


class ReviewScreen(Screen[None], inherit_bindings=False):
    """The pile of the task in focus."""

    BINDINGS = actions.bindings(REVIEW)  # type: ignore[assignment]

    def __init__(self, desk: Desk) -> None:
        super().__init__()
        self._desk = desk
        self._pile = Pile()
        self._cards: deque[ReviewCard] = deque()
        self._given: list[_Given] = []
        self._targets: tuple[str, ...] = ()
        self._waiting = 0
        self._counts: dict[str, int] = {}
        self._is_whole = False
        self._is_loaded = False
        self._shown: tuple[str, bool] | None = None

    def compose(self) -> ComposeResult:
        """Header, progress, prompt, target, targets, last verdict, speed, footer."""
        yield Header(REVIEW, self._desk)
        with Vertical(id="review-body"):
            yield Static("", id="progress", markup=False)
            yield TextView(id="card")
            yield Static("", id="output-rule", markup=False)
            yield TextView(id="output")
            yield Static("", id="why", markup=False)
            yield Static("", id="targets", markup=False)
            yield Static("", id="last", markup=False)
            yield Static("", id="speed", markup=False)
        yield Static("", id="empty", markup=False)
        yield Footer(REVIEW)

    def on_screen_resume(self) -> None:
        """Shows the task in focus; one without examples leaves the pile as it is."""
        if not self._is_loaded or not self._cards or self._desk.task != self._pile.task:
            self._load(self._desk.task, self._pile.task)

    def on_resize(self) -> None:
        """Lays the lines out for the new width."""
        self._draw()

    def state(self) -> State:
        """What the actions need to know."""
        return State(
            screen=REVIEW,
            is_read_only=self._desk.is_read_only,
            task=self._pile.task,
            exchange_id=self._cards[0].exchange_id if self._cards else "",
            rows=len(self._cards),
            targets=len(self._targets),
            has_card=bool(self._cards),
            has_verdict=bool(self._given),
            tasks=len(self._pile.tasks),
        )

    def handlers(self) -> Mapping[str, Callable[[], None]]:
        """What each action of this screen does."""
        prompt = self.query_one("#card", TextView)
        half = max(prompt.size.height // 2, 1)
        return {
            "list.down": lambda: prompt.move(1),
            "list.up": lambda: prompt.move(-1),
            "list.page_down": lambda: prompt.move(half),
            "list.page_up": lambda: prompt.move(-half),
            "list.top": lambda: prompt.move(-prompt.virtual_size.height),
            "list.bottom": lambda: prompt.move(prompt.virtual_size.height),
            "review.accept": lambda: self._give("accept"),
            "review.reject": lambda: self._give("reject"),
            "review.skip": lambda: self._give("skip"),
            "review.edit": self._edit,
            "review.undo": self._undo,
            "review.expand": self._expand,
            **{f"review.pick{place}": partial(self._pick, place) for place in range(1, 10)},
            "task.next": self._next_task,
            "app.back": self._leave,
        }

    def store_changed(self) -> None:
        """Reads the pile when there is none: a dataset version may have been built meanwhile."""
        if not self._cards:
            self._load(self._pile.task, self._desk.task)

    def _load(self, *wanted: str) -> None:
        """Reads the pile of the first of these tasks that has one, after all verdicts given so far are written."""
        work = partial(reading.pile, self._desk.database, wanted, _LOADED)
        in_thread(self, "pile", work, self._loaded, lock=self._desk.writes)

    def _loaded(self, pile: Pile) -> None:
        if pile.task != self._pile.task or not self._is_loaded:
            self._given.clear()
            self._cards.clear()
            self._targets = review_cards.frequent_targets(card.target for card in pile.cards)
        self._pile, self._is_loaded = pile, True
        known = {card.exchange_id for card in self._cards} | {given.card.exchange_id for given in self._given}
        self._cards.extend(card for card in pile.cards if card.exchange_id not in known)
        if pile.progress is not None and not self._given:
            self._waiting = pile.progress.waiting
            progress = pile.progress
            self._counts = {
                "accept": progress.accepted, "reject": progress.rejected, "edit": progress.edited, "skip": progress.skipped,
            }  # fmt: skip
        self._desk.task = self._desk.task or pile.task
        self._draw()

    def _give(self, verdict: str, target: str = "") -> None:
        card = self._cards.popleft()
        self._given.append(_Given(card, verdict, clock.now_us()))
        self._waiting -= 1
        self._counts[verdict] = self._counts.get(verdict, 0) + 1
        self._is_whole = False
        self._draw()

        def work() -> Review:
            from curate import review

            return review.record(
                self._desk.database, card.task, card.exchange_id, verdict, target=target, reviewer=self._desk.who
            )

        in_thread(self, "verdicts", work, lambda _: None, failed=self._start_anew, lock=self._desk.writes)
        if len(self._cards) < _REFILL_BELOW and self._waiting > len(self._cards):
            self._load(card.task)

    def _start_anew(self) -> None:
        self._is_loaded = False
        self._load(self._pile.task)

    def _undo(self) -> None:
        given = self._given.pop()
        self._cards.appendleft(given.card)
        self._waiting += 1
        self._counts[given.verdict] -= 1
        self._draw()

        def work() -> Review | None:
            from curate import review

            return review.undo(self._desk.database, given.card.task, self._desk.who)

        in_thread(self, "verdicts", work, lambda _: None, failed=self._start_anew, lock=self._desk.writes)

    def _pick(self, place: int) -> None:
        target = self._targets[place - 1]
        if target == self._cards[0].target:
            self._give("accept")
        else:
            self._give("edit", target)

    def _edit(self) -> None:
        card = self._cards[0]

        def edited(target: str | None) -> None:
            if target is not None and self._cards and self._cards[0] is card:
                if target == card.target:
                    self._give("accept")
                else:
                    self._give("edit", target)

        self.app.push_screen(EditScreen(card.target, _as_target), edited)

    def _expand(self) -> None:
        self._is_whole = not self._is_whole
        self._draw()

    def _leave(self) -> None:
        self.app.switch_mode(TRAFFIC)

    def _next_task(self) -> None:
        tasks = self._pile.tasks
        self._desk.task = tasks[(tasks.index(self._pile.task) + 1) % len(tasks)]
        self._load(self._desk.task)

    def _draw(self) -> None:
        self._desk.waiting = self._waiting if self._pile.task else None
        self.query_one(Header).update_line()
        self.set_class(self._is_loaded and not self._cards, "-empty")
        width = self.size.width
        if not width or not self._is_loaded:
            return
        if not self._cards:
            self.query_one("#empty", Static).update("\n".join(f" {line}" for line in self._empty_lines()))
            return
        card = self._cards[0]
        if self._shown != (card.exchange_id, self._is_whole):
            self._shown = (card.exchange_id, self._is_whole)
            self.query_one("#card", TextView).show_blocks(review_cards.prompt_blocks(card.messages, is_whole=self._is_whole))
            self.query_one("#output", TextView).show(card.target)
        where = f"dropped by the last build: {card.reason}" if card.reason else f"in split {card.split}"
        lines = {
            "#progress": review_cards.progress_line(card.task, sum(self._counts.values()), self._waiting, width),
            "#output-rule": f" -- target, {one_line(where, max(width - 16, 8))} " + "-" * width,
            "#why": f" why      {one_line(card.note, width - 11)}" if card.note else "",
            "#targets": "\n".join(self._target_lines(width)),
            "#last": self._last_line(),
            "#speed": review_cards.speed_line([given.at_us for given in self._given], self._waiting),
        }
        for selector, line in lines.items():
            shown = self.query_one(selector, Static)
            shown.display = bool(line)
            shown.update(fit(line, width, ends="-") if selector == "#output-rule" else line)

    def _target_lines(self, width: int) -> list[str]:
        if not self._targets:
            return []
        if self.size.height < _TALL:
            return review_cards.targets_lines(self._targets, width, 1)
        return [" digits give a target, esc leaves:", *review_cards.targets_lines(self._targets, width, 3)]

    def _last_line(self) -> str:
        if not self._given:
            return f" reviewing as {one_line(self._desk.who, 30)}"
        last = self._given[-1]
        return f" last: {_PAST[last.verdict]} {last.card.exchange_id}   [u] takes it back"

    def _empty_lines(self) -> list[str]:
        task = one_line(self._pile.task, 40)
        if not task:
            return [
                "No example waits: no task has a dataset version yet.", "",
                "  potstill tasks                the tasks of your traffic",
                "  potstill dataset build TASK   drafts examples, and they come here", "",
                "Meanwhile: [1] traffic",
            ]  # fmt: skip
        counts = ", ".join(f"{n:,} {_PAST[verdict]}" for verdict, n in self._counts.items() if n) or "no verdict yet"
        lines = [
            f"Nothing waits in {task}: {counts}.",
            "",
            f"  potstill dataset build {task}   freezes the next version with these verdicts",
        ]
        lines += ["", "[u] takes the last verdict back"] if self._given else []
        return lines + (["[n] next task"] if len(self._pile.tasks) > 1 else [])


def _as_target(text: str) -> str | None:
    return None if text.strip() else "A target cannot be empty; reject the example instead."
