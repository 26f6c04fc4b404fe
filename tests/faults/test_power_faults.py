"""The power goes: what was synced is there, the rest may be missing in any part, and reading never stumbles over it."""

from __future__ import annotations

import itertools
import random
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import pytest
from sqlalchemy import text

from capture import ids
from capture.database import Database
from capture.derive import derive
from capture.exchange import INTERRUPTED
from capture.pricing import PriceTable
from capture.records import Begin, End, Head
from capture.settings import load_settings
from capture.spool import SpoolWriter
from capture.spool_reader import SpooledExchange, SpoolReader
from proxy.worker import start_worker
from tests.faults.disk import Change, Disk
from tests.faults.relay_process import ASK, CHAT, KEY
from tests.proxy.scripting import Upstream, relay_settings, talk

CUTS = 250
EXCHANGES = 80


@dataclass
class Written:
    """An exchange that was over before moment `end`; its records are the writes from moment `begin` on."""

    id: str
    begin: int
    end: int
    body: bytes


def write_exchange(spool: SpoolWriter, disk: Disk, number: int) -> Written:
    raw_id, begin = ids.new_raw_id(), disk.clock
    body = b"%d " % number + b"a" * (number * 37 % 900)
    spool.begin(raw_id, Begin("POST", "/v1/chat/completions", "", "openai", body=b"{}"))
    spool.head(raw_id, Head(200))
    spool.part(raw_id, body[:5])
    spool.part(raw_id, body[5:])
    spool.end(raw_id, End(200, "complete", response_sha256=sha256(body).hexdigest()))
    return Written(ids.format_id("ex", raw_id), begin, disk.clock, body)


def wait_until(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + 8
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.001)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Disk, list[Written]]:
    """A disk on which a spool wrote exchanges into many segments, with pauses in which it synced."""
    disk = Disk(tmp_path_factory.mktemp("power") / "spool")
    with disk.watching():
        spool = SpoolWriter(disk.root, sync_interval_s=0.002, segment_bytes=4_000)
        written = []
        for number in range(EXCHANGES):
            written.append(write_exchange(spool, disk, number))
            if number % 10 == 9:
                wait_until(lambda: not disk.volatile, "what is written is not made safe")
        spool.close()
    return disk, written


def read_everything(root: Path) -> dict[str, SpooledExchange]:
    """What the store writer would hand on from every spool under `root`; each is read to its end, or this fails."""
    found = {}
    for folder in root.glob("sp_*"):
        reader = SpoolReader(folder, None)
        for _ in range(1_000):
            batch = reader.read(50)
            found.update({exchange.id: exchange for exchange in batch.finished})
            if reader.is_dead:
                break
        assert reader.is_dead, "reading comes to an end"
        reader.close()
    return found


def is_whole(changes: list[Change], written: Written, moment: int) -> bool:
    """Whether every write of the exchange, and the name of the file it is in, was safe at `moment`."""
    writes = [change for change in changes if written.begin <= change.at < written.end and change.data]
    names = [change for change in changes if change.added and change.target in {write.node for write in writes}]
    return written.end <= moment and all(change.is_safe(moment) for change in (*writes, *names))


@pytest.mark.faults
def test_f02_what_was_synced_survives_any_power_cut_and_the_rest_never_stops_the_reader(
    run: tuple[Disk, list[Written]], tmp_path: Path
) -> None:
    disk, written = run
    generator = random.Random(2)
    survived = missed = 0
    for cut in range(CUTS):
        moment = generator.randrange(disk.clock + 1)
        root = tmp_path / str(cut)
        disk.lay_out(moment, root, generator)
        found = read_everything(root)
        for each in written:
            got = found.get(each.id)
            if is_whole(disk.changes, each, moment):
                survived += 1
                assert got is not None, f"{each.id} was safe before the cut at {moment}"
                assert got.end is not None
            elif got is None:
                missed += 1
            if got is not None and b"".join(got.parts) != each.body:
                assert derive(got, PriceTable({})).exchange.state == INTERRUPTED, "what is missing is noticed"
        shutil.rmtree(root)
    assert survived > EXCHANGES * CUTS // 10
    assert missed > EXCHANGES * CUTS // 10


@pytest.mark.faults
def test_f02_what_is_written_is_made_safe_soon_after_names_and_all(tmp_path: Path) -> None:
    disk = Disk(tmp_path / "spool")
    with disk.watching():
        spool = SpoolWriter(disk.root, sync_interval_s=0.01, segment_bytes=4_000)
        for number in range(30):
            write_exchange(spool, disk, number)
        wait_until(lambda: not disk.volatile, "bytes or names of segments are never synced")
        assert len(list(spool.folder.glob("*.seg"))) > 3
        spool.close()


@pytest.mark.faults
def test_f09_what_a_failed_sync_made_the_kernel_forget_is_written_again(tmp_path: Path) -> None:
    disk = Disk(tmp_path / "spool")
    numbers = itertools.count()

    def safe_ids() -> set[str]:
        target = tmp_path / f"cut{next(numbers)}"
        disk.lay_out_safe(target)
        return {id for id, exchange in read_everything(target).items() if exchange.end is not None}

    with disk.watching():
        spool = SpoolWriter(disk.root, sync_interval_s=0.002, segment_bytes=4_000)
        written = []
        for number in range(40):
            if number % 10 == 5:
                disk.refusals = 1
            written.append(write_exchange(spool, disk, number))
            if number % 10 == 9:
                wait_until(lambda: disk.refusals == 0, "nothing is synced")
        wait_until(lambda: safe_ids() == {each.id for each in written}, "what was forgotten is not written again")
        assert spool.dropped == 0
        spool.close()


@pytest.mark.faults
async def test_f02_in_strict_mode_an_answer_that_came_whole_survives_a_power_cut_at_once(
    tmp_path: Path, upstream: Upstream
) -> None:
    path = tmp_path / "potstill.toml"
    relay_settings(tmp_path, upstream.url)
    path.write_text(path.read_text() + '[capture]\ndurability = "strict"\n')
    settings = load_settings(path, environ={})
    disk = Disk(settings.data_folder / "spool")
    with disk.watching():
        worker = await start_worker(settings)
        try:
            for number in range(12):
                reply = await talk(worker.port, CHAT, KEY, ASK)
                assert reply.is_whole
                disk.lay_out_safe(tmp_path / str(number))
                found = read_everything(tmp_path / str(number))
                exchange = found[reply.header("x-potstill-exchange-id")]
                assert exchange.end is not None
                assert b"".join(exchange.parts) == reply.body
        finally:
            await worker.drain(0.0)


@pytest.mark.faults
def test_f02_the_store_syncs_each_transaction_before_its_segments_go(database: Database) -> None:
    with database.read() as connection:
        if database.is_sqlite:
            assert connection.execute(text("PRAGMA synchronous")).scalar_one() == 2, "2 is FULL"
        else:
            assert connection.execute(text("SHOW synchronous_commit")).scalar_one() == "on"
