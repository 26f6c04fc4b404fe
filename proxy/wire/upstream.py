"""The upstream's side: one connection that is asked one thing at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import httptools

from proxy.wire.reply import BrokenError, Reply, SilentError

_MOST_HEAD = 2**18
_JOINED = 65_536
_BODILESS = (204, 304)
_FRAMING = (b"content-length", b"transfer-encoding")


@dataclass(frozen=True, slots=True)
class Patience:
    """How long an upstream may take, in seconds: to its head, between two pieces, and in all (0: no bound)."""

    first_s: float
    idle_s: float
    total_s: float = 0.0


class UpstreamConnection(asyncio.Protocol):
    """A connection to an upstream. `on_free` hears when it can be asked again, `on_lost` when it is gone."""

    def __init__(self, on_free: Callable[[UpstreamConnection], None], on_lost: Callable[[UpstreamConnection], None]) -> None:
        self.rested_at = 0.0
        """Loop time since which nothing was asked."""
        self._on_free, self._on_lost = on_free, on_lost
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport
        self._parser = httptools.HttpResponseParser(self)
        self._reply: Reply | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._patience = Patience(0, 0)
        self._asked_at = self._moved = 0.0
        self._is_head = self._has_head = self._is_whole = self._may_stay = False
        self._is_interim = self._is_beyond = False
        self._reason = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._head_bytes = 0
        self._pieces: list[bytes] = []

    @property
    def is_open(self) -> bool:
        """False once either side has closed."""
        return not self._transport.is_closing()

    def ask(self, method: str, head: bytes, body: bytes, patience: Patience) -> Reply:
        """Sends a request; the answer arrives in what is returned. The connection must be at rest."""
        reply = self._reply = Reply(self, self._loop)
        self._is_head, self._patience = method == "HEAD", patience
        self._has_head = self._is_whole = self._is_interim = self._is_beyond = False
        self._headers, self._pieces, self._head_bytes, self._reason = [], [], 0, b""
        self._asked_at = self._moved = self._loop.time()
        self._have_looked_at(self._due())
        if len(body) > _JOINED:
            self._transport.writelines([head, body])
        else:
            self._transport.write(head + body)
        return reply

    def close(self) -> None:
        """Ends the connection; an answer that still comes is broken."""
        if self._reply is not None:
            self._fail(BrokenError("the relay closed the connection"))
        else:
            self._transport.abort()

    # --- as a source

    def pause(self) -> None:
        """Stops reading."""
        self._transport.pause_reading()

    def resume(self) -> None:
        """Reads on."""
        self._moved = self._loop.time()
        self._transport.resume_reading()

    def give_up(self) -> None:
        """Ends the connection."""
        self._let_go()
        self._transport.abort()

    # --- the transport's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        reply = self._reply
        if reply is None:  # nobody has asked: whatever this is, it is not an answer to what comes next
            self._transport.abort()
            return
        self._moved = self._loop.time()
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            if self._is_whole:  # what follows is no part of the answer
                self._is_beyond = True
                self._end(reply)
                return
            self._pass_on(reply)
            self._fail(BrokenError(f"what it sent is no HTTP that was asked for: {error}"))
            return
        if not self._has_head:
            self._head_bytes += len(data)
            if self._head_bytes > _MOST_HEAD:
                self._fail(BrokenError(f"the head of its answer has more than {_MOST_HEAD} bytes"))
            return
        if self._is_whole:
            self._end(reply)
        else:
            self._pass_on(reply)
            if self._is_head:
                self._end(reply)

    def eof_received(self) -> bool:
        if self._reply is not None and self._is_ended_by_close:
            self._end(self._reply)
        return False

    def connection_lost(self, error: Exception | None) -> None:
        if self._reply is not None:
            if error is None and self._is_ended_by_close:
                self._end(self._reply)
            else:
                self._fail(BrokenError(str(error) if error else "it closed the connection"))
        if self._timer is not None:
            self._timer.cancel()
        self._on_lost(self)

    # --- the parser's side

    def on_message_begin(self) -> None:
        if self._is_whole:  # more than was asked for: nothing of it may reach anybody, now or later
            self._is_beyond = True

    def on_status(self, status: bytes) -> None:
        self._reason += status

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._has_head:
            self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        if self._is_beyond:
            return
        status = self._parser.get_status_code()
        if 100 <= status < 200:
            self._is_interim, self._headers, self._reason = True, [], b""
            return
        reply = self._reply
        if reply is None:
            return
        self._has_head = True
        reply.status, reply.reason = status, self._reason.decode("latin-1")
        reply.pairs = self._headers
        if self._patience.idle_s < self._patience.first_s:
            self._have_looked_at(self._due())

    def on_body(self, data: bytes) -> None:
        if not (self._is_beyond or self._is_head):
            self._pieces.append(data)

    def on_message_complete(self) -> None:
        if self._is_interim:
            self._is_interim = False
        elif not self._is_whole:
            self._is_whole, self._may_stay = True, self._parser.should_keep_alive()

    @property
    def _is_ended_by_close(self) -> bool:
        """Whether nothing in its head says where an answer ends, so that the end of the connection does."""
        if not self._has_head or self._is_head or self._parser.get_status_code() in _BODILESS:
            return False
        return not any(name.lower() in _FRAMING for name, _ in self._headers)

    # --- what becomes of an answer

    def _take_pieces(self) -> bytes:
        pieces = self._pieces
        if not pieces:
            return b""
        self._pieces = []
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _pass_on(self, reply: Reply) -> None:
        if self._has_head and not reply.arrived.done():
            reply.arrived.set_result(None)
        if data := self._take_pieces():
            reply.add(data)

    def _end(self, reply: Reply) -> None:
        data = self._take_pieces()
        is_clean = self._is_whole and not self._is_beyond and not self._transport.get_write_buffer_size()
        may_be_asked_again = is_clean and self._may_stay and not self._is_head
        is_paused = reply.is_paused
        self._let_go()
        reply.finish(data)
        if may_be_asked_again and self.is_open:
            if is_paused:
                self._transport.resume_reading()
            self.rested_at = self._loop.time()
            self._on_free(self)
        else:
            self._transport.abort()  # what it has not read of the request, nobody needs any more

    def _fail(self, error: Exception) -> None:
        reply = self._reply
        self._let_go()
        self._transport.abort()
        if reply is not None:
            reply.fail(error)

    def _let_go(self) -> None:
        self._reply = None

    # --- time

    def _have_looked_at(self, due: float) -> None:
        """Has the clock looked at by `due`. A look that is to come sooner finds out by itself when it must come again, and one
        timer serves many requests."""
        if self._timer is not None:
            if self._timer.when() <= due:
                return
            self._timer.cancel()
        self._timer = self._loop.call_at(due, self._look_at_clock)

    def _due(self) -> float:
        patience = self._patience
        due = self._moved + (patience.idle_s if self._has_head else patience.first_s)
        return min(due, self._asked_at + patience.total_s) if patience.total_s else due

    def _look_at_clock(self) -> None:
        reply, self._timer = self._reply, None
        if reply is None:
            return
        now, patience = self._loop.time(), self._patience
        if patience.total_s and now >= self._asked_at + patience.total_s:
            self._fail(SilentError(f"was not done after {patience.total_s:g} s"))
            return
        if reply.is_paused:
            self._moved = now  # it is the client who is slow
        due = self._due()
        if now >= due:
            waited = patience.idle_s if self._has_head else patience.first_s
            self._fail(SilentError(f"sent nothing for {waited:g} s"))
        else:
            self._have_looked_at(due)
