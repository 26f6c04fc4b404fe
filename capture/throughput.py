"""How many tokens the student's machine makes in a second of work, measured over its latest exchanges.

A second in which several exchanges are answered at once is one busy second, so batching shows as the saving that it is. Idle
time is nobody's cost. All of the students' exchanges count together, since they share the machine.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

MOST_SPANS = 1_000
LEAST_SPANS, LEAST_BUSY_US = 20, 1_000_000


@dataclass(frozen=True, slots=True, order=True)
class BusySpan:
    """An exchange that the student answered: from when to when (UTC microseconds), and how many tokens it made."""

    ended_us: int
    started_us: int
    tokens_out: int


@dataclass(frozen=True, slots=True)
class StudentThroughput:
    """A measurement over the latest `MOST_SPANS` exchanges by their end; take in more with `including`."""

    spans: tuple[BusySpan, ...] = ()
    tokens_per_second: float | None = None
    """Tokens out per busy second; None until `LEAST_SPANS` exchanges kept the machine busy for `LEAST_BUSY_US`."""

    def including(self, spans: Iterable[BusySpan]) -> StudentThroughput:
        """The measurement with more exchanges in it, in any order. Costs a sort of those that are kept: call it by batches."""
        kept = tuple(sorted((*self.spans, *spans))[-MOST_SPANS:])
        return StudentThroughput(kept, _tokens_per_second(kept))


def busy_us(spans: Iterable[BusySpan]) -> int:
    """Microseconds in which at least one of `spans` was under way."""
    total = reached = 0
    for span in sorted(spans, key=lambda span: span.started_us):
        start = max(span.started_us, reached)
        if span.ended_us > start:
            total += span.ended_us - start
            reached = span.ended_us
    return total


def _tokens_per_second(spans: tuple[BusySpan, ...]) -> float | None:
    tokens, busy = sum(span.tokens_out for span in spans), busy_us(spans)
    if len(spans) < LEAST_SPANS or busy < LEAST_BUSY_US or not tokens:
        return None
    return tokens * 1_000_000 / busy
