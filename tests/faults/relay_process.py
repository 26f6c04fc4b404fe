"""A relay worker as a process of its own, whose memory and end can be watched."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from capture.settings import Settings
from tests.proxy.scripting import free_port, relay_settings

KEY = "Authorization: Bearer sk-test\r\n"
CHAT = "POST /v1/chat/completions"
ASK = b'{"model": "m", "stream": true}'
MIB = 2**20


class RelayProcess:
    """`python -m proxy.worker` on `port`."""

    def __init__(self, settings: Settings, port: int) -> None:
        self.settings = settings
        self.port = port
        log = (settings.folder / "relay.log").open("ab")
        command = [sys.executable, "-m", "proxy.worker", "--config", str(settings.path)]
        with log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, cwd=settings.folder)

    @property
    def pid(self) -> int:
        return self.process.pid

    def peak_mib(self) -> float:
        """The most memory it ever held."""
        return self._memory("VmHWM")

    def memory_mib(self) -> float:
        """The memory it holds."""
        return self._memory("VmRSS")

    def _memory(self, name: str) -> float:
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith(name):
                return int(line.split()[1]) / 1024
        raise AssertionError(name)

    async def wait(self, seconds: float = 60) -> int:
        """Its exit code."""
        return await asyncio.to_thread(self.process.wait, seconds)


@asynccontextmanager
async def relay_process(folder: Path, upstream_url: str, **relay: object) -> AsyncIterator[RelayProcess]:
    """A relay that takes requests; ended with the context."""
    port = free_port()
    found = RelayProcess(relay_settings(folder, upstream_url, port=port, **relay), port)
    try:
        await _listens(found)
        yield found
    finally:
        if found.process.poll() is None:
            found.process.send_signal(signal.SIGTERM)
            found.process.send_signal(signal.SIGTERM)
            try:
                await found.wait(20)
            except subprocess.TimeoutExpired:
                found.process.kill()
                found.process.wait()


async def _listens(found: RelayProcess) -> None:
    async with asyncio.timeout(60):
        while True:
            assert found.process.poll() is None, (found.settings.folder / "relay.log").read_text()
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", found.port)
            except ConnectionError:
                await asyncio.sleep(0.02)
                continue
            writer.close()
            return
