"""Keeps the relay's snapshot of the flags current, from a thread of its own, whatever happens to the store.

A change is seen within one interval. While the store is in trouble the last snapshot stays in force; after `patience_s`
every share is 0, because a rollback could have been missed. Nothing here blocks or raises into the relay.
"""

from __future__ import annotations

import threading
from contextlib import suppress

from capture import clock
from capture.database import Database, open_database
from serve.flag_store import read_revision, read_snapshot
from serve.flags import Snapshot, withdrawn


class FlagWatcher:
    """Polls the flags of the store at `database_url`, which need not be reachable yet.

    `failures` counts polls that failed and `last_error` says how the last of them did, '' once one succeeds.
    """

    def __init__(self, database_url: str, interval_s: float = 0.2, patience_s: float = 60.0) -> None:
        self.failures = 0
        self.last_error = ""
        self._url = database_url
        self._interval_s = interval_s
        self._patience_ns = int(patience_s * 1e9)
        self._database: Database | None = None
        self._snapshot = self._withdrawn = Snapshot()
        self._read_ns = clock.monotonic_ns()
        self._has_read = threading.Event()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="flag-watcher", daemon=True)
        self._thread.start()

    @property
    def current(self) -> Snapshot:
        """The flags to obey now; costs a look at the clock."""
        return self._withdrawn if self.is_stale else self._snapshot

    @property
    def is_stale(self) -> bool:
        """True when the store has not answered for longer than `patience_s`, so that every share counts as 0.

        Told by the clock and not by the thread, which may itself hang in the store.
        """
        return clock.monotonic_ns() - self._read_ns > self._patience_ns

    def wait_until_read(self, timeout_s: float) -> bool:
        """Waits for the first snapshot; False when it has not come after `timeout_s`."""
        return self._has_read.wait(timeout_s)

    def close(self) -> None:
        """Stops the thread; may be called twice. Waits for it at most one second."""
        self._stop.set()
        self._thread.join(1.0)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._poll()
                self.last_error = ""
            except Exception as error:  # the relay goes on whatever the store does; counted and shown
                self.failures += 1
                self.last_error = str(error)
            self._stop.wait(self._interval_s)
        if self._database is not None:
            with suppress(Exception):  # a store that is gone cannot be closed any better
                self._database.close()

    def _poll(self) -> None:
        if self._database is None:
            self._database = open_database(self._url, busy_timeout_ms=1_000, statement_timeout_s=5.0)
        asked_ns = clock.monotonic_ns()
        if not self._has_read.is_set() or read_revision(self._database) != self._snapshot.revision:
            snapshot = read_snapshot(self._database)
            self._withdrawn, self._snapshot = withdrawn(snapshot), snapshot
        self._read_ns = asked_ns
        self._has_read.set()
