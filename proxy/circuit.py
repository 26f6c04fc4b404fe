"""Whether somebody who answers is worth asking: after several failures in a row it is left alone for a while."""

from __future__ import annotations

from capture import clock

CLOSED, OPEN, HALF_OPEN = "closed", "open", "half_open"


class Circuit:
    """Opens for `rest_s` seconds after `limit` failures in a row; then one request at a time may try again.

    A `limit` of 0 never opens. Both may be changed while it is in use.
    """

    def __init__(self, limit: int = 5, rest_s: float = 5.0) -> None:
        self.limit = limit
        self.rest_s = rest_s
        self._failures = 0
        self._rests_until_ns = 0

    @property
    def state(self) -> str:
        """closed: all may ask; open: nobody; half_open: one may try."""
        if not self._has_tripped:
            return CLOSED
        return OPEN if clock.monotonic_ns() < self._rests_until_ns else HALF_OPEN

    @property
    def is_open(self) -> bool:
        """True while requests are held back."""
        return self.state == OPEN

    def may_try(self) -> bool:
        """False while open. When the rest is over, True once, and the next only after another rest or a success."""
        state = self.state
        if state == HALF_OPEN:
            self._rest()
        return state != OPEN

    def succeeded(self) -> None:
        """It answered, whatever it said."""
        self._failures = 0

    def failed(self) -> None:
        """It could not be reached, broke off, or said that it cannot work."""
        self._failures += 1
        if self._has_tripped:
            self._rest()

    @property
    def _has_tripped(self) -> bool:
        return 0 < self.limit <= self._failures

    def _rest(self) -> None:
        self._rests_until_ns = clock.monotonic_ns() + int(self.rest_s * 1e9)
