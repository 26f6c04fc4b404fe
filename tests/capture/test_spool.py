from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capture import clock, ids, records
from capture.errors import SpoolError
from capture.frames import Damage, salt_of, scan
from capture.records import Begin, End, Gap, Head, decode
from capture.reserve import RESERVE_NAME, quota
from capture.spool import PIECE_BYTES, SpoolWriter, read_records
from capture.spool_reader import SpoolReader

BEGIN = Begin("POST", "/v1/chat/completions", "", "openai", body=b"{}")
ROOT = Path(__file__).parents[2]


def read_all(folder: Path) -> list[tuple[int, bytes, bytes]]:
    return [
        (record.type, record.exchange_id, record.payload)
        for path in sorted(folder.glob("*.seg"))
        for record in read_records(path)
    ]


def write_exchange(spool: SpoolWriter, parts: list[bytes]) -> bytes:
    raw_id = ids.new_raw_id()
    spool.begin(raw_id, BEGIN)
    spool.head(raw_id, Head(200))
    for part in parts:
        spool.part(raw_id, memoryview(part))
    spool.end(raw_id, End(200, "complete"))
    return raw_id


def test_a_record_is_on_disk_when_the_method_returns(tmp_path: Path) -> None:
    spool = SpoolWriter(tmp_path)
    raw_id = write_exchange(spool, [b"one", b"two"])
    got = read_all(spool.folder)
    spool.close()
    assert [kind for kind, _, _ in got] == [records.BEGIN, records.HEAD, records.PART, records.PART, records.END]
    assert {id for _, id, _ in got} == {raw_id}
    assert [payload for kind, _, payload in got if kind == records.PART] == [b"one", b"two"]
    assert decode(got[0][2], Begin) == BEGIN


def test_a_full_segment_is_followed_by_the_next_and_nothing_is_lost(tmp_path: Path) -> None:
    spool = SpoolWriter(tmp_path, segment_bytes=2_000)
    sent = [write_exchange(spool, [bytes(300)]) for _ in range(40)]
    spool.close()
    assert len(list(spool.folder.glob("*.seg"))) > 5
    assert [id for kind, id, _ in read_all(spool.folder) if kind == records.END] == sent


def test_an_old_segment_is_followed_by_the_next(tmp_path: Path) -> None:
    spool = SpoolWriter(tmp_path, segment_seconds=0)
    write_exchange(spool, [])
    spool.close()
    assert len(list(spool.folder.glob("*.seg"))) == 3


def test_what_is_stored_leaves_the_disk_although_no_request_comes_any_more(tmp_path: Path) -> None:
    spool = SpoolWriter(tmp_path, sync_interval_s=0.001, segment_seconds=0.05)
    write_exchange(spool, [b"said in confidence"])
    reader = SpoolReader(spool.folder, None)
    assert len(reader.read(5).finished) == 1
    deadline = time.monotonic() + 20
    while b"in confidence" in b"".join(path.read_bytes() for path in spool.folder.glob("*.seg")):
        assert time.monotonic() < deadline
        reader.read(5)
        reader.drop_before(reader.low_water)
    spool.close()


def test_a_small_quota_holds_as_long_as_the_store_keeps_up(tmp_path: Path) -> None:
    spool = SpoolWriter(tmp_path, sync_interval_s=0.001, max_bytes=400_000)
    reader = SpoolReader(spool.folder, None)
    for _ in range(40):
        write_exchange(spool, [bytes(30_000)])
        reader.read(100)
        reader.drop_before(reader.low_water)
        spool.look()
    assert spool.dropped == 0
    spool.close()


def test_two_processes_never_share_a_folder(tmp_path: Path) -> None:
    first, second = SpoolWriter(tmp_path), SpoolWriter(tmp_path)
    assert first.folder != second.folder
    first.close()
    second.close()


def test_a_spool_that_cannot_be_made_says_why(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SpoolError, match="cannot be used"):
        SpoolWriter(tmp_path / "file")


def test_parts_without_a_begin_are_not_kept(tmp_path: Path) -> None:
    spool = SpoolWriter(tmp_path)
    assert not spool.part(ids.new_raw_id(), b"orphan")
    spool.close()
    assert read_all(spool.folder) == []


def test_beyond_the_quota_exchanges_are_dropped_counted_and_leave_a_gap(tmp_path: Path) -> None:
    spool = SpoolWriter(tmp_path, max_bytes=1_000, sync_interval_s=0.001)
    kept, tries = [], 0
    while spool.dropped < 3 and tries < 1_000_000:
        raw_id = ids.new_raw_id()
        tries += 1
        if spool.begin(raw_id, BEGIN):
            spool.end(raw_id, End(200, "complete"))
            kept.append(raw_id)
    spool.close()
    got = read_all(spool.folder)
    assert spool.dropped == 3
    assert [id for kind, id, _ in got if kind == records.END] == kept
    gaps = [decode(payload, Gap) for kind, _, payload in got if kind == records.GAP]
    assert sum(gap.lost for gap in gaps) == 3
    assert gaps[0].reason == "the spool is full"


def gaps_in(folder: Path) -> list[Gap]:
    return [decode(payload, Gap) for kind, _, payload in read_all(folder) if kind == records.GAP]


@pytest.mark.parametrize("is_full", [True, False], ids=["the spool stays full", "one write fails"])
def test_a_gap_is_written_within_seconds_though_nothing_follows(
    is_full: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = SpoolWriter(tmp_path, max_bytes=1_000 if is_full else 1_000_000, sync_interval_s=0.01)
    write_exchange(spool, [bytes(3_000)])
    spool.look()

    def refuse(*_: object) -> int:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as broken:
        if not is_full:
            broken.setattr(os, "writev", refuse)
        assert not spool.begin(ids.new_raw_id(), BEGIN)
    deadline = time.monotonic() + 10
    while not gaps_in(spool.folder) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert [gap.lost for gap in gaps_in(spool.folder)] == [1]
    spool.close()
    assert [gap.lost for gap in gaps_in(spool.folder)] == [1]


FULL_DISK = """
import resource, sys
from pathlib import Path
from capture import ids
from capture.records import Begin, End, Head
from capture.spool import SpoolWriter

begin = Begin("POST", "/v1/chat/completions", "", "openai", body=b"{}")
spool = SpoolWriter(Path(sys.argv[1]), segment_bytes=1 << 30, segment_seconds=3600)
_, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

def exchange(size):
    raw_id = ids.new_raw_id()
    done = [spool.begin(raw_id, begin), spool.part(raw_id, bytes(size)), spool.end(raw_id, End(200, "complete"))]
    print(ids.format_id("ex", raw_id), int(done[0]), int(all(done)), flush=True)

exchange(100)
resource.setrlimit(resource.RLIMIT_FSIZE, (4_000, hard))
for _ in range(5):
    exchange(3_000)
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
exchange(100)
print("dropped", spool.dropped, 0)
spool.close()
"""


def test_a_full_disk_harms_nobody_but_those_it_hit_and_leaves_a_gap(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )
    *lines, last = [line.split() for line in done.stdout.splitlines()]
    dropped = int(last[1])
    whole = [ids.parse_id(id) for id, _, is_whole in lines if is_whole == "1"]
    (folder,) = (path for path in tmp_path.iterdir() if path.is_dir())
    got = read_all(folder)
    assert dropped == len(lines) - len(whole) >= 4
    assert len(whole) >= 2
    assert [id for kind, id, _ in got if kind == records.END] == whole
    gaps = [decode(payload, Gap) for kind, _, payload in got if kind == records.GAP]
    assert sum(gap.lost for gap in gaps) == dropped
    begun = {ids.parse_id(id) for id, has_begun, is_whole in lines if has_begun == "1" and is_whole == "0"}
    assert {id for gap in gaps for id in gap.broken} == begun
    (segment,) = folder.glob("*.seg")
    assert not [found for found in scan(segment.read_bytes(), 0, salt_of(folder.name)) if isinstance(found, Damage)]


def test_the_sync_thread_ends_with_the_spool(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else 0
    spool = SpoolWriter(tmp_path)
    write_exchange(spool, [b"x"])
    spool.close()
    spool.close()
    assert not spool._syncer.is_alive
    assert before == (len(os.listdir("/proc/self/fd")) if before else 0)


@pytest.mark.parametrize("now_us", [-5_000_000, 0, 4_102_444_800_000_000])
def test_any_clock_is_written_down_as_it_is(now_us: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "now_us", lambda: now_us)
    spool = SpoolWriter(tmp_path)
    write_exchange(spool, [b"x"])
    (exchange,) = SpoolReader(spool.folder, None).read(5).finished
    assert exchange.started_us == now_us
    assert exchange.ended_us >= exchange.started_us
    assert spool.dropped == 0
    spool.close()


def test_an_absurd_clock_costs_the_exchange_and_not_the_relay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = SpoolWriter(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(clock, "now_us", lambda: 1 << 62)
        assert not spool.begin(ids.new_raw_id(), BEGIN)
    assert spool.dropped == 1
    assert write_exchange(spool, [])
    spool.close()


def test_a_clock_before_1970_still_gives_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.time_ns", lambda: -5_000_000_000)
    assert len({ids.new_raw_id() for _ in range(100)}) == 100


TEXT = st.text(st.characters(codec=None, categories=None), max_size=20)


@given(TEXT, st.dictionaries(TEXT, TEXT, max_size=3), st.lists(st.binary(max_size=50), max_size=4))
def test_any_text_and_bytes_go_through_the_spool(
    tmp_path_factory: pytest.TempPathFactory, words: str, tags: dict[str, str], parts: list[bytes]
) -> None:
    spool = SpoolWriter(tmp_path_factory.mktemp("any"), sync_interval_s=3600)
    raw_id = ids.new_raw_id()
    assert spool.begin(raw_id, Begin("POST", words, words, "openai", user_name=words, tags=tags, body=b"".join(parts)))
    assert spool.head(raw_id, Head(200, tags))
    assert all(spool.part(raw_id, part) for part in parts)
    assert spool.end(raw_id, End(200, "complete", error_message=words))
    (exchange,) = SpoolReader(spool.folder, None).read(5).finished
    assert (exchange.request_body(), exchange.parts) == (b"".join(parts), parts)
    assert exchange.begin.user_name == words.encode("utf-8", "surrogatepass").decode("utf-8", "replace")
    spool.close()


def test_50_mb_go_through_the_spool_in_pieces(tmp_path: Path) -> None:
    spool = SpoolWriter(tmp_path)
    raw_id, data = ids.new_raw_id(), os.urandom(1 << 20) * 50
    view = memoryview(data)
    spool.begin(raw_id, Begin("POST", "/v1/files", "", "openai", body=data[:PIECE_BYTES], body_size=len(data)))
    assert spool.body(raw_id, view[PIECE_BYTES:])
    assert spool.part(raw_id, data)
    assert spool.end(raw_id, End(200, "complete"))
    reader = SpoolReader(spool.folder, None)
    (exchange,) = reader.read(5).finished
    assert max(map(len, exchange.parts + exchange.body_parts)) == PIECE_BYTES
    assert exchange.request_body() == data
    assert exchange.response_body() == data
    assert exchange.body_parts == [], "the whole is held once"
    assert len(exchange.parts) == 1
    spool.close()


def test_the_quota_is_never_more_than_a_share_of_the_free_disk(tmp_path: Path) -> None:
    free = shutil.disk_usage(tmp_path).free
    assert quota(tmp_path, 1_000) == 1_000
    assert quota(tmp_path, 1 << 60) == pytest.approx(free / 10, rel=0.2)
    assert quota(tmp_path, 1 << 60, 4) == pytest.approx(free / 40, rel=0.2)


def test_after_a_close_the_reserve_is_gone(tmp_path: Path) -> None:
    spool = SpoolWriter(tmp_path, reserve_bytes=10_000)
    assert (spool.folder / RESERVE_NAME).stat().st_size == 10_000
    spool.close()
    assert not (spool.folder / RESERVE_NAME).exists()


def test_whoever_waits_when_the_spool_closes_is_told(tmp_path: Path) -> None:
    spool = SpoolWriter(tmp_path, sync_interval_s=3600)
    told: list[bool] = []
    for _ in range(3):
        spool.when_durable(told.append)
    spool.close()
    assert len(told) == 3
