"""The circuit of somebody who answers, with a turned clock."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capture import clock
from proxy.circuit import CLOSED, HALF_OPEN, OPEN, Circuit


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
    circuit = Circuit()
    for _ in range(4):
        circuit.failed()
    assert circuit.may_try()
    assert circuit.state == CLOSED
    circuit.failed()
    assert circuit.is_open
    assert not circuit.may_try()
    turned.now += 4_900_000_000
    assert not circuit.may_try()
    assert circuit.state == OPEN
    turned.now += 200_000_000
    assert circuit.state == HALF_OPEN
    assert circuit.may_try(), "one may try again"
    assert not circuit.may_try(), "and no other until that one is back"
    circuit.succeeded()
    assert circuit.may_try()
    assert circuit.may_try()
    assert circuit.state == CLOSED


def test_one_that_tried_and_never_came_back_blocks_nobody_for_longer_than_a_rest(turned: Clock) -> None:
    circuit = Circuit(1, 2.0)
    circuit.failed()
    turned.now += 2_000_000_000
    assert circuit.may_try()
    assert not circuit.may_try()
    turned.now += 2_000_000_000
    assert circuit.may_try()


def test_a_success_in_between_starts_the_count_again(turned: Clock) -> None:
    circuit = Circuit()
    for _ in range(3):
        for _ in range(4):
            circuit.failed()
        circuit.succeeded()
    assert not circuit.is_open


@given(st.lists(st.sampled_from(["ask", "fail", "succeed", "wait"]), max_size=60))
def test_it_lets_nobody_through_within_a_rest_and_always_somebody_after_it(steps: list[str]) -> None:
    now = 1_000
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(clock, "monotonic_ns", lambda: now)
        circuit = Circuit(3, 1.0)
        failures, held_back_until = 0, 0
        for step in steps:
            if step == "wait":
                now += 400_000_000
            elif step == "succeed":
                circuit.succeeded()
                failures = 0
            elif step == "fail":
                circuit.failed()
                failures += 1
                held_back_until = now + 1_000_000_000
            else:
                expected = failures < 3 or now >= held_back_until
                assert circuit.may_try() is expected
                if failures >= 3 and expected:
                    held_back_until = now + 1_000_000_000


def test_without_a_limit_it_never_opens() -> None:
    circuit = Circuit(0)
    for _ in range(100):
        circuit.failed()
    assert circuit.may_try()
    assert circuit.state == CLOSED
