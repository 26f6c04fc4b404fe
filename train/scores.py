"""Scores of answers against targets, and their intervals. Pure."""

from __future__ import annotations

import math

_Z95 = 1.959963984540054


def exact_match(answer: str, target: str) -> bool:
    """True when the answer is the target, apart from white space around it."""
    return answer.strip() == target.strip()


def wilson(hits: int, n: int) -> tuple[float, float]:
    """The 95 % score interval of a share (Wilson 1927, JASA 22:209): within 0 and 1, sensible at 0 and n hits.

    ValueError without any trial.
    """
    if not 0 <= hits <= n or n == 0:
        raise ValueError(f"{hits} hits of {n}")
    share, z2 = hits / n, _Z95 * _Z95
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = _Z95 / (1 + z2 / n) * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    low = 0.0 if hits == 0 else max(0.0, centre - half)
    high = 1.0 if hits == n else min(1.0, centre + half)
    return low, high
