"""Whatever stands behind the relay is killed while users ask: every one of their requests succeeds.

Store, store writer, disk, engine and flag store, one by one and then all at once, under a load that never pauses. What the
relay could keep is in the store afterwards, once.
"""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from capture.database import open_database
from serve.flag_store import set_share
from serve.release_store import READY, add_release, settle_release
from tests.abuse.house import PATIENCE_S, House, house_in
from tests.faults.network import FaultyNetwork, socket_of, through
from tests.proxy.scripting import CHAT_ANSWER, Received, Upstream, chunk, chunked_head, free_port, http_answer, talk, until

pytestmark = pytest.mark.faults

KEY = "Authorization: Bearer sk-test\r\n"
STREAM = (
    b'data: {"choices": [{"index": 0, "delta": {"content": "billing"}, "finish_reason": "stop"}]}\n\n' * 5 + b"data: [DONE]\n\n"
)
ENGINE = Path(__file__).parents[1] / "serve" / "scripted_engine.py"
USERS = 6
ENOUGH = 40
"""Requests that must have begun and succeeded after each blow."""


async def teach(received: Received, writer: asyncio.StreamWriter) -> None:
    """A provider that answers at once, streamed if so asked."""
    if b'"stream": true' not in received.body:
        writer.write(http_answer(CHAT_ANSWER))
        return
    writer.write(chunked_head())
    for event in STREAM.split(b"\n\n")[:-1]:
        writer.write(chunk(event + b"\n\n"))
        await writer.drain()
    writer.write(b"0\r\n\r\n")


@dataclass
class Load:
    """Users who ask without end: `served` counts answers that came whole and right, `failed` says what else came."""

    port: int
    served: int = 0
    failed: list[str] = field(default_factory=list)
    answered_by: Counter[str] = field(default_factory=Counter)

    async def ask(self, user: int) -> None:
        """One user, whose every second request is streamed."""
        number = 0
        while True:
            number += 1
            body = b'{"model": "m", "messages": [{"role": "user", "content": "q"}], "stream": %s}'
            headers = f"{KEY}x-potstill-task: triage\r\nx-potstill-user: u{user}\r\nContent-Type: application/json\r\n"
            await self._once(headers, body % (b"true" if number % 2 else b"false"))
            await asyncio.sleep(0.005)

    async def _once(self, headers: str, body: bytes) -> None:
        try:
            async with asyncio.timeout(PATIENCE_S):
                reply = await talk(self.port, "POST /v1/chat/completions", headers, body)
        except (OSError, EOFError, TimeoutError) as error:
            self.failed.append(repr(error))
            return
        is_right = reply.body in (CHAT_ANSWER, STREAM) or reply.header("x-potstill-upstream") == "engine"
        if reply.status == 200 and reply.is_whole and is_right:
            self.served += 1
            self.answered_by[reply.header("x-potstill-upstream")] += 1
        else:
            self.failed.append(repr(reply))

    async def goes_on(self, count: int = ENOUGH) -> None:
        """Waits until `count` more requests have succeeded; fails as soon as one has not."""
        goal = self.served + count + USERS  # those that were open before the blow do not count
        await until(lambda: self.served >= goal or self.failed, PATIENCE_S)
        assert self.failed == []


@asynccontextmanager
async def load_on(house: House, upstream: Upstream) -> AsyncIterator[Load]:
    """A load that has begun; at its end every request of it must have succeeded."""
    upstream.script = teach
    load = Load(house.port)
    users = [asyncio.ensure_future(load.ask(number)) for number in range(USERS)]
    try:
        await load.goes_on()
        yield load
        await load.goes_on()
    finally:
        for user in users:
            user.cancel()
        await asyncio.gather(*users, return_exceptions=True)
    assert load.failed == []


async def pid_of(house: House, name: str) -> int:
    """The process that the status calls so, once it runs."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            status = await house.status()
            found = status["writer"] if name == "writer" else status["workers"][0]
            if found["state"] == "running" and found["pid"]:
                return int(found["pid"])
            await asyncio.sleep(0.05)


async def all_are_stored(house: House, load: Load) -> None:
    """What was served comes into the store, each exchange once, beside at most those that were just open; the house ends."""
    await house.stored(load.served)
    await house.stop()
    exchanges = house.exchanges()
    ids = {exchange.id for exchange in exchanges}
    assert len(ids) == len(exchanges)
    assert load.served <= len(exchanges) <= load.served + USERS
    assert Counter(exchange.state for exchange in exchanges)["complete"] >= load.served


async def test_the_store_writer_is_killed_again_and_again(tmp_path: Path, upstream: Upstream) -> None:
    async with house_in(tmp_path, upstream.url) as house:
        async with load_on(house, upstream) as load:
            for _ in range(3):
                os.kill(await pid_of(house, "writer"), signal.SIGKILL)
                await load.goes_on()
        await all_are_stored(house, load)


async def test_the_store_writer_stands_still(tmp_path: Path, upstream: Upstream) -> None:
    async with house_in(tmp_path, upstream.url) as house:
        async with load_on(house, upstream) as load:
            writer = await pid_of(house, "writer")
            os.kill(writer, signal.SIGSTOP)
            try:
                await load.goes_on()
            finally:
                os.kill(writer, signal.SIGCONT)
        await all_are_stored(house, load)


async def test_a_postgresql_refuses_then_falls_silent_then_comes_back(
    tmp_path: Path, upstream: Upstream, postgresql_url: str
) -> None:
    with FaultyNetwork(socket_of(postgresql_url)) as network:
        store = through(network, postgresql_url)
        async with house_in(tmp_path, upstream.url, store=store) as house:
            async with load_on(house, upstream) as load:
                network.refuse()
                await load.goes_on()
                network.heal()
                await load.goes_on()
                network.swallow()
                await load.goes_on()
                network.refuse()
                await load.goes_on()
                network.heal()
            await all_are_stored(house, load)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Somebody holds the whole SQLite file for himself."""
    holder = sqlite3.connect(path, isolation_level=None, timeout=PATIENCE_S)
    try:
        holder.execute("BEGIN EXCLUSIVE")
        yield
        holder.execute("ROLLBACK")
    finally:
        holder.close()


def sqlite_of(house: House) -> Path:
    return Path(house.settings.database_url.removeprefix("sqlite:///"))


async def test_an_sqlite_store_is_locked_by_somebody_else(tmp_path: Path, upstream: Upstream) -> None:
    async with house_in(tmp_path, upstream.url) as house:
        async with load_on(house, upstream) as load:
            with locked(sqlite_of(house)):
                await load.goes_on()
        await all_are_stored(house, load)


async def test_an_sqlite_store_is_overwritten(tmp_path: Path, upstream: Upstream) -> None:
    async with house_in(tmp_path, upstream.url) as house, load_on(house, upstream) as load:
        path = sqlite_of(house)
        for each in (path, path.with_name(path.name + "-wal"), path.with_name(path.name + "-shm")):
            if each.exists():
                each.write_bytes(b"this is no database" * 1_000)
        await load.goes_on(ENOUGH * 2)
        assert (await house.get("/health/ready"))[0] == 200, "degraded is ready"


def limit_files(pid: int, size: int) -> None:
    """From now on no file of the process may grow beyond `size`; -1 lifts the limit."""
    _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (hard if size < 0 else size, hard))


async def test_the_disk_takes_no_more_bytes_of_the_relay(tmp_path: Path, upstream: Upstream) -> None:
    async with house_in(tmp_path, upstream.url) as house:
        async with load_on(house, upstream) as load:
            relay = await pid_of(house, "relay")
            limit_files(relay, 0)
            await load.goes_on(ENOUGH * 2)
            async with asyncio.timeout(PATIENCE_S):
                while not (await house.status())["dropped"]:  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
            limit_files(relay, -1)
            await load.goes_on()
            seen = len(house.exchanges())
            await load.goes_on(ENOUGH * 2)
            await house.stored(seen + ENOUGH)
        assert await pid_of(house, "relay") == relay, "it is the same process, which went on"


@contextmanager
def small_disk(place: Path) -> Iterator[None]:
    """`place` is a disk of 64 MiB; skips where mounting is not allowed."""
    place.mkdir()
    if os.system(f"mount -t tmpfs -o size=64m tmpfs '{place}' 2>/dev/null"):
        pytest.skip("mounting is not allowed here")
    try:
        yield
    finally:
        os.system(f"umount -l '{place}'")


def fill(file: Path) -> None:
    """Lets `file` take all that is left of its disk."""
    with file.open("wb", buffering=0) as filler, suppress(OSError):
        while True:
            filler.write(bytes(65_536))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a small disk")
async def test_a_real_disk_is_full_for_relay_writer_and_store(tmp_path: Path, upstream: Upstream) -> None:
    filler = tmp_path / "data" / "filler"
    with small_disk(filler.parent):
        async with house_in(tmp_path, upstream.url) as house, load_on(house, upstream) as load:
            fill(filler)
            await load.goes_on(ENOUGH * 2)
            filler.unlink()
            await load.goes_on()
            seen = len(house.exchanges())
            await load.goes_on(ENOUGH)
            await house.stored(seen + 1)


@contextmanager
def engine_on(port: int, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A scripted engine that serves `triage@r1`."""
    command = [sys.executable, str(ENGINE), "serve", "base", "--host", "127.0.0.1", "--port", str(port)]
    environ = {**os.environ, "SCRIPTED_ENGINE": "alone"}
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=folder, env=environ)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


async def has_loaded(port: int) -> bool:
    """Asks the engine to load the release; True once it has."""
    body = b'{"lora_name": "triage@r1", "lora_path": "/nowhere"}'
    try:
        return (await talk(port, "POST /v1/load_lora_adapter", "", body)).status in (200, 400)
    except (OSError, EOFError):
        return False


async def wait_for(look: Callable[[], object]) -> None:
    """Waits for `look`, which may be slow to come true on a busy machine."""
    await until(look, PATIENCE_S)


@asynccontextmanager
async def with_student(house: House, port: int) -> AsyncIterator[None]:
    """The engine has the release, and the flag gives it every unit of task triage."""
    async with asyncio.timeout(PATIENCE_S):
        while not await has_loaded(port):  # noqa: ASYNC110
            await asyncio.sleep(0.1)
    database = open_database(house.settings.database_url)
    try:
        release = add_release(database, "triage", "ad_1", {})
        settle_release(database, release, READY, {}, 10, 10)
        set_share(database, "triage", 10_000, unit="user", who="test", why="test")
        yield
    finally:
        database.close()


@pytest.mark.parametrize("blow", [signal.SIGKILL, signal.SIGSTOP], ids=["it is killed", "it stands still"])
async def test_the_engine_goes_away_and_the_teacher_answers(blow: signal.Signals, tmp_path: Path, upstream: Upstream) -> None:
    port = free_port()
    with engine_on(port, tmp_path) as engine:
        how = {"engine_url": f"http://127.0.0.1:{port}", "student_timeout_s": 0.5}
        async with house_in(tmp_path, upstream.url, **how) as house:
            async with with_student(house, port), load_on(house, upstream) as load:
                await wait_for(lambda: load.answered_by["engine"] >= ENOUGH)
                engine.send_signal(blow)
                await load.goes_on()
                before = load.answered_by["engine"]
                await load.goes_on()
                assert load.answered_by["engine"] == before, "nobody waits for the dead"
            await all_are_stored(house, load)
            fallbacks = {exchange.fallback_reason for exchange in house.exchanges() if exchange.fallback_reason}
            assert fallbacks and fallbacks <= {"unreachable", "aborted", "timeout", "breaker_open"}


async def test_the_flag_store_goes_away_and_the_flags_in_force_stay(
    tmp_path: Path, upstream: Upstream, postgresql_url: str
) -> None:
    port = free_port()
    with FaultyNetwork(socket_of(postgresql_url)) as network, engine_on(port, tmp_path):
        how = {"store": through(network, postgresql_url), "engine_url": f"http://127.0.0.1:{port}"}
        async with house_in(tmp_path, upstream.url, **how) as house:
            async with with_student(house, port), load_on(house, upstream) as load:
                await wait_for(lambda: load.answered_by["engine"] >= ENOUGH)
                network.refuse()
                before = load.answered_by["openai"]
                await load.goes_on()
                network.heal()
                await load.goes_on()
                network.swallow()
                await load.goes_on()
                network.heal()
                assert load.answered_by["openai"] == before, "a store that is gone moves nobody to another arm"
            await all_are_stored(house, load)


async def test_everything_behind_the_relay_goes_away_at_once(tmp_path: Path, upstream: Upstream, postgresql_url: str) -> None:
    port = free_port()
    with FaultyNetwork(socket_of(postgresql_url)) as network, engine_on(port, tmp_path) as engine:
        how = {"store": through(network, postgresql_url), "engine_url": f"http://127.0.0.1:{port}", "student_timeout_s": 0.5}
        async with house_in(tmp_path, upstream.url, **how) as house, with_student(house, port):
            async with load_on(house, upstream) as load:
                await wait_for(lambda: load.answered_by["engine"] >= ENOUGH)
                writer, relay = await pid_of(house, "writer"), await pid_of(house, "relay")
                network.refuse()
                engine.kill()
                os.kill(writer, signal.SIGKILL)
                limit_files(relay, 0)
                await load.goes_on(ENOUGH * 3)
                assert (await house.get("/health/ready"))[0] == 200, "degraded is ready"
                limit_files(relay, -1)
                network.heal()
                await load.goes_on()
                seen = len(house.exchanges())
                await load.goes_on(ENOUGH)
                await house.stored(seen + 1)
            assert await pid_of(house, "relay") == relay
