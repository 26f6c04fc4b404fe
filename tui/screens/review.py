"""Review: one card, one key. The verdict is on its way to the store while the next card, already loaded, is drawn.

Verdicts are written in the order of their keys. Should one not be written, a toast says why and the pile is read anew.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
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
from tui.reading import AuditPile, Pile
from tui.screens import review_cards
from tui.screens.audit import AuditScreen
from tui.screens.look_alikes import LookAlikesScreen
from tui.screens.overlays import EditScreen
from tui.text import fit, one_line
from tui.widgets.footer import Footer
from tui.widgets.header import Header
from tui.widgets.text_view import TextView

if TYPE_CHECKING:
    from curate.reviewing.review import LookAlikes, Review, ReviewCard

_LOADED = 100
_TALL = 20
_REFILL_BELOW = 30
SECOND_OPINION = 5
"""One in so many of the cards that others judged is shown with second opinions on."""
_PAST = {"accept": "accepted", "reject": "rejected", "edit": "edited", "skip": "skipped"}


@dataclass(frozen=True, slots=True)
class _Given:
    """A verdict on `count` examples: on this card, and for look-alikes on others, of which those in `also` were loaded."""

    card: ReviewCard
    verdict: str
    at_us: int
    count: int = 1
    also: tuple[ReviewCard, ...] = ()


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
        self._second_opinion = 0
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
            alike=self._cards[0].alike if self._cards else 0,
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
            "review.bulk": self._show_look_alikes,
            "review.audit": self._show_audit,
            "review.undo": self._undo,
            "review.expand": self._expand,
            **{f"review.pick{place}": partial(self._pick, place) for place in range(1, 10)},
            "pile.second": self._switch_second_opinions,
            "task.next": self._next_task,
            "app.back": self._leave,
        }

    def store_changed(self) -> None:
        """Reads the pile when there is none: a dataset version may have been built meanwhile."""
        if not self._cards:
            self._load(self._pile.task, self._desk.task)

    def _load(self, *wanted: str) -> None:
        """Reads the pile of the first of these tasks that has one, after all verdicts given so far are written."""
        work = partial(reading.pile, self._desk.database, wanted, _LOADED, self._desk.who, self._second_opinion)
        in_thread(self, "pile", work, self._loaded, lock=self._desk.writes)

    def _loaded(self, pile: Pile) -> None:
        if pile.task != self._pile.task or not self._is_loaded:
            self._given.clear()
            self._cards.clear()
            self._targets = review_cards.frequent_targets(card.target for card in pile.cards)
        self._pile, self._is_loaded = pile, True
        judged = (card for given in self._given for card in (given.card, *given.also))
        known = {card.exchange_id for card in (*self._cards, *judged)}
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
        self._given_to(_Given(card, verdict, clock.now_us()), (card.exchange_id,), target)

    def _given_to(self, given: _Given, exchange_ids: Sequence[str], target: str = "") -> None:
        self._given.append(given)
        self._waiting -= given.count
        self._counts[given.verdict] = self._counts.get(given.verdict, 0) + given.count
        self._is_whole = False
        self._draw()
        task, verdict = given.card.task, given.verdict

        def work() -> list[Review]:
            from curate.reviewing import review

            desk = self._desk
            return review.record_many(
                desk.database, task, exchange_ids, verdict, target=target, reviewer=desk.who, personal=desk.personal
            )

        in_thread(self, "verdicts", work, lambda _: None, failed=self._start_anew, lock=self._desk.writes)
        if len(self._cards) < _REFILL_BELOW and self._waiting > len(self._cards):
            self._load(task)

    def _show_look_alikes(self) -> None:
        card = self._cards[0]

        def work() -> LookAlikes:
            from curate.reviewing import review

            return review.look_alikes(self._desk.database, card.task, card.exchange_id, self._desk.who)

        def read(found: LookAlikes) -> None:
            if not (self._cards and self._cards[0] is card and self.app.screen is self):
                return

            def chosen(verdict: str | None) -> None:
                if verdict and self._cards and self._cards[0] is card:
                    self._give_many(found, verdict)

            self.app.push_screen(LookAlikesScreen(found), chosen)

        in_thread(self, "look-alikes", work, read, lock=self._desk.writes)

    def _give_many(self, found: LookAlikes, verdict: str) -> None:
        card = self._cards.popleft()
        decided = set(found.exchange_ids)
        also = tuple(other for other in self._cards if other.exchange_id in decided)
        self._cards = deque(other for other in self._cards if other.exchange_id not in decided)
        self._given_to(_Given(card, verdict, clock.now_us(), len(found.exchange_ids), also), found.exchange_ids)

    def _show_audit(self) -> None:
        task = self._pile.task

        def read(pile: AuditPile) -> None:
            if not pile.number:
                self.app.notify(f"No audit is begun: potstill review audit start {task}", severity="warning", markup=False)
            elif self.app.screen is self:
                self.app.push_screen(AuditScreen(self._desk, pile))

        work = partial(reading.audit_pile, self._desk.database, task, self._desk.who)
        in_thread(self, "audit", work, read, lock=self._desk.writes)

    def _switch_second_opinions(self) -> None:
        self._second_opinion = 0 if self._second_opinion else SECOND_OPINION
        with_or_without = f"With one in {SECOND_OPINION}" if self._second_opinion else "Without any"
        self.app.notify(f"{with_or_without} of the cards that others judged.", markup=False)
        self._start_anew()

    def _start_anew(self) -> None:
        self._is_loaded = False
        self._load(self._pile.task)

    def _undo(self) -> None:
        given = self._given.pop()
        self._cards.extendleft((*reversed(given.also), given.card))
        self._waiting += given.count
        self._counts[given.verdict] -= given.count
        self._draw()

        def work() -> list[Review]:
            from curate.reviewing import review

            return review.undo(self._desk.database, given.card.task, self._desk.who)

        in_thread(self, "verdicts", work, lambda _: None, failed=self._start_anew, lock=self._desk.writes)

    def _pick(self, place: int) -> None:
        target = self._targets[place - 1]
        if target == self._cards[0].target and not self._cards[0].calls:
            self._give("accept")
        else:
            self._give("edit", target)

    def _edit(self) -> None:
        from curate.reviewing.review import as_text

        card = self._cards[0]
        before = as_text(card.answer)

        def edited(target: str | None) -> None:
            if target is not None and self._cards and self._cards[0] is card:
                if target == before:
                    self._give("accept")
                else:
                    self._give("edit", target)

        self.app.push_screen(EditScreen(before, _as_target), edited)

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
            blocks = review_cards.prompt_blocks(card.messages, card.tools, is_whole=self._is_whole)
            self.query_one("#card", TextView).show_blocks(blocks)
            self.query_one("#output", TextView).show_blocks(review_cards.output_blocks(card))
        lines = {
            "#progress": review_cards.progress_line(card.task, sum(self._counts.values()), self._waiting, width),
            "#output-rule": f" -- {one_line(review_cards.where_line(card), max(width - 8, 8))} " + "-" * width,
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
        what = last.card.exchange_id if last.count == 1 else f"{last.count:,} look-alikes"
        return f" last: {_PAST[last.verdict]} {what}   [u] takes it back"

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
    from curate.reviewing.review import ReviewError, as_message

    try:
        as_message(text)
    except ReviewError as error:
        return str(error)
    return None if text.strip() else "A target cannot be empty; reject the example instead."
