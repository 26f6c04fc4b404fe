"""Child processes of the demo: started with their output in a file, waited for, ended by their pid or with us."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import httpx

from capture.errors import PotstillError
from proxy import leash


class Child:
    """One `potstill ...` process with its output in the file `output`; an end nobody asked for is an error that quotes it."""

    def __init__(self, name: str, arguments: Sequence[str], output: Path, environment: Mapping[str, str]) -> None:
        self.name = name
        self.output = output
        output.parent.mkdir(parents=True, exist_ok=True)
        with output.open("ab") as file:
            self._process = subprocess.Popen(
                [sys.executable, leash.__file__, str(os.getpid()), sys.executable, "-m", "potstill", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                env={**os.environ, **environment},
                start_new_session=True,
            )

    @property
    def is_running(self) -> bool:
        """False once it has ended."""
        return self._process.poll() is None

    def check(self) -> None:
        """PotstillError when it has ended with a failure."""
        code = self._process.poll()
        if code not in (None, 0):
            tail = "\n".join(self.output.read_text("utf-8", "replace").splitlines()[-15:])
            raise PotstillError(f"{self.name} ended with code {code}:\n{tail}", f"Its whole output: {self.output}")

    def wait_until(
        self, is_ready: Callable[[], bool], *, within_s: float, on_wait: Callable[[float], None] | None = None
    ) -> None:
        """Polls until `is_ready`; PotstillError when the child ends first or time is up."""
        began = time.monotonic()
        while not is_ready():
            self.check()
            waited = time.monotonic() - began
            if waited > within_s:
                raise PotstillError(f"{self.name} was not ready within {within_s:.0f} s.", f"Its output: {self.output}")
            if on_wait is not None:
                on_wait(waited)
            time.sleep(0.1)

    def wait(self) -> None:
        """Waits for its end; PotstillError when that is a failure."""
        self._process.wait()
        self.check()

    def stop(self, *, within_s: float = 40) -> None:
        """Asks it to end and waits; kills it, by pid, when it does not."""
        if not self.is_running:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(within_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def free_ports(count: int) -> list[int]:
    """`count` different TCP ports of the loopback address that nobody listens on now."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [opened.getsockname()[1] for opened in sockets]
    for opened in sockets:
        opened.close()
    return ports


def answers(url: str) -> bool:
    """True when `url` answers a GET with less than 500."""
    try:
        return httpx.get(url, timeout=2).status_code < 500
    except httpx.HTTPError:
        return False
