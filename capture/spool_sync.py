"""What keeps a spool safe from power cuts: the records that are not yet known to be on the disk, and the thread that syncs.

After a failed sync the kernel may have forgotten what was written while it says that all is well, so the records are
kept here until a sync has succeeded, as far as `RING_BYTES` reach, and written again to a new file when one fails.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence

RING_BYTES = 8 * 1024 * 1024
_LONGEST_PAUSE_S = 30.0
_log = logging.getLogger(__name__)
Tell = Callable[[bool], object]
"""Is told, on the thread that syncs, whether what was appended before is safe from a power cut."""


class Ring:
    """The newest records that are not yet durable, at most `limit` bytes of them. Not safe for threads by itself."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._records: deque[tuple[bytes, bytes | memoryview]] = deque()
        self._first = 0
        self._size = 0

    @property
    def first(self) -> int:
        """The sequence number of the oldest record that is here; of the next one when none is."""
        return self._first

    def __iter__(self) -> Iterator[tuple[bytes, bytes | memoryview]]:
        return iter(self._records)

    def keep(self, records: Sequence[tuple[bytes, bytes | memoryview]], size: int) -> None:
        """Takes in the next records, of `size` bytes together; the oldest make way."""
        self._records.extend(records)
        self._size += size
        if self._size > self._limit:
            self._make_room()

    def forget(self, up_to: int) -> None:
        """Lets go of the records before sequence number `up_to`, which are durable."""
        while self._first < up_to and self._records:
            self._forget_first()

    def _make_room(self) -> None:
        while self._size > self._limit:
            self._forget_first()

    def _forget_first(self) -> None:
        header, payload = self._records.popleft()
        self._size -= len(header) + len(payload)
        self._first += 1


class Syncer:
    """A thread that calls `sync` every `interval_s` while `dirty` is set, else every `idle_s`; at once when somebody waits.

    `sync` says whether all that was appended before the call is durable. When it is not, it is called once more at once,
    then with growing pauses; whoever waits in a pause is told no.
    """

    def __init__(self, sync: Callable[[], bool], interval_s: float, idle_s: float | None = None) -> None:
        self.dirty = threading.Event()
        self._sync, self._interval_s, self._idle_s = sync, interval_s, idle_s
        self._hurry = threading.Event()
        self._closing = threading.Event()
        self._waiting: list[Tell] = []
        self._lock = threading.Lock()
        self._pause_s = 0.0
        self._thread = threading.Thread(target=self._run, name="spool-sync", daemon=True)
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    def when_durable(self, tell: Tell) -> None:
        """Has `tell` called after the next sync that begins from here on."""
        with self._lock:
            self._waiting.append(tell)
        self.dirty.set()
        self._hurry.set()

    def close(self) -> None:
        """Ends the thread; whoever still waits is told no."""
        self._closing.set()
        self._hurry.set()
        self.dirty.set()
        self._thread.join()
        self._tell(False)

    def _run(self) -> None:
        while not self._closing.is_set():
            self.dirty.wait(self._idle_s)
            self._hurry.wait(self._interval_s)
            self._hurry.clear()
            self.dirty.clear()
            if self._closing.is_set():
                return
            waiting = self._take_waiting()
            is_durable = self._try() or (not self._pause_s and self._try())
            _tell_all(waiting, is_durable)
            self._pause_s = 0.0 if is_durable else min(_LONGEST_PAUSE_S, max(self._interval_s, self._pause_s * 2))
            if not is_durable:
                self.dirty.set()
                self._pause()

    def _try(self) -> bool:
        try:
            return self._sync()
        except Exception:  # whatever it is: without this thread nothing would be durable, and who waits would wait for ever
            _log.exception("spool: a sync failed")
            return False

    def _pause(self) -> None:
        end = time.monotonic() + self._pause_s
        while not self._closing.is_set() and (left := end - time.monotonic()) > 0:
            if self._hurry.wait(left) and not self._closing.is_set():
                self._hurry.clear()
                self._tell(False)

    def _tell(self, is_durable: bool) -> None:
        _tell_all(self._take_waiting(), is_durable)

    def _take_waiting(self) -> list[Tell]:
        with self._lock:
            waiting, self._waiting = self._waiting, []
        return waiting


def _tell_all(waiting: list[Tell], is_durable: bool) -> None:
    for tell in waiting:
        try:
            tell(is_durable)
        except Exception:  # such as an event loop that is closed by now; the others wait, and the thread must go on
            _log.exception("spool: somebody who waited for a sync could not be told")
