"""Spool and store writer as one machine: whatever happens in whatever order, nothing acknowledged is lost or doubled."""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from sqlalchemy import text

from capture import feed, frames, ids, records
from capture.database import open_database
from capture.errors import StoreError
from capture.exchange import COMPLETE, INTERRUPTED, Exchange
from capture.filters import parse_filter
from capture.frames import Record
from capture.pricing import PriceTable
from capture.records import Begin, End, Head, Note
from capture.spool import PIECE_BYTES, SpoolWriter
from capture.writer import StoreWriter
from tests.capture.small_disk import SmallDisk

ALL = parse_filter("")
FAST = Path("/dev/shm")  # where it exists, syncs cost nothing
SIZES = st.sampled_from([0, 1, 90, 700, 3_000]) | st.just(PIECE_BYTES * 2 + 1)
SHARES = st.floats(0, 1, exclude_max=True)


@dataclass
class Sent:
    """An exchange as its relay saw it. `is_sure`: durable as far as it went; the flags say what may be wrong with it."""

    id: str
    spool: str
    request: bytes
    parts: list[bytes] = field(default_factory=list)
    is_over: bool = False
    is_sure: bool = False
    is_broken: bool = False
    is_suspect: bool = False

    @property
    def response(self) -> bytes:
        return b"".join(self.parts)


@pytest.fixture(scope="module", autouse=True)
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A store to copy, so that not every example builds its own."""
    path = tmp_path_factory.mktemp("empty") / "potstill.db"
    open_database(f"sqlite:///{path}", is_checkpointer=True).close()
    SpoolMachine.template = path
    logging.disable(logging.ERROR)
    yield
    logging.disable(logging.NOTSET)


class SpoolMachine(RuleBasedStateMachine):
    template = Path()

    @initialize()
    def start(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="spool-machine", dir=FAST if FAST.is_dir() else None))
        shutil.copy(self.template, self.folder / "potstill.db")
        self.database = open_database(f"sqlite:///{self.folder / 'potstill.db'}", is_checkpointer=True)
        self.patch = pytest.MonkeyPatch()
        self.disk = SmallDisk(self.patch)
        self.lives = 0
        self.root = self.folder / "0" / "spool"
        self.sent: dict[bytes, Sent] = {}
        self.over: list[Sent] = []
        self.open: list[bytes] = []
        self.notes: dict[str, str] = {}
        self.lost_notes = 0
        self.is_store_up = True
        self.distrusted: dict[int, int] = {}
        self.open_relay()
        self.writer = StoreWriter(self.database, self.root, PriceTable({}))

    def open_relay(self) -> None:
        self.spool = SpoolWriter(
            self.root, sync_interval_s=3_600, segment_bytes=2_000, segment_seconds=3_600, reserve_bytes=4_096
        )

    def writes(self, raw_id: bytes, is_kept: bool) -> bool:
        """What a return value means: kept, or broken from here on."""
        if not is_kept:
            self.sent[raw_id].is_broken = True
            self.open.remove(raw_id)
        return is_kept

    @rule(size=SIZES)
    def begin(self, size: int) -> None:
        raw_id, body = ids.new_raw_id(), bytes(size % 251 for _ in range(size))
        begin = Begin("POST", "/v1/other", "", "openai", body=body[:PIECE_BYTES], body_size=size)
        if not self.spool.begin(raw_id, begin):
            return
        self.sent[raw_id] = Sent(ids.format_id("ex", raw_id), self.spool.spool_id, body)
        self.open.append(raw_id)
        if self.writes(raw_id, self.spool.body(raw_id, body[PIECE_BYTES:])):
            self.writes(raw_id, self.spool.head(raw_id, Head(200)))

    @precondition(lambda self: self.open)
    @rule(which=SHARES, size=SIZES)
    def part(self, which: float, size: int) -> None:
        raw_id = self.open[int(which * len(self.open))]
        sent = self.sent[raw_id]
        data = bytes([len(sent.parts) % 251]) * size
        if self.writes(raw_id, self.spool.part(raw_id, data)):
            sent.parts.append(data)
            sent.is_sure = False

    @precondition(lambda self: self.open)
    @rule(which=SHARES)
    def end(self, which: float) -> None:
        raw_id = self.open[int(which * len(self.open))]
        sent = self.sent[raw_id]
        hashes = sha256(sent.request).hexdigest(), sha256(sent.response).hexdigest()
        end = End(200, COMPLETE, latency_us=1, request_sha256=hashes[0], response_sha256=hashes[1])
        if self.writes(raw_id, self.spool.end(raw_id, end)):
            self.open.remove(raw_id)
            self.over.append(sent)
            sent.is_over, sent.is_sure = True, False

    @rule()
    def note(self) -> None:
        id = ids.new_id("fb")
        if self.spool.note(ids.new_raw_id(), Note("comment", "words", text="fine", session_name="s", id=id, created_us=1)):
            self.notes[id] = self.spool.spool_id

    @rule()
    def sync(self) -> None:
        if self.spool.sync():
            for sent in self.sent.values():
                sent.is_sure = True

    @rule()
    def sync_fails(self) -> None:
        """What was not durable by then is so only in the segments that come after."""
        (segment, offset), unsure = self.spool.synced, self.spool.unsure
        self.disk.failing_syncs = 1
        self.spool.sync()
        self.disk.failing_syncs = 0
        written = [int(path.stem) for path in (self.root / self.spool.spool_id).glob("*.seg")]
        self.distrusted |= {number: 0 for number in written if segment < number < max(written)}
        self.distrusted.setdefault(segment, offset)
        if self.spool.unsure > unsure:
            for sent in self.sent.values():
                sent.is_suspect = sent.is_suspect or not sent.is_sure

    @rule()
    def disk_full(self) -> None:
        self.disk.left = 300

    @rule()
    def disk_freed(self) -> None:
        self.disk.left = None
        self.spool.look()

    @rule()
    def relay_restarts(self) -> None:
        self.spool.close()
        self.open.clear()
        self.open_relay_with_space()

    @rule()
    def relay_is_killed(self) -> None:
        with self.next_life():
            pass

    @rule(share=SHARES)
    def power_fails(self, share: float) -> None:
        with self.next_life() as folder:
            segment, offset = self.spool.synced
            for number, path in enumerate(sorted(folder.glob("*.seg"))):
                size, kept = path.stat().st_size, 0
                if int(path.stem) < segment:
                    kept = size
                elif int(path.stem) == segment:
                    kept = offset
                kept = min(kept, self.distrusted.get(int(path.stem), kept))
                cut = kept + int((share * (number + 1)) % 1 * (size - kept + 1))
                with path.open("r+b") as file:
                    file.truncate(cut)
            self.lost_notes += sum(spool == folder.name for spool in self.notes.values())
            for sent in self.sent.values():
                if sent.spool == folder.name and not sent.is_sure:
                    sent.is_suspect = True

    @contextmanager
    def next_life(self) -> Iterator[Path]:
        """Everything ends without a word: the files are looked at as they are, under a new root, where nobody holds a lock."""
        self.lives += 1
        after = self.folder / str(self.lives) / "spool"
        shutil.copytree(self.root, after)
        yield after / self.spool.spool_id
        self.writer.close()
        self.spool.close()
        self.root = after
        self.open.clear()
        self.open_relay_with_space()
        self.writer = StoreWriter(self.database, self.root, PriceTable({}))

    def open_relay_with_space(self) -> None:
        self.disk.left = None
        self.distrusted.clear()
        self.open_relay()

    @rule(which=SHARES, where=SHARES, bit=st.integers(0, 7))
    def sealed_segment_rots(self, which: float, where: float, bit: int) -> None:
        sealed = [path for folder in self.root.glob("sp_*") for path in sorted(folder.glob("*.seg"))[:-1]]
        if not sealed:
            return
        path = sealed[int(which * len(sealed))]
        data = bytearray(path.read_bytes())
        if not data:
            return
        position = int(where * len(data))
        for found in frames.scan(bytes(data), 0, frames.salt_of(path.parent.name)):
            if isinstance(found, Record) and found.position <= position < found.end:
                if found.exchange_id in self.sent:
                    self.sent[found.exchange_id].is_suspect = True
                self.lost_notes += found.type == records.NOTE
        data[position] ^= 1 << bit
        path.write_bytes(data)

    @rule()
    def store_goes_down(self) -> None:
        if self.is_store_up:
            self.rename("spools", "spools_away")
            self.is_store_up = False

    @rule()
    def store_comes_back(self) -> None:
        if not self.is_store_up:
            self.rename("spools_away", "spools")
            self.is_store_up = True

    def rename(self, old: str, new: str) -> None:
        with self.database.write() as connection:
            connection.execute(text(f"ALTER TABLE {old} RENAME TO {new}"))

    @rule()
    def writer_restarts(self) -> None:
        self.writer.close()
        self.writer = StoreWriter(self.database, self.root, PriceTable({}))

    @rule()
    def drain(self) -> None:
        try:
            self.writer.drain()
        except StoreError:
            assert not self.is_store_up
            return
        if not self.is_store_up:
            return  # there was nothing to store
        self.check()

    def check(self) -> None:
        """Nothing acknowledged is lost, nothing is there twice or out of order, and what is there is what was sent."""
        stored = {exchange.id: exchange for exchange in feed.after(self.database, ALL, limit=100_000)}
        with self.database.read() as connection:
            assert connection.execute(text("SELECT count(*) FROM exchanges")).scalar_one() == len(stored)
            assert connection.execute(text("SELECT count(*) FROM dead_letters")).scalar_one() == 0
            kept = {str(row[0]) for row in connection.execute(text("SELECT id FROM feedback")).all()}
        assert set(stored) <= {sent.id for sent in self.sent.values()}, "phantom"
        assert kept <= set(self.notes)
        assert len(self.notes) - len(kept) <= self.lost_notes, "feedback is lost"
        for sent in self.sent.values():
            if sent.id in stored:
                self.check_one(sent, stored[sent.id])
            else:
                assert sent.is_suspect or not sent.is_over, f"{sent.id} is lost"
        numbers: dict[str, int] = {}
        for sent in self.over:
            if sent.id in stored and not sent.is_suspect:
                assert stored[sent.id].number > numbers.get(sent.spool, 0), "out of order"
                numbers[sent.spool] = stored[sent.id].number

    def check_one(self, sent: Sent, got: Exchange) -> None:
        content = feed.content(self.database, got)
        if got.state == COMPLETE:
            assert sent.is_over
            assert (content.request_body, content.response_body) == (sent.request, sent.response)
        else:
            assert got.state == INTERRUPTED
            assert sent.is_suspect or not sent.is_over, f"{sent.id} was over"
            if not sent.is_suspect:
                assert sent.response == content.response_body or sent.is_broken
                assert sent.request == content.request_body or sent.is_broken

    def teardown(self) -> None:
        if not hasattr(self, "writer"):
            return
        try:
            self.disk.left = None
            self.store_comes_back()
            self.spool.close()
            self.writer.drain()
            self.writer.drain()
            self.check()
            stored = {exchange.id for exchange in feed.after(self.database, ALL, limit=100_000)}
            assert {sent.id for sent in self.sent.values() if not (sent.is_suspect or sent.is_broken)} <= stored
            assert [path.name for path in self.root.iterdir()] == ["writer.lock"], "a spool that is empty goes away"
        finally:
            self.writer.close()
            self.database.close()
            self.patch.undo()
            shutil.rmtree(self.folder)


SpoolMachine.TestCase.settings = settings(
    max_examples=120, stateful_step_count=50, deadline=None, suppress_health_check=list(HealthCheck)
)
TestSpoolMachine = SpoolMachine.TestCase
