"""Everything under `potstill up`, as real processes."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from capture import feed
from capture.database import open_database
from capture.filters import parse_filter
from capture.settings import load_settings
from proxy.children import Child
from tests.proxy.housing import House, NotReadyError, house_in, until_async
from tests.proxy.scripting import CHAT_ANSWER, Received, Upstream, chunk, chunked_head, free_port, relay_settings, talk, until

KEY = "Authorization: Bearer sk-test\r\n"
CHAT = "POST /v1/chat/completions"
ASK = b'{"model": "m"}'


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"


async def test_the_house_relays_keeps_stores_and_ends_in_order(tmp_path: Path, upstream: Upstream) -> None:
    async with house_in(tmp_path, upstream.url, workers=2) as house:
        assert await house.get("/health/live") == (200, {"is_live": True})
        assert (await house.get("/health/ready"))[0] == 200
        for _ in range(10):
            assert (await talk(house.port, CHAT, KEY, ASK)).body == CHAT_ANSWER
        await until_async(lambda: house.status(), lambda status: status["requests"] == 10 and not status["ailing"])
        status = await house.status()
        assert [worker["state"] for worker in status["workers"]] == ["running", "running"]
        assert status["dropped"] == 0
        pids = [worker["pid"] for worker in status["workers"]] + [status["writer"]["pid"]]
        assert await house.stop() == 0
        assert not any(is_alive(pid) for pid in pids)
    database = open_database(house.settings.database_url)
    exchanges = feed.page(database, parse_filter(""))
    database.close()
    assert [exchange.state for exchange in exchanges] == ["complete"] * 10
    assert list((house.settings.data_folder / "spool").glob("sp_*/*.seg")) == [], "the writer emptied the spool before it ended"


async def test_a_dead_child_is_started_again_and_the_relay_goes_on(tmp_path: Path, upstream: Upstream) -> None:
    async with house_in(tmp_path, upstream.url) as house:
        before = await house.status()
        os.kill(before["writer"]["pid"], signal.SIGKILL)
        assert (await talk(house.port, CHAT, KEY, ASK)).body == CHAT_ANSWER
        assert (await house.get("/health/ready"))[0] == 200
        os.kill(before["workers"][0]["pid"], signal.SIGKILL)

        def is_mended(status: dict[str, Any]) -> bool:
            children = [status["writer"], status["workers"][0]]
            return status["is_ready"] and all(child["restarts"] and child["state"] == "running" for child in children)

        await until_async(house.status, is_mended)
        assert (await talk(house.port, CHAT, KEY, ASK)).body == CHAT_ANSWER
        assert (await house.status())["writer"]["exit_status"] == -signal.SIGKILL
        assert await house.stop() == 0
    database = open_database(house.settings.database_url)
    assert feed.count(database, parse_filter("")) == 2
    database.close()


async def test_a_worker_whose_log_cannot_be_written_ends_the_start_with_the_reason(tmp_path: Path, upstream: Upstream) -> None:
    (tmp_path / "data" / "logs" / "relay-worker-1.log").mkdir(parents=True)
    async with asyncio.timeout(20):
        with pytest.raises(NotReadyError, match=r"relay worker 1 does not start: It cannot be started: .*Is a directory"):
            async with house_in(tmp_path, upstream.url):
                pass


async def test_a_child_that_cannot_be_started_is_tried_again_and_leaks_no_descriptor(tmp_path: Path) -> None:
    log = tmp_path / "child.log"
    log.mkdir()
    ends: list[str] = []
    child = Child("child", ["proxy.worker"], log, tmp_path, has_status=True, on_end=lambda one: ends.append(one.last_words()))
    descriptors = len(list(Path("/proc/self/fd").iterdir()))
    child.start()
    await until(lambda: len(ends) > 2)
    await child.stop(5.0)
    assert "Is a directory" in ends[-1]
    assert child.exit_status is None
    assert len(list(Path("/proc/self/fd").iterdir())) == descriptors


async def test_no_child_outlives_a_supervisor_that_was_killed(tmp_path: Path, upstream: Upstream) -> None:
    async with house_in(tmp_path, upstream.url) as house:
        status = await house.status()
        pids = [status["writer"]["pid"], *(worker["pid"] for worker in status["workers"])]
        assert all(is_alive(pid) for pid in pids)
        house.process.kill()
        await until(lambda: not any(is_alive(pid) for pid in pids), 10)


@pytest.mark.faults
async def test_f21_sigterm_lets_a_stream_finish_and_says_so_to_probes(tmp_path: Path, upstream: Upstream) -> None:
    go_on = asyncio.Event()

    async def script(_received: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(chunked_head() + chunk(b"data: 1\n\n"))
        await go_on.wait()
        writer.write(chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n")

    upstream.script = script
    async with house_in(tmp_path, upstream.url) as house:
        stream = asyncio.ensure_future(talk(house.port, CHAT, KEY, ASK))
        await until(lambda: upstream.received)
        house.process.send_signal(signal.SIGTERM)
        await until_async(lambda: house.get("/health/ready"), lambda answer: answer[0] == 503)
        go_on.set()
        assert (await stream).is_whole
        assert await house.stop() == 0


@pytest.mark.parametrize("key", ["port", "admin_port"])
async def test_a_taken_port_ends_the_start_with_its_name(key: str, tmp_path: Path, upstream: Upstream) -> None:
    with pytest.raises(NotReadyError) as caught:
        async with house_in(tmp_path, upstream.url, **{key: upstream.port}):
            pass
    assert f"Port {upstream.port} of 127.0.0.1 is taken" in str(caught.value)
    assert f"set {key} in [relay]" in str(caught.value)


async def test_the_admin_listener_refuses_foreign_names(tmp_path: Path, upstream: Upstream) -> None:
    async with house_in(tmp_path, upstream.url) as house:
        address = f"http://127.0.0.1:{house.admin_port}/status"
        async with aiohttp.ClientSession() as session:
            async with session.get(address, headers={"Host": "evil.example"}) as answer:
                assert answer.status == 403
            async with session.get(address, headers={"Host": "localhost:1"}) as answer:
                assert answer.status == 200
        assert "sk-" not in json.dumps(await house.status())


@pytest.mark.faults
async def test_f06_a_store_that_cannot_be_reached_does_not_stop_the_house(tmp_path: Path, upstream: Upstream) -> None:
    settings = relay_settings(tmp_path, upstream.url)
    assert settings.path is not None
    nowhere = f'database_url = "postgresql://nobody@127.0.0.1:{free_port()}/none"'
    settings.path.write_text(settings.path.read_text().replace("[relay]", f"{nowhere}\n[relay]"))
    house = House(settings)
    await house.start()
    try:
        assert (await talk(house.port, CHAT, KEY, ASK)).body == CHAT_ANSWER
        status = await house.status()
        assert "cannot be opened" in status["store_problem_at_start"]
        assert status["is_ready"]
        code, said = await house.get("/health/ready")
        assert (code, said["is_degraded"]) == (200, True)
        assert "store: it cannot be written, and GET /status says why" in said["ailing"]
    finally:
        assert await house.stop() == 0


async def test_logs_stay_small_while_the_house_runs(tmp_path: Path, upstream: Upstream) -> None:
    settings = relay_settings(tmp_path, upstream.url)
    assert settings.path is not None
    settings.path.write_text(settings.path.read_text() + "[logs]\nmax_mib = 1\nkeep = 1\n")
    log = settings.data_folder / "logs" / "store-writer.log"
    log.parent.mkdir()
    log.write_bytes(b"old\n" * 2**19)
    house = House(load_settings(settings.path, environ={}))
    await house.start()
    try:
        await until(lambda: log.with_name("store-writer.log.1").exists() and log.stat().st_size < 2**20, 60)
        assert log.with_name("store-writer.log.1").read_bytes().startswith(b"old\n")
        before = await house.status()
        os.kill(before["writer"]["pid"], signal.SIGKILL)
        await until(lambda: b"ready" in log.read_bytes(), 60)
    finally:
        assert await house.stop() == 0
