"""What reading a spool promises: bounded windows, older formats, long exchanges that let segments go, damage that is told."""

from __future__ import annotations

import os
import shutil
from binascii import crc32
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from struct import Struct
from typing import Any

import pytest

from capture import frames, ids, records
from capture.carried import pick_up
from capture.frames import Record
from capture.records import Begin, End, Head, Note
from capture.spool import SpoolWriter
from capture.spool_reader import Position, SpooledExchange, SpoolReader

BEGIN = Begin("POST", "/v1/chat/completions", "", "openai", body=b"{}")
OLD_HEADER = Struct("<HBBIIQQQ16s")


def open_spool(root: Path, **options: Any) -> SpoolWriter:
    return SpoolWriter(root, sync_interval_s=3_600, segment_seconds=3_600, **options)


def whole(spool: SpoolWriter, *parts: bytes) -> str:
    raw_id = ids.new_raw_id()
    spool.begin(raw_id, BEGIN)
    spool.head(raw_id, Head(200))
    for part in parts:
        spool.part(raw_id, part)
    spool.end(raw_id, End(200, "complete"))
    return ids.format_id("ex", raw_id)


class Store:
    """What the store knows: exchanges by id, and up to where each spool was read. `drain` is one look of a store writer."""

    def __init__(self, folder: Path, carry_after: int = 3) -> None:
        self.folder, self.carry_after = folder, carry_after
        self.exchanges: dict[str, SpooledExchange] = {}
        self.position: Position | None = None
        self.reader: SpoolReader | None = None

    def drain(self) -> None:
        """As far as the spool goes; a new reader when the last one died."""
        self.reader = self.reader or SpoolReader(self.folder, self.position, carry_after=self.carry_after)
        while True:
            found = self.reader.read(10)
            for exchange in found.finished:
                self.exchanges.setdefault(exchange.id, exchange)
            self.position = self.reader.low_water
            self.reader.drop_before(self.position)
            if not found.finished or self.reader.is_dead:
                return

    def dies(self) -> None:
        if self.reader is not None:
            self.reader.close()
            self.reader = None


def segments(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*.seg"))


def test_records_longer_than_a_window_and_across_its_edge_are_read(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    raw_id, body = ids.new_raw_id(), os.urandom(3_000_000)
    spool.begin(raw_id, Begin("POST", "/v1/files", "", "openai", body=body))
    spool.end(raw_id, End(200, "complete"))
    sent = [whole(spool, os.urandom(100_000)) for _ in range(25)]
    spool.close()
    reader = SpoolReader(spool.folder, None)
    got = [exchange for _ in range(100) for exchange in reader.read(1).finished]
    assert [exchange.id for exchange in got] == [ids.format_id("ex", raw_id), *sent]
    assert got[0].request_body() == body
    assert reader.is_dead
    reader.close()


def test_a_window_bounds_what_is_read_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = open_spool(tmp_path)
    for _ in range(30):
        whole(spool, bytes(200_000))
    sizes: list[int] = []
    real = os.pread

    def counted(fd: int, size: int, position: int) -> bytes:
        data = real(fd, size, position)
        sizes.append(len(data))
        return data

    monkeypatch.setattr(os, "pread", counted)
    reader = SpoolReader(spool.folder, None)
    assert len(sizes) == 0, "nothing is read before it is asked for"
    assert len(reader.read(100).finished) == 30
    assert max(sizes) <= 1024 * 1024
    assert sum(sizes) < 2 * 30 * 200_000
    reader.close()
    spool.close()


def old_record(salt: int, kind: int, seq: int, raw_id: bytes, payload: bytes) -> bytes:
    """A record as the first version wrote it."""
    bare = OLD_HEADER.pack(0xB05D, kind, 0, len(payload), 0, seq, 1_000 + seq, 2_000_000, raw_id)
    return bare[:8] + crc32(payload, crc32(bare, salt)).to_bytes(4, "little") + bare[12:] + payload


def test_a_spool_of_the_first_version_is_read_and_survives_damage(tmp_path: Path) -> None:
    folder = tmp_path / "spool" / "sp_old"
    folder.mkdir(parents=True)
    salt, data, raw_ids = frames.salt_of("sp_old"), b"", [ids.new_raw_id() for _ in range(3)]
    for number, raw_id in enumerate(raw_ids):
        data += old_record(salt, records.BEGIN, number * 3, raw_id, records.encode(BEGIN))
        data += old_record(salt, records.PART, number * 3 + 1, raw_id, b"x" * 500)
        data += old_record(salt, records.END, number * 3 + 2, raw_id, b"\x92\xcc\xc8\xa8complete")
    rotten = bytearray(data)
    rotten[len(data) // 3 + 300] ^= 1
    (folder / "0000000001.seg").write_bytes(rotten)
    (folder / "0000000002.seg").touch()
    got = SpoolReader(folder, None).read(10).finished
    assert [exchange.id for exchange in got] == [ids.format_id("ex", raw_id) for raw_id in raw_ids]
    assert [exchange.is_damaged for exchange in got] == [False, True, False]


def test_notes_come_out_with_an_id_of_their_own(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    raw_id, note = ids.new_raw_id(), Note("boolean", "helpful", 1.0, exchange_id="ex_1", id="mine", created_us=5)
    assert spool.note(raw_id, note)
    first, second = SpoolReader(spool.folder, None).read(5).notes, SpoolReader(spool.folder, None).read(5).notes
    assert first == second
    assert [each.note for each in first] == [note]
    spool.close()


def test_records_that_are_missing_without_a_trace_leave_a_gap(tmp_path: Path) -> None:
    spool = open_spool(tmp_path / "spool", segment_bytes=2_000)
    sent = [whole(spool, bytes(500)) for _ in range(12)]
    spool.close()
    second = spool.folder / segments(spool.folder)[1]
    lost = {record.exchange_id for record in map_records(second)}
    second.unlink()
    reader = SpoolReader(spool.folder, None)
    found = [reader.read(100), reader.read(100)]
    got = [exchange for batch in found for exchange in batch.finished]
    reasons = [gap.gap.reason for batch in found for gap in batch.gaps]
    assert len(reasons) == 1
    assert reasons[0].endswith("records are missing from the spool")
    assert {exchange.id for exchange in got if exchange.end and exchange.parts} >= {
        id for id in sent if ids.parse_id(id) not in lost
    }
    assert reader.is_dead
    reader.close()


def map_records(path: Path) -> list[Record]:
    found = frames.scan(path.read_bytes(), 0, frames.salt_of(path.parent.name))
    return [each for each in found if isinstance(each, Record)]


def test_an_exchange_that_stays_open_does_not_hold_segments_back(tmp_path: Path) -> None:
    spool = open_spool(tmp_path / "spool", segment_bytes=2_000)
    store = Store(spool.folder)
    long = ids.new_raw_id()
    spool.begin(long, BEGIN)
    spool.head(long, Head(200))
    sent = []
    for number in range(60):
        spool.part(long, b"%d," % number)
        sent.append(whole(spool, bytes(500)))
        if number % 7 == 0:
            store.drain()
            assert len(segments(spool.folder)) < 10
        if number % 20 == 0:
            store.dies()
    spool.end(long, End(200, "complete"))
    sent.append(ids.format_id("ex", long))
    store.drain()
    assert list(store.exchanges) == sent
    assert b"".join(store.exchanges[sent[-1]].parts) == b"".join(b"%d," % number for number in range(60))
    spool.close()
    store.drain()
    assert not spool.folder.exists()


class KilledError(BaseException):
    """The process ends here."""


@contextmanager
def killed_at(step: int, folder: Path) -> Iterator[list[str]]:
    """Ends the process before call `step` that changes something in `folder`; gives the names of the calls so far."""
    made: list[str] = []

    def counted(name: str, real: Any) -> Any:
        def call(*arguments: Any, **named: Any) -> Any:
            flags = arguments[1] if name == "open" and len(arguments) > 1 else 0
            is_change = name in ("unlink", "fsync") or str(folder) in str(arguments[0])
            if is_change and (name != "open" or flags & os.O_WRONLY):
                if len(made) == step:
                    raise KilledError
                made.append(name)
            return real(*arguments, **named)

        return call

    with pytest.MonkeyPatch.context() as patch:
        for name in ("open", "fsync", "rename", "unlink"):
            patch.setattr(os, name, counted(name, getattr(os, name)))
        yield made


def test_carrying_survives_a_kill_at_every_step(tmp_path: Path) -> None:
    start = open_spool(tmp_path / "start", segment_bytes=1_500)
    long = ids.new_raw_id()
    start.begin(long, BEGIN)
    start.head(long, Head(200))
    parts = []
    for number in range(12):
        parts.append(b"%d," % number)
        start.part(long, parts[-1])
        whole(start, bytes(500))
    step = 0
    while True:
        folder = Path(shutil.copytree(start.folder, tmp_path / str(step) / "spool" / start.spool_id))
        store = Store(folder)
        with killed_at(step, folder) as calls:
            try:
                store.drain()
            except KilledError:
                store.dies()
        if folder.exists():
            store.drain()
        (got,) = (exchange for exchange in store.exchanges.values() if exchange.id == ids.format_id("ex", long))
        assert got.parts == parts, f"killed before step {step} of {calls}"
        assert got.head == Head(200)
        assert len(store.exchanges) == 13
        assert not folder.exists()
        if len(calls) < step:
            break
        step += 1
    start.close()
    assert {"rename", "fsync", "unlink", "open"} <= set(calls)


def test_carried_exchanges_that_cannot_be_read_leave_a_gap(tmp_path: Path) -> None:
    spool = open_spool(tmp_path / "spool", segment_bytes=1_000)
    store = Store(spool.folder)
    long = ids.new_raw_id()
    spool.begin(long, BEGIN)
    for _ in range(12):
        whole(spool, bytes(500))
    store.drain()
    store.dies()
    (path,) = spool.folder.glob("carried-*")
    assert store.position is not None
    assert long in pick_up(spool.folder, store.position)[0]
    path.write_bytes(path.read_bytes()[:-3])
    reader = SpoolReader(spool.folder, store.position)
    assert [gap.gap.reason for gap in reader.read(5).gaps] == ["exchanges carried out of old segments cannot be read"]
    reader.close()
    spool.close()
