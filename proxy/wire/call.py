"""One request of a client and the way its answer is written: head and bytes in, framing added, nothing else touched."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from multidict import CIMultiDict

from proxy.budget import Holder
from proxy.wire.limits import Problem

_JOINED = 65_536
_BODILESS = (204, 304)


def encode_head(first_line: str, headers: Iterable[tuple[str, str]]) -> bytes:
    """A message head. Header values keep the bytes they came with."""
    return first_line.encode("utf-8", "surrogateescape") + b"\r\n" + encode_lines(headers) + b"\r\n"


def encode_lines(headers: Iterable[tuple[str, str]]) -> bytes:
    """Headers, each with its CRLF."""
    return "".join([f"{name}: {value}\r\n" for name, value in headers]).encode("utf-8", "surrogateescape")


class Connection(Protocol):
    """What a call needs of the connection it came on."""

    def close_soon(self, within_s: float) -> None:
        """Closes once what was written is sent, and after `within_s` anyway."""

    def reset(self) -> None:
        """Closes by a TCP reset."""


class Head:
    """The head of a request but for its length. Clients that send the same head again get the same object, so that what
    follows from it need not be found again."""

    __slots__ = ("_config", "_known", "headers", "is_encoded", "is_sound", "method", "raw_path", "version")

    def __init__(self, method: str, raw_path: str, version: str, headers: CIMultiDict[str]) -> None:
        self.method, self.raw_path, self.version = method, raw_path, version
        self.headers = headers
        self.is_encoded = "content-encoding" in headers
        """Whether the body must be decoded to be read."""
        self.is_sound = False
        """True once it was looked at and may be served."""
        self._config: object = None
        self._known: dict[Any, Any] = {}

    def known_under(self, config: object) -> dict[Any, Any]:
        """What others have concluded from this head while `config` was in force, by keys of their own.

        What was concluded under another one is gone: it may name hosts and keys that do not belong together any more.
        """
        if self._config is not config:
            self._config, self._known = config, {}
        return self._known


class Call:
    """A whole request. Exactly one answer may be written: `start`, any number of `write`, then `finish`, or `abort`.

    `problem` says why it cannot be served; `body` and maybe more is missing then, and the connection closes after the answer.
    """

    __slots__ = (
        "_connection", "_head", "_is_chunked", "_transport", "body", "has_ended", "has_started", "head", "headers", "holder",
        "is_ended_by_close", "is_keepalive", "length", "method", "on_pause", "on_resume", "problem", "raw_path", "sent_bytes",
        "version",
    )  # fmt: skip

    def __init__(
        self,
        connection: Connection,
        transport: asyncio.Transport,
        head: Head,
        length: str | None,
        holder: Holder,
        is_keepalive: bool,
    ) -> None:
        self.head, self.headers = head, head.headers
        self.method, self.raw_path, self.version = head.method, head.raw_path, head.version
        self.length = length
        """Its Content-Length, which `headers` do not have."""
        self.body = b""
        self.holder = holder
        """What its body takes of the budget; given back when the call is over."""
        self.problem: Problem | None = None
        self.is_keepalive = is_keepalive
        """Whether the connection stays open after the answer; may be set to False until `start`."""
        self.has_started = self.has_ended = False
        self.is_ended_by_close = False
        """True when only the end of the connection tells the client that the answer is over."""
        self.sent_bytes = 0
        """Bytes of the answer's body so far."""
        self.on_pause: Callable[[], None] | None = None
        self.on_resume: Callable[[], None] | None = None
        """Called when the client reads too slowly, and when it has caught up."""
        self._connection, self._transport = connection, transport
        self._head = b""
        self._is_chunked = False

    @property
    def is_gone(self) -> bool:
        """True when the client's connection is closed."""
        return self._transport.is_closing()

    def start(self, status: int, reason: str, lines: bytes, *, has_length: bool) -> None:
        """Prepares the head; it leaves with the first bytes of the body, or by `flush`.

        `lines` are the headers, each with its CRLF. A body of known size has its Content-Length among them; one without is
        sent in chunks, or to HTTP/1.0 until the connection closes.
        """
        self.has_started = True
        added = b""
        if not has_length and self.method != "HEAD" and status not in _BODILESS:
            if self.version == "1.1":
                self._is_chunked, added = True, b"Transfer-Encoding: chunked\r\n"
            else:
                self.is_keepalive, self.is_ended_by_close = False, True
        if not self.is_keepalive:
            added += b"Connection: close\r\n"
        elif self.version == "1.0":
            added += b"Connection: keep-alive\r\n"
        self._head = b"HTTP/1.1 %d %b\r\n%b%b\r\n" % (status, reason.encode("latin-1", "replace"), lines, added)

    def flush(self) -> None:
        """Sends the head alone."""
        if self._head:
            self._transport.write(self._head)
            self._head = b""

    def write(self, data: bytes) -> None:
        """Sends bytes of the body."""
        self.sent_bytes += len(data)
        if self._is_chunked:
            self._send((self._head, b"%x\r\n" % len(data), data, b"\r\n"))
        else:
            self._send((self._head, data))

    def finish(self, data: bytes = b"") -> None:
        """Sends the last bytes of the body, with them its end."""
        self.has_ended = True
        self.sent_bytes += len(data)
        if not self._is_chunked:
            self._send((self._head, data))
        elif data:
            self._send((self._head, b"%x\r\n" % len(data), data, b"\r\n0\r\n\r\n"))
        else:
            self._send((self._head, b"0\r\n\r\n"))

    def _send(self, pieces: tuple[bytes, ...]) -> None:
        self._head = b""
        if sum(map(len, pieces)) <= _JOINED:
            self._transport.write(b"".join(pieces))
        else:
            self._transport.writelines([piece for piece in pieces if piece])

    def close(self, within_s: float = 5.0) -> None:
        """Ends the connection once all is sent, or after `within_s`, so that the client sees that the answer is not whole."""
        self.has_ended, self.is_keepalive = True, False
        self.flush()
        self._connection.close_soon(within_s)

    def abort(self) -> None:
        """Ends the connection by a TCP reset: a client without chunks takes a plain close for the end of a whole answer."""
        self.has_ended, self.is_keepalive = True, False
        self._connection.reset()
