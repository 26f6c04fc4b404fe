"""Faults under the spool: a full, slow or lying disk, rotten segments, no file descriptors left."""

from __future__ import annotations

import os
import resource
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from capture import frames, ids
from capture.frames import Record
from capture.quarantine import held, put_aside, quarantine_of
from capture.records import Begin, End, Head
from capture.spool import SpoolWriter
from capture.spool_reader import SpoolBatch, SpooledExchange, SpoolReader
from tests.capture.small_disk import SmallDisk

pytestmark = pytest.mark.faults
BEGIN = Begin("POST", "/v1/chat/completions", "", "openai", body=b"{}")
MIB = 1024 * 1024


def whole(spool: SpoolWriter, data: bytes = b"answer") -> str:
    """One exchange that must be kept; its id."""
    raw_id = ids.new_raw_id()
    assert spool.begin(raw_id, BEGIN)
    assert spool.head(raw_id, Head(200))
    assert spool.part(raw_id, data)
    assert spool.end(raw_id, End(200, "complete"))
    return ids.format_id("ex", raw_id)


def read_all(folder: Path) -> SpoolBatch:
    """Everything in the spool of a relay that is gone."""
    reader, batch = SpoolReader(folder, None), SpoolBatch()
    while not reader.is_dead:
        found = reader.read(100)
        batch.finished += found.finished
        batch.gaps += found.gaps
    reader.close()
    return batch


def killed(spool: SpoolWriter, place: Path) -> Path:
    """The folder as a kill would leave it now."""
    return Path(shutil.copytree(spool.folder, place / "spool" / spool.spool_id))


def until(condition: Callable[[], object], timeout_s: float = 5.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.001)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> SmallDisk:
    return SmallDisk(monkeypatch)


@pytest.fixture
def spool(tmp_path: Path, disk: SmallDisk) -> Iterator[SpoolWriter]:
    """A spool that syncs when it is told to."""
    spool = SpoolWriter(tmp_path / "live", sync_interval_s=3_600)
    yield spool
    disk.left, disk.failing_syncs = None, 0
    spool.close()


def test_f03_on_a_full_disk_the_reserve_holds_the_last_words(spool: SpoolWriter, disk: SmallDisk, tmp_path: Path) -> None:
    ending, cut = ids.new_raw_id(), ids.new_raw_id()
    for raw_id in (ending, cut):
        assert spool.begin(raw_id, BEGIN)
        assert spool.head(raw_id, Head(200))
    disk.left = 0
    assert spool.end(ending, End(200, "complete")), "the reserve lets an answer end"
    assert not spool.part(cut, b"more"), "the reserve is for last words alone"
    assert not spool.begin(ids.new_raw_id(), BEGIN)
    assert spool.dropped == 2
    spool.look()
    assert not spool.begin(ids.new_raw_id(), BEGIN), "there is still no space"
    disk.left = 2 * MIB
    spool.look()
    after = whole(spool)
    got = read_all(killed(spool, tmp_path))
    states = {exchange.id: (exchange.end is not None, exchange.is_damaged) for exchange in got.finished}
    assert states == {
        ids.format_id("ex", ending): (True, False),
        ids.format_id("ex", cut): (False, True),
        after: (True, False),
    }
    assert sum(gap.gap.lost for gap in got.gaps) == 3


def test_f03_after_a_full_disk_the_relay_finds_its_space_by_itself(tmp_path: Path, disk: SmallDisk) -> None:
    spool = SpoolWriter(tmp_path / "live", sync_interval_s=0.01)
    raw_id = ids.new_raw_id()
    spool.begin(raw_id, BEGIN)
    disk.left = 0
    assert spool.end(raw_id, End(200, "complete"))
    assert not spool.begin(ids.new_raw_id(), BEGIN)
    disk.left = None
    until(lambda: spool.begin(ids.new_raw_id(), BEGIN))
    spool.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a small disk")
def test_f03_a_real_disk_that_is_full_costs_only_what_it_had_no_space_for(tmp_path: Path) -> None:
    place = tmp_path / "small"
    place.mkdir()
    if os.system(f"mount -t tmpfs -o size=4m tmpfs '{place}' 2>/dev/null"):
        pytest.skip("mounting is not allowed here")
    try:
        filler = place / "filler"
        filler.write_bytes(bytes(MIB + MIB // 2))
        spool = SpoolWriter(place / "spool", sync_interval_s=0.01)
        last = ids.new_raw_id()
        spool.begin(last, BEGIN)
        kept = []
        while not spool.dropped:
            raw_id = ids.new_raw_id()
            if spool.begin(raw_id, BEGIN) and spool.part(raw_id, bytes(50_000)) and spool.end(raw_id, End(200, "complete")):
                kept.append(ids.format_id("ex", raw_id))
        assert spool.end(last, End(200, "complete"))
        filler.unlink()
        until(lambda: spool.begin(ids.new_raw_id(), BEGIN))
        kept.append(whole(spool))
        spool.close()
        got = read_all(killed(spool, tmp_path))
        over = [exchange.id for exchange in got.finished if exchange.end is not None and not exchange.is_damaged]
        assert over == [*kept[:-1], ids.format_id("ex", last), kept[-1]]
        assert len(kept) > 10
        assert sum(gap.gap.lost for gap in got.gaps) == spool.dropped
    finally:
        os.system(f"umount -l '{place}'")


def test_f08_appends_do_not_wait_for_a_slow_sync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    syncing, go_on = threading.Event(), threading.Event()
    real = os.fdatasync

    def slow(fd: int) -> None:
        syncing.set()
        assert go_on.wait(20)
        real(fd)

    monkeypatch.setattr(os, "fdatasync", slow)
    spool = SpoolWriter(tmp_path / "live", sync_interval_s=0.001, segment_bytes=5_000)
    whole(spool)
    assert syncing.wait(5)
    kept = [whole(spool) for _ in range(200)]
    told: list[bool] = []
    spool.when_durable(told.append)
    assert not told
    assert spool.synced == (1, 0), "still waiting"
    got = read_all(killed(spool, tmp_path))
    assert [exchange.id for exchange in got.finished][1:] == kept
    go_on.set()
    until(lambda: told == [True])
    assert spool.sync_us > 0
    spool.close()


def test_f09_after_a_failed_sync_what_was_not_durable_stands_in_a_new_segment(
    spool: SpoolWriter, disk: SmallDisk, tmp_path: Path
) -> None:
    first = whole(spool)
    assert spool.sync()
    number, durable = spool.synced
    second = whole(spool)
    disk.failing_syncs = 1
    assert not spool.sync()
    assert spool.sync_failures == 1
    third = whole(spool)
    assert spool.sync(), "the new segment is sound"
    folder = killed(spool, tmp_path)
    as_killed = read_all(Path(shutil.copytree(folder, tmp_path / "twice" / folder.name)))
    assert [exchange.id for exchange in as_killed.finished] == [first, second, third]
    assert [exchange.parts for exchange in as_killed.finished] == [[b"answer"]] * 3, "what stands there twice is taken once"
    with (folder / f"{number:010d}.seg").open("r+b") as file:
        file.truncate(durable)  # what the kernel forgot, and said nothing about
    got = read_all(folder)
    assert [exchange.id for exchange in got.finished] == [first, second, third]
    assert not got.gaps
    assert spool.unsure == 0


def test_f09_holes_in_the_distrusted_segment_are_filled_from_the_new_one(
    spool: SpoolWriter, disk: SmallDisk, tmp_path: Path
) -> None:
    ids_kept = [whole(spool), whole(spool), whole(spool)]
    disk.failing_syncs = 1
    spool.sync()
    folder = killed(spool, tmp_path)
    path = folder / "0000000001.seg"
    data = bytearray(path.read_bytes())
    found = [each for each in frames.scan(bytes(data), 0, frames.salt_of(folder.name)) if isinstance(each, Record)]
    data[found[4].position : found[7].end] = bytes(found[7].end - found[4].position)
    path.write_bytes(data)
    got = read_all(folder)
    assert {exchange.id for exchange in got.finished} == set(ids_kept)
    assert all(exchange.end is not None and exchange.parts == [b"answer"] for exchange in got.finished)


def test_f09_what_no_longer_fits_in_memory_is_counted(tmp_path: Path, disk: SmallDisk) -> None:
    spool = SpoolWriter(tmp_path / "live", sync_interval_s=3_600, ring_bytes=1_000)
    for _ in range(10):
        whole(spool, bytes(300))
    disk.failing_syncs = 1
    assert not spool.sync()
    assert 0 < spool.unsure < 40
    spool.close()


def test_f09_a_disk_that_refuses_for_good_is_tried_ever_more_slowly_and_holds_nobody_up(tmp_path: Path, disk: SmallDisk) -> None:
    disk.failing_syncs = 1_000_000
    spool = SpoolWriter(tmp_path / "live", sync_interval_s=0.2)
    whole(spool)
    told: list[bool] = []
    spool.when_durable(told.append)
    until(lambda: told == [False], 1.0)
    assert spool.sync_failures >= 2, "the alarm rings within a second"
    spool.when_durable(told.append)
    until(lambda: told == [False, False])
    assert len(list(spool.folder.glob("*.seg"))) < 10
    disk.failing_syncs = 0
    spool.close()
    assert [exchange.end is not None for exchange in read_all(spool.folder).finished] == [True]


def test_f24_a_rotten_sealed_segment_is_kept_aside_and_costs_only_its_victims(tmp_path: Path) -> None:
    spool = SpoolWriter(tmp_path / "spool", segment_bytes=3_000, sync_interval_s=3_600)
    kept = [whole(spool, bytes(200)) for _ in range(40)]
    spool.close()
    path = spool.folder / "0000000002.seg"
    data = bytearray(path.read_bytes())
    found = [each for each in frames.scan(bytes(data), 0, frames.salt_of(spool.spool_id)) if isinstance(each, Record)]
    victims = {ids.format_id("ex", found[2].exchange_id)}
    data[found[2].position + 20] ^= 0x10
    path.write_bytes(data)
    got = read_all(spool.folder)
    sound = [exchange for exchange in got.finished if exchange.id not in victims]
    assert [exchange.id for exchange in sound] == [id for id in kept if id not in victims]
    assert all(exchange.end is not None and exchange.parts == [bytes(200)] for exchange in sound)
    (gap,) = got.gaps
    quarantine = quarantine_of(tmp_path / "spool")
    assert gap.gap.reason.endswith(f"kept in quarantine/{spool.spool_id}/{path.name}")
    assert (quarantine / spool.spool_id / path.name).read_bytes() == data
    assert held(quarantine) == (1, len(data))
    assert {folder.stat().st_mode & 0o777 for folder in (quarantine, quarantine / spool.spool_id)} == {0o700}


def test_f24_the_quarantine_has_a_limit(tmp_path: Path) -> None:
    folder = tmp_path / "spool" / "sp_one"
    folder.mkdir(parents=True)
    for name in ("a.seg", "b.seg"):
        (folder / name).write_bytes(bytes(600))
    quarantine = quarantine_of(tmp_path / "spool")
    assert put_aside(folder / "a.seg", quarantine, 1_000) == "kept in quarantine/sp_one/a.seg"
    assert put_aside(folder / "b.seg", quarantine, 1_000) == "not kept, as the quarantine is full"
    assert put_aside(folder / "a.seg", quarantine, 1_000) == "kept in quarantine/sp_one/a.seg"
    assert held(quarantine) == (1, 600)


def test_f24_bodies_full_of_forged_frames_do_not_hold_up_the_reader(tmp_path: Path) -> None:
    spool = SpoolWriter(tmp_path / "spool", sync_interval_s=3_600)
    forged = frames.frame(frames.salt_of("sp_other"), 3, 9, 9, 9, b"x" * 16, bytes(900_000)) * 5_000
    whole(spool)
    victim = whole(spool, forged * 8)
    last = whole(spool)
    spool.close()
    path = spool.folder / "0000000001.seg"
    data = bytearray(path.read_bytes())
    position = data.find(forged[:200])
    data[position + 100] ^= 1
    path.write_bytes(data)
    (spool.folder / "0000000002.seg").touch()
    started = time.process_time()
    got = {exchange.id: exchange for exchange in read_all(spool.folder).finished}
    assert time.process_time() - started < 5
    assert got[victim].is_damaged
    assert got[last].parts == [b"answer"]


def test_f26_without_file_descriptors_the_spool_stays_in_its_segment_and_goes_on(tmp_path: Path) -> None:
    spool = SpoolWriter(tmp_path / "live", segment_bytes=1_000, sync_interval_s=3_600)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken: list[int] = []
    kept = [whole(spool)]
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
        while True:
            try:
                taken.append(os.dup(0))
            except OSError:
                break
        before = spool.synced[0]
        kept += [whole(spool, bytes(500)) for _ in range(20)]
        segments = os.listdir(os.fspath(spool.folder)) if not taken else None
    finally:
        for fd in taken:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert segments is None
    assert before == 1
    few = len(list(spool.folder.glob("*.seg")))
    kept += [whole(spool, bytes(500)) for _ in range(20)]
    assert few <= 2 < len(list(spool.folder.glob("*.seg")))
    assert spool.dropped == 0
    spool.close()
    finished: list[SpooledExchange] = read_all(spool.folder).finished
    assert [exchange.id for exchange in finished] == kept
