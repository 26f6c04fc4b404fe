"""Which spools cannot be read just now, when each is tried again, and when that counts as a loss."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from capture import clock
from capture.records import Gap
from capture.spooled import SpooledGap

_FIRST_NS, _LONGEST_NS = 1_000_000_000, 30_000_000_000
_TRIES = 3
"""So many failures in a row are no hiccup (such as too many open files)."""
_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Rest:
    tries: int
    wait_ns: int
    until_ns: int


class UnreadableSpools:
    """Remembers failures by spool id; between tries a spool rests for 1 to 30 seconds."""

    def __init__(self) -> None:
        self._rests: dict[str, _Rest] = {}

    def names(self) -> list[str]:
        """The spools whose last try failed."""
        return sorted(self._rests)

    def is_resting(self, spool_id: str) -> bool:
        """Whether it is too early to try `spool_id` again."""
        rest = self._rests.get(spool_id)
        return rest is not None and clock.monotonic_ns() < rest.until_ns

    def failed(self, spool_id: str, error: Exception, segment: int) -> SpooledGap | None:
        """Notes and logs a failure at `segment`; the gap to be stored at the third in a row, with the same id each time."""
        rest = self._rests.setdefault(spool_id, _Rest(0, _FIRST_NS // 2, 0))
        rest.tries += 1
        rest.wait_ns = min(_LONGEST_NS, rest.wait_ns * 2)
        rest.until_ns = clock.monotonic_ns() + rest.wait_ns
        shown = None if isinstance(error, OSError) or str(error) else error
        _log.error(
            "spool %s cannot be read: %s: %s Trying again in %d s.",
            spool_id, type(error).__name__, error, rest.wait_ns // 1_000_000_000, exc_info=shown,
        )  # fmt: skip
        if rest.tries != _TRIES:
            return None
        now_us = clock.now_us()
        reason = f"segment {segment} cannot be read ({type(error).__name__}); what is in it waits there"
        return SpooledGap(f"gap_{spool_id}_unread_{segment}", Gap(now_us, now_us, 1, reason))

    def works(self, spool_id: str) -> None:
        """Forgets the failures of a spool that was read."""
        if self._rests.pop(spool_id, None) is not None:
            _log.info("spool %s can be read again", spool_id)

    def wake(self) -> None:
        """Ends all rests: each spool may be tried at once."""
        for rest in self._rests.values():
            rest.until_ns = 0
