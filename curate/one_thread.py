"""Linear algebra that gives the same numbers on every machine of a kind, however many cores it has."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def on_one_thread() -> Iterator[None]:
    """Sums of floating-point numbers on one thread while this lasts: several threads add in another order for every number of
    cores, and where two rows are nearly equal the last digit would decide which of them a version holds."""
    import scipy.linalg  # noqa: F401  # what is loaded later would not be held to it
    from threadpoolctl import threadpool_limits

    with threadpool_limits(limits=1):
        yield
