"""What the relay does with capture's settings: waiting for the disk, refusing when full, framing and cutting large bodies."""

from __future__ import annotations

import asyncio
import errno
import os
import threading
import tracemalloc
from collections.abc import Iterator, Sequence
from hashlib import sha256
from pathlib import Path

import pytest

from capture import records
from capture.capture_settings import CaptureSettings
from capture.records import CUT, Begin, End
from capture.settings import Settings, load_settings
from capture.spool import PIECE_BYTES, SpoolWriter, read_records
from capture.spool_reader import SpooledExchange, SpoolReader
from proxy.recording import Recording
from tests.proxy.scripting import CHAT_ANSWER, Received, Upstream, http_answer, kept, relay_settings, relaying, talk, until

HEADERS = "Authorization: Bearer sk-test\r\nContent-Type: application/json\r\n"
CHAT = "POST /v1/chat/completions"
ASK = b'{"model":"gpt-5","messages":[]}'
MIB = 1024 * 1024


def settings_with(folder: Path, upstream: Upstream, **capture: object) -> Settings:
    """A relay's settings with these in section [capture]."""
    relay_settings(folder, upstream.url)
    path = folder / "potstill.toml"
    lines = [f'{key} = "{value}"' if isinstance(value, str) else f"{key} = {value}" for key, value in capture.items()]
    path.write_text("\n".join([path.read_text("utf-8"), "[capture]", *lines]) + "\n", "utf-8")
    return load_settings(path, environ={})


def captured(settings: Settings) -> list[SpooledExchange]:
    """What the store writer would read of the one relay that ran."""
    (folder,) = (settings.data_folder / "spool").glob("sp_*")
    reader = SpoolReader(folder, None)
    found = reader.read(1_000).finished
    reader.close()
    return found


class Gate:
    """Syncs of data wait until it is open."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.is_open = threading.Event()
        self.syncs = 0
        self._real = os.fdatasync
        patch.setattr(os, "fdatasync", self._sync)

    def _sync(self, fd: int) -> None:
        assert self.is_open.wait(20)
        self.syncs += 1
        self._real(fd)


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    gate = Gate(monkeypatch)
    yield gate
    gate.is_open.set()


async def test_in_strict_mode_no_last_byte_leaves_before_the_disk_has_it(tmp_path: Path, upstream: Upstream, gate: Gate) -> None:
    settings = settings_with(tmp_path, upstream, durability="strict")
    async with relaying(tmp_path) as worker:
        asking = [asyncio.create_task(talk(worker.port, CHAT, HEADERS, ASK)) for _ in range(5)]
        await until(lambda: [each.end for each in kept(settings)].count(None) == 0 and len(kept(settings)) == 5)
        assert not any(task.done() for task in asking), "the relay goes on while the disk works"
        gate.is_open.set()
        replies = await asyncio.gather(*asking)
        assert [reply.body for reply in replies] == [CHAT_ANSWER] * 5
        assert gate.syncs < 5, "those who wait share a sync"


async def test_in_default_mode_nobody_waits_for_the_disk(tmp_path: Path, upstream: Upstream, gate: Gate) -> None:
    settings_with(tmp_path, upstream)
    async with relaying(tmp_path) as worker:
        assert (await talk(worker.port, CHAT, HEADERS, ASK)).body == CHAT_ANSWER
        assert gate.syncs == 0
        gate.is_open.set()


async def test_a_disk_that_refuses_to_sync_is_told_and_keeps_no_answer_back(
    tmp_path: Path, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_fd: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    settings_with(tmp_path, upstream, durability="strict")
    monkeypatch.setattr(os, "fdatasync", refuse)
    async with relaying(tmp_path) as worker:
        for _ in range(3):
            assert (await talk(worker.port, CHAT, HEADERS, ASK)).body == CHAT_ANSWER
        failures = worker.status()["sync_failures"]
        assert isinstance(failures, int)
        assert failures >= 2


@pytest.mark.parametrize(
    ("path", "said"), [("/v1/chat/completions", b'"code":"spool_full"'), ("/v1/messages", b'"type":"overloaded_error"')]
)
async def test_a_full_spool_refuses_new_requests_when_so_set(path: str, said: bytes, tmp_path: Path, upstream: Upstream) -> None:
    settings_with(tmp_path, upstream, on_full="reject", spool_max_mib=1)
    async with relaying(tmp_path) as worker:
        large = b'{"model":"gpt-5","messages":[],"pad":"' + b"x" * MIB + b'"}'
        assert (await talk(worker.port, f"POST {path}", HEADERS, large)).status == 200
        refused = await talk(worker.port, f"POST {path}", HEADERS, ASK)
        assert (refused.status, refused.header("retry-after")) == (503, "1")
        assert said in refused.body
        assert len(upstream.received) == 1
        assert worker.status()["dropped"] == 1


async def test_a_full_spool_lets_requests_pass_and_counts_them_by_default(tmp_path: Path, upstream: Upstream) -> None:
    settings_with(tmp_path, upstream, spool_max_mib=1)
    async with relaying(tmp_path) as worker:
        large = b'{"model":"gpt-5","messages":[],"pad":"' + b"x" * MIB + b'"}'
        assert (await talk(worker.port, CHAT, HEADERS, large)).status == 200
        assert (await talk(worker.port, CHAT, HEADERS, ASK)).body == CHAT_ANSWER
        assert worker.status()["dropped"] == 1


@pytest.mark.parametrize(("on_full", "status"), [("reject", 503), ("drop", 200)])
async def test_a_large_request_whose_rest_cannot_be_kept_reaches_no_upstream_when_so_set(
    on_full: str, status: int, tmp_path: Path, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings_with(tmp_path, upstream, on_full=on_full)
    writev = os.writev

    def small_only(fd: int, buffers: Sequence[bytes]) -> int:
        if buffers[0][2] == records.BODY:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return writev(fd, buffers)

    large = b'{"model":"gpt-5","messages":[],"pad":"' + b"x" * MIB + b'"}'
    async with relaying(tmp_path) as worker:
        monkeypatch.setattr(os, "writev", small_only)
        reply = await talk(worker.port, CHAT, HEADERS, large)
        assert (reply.status, len(upstream.received)) == (status, 1 if status == 200 else 0)
        assert (b"spool_full" in reply.body, worker.status()["dropped"]) == (status == 503, 1)


async def test_large_bodies_are_framed_in_pieces_and_come_out_whole(tmp_path: Path, upstream: Upstream) -> None:
    answer = os.urandom(3 * MIB + 5)

    async def script(_received: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(http_answer(answer))

    upstream.script = script
    settings = settings_with(tmp_path, upstream)
    asked = b'{"model":"gpt-5","pad":"' + b"y" * (2 * MIB) + b'"}'
    async with relaying(tmp_path) as worker:
        assert (await talk(worker.port, CHAT, HEADERS, asked)).body == answer
    (got,) = captured(settings)
    assert upstream.received[0].body == asked
    assert got.end is not None
    assert (got.begin.body_size, len(got.begin.body), got.end.captured) == (len(asked), PIECE_BYTES, "")
    assert (got.request_body(), got.response_body()) == (asked, answer)
    assert (got.end.request_sha256, got.end.response_sha256) == (sha256(asked).hexdigest(), sha256(answer).hexdigest())
    (segment,) = (settings.data_folder / "spool").glob("sp_*/*.seg")
    sizes = dict.fromkeys((records.BEGIN, records.BODY, records.PART), 0)
    for record in read_records(segment):
        sizes[record.type] = max(sizes.get(record.type, 0), len(record.payload))
    assert PIECE_BYTES == sizes[records.BODY] >= sizes[records.PART] > 0


async def test_the_captured_copy_stops_at_the_cap_and_the_relay_does_not(tmp_path: Path, upstream: Upstream) -> None:
    answer = os.urandom(2 * MIB)

    async def script(_received: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(http_answer(answer))

    upstream.script = script
    settings = settings_with(tmp_path, upstream, max_body_mib=1)
    asked = b'{"model":"gpt-5","pad":"' + b"y" * (2 * MIB) + b'"}'
    async with relaying(tmp_path) as worker:
        assert (await talk(worker.port, CHAT, HEADERS, asked)).body == answer
        assert (await talk(worker.port, CHAT, HEADERS, ASK)).body == answer
    both, answer_only = captured(settings)
    assert upstream.received[0].body == asked
    assert (both.request_body(), both.response_body()) == (asked[:MIB], answer[:MIB])
    for each in (both, answer_only):
        assert each.end is not None
        assert (each.end.captured, each.end.response_sha256) == (CUT, sha256(answer).hexdigest())


async def test_a_body_of_50_mb_is_not_copied_and_lets_others_work(tmp_path: Path) -> None:
    spool = SpoolWriter(tmp_path / "spool")
    body = bytes(50 * MIB)
    recording = Recording(spool, CaptureSettings())
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    working = asyncio.create_task(others())
    tracemalloc.start()
    recording.begin(Begin("POST", "/v1/chat/completions", "", "openai", body=body))
    await recording.rest(body)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    working.cancel()
    assert peak < 5 * MIB
    assert turns >= 50
    recording.end("complete")
    spool.close()
    reader = SpoolReader(spool.folder, None)
    (got,) = reader.read(10).finished
    assert got.request_body() == body
    assert isinstance(got.end, End)
    assert got.end.request_sha256 == sha256(body).hexdigest()
    reader.close()
