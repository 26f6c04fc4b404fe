"""A house for real clients: the scripted providers, `potstill up` in front of them, and a look into its store.

The providers write down the head of every request, so that a test can say what reached them. A client runs as a process of
its own, in the environment that `make clients` makes, and knows nothing but the relay's address.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from aiohttp import web

from capture import feed
from capture.database import Database, open_database
from capture.exchange import Exchange
from capture.filters import parse_filter
from capture.settings import load_settings
from proxy.provider import ProviderOptions, make_provider_app
from tests.clients.responses_provider import make_responses_app
from tests.proxy.scripting import free_port

ROOT = Path(__file__).resolve().parent.parent.parent
ENVIRONMENT = ROOT / ".venv-clients"
AIDER_ENVIRONMENT = ROOT / ".venv-aider"
PROGRAMS = Path(__file__).parent / "programs"
NODE_MODULES = Path(__file__).parent / "node_modules"
OLDEST_NODE = 20
PATIENCE_S = 240.0
"""How long to wait for what must come; a busy machine may need much of it."""


@dataclass(frozen=True, slots=True)
class Arrived:
    """The head of a request as a provider saw it; header names in lower case, in their order."""

    method: str
    path: str
    headers: tuple[tuple[str, str], ...]

    def header(self, name: str) -> str:
        """The value of a header; '' when it is absent."""
        return next((value for key, value in self.headers if key == name), "")


@dataclass
class House:
    """A relay at `address` in front of providers at `provider` (chat, messages) and `responses` (Responses)."""

    folder: Path
    address: str
    provider: str
    responses: str
    database: Database
    arrived: list[Arrived] = field(default_factory=list)

    def arrived_of(self, app: str) -> list[Arrived]:
        """What reached a provider of `app`: its own header `x-app` says so, for ours do not get there."""
        return [head for head in self.arrived if head.header("x-app") == app]

    def stored(self, filter: str, count: int = 1) -> list[Exchange]:
        """The exchanges that match `filter`, oldest first, once there are `count` of them; fails when there never are."""
        deadline = time.monotonic() + PATIENCE_S
        while len(found := feed.page(self.database, parse_filter(filter), limit=100)) < count:
            if time.monotonic() > deadline:
                seen = [
                    (each.task, dict(each.tags), each.path, each.status) for each in feed.page(self.database, parse_filter(""))
                ]
                raise AssertionError(f"{len(found)} of {count} exchanges match {filter!r}; the newest are {seen[:10]}")
            time.sleep(0.05)
        return found[::-1]


def need_node() -> None:
    """The test is skipped when Node or what `make clients` installs for it is not there."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not on PATH")
    version = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    if int(version.removeprefix("v").partition(".")[0]) < OLDEST_NODE:
        pytest.skip(f"node is {version}; these clients need {OLDEST_NODE} at least")
    need(NODE_MODULES)


def need(path: Path) -> Path:
    """`path`; the test is skipped when it is not there."""
    if not path.exists():
        pytest.skip(f"{path.relative_to(ROOT)} is not there: `make clients` installs it")
    return path


def run_program(command: Sequence[str], *, env: Mapping[str, str], cwd: Path) -> subprocess.CompletedProcess[str]:
    """A client's process, from start to end, with an environment that names no key and no other address of the machine."""
    return subprocess.run(
        command, cwd=cwd, env={**clean_environment(cwd), **env}, capture_output=True, text=True, timeout=PATIENCE_S,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip


def clean_environment(home: Path) -> dict[str, str]:
    """What a client needs of this process's environment, with `home` as its home."""
    kept = {name: os.environ[name] for name in ("LANG", "LC_ALL", "TMPDIR") if name in os.environ}
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    return {**kept, "PATH": path, "HOME": str(home), "NO_PROXY": "*", "PYTHONUTF8": "1", "DO_NOT_TRACK": "1"}


def told(run: subprocess.CompletedProcess[str]) -> dict[str, dict[str, Any]]:
    """What a program of `programs/` told, by scenario; fails with its words when it did not end well."""
    assert run.returncode == 0, f"{run.args} ended with {run.returncode}:\n{run.stdout[-2000:]}\n{run.stderr[-4000:]}"
    lines = [json.loads(line) for line in run.stdout.splitlines() if line.startswith("{")]
    return {f"{line.pop('client')}/{line.pop('scenario')}": line for line in lines}


@contextmanager
def living(folder: Path) -> Iterator[House]:
    """A house in `folder` while the context lasts."""
    arrived: list[Arrived] = []
    with _serving(arrived) as (provider, responses):
        port, admin_port = free_port(), free_port()
        config = folder / "potstill.toml"
        config.write_text(_settings(port, admin_port, provider, responses), "utf-8")
        with _up(config, f"http://127.0.0.1:{admin_port}/health/ready"):
            database = open_database(load_settings(config, environ={}).database_url)
            try:
                yield House(folder, f"http://127.0.0.1:{port}", provider, responses, database, arrived)
            finally:
                database.close()


def _settings(port: int, admin_port: int, provider: str, responses: str) -> str:
    sections = {
        "store": {"data_folder": "data"},
        "relay": {"port": port, "admin_port": admin_port},
        "upstreams.openai": {"url": provider},
        "upstreams.anthropic": {"url": provider, "protocol": "anthropic"},
        "upstreams.responses": {"url": responses},
        "engine": {"url": f"http://127.0.0.1:{free_port()}"},
    }
    written = []
    for name, values in sections.items():
        written += [f"[{name}]", *(f"{key} = {json.dumps(value)}" for key, value in values.items())]
    return "\n".join(written) + "\n"


@contextmanager
def _up(config: Path, ready: str) -> Iterator[None]:
    log = config.parent / "up.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "potstill", "--config", str(config), "up"],
            stdout=out, stderr=out, cwd=config.parent, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    try:
        deadline = time.monotonic() + PATIENCE_S
        while not _answers(ready):
            assert process.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        yield
    finally:
        process.terminate()
        try:
            process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _answers(url: str) -> bool:
    try:
        return httpx.get(url).status_code == 200
    except httpx.TransportError:
        return False


@contextmanager
def _serving(arrived: list[Arrived]) -> Iterator[tuple[str, str]]:
    """Both providers on free ports, in a thread with a loop of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="providers")
    thread.start()
    runners: list[web.AppRunner] = []

    async def start(app: web.Application) -> str:
        app.middlewares.append(_writes_down(arrived))
        runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=1)
        await runner.setup()
        runners.append(runner)
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        return f"http://127.0.0.1:{runner.addresses[0][1]}"

    async def stop() -> None:
        for runner in runners:
            await runner.cleanup()

    try:
        chat = asyncio.run_coroutine_threadsafe(start(make_provider_app(ProviderOptions(latency_ms=0))), loop).result()
        yield chat, asyncio.run_coroutine_threadsafe(start(make_responses_app()), loop).result()
    finally:
        asyncio.run_coroutine_threadsafe(stop(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def _writes_down(arrived: list[Arrived]) -> Any:
    @web.middleware
    async def write_down(request: web.Request, handler: Any) -> web.StreamResponse:
        heads = tuple((name.lower(), value) for name, value in request.headers.items())
        arrived.append(Arrived(request.method, request.raw_path, heads))
        answer: web.StreamResponse = await handler(request)
        return answer

    return write_down
