"""The engine's process under its guard: started, asked whether it lives, ended with everything it started."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from capture.errors import EngineError
from serve import engine_guard
from serve.engine_start import EngineStart


class EngineChild:
    """A running engine. `pid` is its own process id and the id of its process group."""

    def __init__(self, start: EngineStart, output: Path, grace_s: float = 10.0) -> None:
        self._grace_s = grace_s
        guard = [sys.executable, "-I", "-S", str(Path(engine_guard.__file__)), str(output), str(grace_s)]
        self._guard = subprocess.Popen(
            [*guard, *start.command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=dict(start.environment),
            start_new_session=True,
        )
        assert self._guard.stdout is not None
        with self._guard.stdout as stdout:
            line = stdout.readline()
        if not line.strip().isdigit():
            self._guard.wait()
            raise EngineError(f"The engine's guard ended with status {self._guard.returncode}.", "See the output above.")
        self.pid = int(line)

    @property
    def status(self) -> int | None:
        """None while it lives, else its exit status (128 and the signal that ended it)."""
        return self._guard.poll()

    def end(self) -> None:
        """Ends the engine and all its helpers: politely, after the grace by force. May be called twice."""
        if self._guard.stdin is not None:
            with suppress(BrokenPipeError):
                self._guard.stdin.close()
        try:
            self._guard.wait(self._grace_s + 5.0)
        except subprocess.TimeoutExpired:
            self._guard.kill()
            self._guard.wait()
        # Were the guard itself killed, the group would still be there.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
