"""Every action of the terminal interface, once: its keys, words, screens, command-line twin and when it is not possible.

Bindings, footer, help, command palette and the `!` overlay are all made from this table, so they cannot disagree.
A key has one sense in the whole app; `SENSES` words those few that serve several actions.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass

from textual.binding import Binding

TRAFFIC, TASKS, REVIEW, DATASETS, RUNS, ROLLOUT = "traffic", "tasks", "review", "datasets", "runs", "rollout"
OPENED = "exchange"
SCREENS = (TRAFFIC, TASKS, REVIEW, DATASETS, RUNS, ROLLOUT)
"""The six screens in the order of their digits."""
EVERYWHERE = (*SCREENS, OPENED)


@dataclass(frozen=True, slots=True)
class State:
    """What the actions need to know about the screen in front. Shares are in basis points."""

    screen: str
    is_read_only: bool = False
    task: str = ""
    exchange_id: str = ""
    filter: str = ""
    rows: int = 0
    targets: int = 0
    has_card: bool = False
    alike: int = 0
    has_verdict: bool = False
    has_release: bool = False
    tasks: int = 0
    share_bp: int = 0
    staged_bp: int = 0


@dataclass(frozen=True, slots=True)
class Action:
    """One thing a person can do.

    `unavailable` gives the reason why it is not possible now, or None. `twin` is the command that does the same, with
    {task}, {exchange}, {filter} and {share} filled from the state; empty where a command would make no sense. `hint` is the
    action's place in the footer, 0 for none.
    """

    id: str
    keys: tuple[str, ...]
    label: str
    help: str
    screens: tuple[str, ...]
    twin: str = ""
    unavailable: Callable[[State], str | None] = lambda state: None
    hint: int = 0


SENSES = {
    "enter": "open; apply what is staged",
    "escape": "back, drop what is staged, clear the filter",
}
"""Keys that serve several actions, with the one sense that these share. Digits have their own rule: they go to a screen,
and pick a frequent target while Review shows a card."""

_REVIEW = (REVIEW,)
_LISTS = (TRAFFIC, OPENED, REVIEW, ROLLOUT)


def _rows(state: State) -> str | None:
    return None if state.rows else "Nothing is in the list yet."


def _open(state: State) -> str | None:
    return None if state.exchange_id else "No exchange is under the cursor."


def _write(state: State) -> str | None:
    return "Read-only: start without --read-only to change anything." if state.is_read_only else None


def _judge(state: State) -> str | None:
    return _write(state) or _open(state)


def _verdict(state: State) -> str | None:
    return _write(state) or (None if state.has_card else "No card waits for a verdict.")


def _card(state: State) -> str | None:
    return None if state.has_card else "No card is shown."


def _bulk(state: State) -> str | None:
    return _verdict(state) or (None if state.alike else "Nothing that waits looks like this card.")


def _audit(state: State) -> str | None:
    return _write(state) or (None if state.task else "No task has a dataset version yet.")


def _undo(state: State) -> str | None:
    return _write(state) or (None if state.has_verdict else "There is no verdict of this session to undo.")


def _stage(state: State) -> str | None:
    return _write(state) or (None if state.has_release else "No release is ready; make one with `potstill release TASK`.")


def _apply(state: State) -> str | None:
    if reason := _stage(state):
        return reason
    return None if state.staged_bp != state.share_bp else "Nothing is staged: move the share with h and l first."


def _rollback(state: State) -> str | None:
    return _write(state) or (None if state.share_bp else "The baseline has everything already.")


def _several_tasks(state: State) -> str | None:
    return None if state.tasks > 1 else "There is no other task here."


def _pick(place: int) -> Callable[[State], str | None]:
    def unavailable(state: State) -> str | None:
        if state.targets < place:
            return f"This task has {state.targets} frequent targets; tab goes to the next screen."
        return _verdict(state)

    return unavailable


_GO = tuple(
    Action(
        f"go.{screen}",
        (str(place),),
        f"go: {screen.title()}",
        f"Go to {screen.title()}, keeping the task in focus.",
        EVERYWHERE,
        twin,
    )
    for place, (screen, twin) in enumerate(
        (
            (TRAFFIC, "potstill exchanges list"),
            (TASKS, "potstill tasks"),
            (REVIEW, ""),
            (DATASETS, "potstill dataset list"),
            (RUNS, "potstill runs list"),
            (ROLLOUT, "potstill flag show"),
        ),
        start=1,
    )
)  # fmt: skip

_PICKS = tuple(
    Action(
        f"review.pick{place}", (str(place),), f"example: target {place}",
        f"Give the card the task's frequent target number {place}, in one key.", (REVIEW,), "", _pick(place),
    )
    for place in range(1, 10)
)  # fmt: skip

ACTIONS: tuple[Action, ...] = (
    *_GO,
    Action("go.next", ("tab",), "go: next screen", "Go to the next screen.", EVERYWHERE),
    Action("go.previous", ("shift+tab",), "go: previous screen", "Go to the screen before.", EVERYWHERE),
    Action("list.down", ("j", "down"), "move: down", "Move down, or to the next task.", _LISTS),
    Action("list.up", ("k", "up"), "move: up", "Move up, or to the task before.", _LISTS),
    Action("list.page_down", ("ctrl+d", "pagedown"), "move: page down", "Move half a screenful down.", _LISTS),
    Action("list.page_up", ("ctrl+u", "pageup"), "move: page up", "Move half a screenful up.", _LISTS),
    Action("list.top", ("g", "home"), "move: top", "Go to the top: the newest.", _LISTS),
    Action("list.bottom", ("G", "end"), "move: bottom", "Go to the bottom: the oldest.", _LISTS),
    Action(
        "exchange.open", ("enter",), "exchange: open", "Show the exchange whole: headers, messages, timing.", (TRAFFIC,),
        "potstill exchanges show {exchange}", _open, 1,
    ),
    Action(
        "list.filter", ("slash",), "list: filter", 'Narrow the list: task:triage status>=400 since:1h "words".', (TRAFFIC,),
        "potstill exchanges list {filter}", hint=2,
    ),
    Action(
        "list.follow", ("f",), "list: follow or pause", "Keep the newest exchange on top, or hold still.", (TRAFFIC,),
        "potstill exchanges tail {filter}", hint=3,
    ),
    Action(
        "exchange.copy", ("y",), "exchange: copy", "Copy the answer to the clipboard; opened, the whole exchange.",
        (TRAFFIC, OPENED), "potstill exchanges show {exchange}", hint=4,
    ),
    Action(
        "feedback.good", ("plus",), "feedback: good", "Say that the answer is good.", (TRAFFIC, OPENED),
        "potstill feedback add {exchange} --good", _judge, 5,
    ),
    Action(
        "feedback.bad", ("minus",), "feedback: bad", "Say that the answer is bad.", (TRAFFIC, OPENED),
        "potstill feedback add {exchange} --bad", _judge, 6,
    ),
    Action(
        "feedback.comment", ("c",), "feedback: comment", "Say something about the answer: ctrl+s saves, esc leaves.",
        (TRAFFIC, OPENED), "", _judge,
    ),
    Action("review.accept", ("a",), "example: accept", "The answer is a good target.", _REVIEW, "", _verdict, 1),
    Action("review.reject", ("r",), "example: reject", "Nobody should learn this answer.", _REVIEW, "", _verdict, 2),
    Action("review.edit", ("e",), "example: edit", "Write a better target: ctrl+s saves, esc leaves.", _REVIEW, "", _verdict, 3),
    Action("review.skip", ("s",), "example: skip", "Pass over the example: neither good nor bad.", _REVIEW, "", _verdict, 4),
    Action(
        "review.bulk", ("b",), "example: look-alikes", "Show what looks like this card, to decide all of it at once.", _REVIEW,
        "potstill review bulk accept {task} {exchange} --show", _bulk,
    ),
    Action("review.undo", ("u",), "example: undo", "Take the last verdict back and show its card again.", _REVIEW, "", _undo, 5),
    Action("review.expand", ("z",), "example: whole prompt", "Unfold the prompt, or fold it again.", _REVIEW, "", _card),
    Action(
        "review.audit", ("A",), "audit: right or wrong", "Judge the random sample of a version, for its error rate.", _REVIEW,
        "potstill review audit next {task}", _audit,
    ),
    Action(
        "pile.second", ("o",), "pile: second opinions", "With one in five of the cards that others judged, or without.", _REVIEW,
        "potstill review next {task} --second-opinion 5",
    ),
    *_PICKS,
    Action("share.less", ("h", "left"), "share: 1% less", "Stage 1% less for the candidate.", (ROLLOUT,), "", _stage, 1),
    Action("share.more", ("l", "right"), "share: 1% more", "Stage 1% more for the candidate.", (ROLLOUT,), "", _stage, 2),
    Action("share.much_less", ("H",), "share: 10% less", "Stage 10% less for the candidate.", (ROLLOUT,), "", _stage, 3),
    Action("share.much_more", ("L",), "share: 10% more", "Stage 10% more for the candidate.", (ROLLOUT,), "", _stage, 4),
    Action(
        "share.apply", ("enter",), "share: apply", "Put the staged share in force, after one question.", (ROLLOUT,),
        "potstill flag set {task} --share {share}", _apply, 5,
    ),
    Action(
        "share.rollback", ("B",), "share: roll back now", "Give the baseline everything, at once.", (ROLLOUT,),
        "potstill flag rollback {task}", _rollback, 6,
    ),
    Action("task.next", ("n",), "task: next", "Show the next task.", (REVIEW, ROLLOUT), "", _several_tasks, 7),
    Action("app.back", ("escape",), "app: back", "Back, drop what is staged, clear the filter.", EVERYWHERE),
    Action("app.command", ("exclamation_mark",), "app: commands", "Show the commands that do the same.", EVERYWHERE, hint=8),
    Action("app.help", ("question_mark",), "app: help", "Show the keys and words of this screen.", EVERYWHERE, hint=9),
    Action("app.palette", ("colon", "ctrl+p"), "app: all actions", "Find any action by its name.", EVERYWHERE, hint=10),
    Action("app.quit", ("q",), "app: quit", "Leave Potstill; the relay goes on.", SCREENS),
)  # fmt: skip
"""The registry."""

_HINTS = {
    "exchange.open": "open", "list.filter": "filter", "list.follow": "follow", "exchange.copy": "copy",
    "feedback.good": "", "feedback.bad": "rate",
    "review.accept": "accept", "review.reject": "reject", "review.edit": "edit", "review.skip": "skip", "review.undo": "undo",
    "share.less": "", "share.more": "1%", "share.much_less": "", "share.much_more": "10%", "share.apply": "apply",
    "share.rollback": "rollback", "task.next": "task", "app.command": "command", "app.help": "help", "app.palette": "all",
}  # fmt: skip
_SHOWN_KEYS = {
    "question_mark": "?", "colon": ":", "slash": "/", "exclamation_mark": "!", "escape": "esc", "down": "↓", "up": "↑",
    "left": "←", "right": "→", "pagedown": "PgDn", "pageup": "PgUp", "plus": "+", "minus": "-",
}  # fmt: skip


def by_id(action_id: str) -> Action:
    """The action with this id; StopIteration when there is none."""
    return next(action for action in ACTIONS if action.id == action_id)


def on_screen(screen: str) -> list[Action]:
    """The actions of `screen`, in the order of the registry."""
    return [action for action in ACTIONS if screen in action.screens]


def bindings(screen: str) -> list[Binding]:
    """Textual's bindings for `screen`: each key once. In Review the digits resolve by state, in `for_digit`."""
    actions = [action for action in on_screen(screen) if not (screen == REVIEW and action.keys[0].isdigit())]
    made = [Binding(",".join(action.keys), f"app.perform('{action.id}')", action.label, show=False) for action in actions]
    if screen == REVIEW:
        made += [Binding(str(digit), f"app.perform_digit({digit})", f"target {digit}", show=False) for digit in range(1, 10)]
    return made


def for_digit(digit: int, state: State) -> Action | None:
    """What digit `digit` means in Review: a frequent target while a card is shown, else a screen."""
    wanted = f"review.pick{digit}" if state.has_card else None
    return next(
        (a for a in ACTIONS if str(digit) in a.keys and (a.id == wanted or (not wanted and a.id.startswith("go.")))), None
    )


def command(action: Action, state: State) -> str:
    """The command that does what `action` would do now; empty when there is none or something it needs is not there."""
    values = {
        "task": shlex.quote(state.task) if state.task else "",
        "exchange": state.exchange_id,
        "filter": shlex.quote(state.filter) if state.filter else "",
        "share": f"{state.staged_bp / 100:g}%",
    }
    needs = [name for name in ("task", "exchange") if f"{{{name}}}" in action.twin]
    if not action.twin or any(not values[name] for name in needs):
        return ""
    return action.twin.format(**values).rstrip()


def shown_keys(action: Action) -> str:
    """The keys of `action` as people read them: `j, ↓`."""
    return ", ".join(_SHOWN_KEYS.get(key, key) for key in action.keys)


def footer(screen: str, cells: int) -> str:
    """The hints of `screen` in at most `cells` cells; where room is short the last go first, but help stays."""
    hints = []
    waiting = ""
    for action in sorted((action for action in on_screen(screen) if action.hint), key=lambda action: action.hint):
        key = _SHOWN_KEYS.get(action.keys[0], action.keys[0])
        waiting += key if not waiting else f"/{key}"
        if _HINTS[action.id]:
            hints.append((action.hint, f"[{waiting}]{_HINTS[action.id]}"))
            waiting = ""
    while len(_line(hints)) > cells and len(hints) > 1:
        hints.remove(min(hints, key=_keeping))
    return _line(hints)


def _line(hints: list[tuple[int, str]]) -> str:
    return " " + " ".join(words for _, words in hints)


def _keeping(hint: tuple[int, str]) -> tuple[bool, int]:
    place, _ = hint
    return (place == by_id("app.help").hint, -place)
