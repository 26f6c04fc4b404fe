"""Keeps a relay worker's copy of the keys current and its reservations settled, from a thread of its own.

A change is seen within one interval. While the store is in trouble the last copy stays in force and reservations stand; a
relay that starts without the store takes the keys from the file that the last one left. Nothing here raises into the relay.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from capture import clock, ids
from capture.database import Database, open_database
from capture.errors import PotstillError
from capture.pricing import PriceSettings, PriceTable, load_price_table
from proxy.keys.key_store import read_keys, read_revision
from proxy.keys.ledger import Ledger
from proxy.keys.pepper import read_pepper
from proxy.keys.settle import Owed, Rounds, settle
from proxy.keys.virtual_key import VirtualKey

_MOST_OWED = 50_000
_PATIENCE_US = 3_600_000_000
_STALE_NS = 3_000_000_000
_NO_PRICES = PriceSettings()


@dataclass(frozen=True, slots=True)
class KeySnapshot:
    """The keys by id as they were last read; `is_known` False: nobody could say yet which keys there are."""

    keys: Mapping[str, VirtualKey] = field(default_factory=dict)
    pepper: bytes | None = None
    revision: int = -1
    is_known: bool = False


class KeyWatcher:
    """Polls the store at `database_url`, which need not be reachable yet.

    `failures` counts polls that failed and `last_error` says how the last of them did, '' once one succeeds. `written_off`
    counts exchanges that the store never heard of, whose reservations count as what they cost.
    """

    def __init__(
        self,
        database_url: str,
        pepper_file: Path,
        copy: Path,
        *,
        open_ledger: Callable[[], Ledger],
        spool_root: Path | None = None,
        prices: PriceSettings = _NO_PRICES,
        interval_s: float = 0.5,
    ) -> None:
        self.failures = 0
        self.written_off = 0
        self.last_error = ""
        self.ledger: Ledger | None = None
        """What is used of limits, once there are any."""
        self.assumed_microusd = 0
        """What a request to a model without a known price is taken to have cost."""
        self._open_ledger, self._has_task_limits = open_ledger, False
        self.price_table: PriceTable | None = None
        """Prices, once a budget needs them and they are read."""
        self._task_subjects: frozenset[str] = frozenset()
        self._url, self._pepper_file, self._copy = database_url, pepper_file, copy
        self._spool_root, self._prices = spool_root, prices
        self._interval_s = interval_s
        self._database: Database | None = None
        self._put_off: deque[Callable[[], None]] = deque()
        self._ended: deque[Owed] = deque()
        self._owed: list[Owed] = []
        self._rounds = Rounds()
        self._read_ns = clock.monotonic_ns()
        self._snapshot = self._from_copy()
        self._has_read = threading.Event()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="key-watcher", daemon=True)

    def start(self) -> None:
        """Begins to poll."""
        self._thread.start()

    @property
    def current(self) -> KeySnapshot:
        """The keys to obey now."""
        return self._snapshot

    @property
    def is_stale(self) -> bool:
        """True when the store has not answered for some seconds, so that a new key may be unknown here."""
        return not self._has_read.is_set() or clock.monotonic_ns() - self._read_ns > _STALE_NS

    @property
    def unsettled(self) -> int:
        """Exchanges that are over and whose cost the store has not said yet."""
        return len(self._owed) + len(self._ended)

    def watch_tasks(self, subjects: frozenset[str], *, has_limits: bool) -> None:
        """Has these names of tasks in the ledger told what they spend, those with a budget; `has_limits`: a task has some."""
        self._task_subjects, self._has_task_limits = subjects, has_limits

    @property
    def put_off(self) -> int:
        """Changes to the ledger that could not be made yet, and are tried again."""
        return len(self._put_off)

    def change(self, change: Callable[[], None]) -> None:
        """Gives something back to the ledger, now or, where the kernel does not give its lock, when it does again."""
        try:
            change()
        except OSError as error:
            self._put_off.append(change)
            self.failures += 1
            self.last_error = f"The ledger of limits cannot be locked: {error}."

    def owe(self, owed: Owed) -> None:
        """Has a request that is over settled as soon as the store has its exchange."""
        self._ended.append(owed)

    def wait_until_read(self, timeout_s: float) -> bool:
        """Waits for the first answer of the store; False when it has not come after `timeout_s`."""
        return self._has_read.wait(timeout_s)

    def close(self) -> None:
        """Stops the thread; may be called twice. Waits for it at most one second."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(1.0)
        if self.ledger is not None and not self._thread.is_alive():
            ledger, self.ledger = self.ledger, None
            ledger.close()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._poll()
                self.last_error = ""
            except Exception as error:  # the relay goes on whatever the store does; counted and shown
                self.failures += 1
                self.last_error = str(error)
            self._forget_old()
            self._stop.wait(self._interval_s)
        if self._database is not None:
            with suppress(Exception):  # a store that is gone cannot be closed any better
                self._database.close()

    def _make_up(self) -> None:
        """Makes the changes that were put off, in their order."""
        while self._put_off:
            self._put_off[0]()
            self._put_off.popleft()

    def _poll(self) -> None:
        self._open()
        self._make_up()
        if self._database is None:
            self._database = open_database(self._url, busy_timeout_ms=1_000, statement_timeout_s=5.0)
        asked_ns = clock.monotonic_ns()
        snapshot = self._snapshot
        is_news = not self._has_read.is_set() or read_revision(self._database) != snapshot.revision
        if is_news or (snapshot.keys and snapshot.pepper is None):
            revision, keys = read_keys(self._database)
            self._snapshot = KeySnapshot({key.id: key for key in keys}, read_pepper(self._pepper_file), revision, True)
            if is_news and keys:
                self._keep_copy(revision, keys)
        self._open()
        self._settle(self._database)
        self._read_ns = asked_ns
        self._has_read.set()
        if self._snapshot.keys and self._snapshot.pepper is None:
            raise PotstillError(
                f"There are virtual keys, but no pepper in {self._pepper_file}.", "Put back the file that they were made with."
            )

    def _open(self) -> None:
        """Opens the ledger once somebody has limits."""
        if self.ledger is None and (self._has_task_limits or any(key.limits.is_any for key in self._snapshot.keys.values())):
            self.ledger = self._open_ledger()

    def _settle(self, database: Database) -> None:
        ledger = self.ledger
        if ledger is None:
            return
        subjects = self._task_subjects | {f"key:{key.id}" for key in self._snapshot.keys.values() if key.limits.has_budget}
        if subjects and self.price_table is None:
            self.price_table = load_price_table(self._prices)
        self._take_ended()
        spools = self._spools()
        if subjects or self._owed:
            asked = self._rounds.next(len(self._owed))
            about = self._owed[asked]
            waiting = settle(database, ledger, about, subjects, self.assumed_microusd, clock.now_us())
            if about:
                self._owed[asked] = waiting
                self._rounds.heard(len(about) - len(waiting))
        ledger.sweep(lambda holder: ids.format_id("sp", holder) not in spools)

    def _forget_old(self) -> None:
        """Gives up on what the store should have had long ago, and on the oldest of too many."""
        ledger = self.ledger
        if ledger is None:
            return
        self._take_ended()
        now = clock.now_us()
        is_reachable = not self.last_error
        keep_from = len(self._owed) - _MOST_OWED
        kept = []
        for place, each in enumerate(self._owed):
            if place < keep_from or (is_reachable and now - each.ended_us > _PATIENCE_US):
                ledger.write_off(each.wishes, each.microusd, now)
                self.written_off += 1
            else:
                kept.append(each)
        self._owed = kept

    def _take_ended(self) -> None:
        while self._ended:
            self._owed.append(self._ended.popleft())

    def _spools(self) -> frozenset[str]:
        """The spools that are there. What stood in one that is gone is in the store, and in what is read from it from now on."""
        if self._spool_root is None or not self._spool_root.is_dir():
            return frozenset()
        return frozenset(each.name for each in self._spool_root.iterdir())

    def _from_copy(self) -> KeySnapshot:
        try:
            revision, keys = msgspec.json.decode(self._copy.read_bytes(), type=tuple[int, list[VirtualKey]])
            pepper = read_pepper(self._pepper_file)
        except FileNotFoundError:
            return KeySnapshot()
        except (OSError, msgspec.DecodeError, PotstillError) as error:
            self.last_error = f"The copy of the keys in {self._copy} cannot be used: {error}"
            return KeySnapshot()
        return KeySnapshot({key.id: key for key in keys}, pepper, revision, True)

    def _keep_copy(self, revision: int, keys: list[VirtualKey]) -> None:
        self._copy.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        made = self._copy.with_name(f".{self._copy.name}.{os.getpid()}.{threading.get_ident()}")
        fd = os.open(made, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600)
        with os.fdopen(fd, "wb") as file:
            file.write(msgspec.json.encode((revision, keys)))
        made.replace(self._copy)
