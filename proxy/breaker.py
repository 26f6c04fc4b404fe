"""A circuit breaker: after several transport errors in a row the engine is left alone for a while."""

from __future__ import annotations

from capture import clock


class Breaker:
    """Opens for `rest_s` seconds after `limit` failures in a row; then one request at a time may try again."""

    def __init__(self, limit: int = 5, rest_s: float = 5.0) -> None:
        self._limit = limit
        self._rest_ns = int(rest_s * 1e9)
        self._failures = 0
        self._closed_at_ns = 0

    @property
    def is_open(self) -> bool:
        """True while requests are held back."""
        return self._failures >= self._limit and clock.monotonic_ns() < self._closed_at_ns

    def may_try(self) -> bool:
        """False while open. When the rest is over, True once, and the next only after another rest or a success."""
        if self._failures < self._limit:
            return True
        if self.is_open:
            return False
        self._closed_at_ns = clock.monotonic_ns() + self._rest_ns
        return True

    def succeeded(self) -> None:
        """The engine answered, whatever it said."""
        self._failures = 0

    def failed(self) -> None:
        """The engine could not be reached, or broke off."""
        self._failures += 1
        if self._failures >= self._limit:
            self._closed_at_ns = clock.monotonic_ns() + self._rest_ns
