from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from capture import ids, records
from capture.errors import SpoolError
from capture.frames import Damage, salt_of, scan
from capture.records import Begin, End, Gap, Head, decode
from capture.spool import SpoolWriter, read_records

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
