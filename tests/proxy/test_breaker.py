"""The circuit breaker, with a turned clock."""

from __future__ import annotations

import pytest

from capture import clock
from proxy.breaker import Breaker


class Clock:
    """A clock that a test turns, in nanoseconds."""

    now = 1_000

    def __call__(self) -> int:
        return self.now


@pytest.fixture
def turned(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(clock, "monotonic_ns", found)
    return found


def test_five_failures_in_a_row_open_it_for_five_seconds(turned: Clock) -> None:
    breaker = Breaker()
    for _ in range(4):
        breaker.failed()
    assert breaker.may_try()
    breaker.failed()
    assert breaker.is_open
    assert not breaker.may_try()
    turned.now += 4_900_000_000
    assert not breaker.may_try()
    turned.now += 200_000_000
    assert breaker.may_try(), "one may try again"
    assert not breaker.may_try(), "and no other until that one is back"
    breaker.succeeded()
    assert breaker.may_try()
    assert breaker.may_try()


def test_a_success_in_between_starts_the_count_again(turned: Clock) -> None:
    breaker = Breaker()
    for _ in range(3):
        for _ in range(4):
            breaker.failed()
        breaker.succeeded()
    assert not breaker.is_open
