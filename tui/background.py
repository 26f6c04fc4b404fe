"""Work off the event loop: store reads and writes run in threads, and a failure is told, never fatal."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

from textual.dom import DOMNode
from textual.worker import Worker

from capture.errors import PotstillError
from tui.text import one_line

T = TypeVar("T")
_TOLD_CELLS = 300


def in_thread(
    node: DOMNode,
    group: str,
    work: Callable[[], T],
    done: Callable[[T], None],
    *,
    failed: Callable[[], None] | None = None,
    lock: asyncio.Lock | None = None,
    delay_s: float = 0.0,
) -> Worker[None]:
    """Runs `work` in a thread, then `done` with its value on the event loop.

    A newer call of the same `group` on the same node makes the older one's value be dropped, so a filter can be typed as
    fast as one likes; what is dropped within `delay_s` never even starts. With `lock` nothing is dropped, and calls run one
    after the other in their order. When `work` raises, a toast says what and what to do next, and `failed` is called.
    """

    async def run() -> None:
        if delay_s:
            await asyncio.sleep(delay_s)
        try:
            if lock is None:
                value = await asyncio.to_thread(work)
            else:
                async with lock:
                    value = await asyncio.to_thread(work)
        except Exception as error:
            tell(node, error)
            if failed is not None:
                failed()
        else:
            done(value)

    return node.run_worker(run, group=group, exclusive=lock is None, exit_on_error=False)


def tell(node: DOMNode, error: Exception) -> None:
    """Shows `error` as a toast: one of ours in its own words, another with its type."""
    what = str(error) if isinstance(error, PotstillError) else f"{type(error).__name__}: {error}"
    app: Any = node.app
    app.notify(one_line(what, _TOLD_CELLS), severity="error", markup=False, timeout=10)
