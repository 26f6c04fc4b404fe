"""Everything under `potstill up` in a process of its own, for tests of supervision, reload and the admin listener."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from capture.settings import Settings
from tests.proxy.scripting import relay_settings

NO_HEADERS: Mapping[str, str] = {}
START = """
import sys
from pathlib import Path
from capture.errors import PotstillError
from potstill.configuration import read_checked
from proxy.supervise import run
def ready(relay, admin):
    print("ready", relay, admin, flush=True)
def notice(line):
    print(line, file=sys.stderr, flush=True)
try:
    path = Path(sys.argv[1])
    run(read_checked(path), False, lambda: read_checked(path), ready, notice)
except PotstillError as error:
    sys.exit(str(error))
"""


class NotReadyError(Exception):
    """The house did not start; the text is what it said."""


class House:
    """`supervise.run` in a process of its own."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.port = self.admin_port = 0

    async def start(self) -> None:
        self.process = subprocess.Popen(  # noqa: ASYNC220 - starts at once
            [sys.executable, "-c", START, str(self.settings.path)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=self.settings.folder,
        )
        assert self.process.stdout is not None
        line = await asyncio.to_thread(self.process.stdout.readline)
        if not line.startswith(b"ready "):
            _, errors = await asyncio.to_thread(self.process.communicate)
            raise NotReadyError(errors.decode())
        _, relay, admin = line.decode().split()
        self.port, self.admin_port = int(relay.rpartition(":")[2]), int(admin.rpartition(":")[2])

    async def ask(self, method: str, path: str, headers: Mapping[str, str] = NO_HEADERS) -> tuple[int, bytes, Mapping[str, str]]:
        """Status, body and headers of the admin listener's answer."""
        url = f"http://127.0.0.1:{self.admin_port}{path}"
        async with aiohttp.ClientSession() as session, session.request(method, url, headers=headers) as answer:
            return answer.status, await answer.read(), answer.headers

    async def get(self, path: str) -> tuple[int, dict[str, Any]]:
        status, body, _ = await self.ask("GET", path)
        return status, json.loads(body)

    async def metrics(self) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
        """Every sample of /metrics by its name and labels."""
        _, body, _ = await self.ask("GET", "/metrics")
        families = text_string_to_metric_families(body.decode())
        return {(one.name, frozenset(one.labels.items())): one.value for family in families for one in family.samples}

    async def status(self) -> dict[str, Any]:
        return (await self.get("/status"))[1]

    async def stop(self) -> int:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        await asyncio.to_thread(self.process.communicate, None, 40)
        return self.process.returncode


@asynccontextmanager
async def house_in(folder: Path, url: str, **relay: object) -> AsyncIterator[House]:
    house = House(relay_settings(folder, url, **relay))
    await house.start()
    try:
        yield house
    finally:
        await house.stop()


async def until_async(look: Any, condition: Any) -> None:
    async with asyncio.timeout(60):
        while not condition(await look()):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
