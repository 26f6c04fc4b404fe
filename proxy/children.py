"""A child process that is kept running: started on a leash, restarted with growing pauses, ended in good order."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any

import msgspec

from capture import clock

STARTING, RUNNING, WAITING, STOPPED = "starting", "running", "waiting", "stopped"
_SHORTEST_PAUSE_S = 0.1
_STEADY_S = 10.0
_LEASH = str(Path(__file__).with_name("leash.py"))
_TAIL_BYTES = 4_096
_LONGEST_LINE = 2**22


class Child:
    """Keeps `python -m MODULE ARGUMENTS...` running from `start` until `stop`; its output goes to the file `log`.

    With `has_status` the child gets `--status-fd` and says how it is in lines of JSON, each of which `on_report` hears of.
    With `says_when_up` it counts as running from the first of them on, else from its start. `on_end` hears of every end that
    nobody asked for.
    """

    def __init__(
        self,
        name: str,
        arguments: Sequence[str],
        log: Path,
        folder: Path,
        *,
        has_status: bool = False,
        says_when_up: bool = False,
        longest_pause_s: float = 30.0,
        on_end: Callable[[Child], None] | None = None,
        on_report: Callable[[Child], None] | None = None,
    ) -> None:
        self.name = name
        self.log = log
        self.state = STOPPED
        self.restarts = 0
        self.exit_status: int | None = None
        """How it last ended: its exit code, or minus the signal; None when it could not be started."""
        self.reported: dict[str, Any] = {}
        """Its last line of status."""
        self.is_up = asyncio.Event()
        """Set once it runs for the first time."""
        self._arguments = list(arguments)
        self._folder = folder
        self._has_status = has_status
        self._says_when_up = says_when_up
        self._longest_pause_s = longest_pause_s
        self._on_end = on_end
        self._on_report = on_report
        self._is_restarting = False
        self._process: asyncio.subprocess.Process | None = None
        self._problem = ""
        self._is_stopping = asyncio.Event()
        self._keeping: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int:
        """Its process id; 0 when it does not run."""
        return self._process.pid if self._process is not None and self._process.returncode is None else 0

    def status(self) -> dict[str, Any]:
        """What the admin listener shows of it."""
        mine = {"name": self.name, "state": self.state, "pid": self.pid, "restarts": self.restarts}
        return {**self.reported, **mine, "exit_status": self.exit_status}

    def last_words(self) -> str:
        """Why it could not be started; else the last line of its output, '' when there is none."""
        if self._problem:
            return self._problem
        with contextlib.suppress(OSError), self.log.open("rb") as file:
            file.seek(max(0, self.log.stat().st_size - _TAIL_BYTES))
            lines = [line for line in file.read().decode("utf-8", "replace").splitlines() if line.strip()]
            return lines[-1] if lines else ""
        return ""

    def start(self) -> None:
        """Begins to keep it running."""
        self._keeping = asyncio.ensure_future(self._keep_running())

    async def stop(self, timeout_s: float) -> None:
        """Asks it to end and waits; kills it after `timeout_s`. May be called twice."""
        self._is_stopping.set()
        self.signal(signal.SIGTERM)
        if self._keeping is None:
            return
        done, _ = await asyncio.wait({self._keeping}, timeout=timeout_s)
        if not done:
            self.signal(signal.SIGKILL)
            await self._keeping

    async def restart(self, timeout_s: float) -> None:
        """Lets it end and start anew, which counts as no failure; kills it after `timeout_s`. One that does not run is left."""
        process = self._process
        if process is None or process.returncode is not None:
            return
        self._is_restarting = True
        self.signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(process.wait(), timeout_s)
        except TimeoutError:
            if self._process is process:
                self.signal(signal.SIGKILL)

    def signal(self, number: int) -> None:
        """Sends a signal, if it runs."""
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)

    async def _keep_running(self) -> None:
        pause_s = _SHORTEST_PAUSE_S
        while not self._is_stopping.is_set():
            began_ns = clock.monotonic_ns()
            try:
                self._problem = ""
                await self._run_once()
            except OSError as error:  # no memory, no descriptor, a log that cannot be written: the next start may succeed
                await self._give_up(error)
            if self._is_stopping.is_set():
                break
            if self._is_restarting:
                self._is_restarting = False
                continue
            self.state = WAITING
            self.restarts += 1
            if self._on_end is not None:
                self._on_end(self)
            if clock.monotonic_ns() - began_ns > _STEADY_S * 1e9:
                pause_s = _SHORTEST_PAUSE_S
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._is_stopping.wait(), pause_s)
            pause_s = min(self._longest_pause_s, pause_s * 2)
        self.state = STOPPED

    async def _run_once(self) -> None:
        self.state = STARTING
        self._process = None
        if not self._has_status:
            await self._spawn(self._arguments, ())
            self._is_now_up()
            await self._see_end()
            return
        read_fd, write_fd = os.pipe()
        with os.fdopen(read_fd, "rb", 0) as pipe:
            try:
                await self._spawn([*self._arguments, "--status-fd", str(write_fd)], (write_fd,))
            finally:
                os.close(write_fd)
            if not self._says_when_up:
                self._is_now_up()
            await self._listen(pipe)
            await self._see_end()

    async def _spawn(self, arguments: Sequence[str], fds: Sequence[int]) -> None:
        self.log.touch(mode=0o600)
        with self.log.open("ab") as output:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", "-S", _LEASH, str(os.getpid()), sys.executable, "-m", *arguments),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=self._folder,
                pass_fds=fds,
                start_new_session=True,
            )
        if self._is_stopping.is_set():
            self.signal(signal.SIGTERM)

    async def _see_end(self) -> None:
        self.exit_status = await self._process.wait() if self._process is not None else None
        self.reported = {}

    async def _give_up(self, error: OSError) -> None:
        """Counts a start that failed as an end; a process that cannot be listened to must not run beside the next one."""
        self._problem = f"It cannot be started: {error}."
        self.signal(signal.SIGKILL)
        await self._see_end()

    async def _listen(self, pipe: IO[bytes]) -> None:
        reader = asyncio.StreamReader(limit=_LONGEST_LINE)
        protocol = asyncio.StreamReaderProtocol(reader)
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, pipe)
        try:
            while line := await reader.readline():
                with contextlib.suppress(msgspec.DecodeError):  # the last line of a killed child may be cut
                    self.reported = msgspec.json.decode(line, type=dict[str, Any])
                    self._is_now_up()
                    if self._on_report is not None:
                        self._on_report(self)
        finally:
            transport.close()

    def _is_now_up(self) -> None:
        self.state = RUNNING
        self.is_up.set()
