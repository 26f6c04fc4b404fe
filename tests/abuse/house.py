"""`potstill up` as an operator starts it, with everything it leaves behind: store, spool, logs, status, metrics."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from capture import feed
from capture.database import open_database
from capture.exchange import Exchange
from capture.filters import parse_filter
from capture.settings import Settings, load_settings
from tests.capture.planting import everything, raw_bytes
from tests.proxy.scripting import free_port, relay_settings

PATIENCE_S = 120
"""How long a busy machine may take for anything that is waited for."""


@dataclass
class House:
    """A running `potstill up` with the settings in `settings.folder`."""

    settings: Settings
    port: int
    admin_port: int
    process: subprocess.Popen[bytes]

    async def takes_requests(self) -> None:
        """Waits until it does."""
        async with asyncio.timeout(PATIENCE_S):
            while not await self._is_ready():  # noqa: ASYNC110
                await asyncio.sleep(0.05)

    async def _is_ready(self) -> bool:
        assert self.process.poll() is None, self.logs()
        try:
            return (await self.get("/health/ready"))[0] == 200
        except aiohttp.ClientConnectionError:
            return False

    async def get(self, path: str, **headers: str) -> tuple[int, str]:
        """Status and text of an admin page."""
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"http://127.0.0.1:{self.admin_port}{path}", headers=headers) as answer,
        ):
            return answer.status, await answer.text()

    async def status(self) -> dict[str, Any]:
        """What GET /status says."""
        return dict(json.loads((await self.get("/status"))[1]))

    async def stored(self, count: int) -> list[Exchange]:
        """The exchanges in the store, newest first, once there are `count` of them."""
        async with asyncio.timeout(PATIENCE_S):
            while len(found := await asyncio.to_thread(self.exchanges)) < count:  # noqa: ASYNC110
                await asyncio.sleep(0.1)
        return found

    def exchanges(self) -> list[Exchange]:
        """What is in the store now."""
        database = open_database(self.settings.database_url)
        try:
            return list(feed.page(database, parse_filter(""), limit=10_000))
        finally:
            database.close()

    def unpacked(self) -> str:
        """All that the store holds, bodies unpacked, as one text."""
        database = open_database(self.settings.database_url)
        try:
            return everything(database)
        finally:
            database.close()

    def bytes(self) -> bytes:
        """Every byte in the folder: store, write-ahead log, spool, logs, exports."""
        return raw_bytes(self.settings.folder)

    def logs(self) -> str:
        """What every process wrote to its log, and `potstill up` to its terminal."""
        files = [*sorted((self.settings.data_folder / "logs").glob("*")), self.settings.folder / "up.log"]
        return "\n".join(file.read_text("utf-8", "replace") for file in files if file.is_file())

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Another `potstill` command on the same settings."""
        command = [sys.executable, "-m", "potstill", "--config", str(self.settings.path), *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, cwd=self.settings.folder)

    async def stop(self) -> None:
        """Ends it in good order; what is in the spool is then in the store."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        await asyncio.to_thread(self.process.wait, PATIENCE_S)


def begin(
    folder: Path,
    upstream_url: str,
    *,
    store: str = "",
    engine_url: str = "",
    more: Sequence[str] = (),
    environ: Mapping[str, str] | None = None,
    python: Sequence[str] = (),
    **relay: object,
) -> House:
    """Starts a house on the database at `store` (SQLite in its folder when empty), beside an engine that somebody else runs.

    `more`: lines at the end of its potstill.toml; `python`: options of the interpreter.
    """
    port, admin_port = free_port(), free_port()
    settings = relay_settings(folder, upstream_url, **{"port": port, "admin_port": admin_port, **relay})
    assert settings.path is not None
    written = settings.path.read_text("utf-8")
    if store:
        written = written.replace("[relay]", f'database_url = "{store}"\n[relay]')
    if engine_url:
        written = written.partition("[engine]")[0] + f'[engine]\nurl = "{engine_url}"\n'
    settings.path.write_text("\n".join([written, *more, ""]), "utf-8")
    settings = load_settings(settings.path, environ={})
    with (folder / "up.log").open("ab") as log:
        command = [sys.executable, *python, "-m", "potstill", "--config", str(settings.path), "up"]
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder, env={**os.environ, **(environ or {})})
    return House(settings, port, admin_port, process)


@asynccontextmanager
async def house_in(folder: Path, upstream_url: str, **how: Any) -> AsyncIterator[House]:
    """A house that takes requests, begun as `begin` says, and ended with the context."""
    house = begin(folder, upstream_url, **how)
    try:
        await house.takes_requests()
        yield house
    finally:
        await house.stop()
