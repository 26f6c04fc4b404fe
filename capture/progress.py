"""How long work says how far it has come."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str, int, int], None]
"""Told stage, done and total."""


def tell_nobody(stage: str, done: int, total: int) -> None:
    """For callers who do not ask."""
