"""The client's side of a connection: requests parsed by llhttp, served one at a time and in order.

Every bound on size and patience is held here. What breaks one, or cannot be parsed, still becomes a `Call`, with its
`problem`, so that it is refused like everything else; after that the connection closes, and what still comes is thrown away
for a while, so that the client can read the refusal.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, cast

import httptools
from multidict import CIMultiDict

from proxy.budget import Budget, Holder
from proxy.wire.call import Call, Head, encode_head
from proxy.wire.known_heads import Known, KnownHeads
from proxy.wire.limits import Limits, Problem
from proxy.wire.soundness import length_of, malformed, problem_of

_HIGH_WATER, _LOW_WATER = 2**18, 2**16
_JOINED_AT = 256
_LINGER_S = 5.0
_SWEEP_S = 0.25
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_UPGRADE_HEADERS = ("upgrade", "http2-settings", "connection")
_MOST_WAITING = 16
"""Requests of one connection beyond which nothing more is read, not even that the client has left."""
_LENGTH_LENGTH = len("content-length")
_HEAD, _BODY, _IDLE, _LINGERING = "head", "body", "idle", "lingering"

Serve = Callable[[Call], Coroutine[Any, Any, None]]


class _BrokenBoundError(Exception):
    """Ends the parser's work; the connection knows why."""


class Server:
    """All connections of one listener. Made inside the event loop; `close` ends it."""

    def __init__(
        self, serve: Serve, limits: Callable[[], Limits], budget: Budget, upgrade: Callable[[], asyncio.Protocol]
    ) -> None:
        self.serve, self.limits, self.budget, self.upgrade = serve, limits, budget, upgrade
        self.connections: set[ClientConnection] = set()
        self.tasks: set[asyncio.Task[None]] = set()
        """Calls at work."""
        self.is_draining = False
        """True once every answer closes its connection."""
        self.loop = asyncio.get_running_loop()
        self.heads = KnownHeads()
        self._sweeping = self.loop.call_later(_SWEEP_S, self._sweep)

    def __call__(self) -> ClientConnection:
        """A protocol for a new connection."""
        return ClientConnection(self)

    def forget_heads(self) -> None:
        """Lets go of heads that came before; to be called when other limits or meanings are in force."""
        self.heads.forget()

    def drain(self) -> None:
        """Has each connection closed after its next answer, whether it is being worked on or still comes."""
        self.is_draining = True

    def close(self) -> None:
        """Closes everything."""
        self._sweeping.cancel()
        for connection in list(self.connections):
            connection.close_soon(_LINGER_S)

    @property
    def has_unsent(self) -> bool:
        """True while some client has not taken all that was written to it."""
        return any(connection.unsent for connection in self.connections)

    def _sweep(self) -> None:
        now = self.loop.time()
        for connection in list(self.connections):
            connection.look_at_clock(now)
        self._sweeping = self.loop.call_later(_SWEEP_S, self._sweep)


class ClientConnection(asyncio.Protocol):
    """One client's connection."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._limits = server.limits()
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport
        self._state = _IDLE
        self._since = self._moved = server.loop.time()
        self._call: Call | None = None
        """The call that is being answered."""
        self._task: asyncio.Task[None] | None = None
        self._waiting: deque[Call] = deque()
        self._next: Call | None = None
        """The call whose body is being read."""
        self._is_behind = False
        """Whether the client has too much to read."""
        self._watched_at = 0.0
        """Since when the client has taken nothing of what waits for it; 0 while nobody looks at that."""
        self._left = 0
        """What was left to take at that time."""
        self._owes_continue = False
        self._url = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._length: bytes | None = None
        self._head_size = self._size = self._unfinished = 0
        self._pieces: list[bytes] = []
        self._blocks = 0
        self._is_paused = False
        self._problem: Problem | None = None

    # --- the transport's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(_HIGH_WATER, _LOW_WATER)
        self._server.connections.add(self)

    def connection_lost(self, error: Exception | None) -> None:
        self._server.connections.discard(self)
        self._end_work()

    def eof_received(self) -> bool:
        self._end_work()
        if self.unsent:
            self._watch()  # or a client that never reads could hold what is left for ever
        return False  # whoever has closed does not read any more

    def _end_work(self) -> None:
        if self._task is not None:
            self._task.cancel()
        self._forget_requests()

    def pause_writing(self) -> None:
        self._watch()
        self._is_behind = True
        if self._call is not None and self._call.on_pause is not None:
            self._call.on_pause()

    def resume_writing(self) -> None:
        self._is_behind = False
        if self._call is None:
            self._go_on()
            return
        self._watched_at = 0.0
        if self._call.on_resume is not None:
            self._call.on_resume()

    def data_received(self, data: bytes) -> None:
        is_fresh = self._state == _IDLE
        if is_fresh and (known := self._server.heads.recognise(data)) is not None and self._take_known(known, data):
            return
        is_fresh = is_fresh and self._call is None and not self._is_behind
        rest = data
        while rest and self._state != _LINGERING:
            rest = self._read(rest)
        if is_fresh and self._state == _IDLE and self._call is not None and not self._waiting:
            self._server.heads.learn(data, self._call)

    def _read(self, data: bytes) -> bytes:
        """Parses `data`; what of it must be parsed anew, because an upgrade in it is passed over."""
        self._moved = self._server.loop.time()
        before = (self._state, self._head_size, self._size)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            return self._upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserCallbackError:
            if self._problem is None:
                raise
            self._refuse(self._problem)
        except httptools.HttpParserError as error:
            self._refuse_malformed(str(error))
        else:
            if self._state in (_HEAD, _BODY) and before == (self._state, self._head_size, self._size):
                self._unfinished += len(data)  # a line that the parser holds: of the head, of a chunk's size, of a trailer
                if self._unfinished > self._limits.head_bytes:
                    self._refuse_malformed(f"a line of it has more than {self._limits.head_bytes} bytes")
            else:
                self._unfinished = 0
        return b""

    # --- the parser's side

    def on_message_begin(self) -> None:
        self._state, self._since = _HEAD, self._moved
        self._url, self._headers, self._pieces, self._size, self._head_size = b"", [], [], 0, 0
        self._length = None
        self._blocks = 0
        self._next = None

    def on_url(self, url: bytes) -> None:
        self._url += url
        self._head_size += len(url)
        if len(self._url) > self._limits.line_bytes:
            self._break(malformed(f"its target has more than {self._limits.line_bytes} bytes"))

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._next is not None:
            return  # a trailer
        if len(name) + len(value) > self._limits.line_bytes:
            self._break(malformed(f"a header has more than {self._limits.line_bytes} bytes"))
        if len(self._headers) >= self._limits.header_count:
            self._break(malformed(f"it has more than {self._limits.header_count} headers"))
        self._head_size += len(name) + len(value) + 4
        if self._head_size > self._limits.head_bytes:
            self._break(malformed(f"its head has more than {self._limits.head_bytes} bytes"))
        if len(name) == _LENGTH_LENGTH and name.lower() == b"content-length":
            self._length = value
        else:
            self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        self._state = _BODY
        call = self._make_call()
        self._next = call
        if problem := problem_of(call.head):
            self._break(problem)
        length = length_of(self._length)
        if length > self._limits.body_bytes:
            self._break(self._too_large())
        if not call.holder.hold(length):
            self._break(_OVERLOADED)
        if "expect" in call.headers and call.version == "1.1" and (length or self._length is None):
            self._owes_continue = True
            if self._call is None:
                self._say_continue()

    def on_body(self, data: bytes) -> None:
        self._size += len(data)
        if self._size > self._limits.body_bytes:
            self._break(self._too_large())
        if self._next is not None and not self._next.holder.hold(self._size):
            self._break(_OVERLOADED)
        self._pieces.append(data)
        if len(self._pieces) - self._blocks >= _JOINED_AT:  # each piece costs more than a tiny chunk's bytes
            self._pieces[self._blocks :] = [b"".join(self._pieces[self._blocks :])]
            self._blocks += 1

    def on_message_complete(self) -> None:
        call, self._next = self._next, None
        if call is None or self._parser.should_upgrade():
            self._next = call
            return
        self._owes_continue = False
        pieces = self._pieces
        if pieces:
            call.body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
            self._pieces = []
        self._state, self._since = _IDLE, self._server.loop.time()
        self._take(call)

    # --- one call after the other

    def _make_call(self) -> Call:
        method, version = self._parser.get_method(), self._parser.get_http_version()
        place = (method, self._url, version, *self._headers)
        head = self._server.heads.find(place)
        if head is None:
            head = self._make_head(method.decode("ascii"), version)
            self._server.heads.keep(place, head, self._head_size)
        length = self._length.decode("ascii") if self._length is not None else None
        return Call(self, self._transport, head, length, Holder(self._server.budget), self._parser.should_keep_alive())

    def _take_known(self, known: Known, data: bytes) -> bool:
        """Serves a whole request without parsing it again; False when a bound stands in the way, which parsing will tell."""
        length, holder = len(data) - known.body_at, Holder(self._server.budget)
        if length > self._limits.body_bytes or not holder.hold(length):
            return False
        self._since = self._moved = self._server.loop.time()
        call = Call(self, self._transport, known.head, known.length, holder, known.is_keepalive)
        call.body = data[known.body_at :]
        self._take(call)
        return True

    def _make_head(self, method: str, version: str) -> Head:
        headers = [(name.decode("ascii"), value.decode("utf-8", "surrogateescape")) for name, value in self._headers]
        return Head(method, self._url.decode("ascii", "surrogateescape"), version, CIMultiDict(headers))

    def _take(self, call: Call) -> None:
        """Serves `call`, when its turn is come: after those before it, and once the client has read most of their answers."""
        if self._call is not None or self._is_behind:
            self._waiting.append(call)
            if not self._is_paused and len(self._waiting) >= _MOST_WAITING:
                self._is_paused = True
                self._transport.pause_reading()
            return
        self._call = call
        self._watched_at = 0.0
        if self._server.is_draining:
            call.is_keepalive = False
        self._task = task = self._server.loop.create_task(self._server.serve(call))
        self._server.tasks.add(task)
        task.add_done_callback(self._answered)

    def _answered(self, task: asyncio.Task[None]) -> None:
        self._server.tasks.discard(task)
        call, self._call, self._task = self._call, None, None
        if call is not None:
            call.holder.release()
        if not task.cancelled() and (error := task.exception()) is not None:
            self._server.loop.call_exception_handler({"message": "a call was not served", "exception": error})
        if call is None or self._transport.is_closing():
            return
        if not call.has_ended:
            self._transport.abort()
        elif call.problem is not None or not call.is_keepalive:
            self._linger()
        else:
            self._since = self._moved = self._server.loop.time()  # until now nobody waited for more of the client
            if not self._is_behind:
                self._go_on()
        if self._call is None and self.unsent:
            self._watch()

    def _go_on(self) -> None:
        """Turns to the client's next request."""
        if self._transport.is_closing():
            return
        if self._waiting:
            self._take(self._waiting.popleft())
        if self._is_paused and len(self._waiting) < _MOST_WAITING:
            self._is_paused = False
            self._transport.resume_reading()
        if self._owes_continue and self._call is None:
            self._say_continue()

    def _say_continue(self) -> None:
        self._owes_continue = False
        self._transport.write(_CONTINUE)

    def _forget_requests(self) -> None:
        """Lets go of what nobody will answer."""
        for call in (*self._waiting, self._next):
            if call is not None:
                call.holder.release()
        self._waiting.clear()
        self._next, self._pieces, self._owes_continue = None, [], False

    # --- what goes wrong

    def _break(self, problem: Problem) -> None:
        self._problem = problem
        raise _BrokenBoundError

    def _refuse_malformed(self, why: str) -> None:
        self._refuse(malformed(why))

    def _refuse(self, problem: Problem) -> None:
        """Has what was read so far refused; nothing more is read as a request on this connection."""
        self._state = _LINGERING
        call = self._next or Call(self, self._transport, self._make_head("", "1.1"), None, Holder(self._server.budget), False)
        self._next = None
        call.body = b"".join(self._pieces)
        self._pieces = []
        call.problem, call.is_keepalive = problem, False
        self._since = self._server.loop.time()
        self._take(call)

    def _linger(self) -> None:
        """Says that nothing more will come, then reads and forgets, so that no reset takes our answer from the client."""
        self._state, self._since = _LINGERING, self._server.loop.time()
        self._forget_requests()
        if self._is_paused:
            self._is_paused = False
            self._transport.resume_reading()
        if self._transport.can_write_eof():
            with contextlib.suppress(OSError, RuntimeError):
                self._transport.write_eof()
        else:
            self.close_soon(_LINGER_S)

    def _upgrade(self, rest: bytes) -> bytes:
        """Hands a WebSocket's connection over; any other upgrade is passed over in silence, as HTTP allows.

        Then the request is given back without it, with the `rest`, to be parsed anew.
        """
        call = self._next
        if call is None or call.method == "CONNECT":
            self._refuse_malformed("CONNECT is not served here")
            return b""
        if call.method == "GET" and call.headers.get("upgrade", "").lower() == "websocket" and self._call is None:
            head = encode_head(f"GET {call.raw_path} HTTP/1.1", call.headers.items())
            call.holder.release()
            self._next = None
            self._server.connections.discard(self)
            protocol = self._server.upgrade()
            self._transport.set_protocol(protocol)
            protocol.connection_made(self._transport)
            protocol.data_received(head + rest)
            return b""
        named = {name.strip().lower() for name in call.headers.get("connection", "").split(",")}
        kept = [
            (name, value)
            for name, value in call.headers.items()
            if name.lower() not in _UPGRADE_HEADERS and name.lower() not in named
        ]
        if call.length is not None:
            kept.append(("Content-Length", call.length))
        if not call.is_keepalive:
            kept.append(("Connection", "close"))
        call.holder.release()
        self._parser = httptools.HttpRequestParser(self)
        self._state = _IDLE
        return encode_head(f"{call.method} {call.raw_path} HTTP/{call.version}", kept) + rest

    def _too_large(self) -> Problem:
        mib = self._limits.body_bytes / 2**20
        return Problem(
            413,
            "body_too_large",
            f"The request body has more than {mib:g} MiB.",
            "Send less, or raise max_body_mib in [relay] of potstill.toml.",
        )

    # --- time and the end

    def look_at_clock(self, now: float) -> None:
        """Ends what takes too long."""
        limits = self._limits
        if self._watched_at and self._has_unread(now):
            if now - self._watched_at > limits.stall_s:
                self._transport.abort()
        elif self._call is not None:
            return
        elif self._state == _IDLE and now - self._since > limits.keepalive_s:
            self._transport.close()
        elif self._state == _LINGERING and now - self._since > _LINGER_S:
            self._transport.abort()
        elif self._state == _HEAD and now - self._since > limits.head_s:
            self._refuse(
                Problem(408, "head_timeout", f"The request's head took more than {limits.head_s:g} s.", "Send it again.", True)
            )
        elif self._state == _BODY and (now - self._moved > limits.body_idle_s or now - self._since > limits.body_total_s):
            is_idle = now - self._moved > limits.body_idle_s
            how = f"stood still for {limits.body_idle_s:g} s" if is_idle else f"took more than {limits.body_total_s:g} s"
            self._refuse(Problem(408, "body_timeout", f"The request body {how} after {self._size} bytes.", "Send it again."))

    def _watch(self) -> None:
        """From now on the client must take what waits for it, or be cut off."""
        self._watched_at, self._left = self._server.loop.time(), self.unsent

    def _has_unread(self, now: float) -> bool:
        """Whether something still waits for the client; each piece that it takes gives it time for the next."""
        unsent = self.unsent
        if not unsent:
            self._watched_at = 0.0
            if self._state in (_IDLE, _LINGERING):
                self._since = now  # only now it has all, and may rest
        elif unsent < self._left:
            self._watched_at, self._left = now, unsent
        return unsent > 0

    @property
    def unsent(self) -> int:
        """Bytes that the client has not taken yet."""
        return self._transport.get_write_buffer_size()

    def close_soon(self, within_s: float) -> None:
        """Closes the connection once what was written is sent, and after `within_s` anyway."""
        if not self._transport.is_closing():
            self._transport.close()
            if self._transport.get_write_buffer_size():
                self._server.loop.call_later(within_s, self._transport.abort)

    def reset(self) -> None:
        """Closes the connection by a TCP reset."""
        found = self._transport.get_extra_info("socket")
        if found is not None:
            found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._transport.abort()


_OVERLOADED = Problem(503, "overloaded", "The relay holds as many request bodies as it may.", "Try again in a moment.")
