"""How a child process tells `potstill up` how it is: one line of JSON after another through a pipe, never waiting.

The pipe is the file descriptor that `--status-fd` names. A line is told whole or not at all, however long it is.
"""

from __future__ import annotations

import os

import msgspec


class StatusPipe:
    """The child's end of the pipe."""

    def __init__(self, fd: int) -> None:
        os.set_blocking(fd, False)
        self._fd = fd
        self._rest = b""

    def tell(self, report: object) -> None:
        """Tells `report`; when the supervisor is busy it is left out, as the next one says the same or better.

        BrokenPipeError when nobody listens any more: the supervisor is gone.
        """
        try:
            if self._rest:  # the end of a line that has begun to go goes first
                self._rest = self._rest[os.write(self._fd, self._rest) :]
            if not self._rest:
                line = msgspec.json.encode(report) + b"\n"
                self._rest = line[os.write(self._fd, line) :]
        except BlockingIOError:
            return
