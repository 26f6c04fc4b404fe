"""An event loop whose clock runs fast, so that real code waits out minutes in seconds: its timers, not its bytes, hurry."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable
from typing import Any


class _QuickSelector(selectors.DefaultSelector):  # type: ignore[misc,valid-type]
    """Waits as much shorter as the clock runs faster."""

    speed = 1.0

    def select(self, timeout: float | None = None) -> Any:
        return super().select(timeout if timeout is None else timeout / self.speed)


class _QuickLoop(asyncio.SelectorEventLoop):
    """A loop that counts `speed` seconds for each."""

    def __init__(self, speed: float) -> None:
        self._speed = speed
        selector = _QuickSelector()
        selector.speed = speed
        super().__init__(selector)

    def time(self) -> float:
        return super().time() * self._speed


def quick_loop(speed: float) -> Callable[[], asyncio.AbstractEventLoop]:
    """A factory of loops for which a second lasts 1 / `speed` seconds."""
    return lambda: _QuickLoop(speed)
