"""Turns at somebody who may be asked by only so many at a time: first come, first served, and no queue without a bound."""

from __future__ import annotations

import asyncio
from collections import deque


class Slots:
    """How many are at work, and who waits. Whoever took a slot gives it back, once."""

    def __init__(self) -> None:
        self.taken = 0
        self._limit = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    @property
    def waiting(self) -> int:
        """How many wait for a turn."""
        return len(self._waiting)

    async def take(self, limit: int, most_waiting: int, longest_wait_s: float) -> bool:
        """True with a slot as soon as fewer than `limit` are at work (0: at once).

        False without one when `most_waiting` wait already, or after `longest_wait_s`.
        """
        self._limit = limit
        if not limit or (self.taken < limit and not self._waiting):
            self.taken += 1
            return True
        if len(self._waiting) >= most_waiting:
            return False
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            async with asyncio.timeout(longest_wait_s):
                await turn
        except TimeoutError:
            return self._leave(turn)
        except asyncio.CancelledError:
            if self._leave(turn):
                self.give_back()
            raise
        return True

    def give_back(self) -> None:
        """Ends a turn; it passes to the one who has waited longest."""
        self.taken -= 1
        while self._waiting and (not self._limit or self.taken < self._limit):
            turn = self._waiting.popleft()
            if not turn.done():
                self.taken += 1
                turn.set_result(None)

    def _leave(self, turn: asyncio.Future[None]) -> bool:
        """True when the turn came in the very moment in which its waiter gave up; else the waiter is out of the queue."""
        if turn in self._waiting:
            self._waiting.remove(turn)
        return turn.done() and not turn.cancelled()
