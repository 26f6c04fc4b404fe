"""Kills the relay and the store writer under load, again and again, and counts what that cost.

Real processes of `proxy.worker` and `capture.writer` in a folder of their own, a provider on the loopback address, and
clients that keep a ledger. Two relay workers share the port: while one starts the other serves, so that every kill hits one
at work. At the end all is drained, and the ledger held against the store.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from capture import feed, ids
from capture.database import Database, open_database
from capture.errors import PotstillError, SettingsError
from capture.filters import parse_filter
from capture.progress import Progress, tell_nobody
from capture.settings import Settings, load_settings
from proxy import leash
from proxy.listen import claim_port
from proxy.torture_ledger import Ledger, Stored, Verdict, compare, read_ledger
from proxy.torture_load import Load, number_of, request_body, start_provider

_WORKERS = 2
_CLIENTS = 48
_SHORTEST_S, _LONGEST_S = 0.06, 0.25
_WRITER_EVERY = 4
_START_S = 60.0
_END_S = 300.0


@dataclass(frozen=True, slots=True)
class Torture:
    """What to do: `rounds` kills of a relay worker at moments that follow from `seed`; every fourth the writer's too."""

    rounds: int
    seed: int
    database_url: str = ""
    """PostgreSQL address; '' is SQLite in the folder."""


def claim_folder(folder: Path) -> None:
    """Makes `folder` when it is not there; SettingsError when it holds something or cannot be made."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        is_empty = not any(folder.iterdir())
    except OSError as error:
        raise SettingsError(f"{folder} cannot be used: {error.strerror}.", "Give a new folder.") from error
    if not is_empty:
        raise SettingsError(f"{folder} is not empty.", "Give a new folder.")


def run_torture(torture: Torture, folder: Path, on_stage: Progress = tell_nobody) -> Verdict:
    """Runs all rounds in `folder`, which must be empty or new, and compares; its ledger and store stay there.

    SettingsError when the folder holds something, PotstillError when a process ends that nobody killed.
    """
    import uvloop

    claim_folder(folder)
    task = ids.new_id("torture").replace("_", "-")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        settings = runner.run(_run(torture, folder, task, on_stage))
    on_stage("compare", 0, 1)
    with closing(open_database(settings.database_url)) as database:
        verdict = compare(read_ledger(folder / "ledger.jsonl"), _stored(database, task), request_body)
    on_stage("compare", 1, 1)
    return verdict


async def _run(torture: Torture, folder: Path, task: str, on_stage: Progress) -> Settings:
    provider = await start_provider()
    with claim_port("127.0.0.1", 0, "port") as claim:
        port = claim.getsockname()[1]
        settings = _settings(folder, torture.database_url, provider.sockets[0].getsockname()[1])
        open_database(settings.database_url).close()  # migrated once, before several processes open it
        ledger, stop = Ledger(folder / "ledger.jsonl"), asyncio.Event()
        load = Load(port, task, ledger, stop, count())
        house = _House(folder, port)
        try:
            clients = [asyncio.ensure_future(load.run(torture.seed + number)) for number in range(_CLIENTS)]
            await _kill(torture, house, on_stage)
            stop.set()
            await asyncio.gather(*clients)
            on_stage("drain", 0, 1)
            await house.end()
            on_stage("drain", 1, 1)
        finally:
            house.kill()
            ledger.close()
            provider.close()
    return settings


async def _kill(torture: Torture, house: _House, on_stage: Progress) -> None:
    generator = random.Random(torture.seed)
    for done in range(torture.rounds):
        on_stage("rounds", done, torture.rounds)
        victim = house.workers[0]
        await victim.is_ready()
        await asyncio.sleep(generator.uniform(_SHORTEST_S, _LONGEST_S))
        house.replace_worker()
        if done % _WRITER_EVERY == _WRITER_EVERY - 1:
            await asyncio.sleep(generator.uniform(0, _SHORTEST_S))
            house.replace_writer()
    on_stage("rounds", torture.rounds, torture.rounds)
    for worker in house.workers:
        await worker.is_ready()


class _Process:
    """One child; `is_ready` waits for its first line of status when it has such a pipe."""

    def __init__(self, module: str, arguments: list[str], folder: Path, *, has_status: bool) -> None:
        self.module = module
        self._log = folder / f"{module}.log"
        self._status: int | None = None
        fds: tuple[int, ...] = ()
        if has_status:
            self._status, theirs = os.pipe()
            fds, arguments = (theirs,), [*arguments, "--status-fd", str(theirs)]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("POTSTILL_")}
        command = [sys.executable, "-I", "-S", leash.__file__, str(os.getpid()), sys.executable, "-m", module, *arguments]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder, pass_fds=fds, env=environment)
        for fd in fds:
            os.close(fd)

    async def is_ready(self) -> None:
        """Returns once it takes requests; PotstillError when it ended, or has not begun after a minute."""
        assert self._status is not None
        loop, told = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(self._status, told.set)
        try:
            async with asyncio.timeout(_START_S):
                await told.wait()
        except TimeoutError as error:
            raise PotstillError(f"{self.module} is not ready after {_START_S:g} s.", f"See {self._log}.") from error
        finally:
            loop.remove_reader(self._status)
        self.check()

    def check(self) -> None:
        """PotstillError when it has ended although nobody killed it."""
        if self._process.poll() is not None:
            what = f"{self.module} ended by itself with {self._process.returncode}."
            raise PotstillError(what, f"See {self._log}.")

    def kill(self) -> None:
        """Signal 9, and its end."""
        self._process.kill()
        self._process.wait()
        self._close()

    async def end(self) -> None:
        """SIGTERM, and its orderly end; PotstillError when it is none."""
        self.check()
        self._process.send_signal(signal.SIGTERM)
        try:
            code = await asyncio.to_thread(self._process.wait, _END_S)
        except subprocess.TimeoutExpired as error:
            raise PotstillError(f"{self.module} did not end in {_END_S:g} s after SIGTERM.", f"See {self._log}.") from error
        if code:
            raise PotstillError(f"{self.module} ended with {code} after SIGTERM.", f"See {self._log}.")
        self._close()

    def _close(self) -> None:
        if self._status is not None:
            os.close(self._status)
            self._status = None


class _House:
    """The relay workers, oldest first, and the store writer."""

    def __init__(self, folder: Path, port: int) -> None:
        self._folder, self._port = folder, port
        self._config = ["--config", str(folder / "potstill.toml")]
        self._writer = self._start_writer()
        self.workers = deque(self._start_worker() for _ in range(_WORKERS))

    def replace_worker(self) -> None:
        """Kills the oldest relay worker and starts another."""
        self.workers[0].check()
        self.workers.popleft().kill()
        self.workers.append(self._start_worker())

    def replace_writer(self) -> None:
        """Kills the store writer and starts another."""
        self._writer.check()
        self._writer.kill()
        self._writer = self._start_writer()

    async def end(self) -> None:
        """Ends all in order, the store writer last, so that it empties every spool."""
        await asyncio.gather(*(worker.end() for worker in self.workers))
        await self._writer.end()

    def kill(self) -> None:
        """Ends what still runs."""
        for process in (*self.workers, self._writer):
            process.kill()

    def _start_worker(self) -> _Process:
        return _Process("proxy.worker", [*self._config, "--port", str(self._port)], self._folder, has_status=True)

    def _start_writer(self) -> _Process:
        return _Process("capture.writer", self._config, self._folder, has_status=False)


def _settings(folder: Path, database_url: str, provider_port: int) -> Settings:
    lines = [
        "[store]",
        'data_folder = "data"',
        *([f"database_url = {json.dumps(database_url)}"] if database_url else []),
        "[upstreams.torture]",
        f'url = "http://127.0.0.1:{provider_port}/v1"',
    ]
    path = folder / "potstill.toml"
    path.touch(mode=0o600)
    path.write_text("\n".join(lines) + "\n", "utf-8")
    return load_settings(path, environ={})


def _stored(database: Database, task: str) -> Iterator[Stored]:
    """Every exchange of `task`, a few in memory at a time."""
    for exchange, content in feed.with_content(database, parse_filter(f"task:{task}")):
        yield Stored(
            exchange.id,
            number_of(content.request_body),
            exchange.status,
            exchange.state,
            content.request_body,
            content.request_sha256,
            content.response_body,
            content.response_sha256,
        )
