"""Exact intervals of a share: of all that could be drawn, and of the rows of a finite collection.

Both turn a test round: a share belongs to the interval as long as the draw is not too unlikely under it, on either side.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

CONFIDENCE = 0.95
_TAIL = (1 - CONFIDENCE) / 2
_STEPS = 60


def share_interval(found: int, drawn: int) -> tuple[float, float]:
    """Low and high of a share of which `found` in `drawn` were seen (Clopper and Pearson 1934); (0, 1) for an empty draw."""
    _check(found, drawn)
    low = high = 0.0
    if found:
        low = _where(lambda share: 1 - _binomial(found - 1, drawn, share) > _TAIL)
    if found < drawn:
        high = _where(lambda share: _binomial(found, drawn, share) <= _TAIL)
    return low, high if found < drawn else 1.0


def count_interval(found: int, drawn: int, population: int) -> tuple[int, int]:
    """Low and high of how many of `population` rows are such as `found` of the `drawn` ones were.

    The draw is without replacement, so the bounds are those of the hypergeometric distribution (Konijn 1973, Buonaccorsi
    1987), narrower than for an endless population; once everything is drawn both are `found`.
    """
    _check(found, drawn)
    if drawn > population:
        raise ValueError(f"{drawn} cannot be drawn from {population}")
    least, most = found, population - (drawn - found)
    low = _first(least, most, lambda count: 1 - _hypergeometric(found - 1, drawn, count, population) > _TAIL)
    high = _first(low, most + 1, lambda count: count > most or _hypergeometric(found, drawn, count, population) <= _TAIL) - 1
    return low, high


def _check(found: int, drawn: int) -> None:
    if not 0 <= found <= drawn:
        raise ValueError(f"{found} of {drawn} is no draw")


def _where(is_beyond: Callable[[float], bool]) -> float:
    """Where between 0 and 1 `is_beyond` turns true."""
    low, high = 0.0, 1.0
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (low, middle) if is_beyond(middle) else (middle, high)
    return (low + high) / 2


def _first(low: int, high: int, is_beyond: Callable[[int], bool]) -> int:
    """The first whole number from `low` to `high` for which `is_beyond` is true; it stays true from there on."""
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if is_beyond(middle) else (middle + 1, high)
    return low


def _binomial(most: int, drawn: int, share: float) -> float:
    """How likely at most `most` of `drawn` are found."""
    if share <= 0 or most >= drawn:
        return 1.0
    if share >= 1:
        return 0.0
    odds, rest = math.log(share), math.log1p(-share)
    return _sum(_log_choose(drawn, k) + k * odds + (drawn - k) * rest for k in range(most + 1))


def _hypergeometric(most: int, drawn: int, count: int, population: int) -> float:
    """How likely at most `most` are found in `drawn` of `population`, of which `count` are to be found."""
    first, last = max(0, drawn - (population - count)), min(drawn, count)
    if most >= last:
        return 1.0
    everything = _log_choose(population, drawn)
    return _sum(_log_choose(count, k) + _log_choose(population - count, drawn - k) - everything for k in range(first, most + 1))


def _sum(logarithms: Iterable[float]) -> float:
    return min(1.0, math.fsum(map(math.exp, logarithms)))


def _log_choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
