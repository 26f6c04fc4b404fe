"""Requests at times that chance sets, whether earlier ones were answered or not; delays count from the moment that was due.

Bare sockets and `select`, whose timeouts are exact to some 50 us; uvloop's timers and epoll's step in whole milliseconds.
"""

from __future__ import annotations

import random
import select
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

_PATIENCE_S = 30.0
_PIECE = 2**18
_LAST_CHUNK = b"0\r\n\r\n"
_CONNECTIONS = 4


@dataclass(slots=True)
class Delays:
    """Milliseconds to the first byte of each answer's body and to its end; `failed` got none, or not 200."""

    first_ms: list[float] = field(default_factory=list)
    whole_ms: list[float] = field(default_factory=list)
    failed: int = 0


class _Line:
    """One kept connection and the answer that is arriving on it."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.due = self.first = 0.0
        self._got, self._has_head, self._missing, self._is_good = b"", False, 0, False

    def ask(self, request: bytes, due: float) -> None:
        self.due, self.first = due, 0.0
        self._got, self._has_head = b"", False
        self.socket.sendall(request)

    def take(self, now: float) -> bool | None:
        """What came: True for a whole good answer, False for anything else that is over, None while more is to come."""
        try:
            data = self.socket.recv(_PIECE)
        except OSError:
            return False
        if not data:
            return False
        if not self._has_head:
            self._got += data
            split = self._got.find(b"\r\n\r\n")
            if split < 0:
                return None
            head, data = self._got[: split + 2].lower(), self._got[split + 4 :]
            self._has_head, self._is_good, self._got = True, head.startswith(b"http/1.1 200"), b""
            _, _, length = head.partition(b"\r\ncontent-length:")
            self._missing = int(length[: length.find(b"\r\n")]) if length else -1
        if data and not self.first:
            self.first = now
        if self._missing >= 0:
            self._missing -= len(data)
            return self._is_good if self._missing <= 0 else None
        self._got = (self._got + data)[-len(_LAST_CHUNK) :]
        return self._is_good if self._got == _LAST_CHUNK else None


def ask_at_times(port: int, requests: Sequence[bytes], rate: float, seed: int) -> Delays:
    """Sends `requests`, `rate` of them a second on average; an answer that takes over 30 s has failed."""
    chance, found, clock = random.Random(seed), Delays(), time.perf_counter
    idle = [_Line(port) for _ in range(_CONNECTIONS)]
    busy: dict[socket.socket, _Line] = {}
    due, sent = clock() + 0.05, 0
    try:
        while busy or sent < len(requests):
            wait = due - clock() if sent < len(requests) else _PATIENCE_S
            if wait > 0:
                ready = select.select(busy, (), (), wait)[0]
                now = clock()
                for each in ready:
                    if (is_good := busy[each].take(now)) is None:
                        continue
                    line = busy.pop(each)
                    if is_good:
                        found.first_ms.append((line.first - line.due) * 1e3)
                        found.whole_ms.append((now - line.due) * 1e3)
                        idle.append(line)
                    else:
                        found.failed += 1
                        line.socket.close()
                if not ready and sent == len(requests):
                    found.failed += len(busy)
                    break
                continue
            line = idle.pop() if idle else _Line(port)
            line.ask(requests[sent], due)
            busy[line.socket] = line
            sent, due = sent + 1, due + chance.expovariate(rate)
    finally:
        for line in (*idle, *busy.values()):
            line.socket.close()
    return found
