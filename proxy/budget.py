"""A bound on the memory that request bodies may take together."""

from __future__ import annotations


class Budget:
    """At most `limit` bytes are held at any time."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.held = 0


class Holder:
    """One exchange's part of a budget."""

    __slots__ = ("_budget", "held")

    def __init__(self, budget: Budget) -> None:
        self.held = 0
        self._budget = budget

    def hold(self, size: int) -> bool:
        """Raises what is held to `size` bytes in all; False, and nothing is changed, when the budget has not so much left."""
        more = size - self.held
        if more <= 0:
            return True
        if self._budget.held + more > self._budget.limit:
            return False
        self._budget.held += more
        self.held = size
        return True

    def release(self) -> None:
        """Gives back what is held; may be called twice."""
        self._budget.held -= self.held
        self.held = 0
