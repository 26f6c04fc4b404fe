"""The command palette: every action of the registry, found by its words; the ones of other screens go there."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Protocol, runtime_checkable

from textual.command import DiscoveryHit, Hit, Hits, Provider

from tui import actions
from tui.actions import ACTIONS, Action


@runtime_checkable
class Performer(Protocol):
    """An app that performs actions by id."""

    def perform_from_palette(self, action_id: str) -> None:
        """Does it here, or goes to where it can be done."""


class ActionProvider(Provider):
    """Feeds Textual's palette from the registry."""

    async def discover(self) -> Hits:
        """Everything, in the order of the registry."""
        for action in ACTIONS:
            yield DiscoveryHit(title(action), self._command(action), help=action.help)

    async def search(self, query: str) -> Hits:
        """What fits `query`."""
        matcher = self.matcher(query)
        for action in ACTIONS:
            if (score := matcher.match(f"{title(action)} {action.help}")) > 0:
                yield Hit(score, title(action), self._command(action), help=action.help)

    def _command(self, action: Action) -> Callable[[], None]:
        app = self.app
        assert isinstance(app, Performer)
        return partial(app.perform_from_palette, action.id)


def title(action: Action) -> str:
    """`example: accept  (a)`."""
    return f"{action.label}  ({actions.shown_keys(action)})"
