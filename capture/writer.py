"""The store writer: the one process that moves what relays spooled into the store. `python -m capture.writer` is it.

Exactly once: rows and the position up to which a spool is done are committed together, only then are segments removed, and
a row that is already there is left alone. While the store cannot be reached, everything waits in the spool.
"""

from __future__ import annotations

import argparse
import fcntl
import logging
import os
import random
import shutil
import signal
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from capture import clock, feedback, logs, store_rows
from capture.capture_settings import CaptureSettings
from capture.database import Database, open_database
from capture.derive import StoredExchange, dead_letter, derive
from capture.errors import PotstillError, RetentionError, SpoolError
from capture.exchange import CANDIDATE
from capture.logs import LogSettings
from capture.pricing import PriceSettings, PriceTable, load_price_table
from capture.pseudonyms import KEEP_PERSONAL, PersonalPolicy, read_policy
from capture.records import OMIT, Gap
from capture.redact import redact_text
from capture.retention import Retention
from capture.settings import Settings, load_settings
from capture.spool_reader import Position, SpooledExchange, SpooledGap, SpooledNote, SpoolReader
from capture.status_pipe import StatusPipe
from capture.throughput import BusySpan, StudentThroughput
from capture.unreadable import UnreadableSpools

_log = logging.getLogger("capture.writer")
_BATCH = 1_000
_IDLE_NS = 1_000_000_000
_TOUCH_NS = 1_000_000_000
_LONGEST_WAIT_S = 30.0
_DAY_US = 86_400_000_000
_STATUS_S = 0.5


class StoreWriter:
    """Drains the spools under `spool_root` into `database`. Only one may exist per spool root: it holds `writer.lock`.

    SpoolError when another one is still at work after `lock_timeout_s`.
    """

    def __init__(
        self,
        database: Database,
        spool_root: Path,
        price_table: PriceTable,
        *,
        poll_s: float = 0.05,
        lock_timeout_s: float = 0.0,
        personal: PersonalPolicy | None = None,
        retention: Retention | None = None,
    ) -> None:
        self._personal, self._retention = personal or KEEP_PERSONAL, retention
        self._database, self._spool_root, self._prices, self._poll_s = database, spool_root, price_table, poll_s
        self._readers: dict[str, SpoolReader] = {}
        self._unreadable = UnreadableSpools()
        self._left_alone: set[str] = set()
        self._touched: dict[str, tuple[Position, int]] = {}
        self._batch: list[StoredExchange] = []
        self._letters: list[store_rows.DeadLetter] = []
        self._gaps: list[tuple[str, SpooledGap]] = []
        self._notes: list[SpooledNote] = []
        self._positions: dict[str, Position] = {}
        self._throughput = StudentThroughput()
        self._written_ns: int | None = None
        self._stored = self._refused = self._full_us = 0
        self._problem = ""
        self._lock: int | None = _take_lock(spool_root, lock_timeout_s)
        _remove_stillborn(spool_root)

    def close(self) -> None:
        """Lets go of the spools; the database stays open. May be called twice."""
        for reader in self._readers.values():
            reader.close()
        self._readers.clear()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def status(self) -> dict[str, object]:
        """For the supervisor; may be asked from another thread. `full_us` is when the store last had all that was spooled."""
        return {
            "pid": os.getpid(),
            "stored": self._stored,
            "refused": self._refused,
            "full_us": self._full_us,
            "problem": self._problem,
        }

    def drain(self) -> int:
        """Reads every spool once to its present end and stores what is over; how many exchanges were new to the store.

        A spool that cannot be read is told in the log and in `gaps`, and tried again later; the others are read all the same.
        StoreError when the store cannot be written; nothing is lost then, and the next call goes on.
        """
        stored, has_more, began_us = self._commit(), True, clock.now_us()
        while has_more:
            began_us = clock.now_us()
            has_more = self._read()
            stored += self._commit()
        self._full_us, self._problem = began_us, ""
        return stored

    def run(self, stop: threading.Event) -> None:
        """Drains until `stop` is set, then once more. Waits out an unreachable store, for 0.1 to 30 seconds between tries.

        StoreError when the store cannot be written at the very end; what is left stays in the spool.
        """
        wait_s = 0.0
        while not stop.is_set():
            try:
                stored = self.drain()
            except PotstillError as error:
                self._problem = error.what
                wait_s = min(_LONGEST_WAIT_S, max(0.1, wait_s * 2))
                _log.warning("%s Trying again in %.1f s.", error, wait_s)
                stop.wait(wait_s * random.uniform(0.7, 1.0))
                continue
            wait_s = 0.0
            self._retain()
            if not stored:
                self._checkpoint_when_idle()
            stop.wait(self._poll_s)
        self._unreadable.wake()
        self.drain()
        for name in self._unreadable.names():
            _log.error("spool %s is not wholly stored, as it cannot be read; it stays for the next start", name)
        self._checkpoint()

    def _read(self) -> bool:
        """Gathers what is over in the spools; True when a batch is full and more may wait."""
        for reader in self._find_spools():
            want = _BATCH - len(self._batch)
            try:
                found = reader.read(want)
            except SpoolError as error:
                self._rest(reader.spool_id, error, reader.cursor[0])
                continue
            except Exception as error:  # shown and counted: one spool must not stop the others
                self._rest(reader.spool_id, error, reader.cursor[0])
                self._readers.pop(reader.spool_id).close()  # another one begins where the store says, so nothing is skipped
                continue
            self._unreadable.works(reader.spool_id)
            before = len(self._batch)
            for spooled in found.finished:
                self._derive(spooled)
            self._measure_student(self._batch[before:])
            self._gaps.extend((reader.spool_id, gap) for gap in found.gaps)
            self._notes.extend(found.notes)
            if found.finished or found.gaps or found.notes or self._is_due(reader):
                self._positions[reader.spool_id] = reader.low_water
            elif reader.is_dead:
                self._drop(reader, reader.low_water)
            if found.is_enough(want):
                return True
        return False

    def _find_spools(self) -> list[SpoolReader]:
        names = sorted(path.name for path in self._spool_root.iterdir() if path.name.startswith("sp_") and path.is_dir())
        names = [name for name in names if not (name in self._left_alone or self._unreadable.is_resting(name))]
        new = [name for name in names if name not in self._readers]
        known = store_rows.read_positions(self._database) if new else {}
        for name in new:
            try:
                self._readers[name] = reader = SpoolReader(self._spool_root / name, known.get(name))
            except Exception as error:  # as in `_read`
                self._rest(name, error)
                continue
            self._drop(reader, reader.low_water)  # what a crash between commit and removal left
        return [self._readers[name] for name in names if name in self._readers]

    def _rest(self, name: str, error: Exception, segment: int = 0) -> None:
        """Leaves a spool that cannot be read for a while."""
        gap = self._unreadable.failed(name, error, segment)
        if gap is not None:
            self._gaps.append((name, gap))

    def _is_due(self, reader: SpoolReader) -> bool:
        """Whether the store should hear that a spool was read although nothing ended: once a second is enough."""
        cursor, touched_ns = self._touched.get(reader.spool_id, (None, 0))
        return reader.cursor != cursor and clock.monotonic_ns() - touched_ns > _TOUCH_NS

    def _derive(self, spooled: SpooledExchange) -> None:
        try:
            self._batch.append(derive(spooled, self._prices, self._personal, self._throughput.tokens_per_second))
        except Exception as error:  # kept aside and counted: one exchange must not stop the others
            shown = error if _is_quotable(spooled, self._personal) else None
            _log.error("exchange %s cannot be read: %s", spooled.id, type(error).__name__, exc_info=shown)
            self._letters.append(_letter(spooled, error, self._personal))

    def _measure_student(self, fresh: Sequence[StoredExchange]) -> None:
        answered = [each.exchange for each in fresh if each.exchange.variant == CANDIDATE and not each.exchange.fallback_reason]
        spans = [BusySpan(one.ended_us, one.started_us, one.tokens_out) for one in answered if one.is_success and one.tokens_out]
        if spans:
            self._throughput = self._throughput.including(spans)

    def _commit(self) -> int:
        """One transaction for rows and positions, then the segments go. After a StoreError all is kept for the next try."""
        if not (self._positions or self._gaps):
            return 0
        letters = self._letters
        try:
            stored = store_rows.write(
                self._database,
                self._batch,
                letters,
                self._gaps,
                self._positions,
                feedback.rows(self._notes, self._personal),
            )
        except store_rows.RefusedError:
            letters = list(self._letters)
            stored = self._store_apart(self._batch, letters)
            self._store_rest(letters)
        positions, now = self._positions, clock.monotonic_ns()
        self._stored += stored
        self._refused += len(letters)
        self._batch, self._letters, self._gaps, self._notes, self._positions = [], [], [], [], {}
        self._written_ns = now
        for name, position in positions.items():
            reader = self._readers.get(name)
            if reader is None:
                continue  # it could not be read on
            self._touched[name] = (reader.cursor, now)
            self._drop(reader, position)
        return stored

    def _store_apart(self, batch: list[StoredExchange], letters: list[store_rows.DeadLetter]) -> int:
        """Halves a refused batch until the row at fault stands alone; that one goes to `letters`."""
        try:
            return store_rows.write(self._database, batch)
        except store_rows.RefusedError as error:
            if len(batch) <= 1:
                _log.error("the store refuses exchange %s: %s", batch[0].exchange.id if batch else "", error)
                letters.extend(_letter(stored.spooled, error, self._personal) for stored in batch)
                return 0
        middle = len(batch) // 2
        return self._store_apart(batch[:middle], letters) + self._store_apart(batch[middle:], letters)

    def _store_rest(self, letters: list[store_rows.DeadLetter]) -> None:
        """What goes with a refused batch. What the store refuses here too is counted or left out, so that the rest goes on."""
        try:
            store_rows.write(self._database, (), letters, self._gaps, self._positions, feedback.rows(self._notes, self._personal))
            return
        except store_rows.RefusedError as error:
            _log.error("the store refuses what it cannot keep of a batch: %s", error)
        for letter in letters:
            bare = store_rows.DeadLetter(letter.exchange_id, "The store refuses this exchange and its dead letter.", b"")
            if not (self._is_taken(letters=[letter]) or self._is_taken(letters=[bare])):
                now = clock.now_us()
                lost = Gap(now, now, 1, f"the store refuses exchange {letter.exchange_id}")
                self._is_taken(gaps=[("", SpooledGap(f"gap_{letter.exchange_id}", lost))])
        for gap in self._gaps:
            self._is_taken(gaps=[gap])
        for said in feedback.rows(self._notes, self._personal):
            self._is_taken(said=[said])
        for name, position in self._positions.items():
            self._is_taken(positions={name: position})

    def _is_taken(
        self,
        letters: Sequence[store_rows.DeadLetter] = (),
        gaps: Sequence[tuple[str, SpooledGap]] = (),
        positions: Mapping[str, Position] | None = None,
        said: Sequence[feedback.Feedback] = (),
    ) -> bool:
        """Stores one row; False, and said in the log, when the store refuses it."""
        try:
            store_rows.write(self._database, (), letters, gaps, positions, said)
        except store_rows.RefusedError as error:
            _log.error("the store refuses a row: %s", error)
            return False
        return True

    def _drop(self, reader: SpoolReader, low_water: Position) -> None:
        try:
            reader.drop_before(low_water)
        except OSError as error:
            _log.warning("segments of spool %s cannot be removed: %s", reader.spool_id, error)
            if not reader.is_dead:
                return
            reader.close()
        if reader.is_dead:
            if reader.folder.exists():
                self._left_alone.add(reader.spool_id)  # the next store writer looks at it again
            self._readers.pop(reader.spool_id, None)
            self._touched.pop(reader.spool_id, None)

    def _retain(self) -> None:
        """A little of what is too old goes. A failure holds nothing up: it is shown, and retention tries again when it is due."""
        if self._retention is None:
            return
        try:
            if self._retention.step():
                self._written_ns = clock.monotonic_ns()
        except RetentionError as error:
            _log.warning("nothing is removed: %s", error)
        except Exception:
            _log.exception("retention failed")

    def _checkpoint_when_idle(self) -> None:
        if self._written_ns is None and self._has_wal():  # others write too, and none but us may empty it
            self._written_ns = clock.monotonic_ns()
        if self._written_ns is not None and clock.monotonic_ns() - self._written_ns > _IDLE_NS:
            self._checkpoint()

    def _has_wal(self) -> bool:
        try:
            return self._database.is_sqlite and Path(self._database.url.removeprefix("sqlite:///") + "-wal").stat().st_size > 0
        except FileNotFoundError:
            return False

    def _checkpoint(self) -> None:
        """Empties SQLite's WAL when nobody reads it just now; never waits, for that would hold up other writers."""
        self._written_ns = None
        if not self._database.is_sqlite:
            return
        with self._database.read() as connection:
            timeout = connection.exec_driver_sql("PRAGMA busy_timeout").scalar_one()
            connection.exec_driver_sql("PRAGMA busy_timeout = 0")
            connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)").all()
            connection.exec_driver_sql(f"PRAGMA busy_timeout = {int(timeout)}")


def _letter(spooled: SpooledExchange, error: Exception, personal: PersonalPolicy) -> store_rows.DeadLetter:
    name = type(error).__name__
    reason = redact_text(f"{name}: {error}")[0] if _is_quotable(spooled, personal) else name
    try:
        record = dead_letter(spooled, personal)
    except Exception as second:  # shown and kept as an empty record: what broke the exchange may break its records too
        _log.error("the records of exchange %s cannot be kept: %s", spooled.id, type(second).__name__)
        record = b""
    return store_rows.DeadLetter(spooled.id, reason, record)


def _is_quotable(spooled: SpooledExchange, personal: PersonalPolicy) -> bool:
    """Whether an error about the exchange may be shown whole: it may quote what could not be read."""
    return spooled.begin.content != OMIT and personal.hiding() is None


def _take_lock(spool_root: Path, timeout_s: float) -> int:
    path = spool_root / "writer.lock"
    try:
        spool_root.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
    except OSError as error:
        raise SpoolError(f"The spool folder {spool_root} cannot be used: {error}.", "Give it space and write access.") from error
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if time.monotonic() < deadline:
                time.sleep(0.05)
                continue
            os.close(fd)
            raise SpoolError(f"Another store writer holds {path}.", "Stop the other `potstill up` first.") from error
        return fd


def _remove_stillborn(spool_root: Path) -> None:
    """Folders of relays that died before their spool was ready: nothing was ever written there."""
    for folder in spool_root.glob(".sp_*"):
        try:
            if time.time() - folder.stat().st_mtime > 60:
                shutil.rmtree(folder)
        except FileNotFoundError:
            continue  # its relay has just made it ready, or taken it away


def main(arguments: list[str] | None = None) -> int:
    """Runs until SIGTERM (or SIGINT), then drains and returns 0; 1 when it could not start or finish."""
    parser = argparse.ArgumentParser(prog="python -m capture.writer", description="Moves spooled exchanges into the store.")
    parser.add_argument("--config", type=Path, help="potstill.toml; default: $POTSTILL_CONFIG, then ./potstill.toml")
    parser.add_argument("--status-fd", type=int, default=None, help="pipe to the supervisor")
    options = parser.parse_args(arguments)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    try:
        settings = load_settings(options.config)
        logs.set_up(settings.section("logs", LogSettings), logging.INFO)
        _run(settings, stop, options.status_fd)
    except PotstillError as error:
        _log.error("%s", error)
        return 1
    return 0


def _run(settings: Settings, stop: threading.Event, status_fd: int | None) -> None:
    prices = load_price_table(settings.section("prices", PriceSettings))
    capture_settings = settings.section("capture", CaptureSettings)
    personal = read_policy(capture_settings, os.environ)
    database = open_database(settings.database_url, is_checkpointer=True)
    try:
        retention = Retention(database, capture_settings)
        spool_root = settings.data_folder / "spool"
        writer = StoreWriter(database, spool_root, prices, lock_timeout_s=10, personal=personal, retention=retention)
        try:
            store_rows.forget_positions(database, clock.now_us() - _DAY_US)
            _log.info("ready")
            if status_fd is not None:
                threading.Thread(target=_report, args=(writer, StatusPipe(status_fd), stop), daemon=True).start()
            writer.run(stop)
        finally:
            writer.close()
    finally:
        database.close()


def _report(writer: StoreWriter, pipe: StatusPipe, stop: threading.Event) -> None:
    """Tells the supervisor how the store writer is until nobody listens; its leash ends it then."""
    try:
        while True:
            pipe.tell(writer.status())
            stop.wait(_STATUS_S)
            if stop.is_set():
                time.sleep(_STATUS_S)  # it drains once more
    except BrokenPipeError:
        return


if __name__ == "__main__":
    sys.exit(main())
