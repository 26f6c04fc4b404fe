"""What stands above a screen for a moment: help, the command that does the same, a question, the target being edited."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Static, TextArea

from tui import actions
from tui.actions import EVERYWHERE, State
from tui.clipboard import copy
from tui.widgets.text_view import SCROLLING, TextView

_WORDS = {
    actions.TRAFFIC: (
        "TIME local   VAR B baseline, C candidate, C>B the baseline stepped in, - no flag\n"
        "ST status   LAT total time   TOK tokens in and out   ! failed, with the reason\n"
        "filter: task: model: status>= latency> state: variant: purpose: since: -not"
    ),
    actions.REVIEW: "A card is one example. Digits pick a frequent target while a card is shown, else a screen.",
    actions.ROLLOUT: (
        "better, worse: the 95% interval lies beyond zero   unsure: it does not\n"
        "split check: whether the shares seen fit the shares set"
    ),
}


class HelpScreen(ModalScreen[None]):
    """The keys and words of one screen, made from the registry."""

    BINDINGS: ClassVar[list[Any]] = [
        Binding("escape,q,question_mark,enter", "dismiss", show=False),
        *SCROLLING,
    ]

    def __init__(self, screen: str) -> None:
        super().__init__()
        self._screen = screen

    def compose(self) -> ComposeResult:
        """Words, then keys."""
        with Vertical(classes="overlay tall"):
            yield Static(f" Keys of {self._screen.title()}   [j/k] scroll   [esc] back", markup=False, classes="title")
            yield TextView()

    def on_mount(self) -> None:
        """Shows the text."""
        self.query_one(TextView).show(help_text(self._screen))

    def action_scroll(self, by: int) -> None:
        """Moves the text."""
        self.query_one(TextView).move(by)


def help_text(screen: str) -> str:
    """Every action of `screen` with its keys and sentence, its own first, then its words, then what is the same everywhere."""
    found = actions.on_screen(screen)
    own = [action for action in found if action.screens != EVERYWHERE]
    shared = [action for action in found if action.screens == EVERYWHERE]
    parts = [[f"{actions.shown_keys(action):13} {action.help}" for action in group] for group in (own, shared)]
    words = [_WORDS[screen]] if screen in _WORDS else []
    return "\n\n".join(["\n".join(parts[0])] * bool(own) + words + ["\n".join(parts[1])])


class CommandScreen(ModalScreen[None]):
    """The commands that do what the screen does now; `y` copies the first."""

    BINDINGS: ClassVar[list[Any]] = [
        Binding("escape,q,exclamation_mark,enter", "dismiss", show=False),
        Binding("y", "copy", show=False),
    ]

    def __init__(self, state: State) -> None:
        super().__init__()
        self._commands = commands_for(state)

    def compose(self) -> ComposeResult:
        """One line per action that has a command."""
        with Vertical(classes="overlay"):
            yield Static(" The same by command   [y] copies the first   [esc] back", markup=False, classes="title")
            shown = [f" {label.partition(': ')[2]:16} {command}" for label, command in self._commands]
            yield Static("\n".join(shown) or " No command does this yet.", markup=False)

    def action_copy(self) -> None:
        """Copies the first command."""
        if self._commands:
            copy(self.app, "the command", self._commands[0][1])
            self.dismiss()


def commands_for(state: State) -> list[tuple[str, str]]:
    """Label and command of each action that is possible in `state` and has one; those of this screen alone first."""
    possible = [action for action in actions.on_screen(state.screen) if action.unavailable(state) is None]
    found = sorted(possible, key=lambda action: len(action.screens))
    pairs = [(action.label, actions.command(action, state)) for action in found]
    return [(label, command) for label, command in pairs if command]


class ConfirmScreen(ModalScreen[bool]):
    """One question that names old and new; `enter` or `y` is yes, anything else no."""

    BINDINGS: ClassVar[list[Any]] = [
        Binding("enter,y", "answer(True)", show=False),
        Binding("escape,n,q", "answer(False)", show=False),
    ]

    def __init__(self, question: str) -> None:
        super().__init__()
        self._question = question

    def compose(self) -> ComposeResult:
        """The question and its keys."""
        with Vertical(classes="overlay"):
            yield Static(f" {self._question}\n\n [enter] yes   [esc] no", markup=False)

    def action_answer(self, is_yes: bool) -> None:
        """Ends with the answer."""
        self.dismiss(is_yes)


class EditScreen(ModalScreen[str | None]):
    """A text, such as the target of a card, in a text area; ctrl+s saves, esc leaves it as it was."""

    BINDINGS: ClassVar[list[Any]] = [
        Binding("ctrl+s", "save", show=False, priority=True),
        Binding("escape", "leave", show=False, priority=True),
    ]

    def __init__(self, target: str, is_fine: Callable[[str], str | None], title: str = "Edit the target") -> None:
        super().__init__()
        self._target = target
        self._title = title
        self._is_fine = is_fine

    def compose(self) -> ComposeResult:
        """Title and text area."""
        with Vertical(classes="overlay tall"):
            yield Static(f" {self._title}   [ctrl+s] save   [esc] leave", markup=False, classes="title")
            yield TextArea(self._target, soft_wrap=True, compact=True)

    def on_mount(self) -> None:
        """Puts the caret at the end."""
        area = self.query_one(TextArea)
        area.focus()
        area.move_cursor(area.document.end)

    def action_save(self) -> None:
        """Ends with the new target, unless it cannot be one."""
        target = self.query_one(TextArea).text
        if reason := self._is_fine(target):
            self.app.notify(reason, severity="warning", markup=False)
        else:
            self.dismiss(target)

    def action_leave(self) -> None:
        """Ends without a target."""
        self.dismiss(None)
