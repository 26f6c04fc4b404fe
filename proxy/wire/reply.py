"""An upstream's answer while it arrives: awaited head first, then its bytes poured into whoever wants them.

Until `pour`, bytes are held, and beyond a bound the upstream is not read. An answer that came whole in one go is `is_whole`
with all its bytes in `held`: most answers that are no streams do.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from multidict import CIMultiDict


class ConnectFailedError(Exception):
    """No connection to the upstream; nothing was sent."""


class PrivateAddressError(ConnectFailedError):
    """A public name led into a private network; no connection was tried."""


class UnsendableError(ConnectFailedError):
    """The way to the upstream cannot carry the request as it is; nothing was sent, and the upstream is not to blame."""


class SilentError(Exception):
    """The upstream has sent nothing for too long, or takes too long in all; the text says which."""


class BrokenError(Exception):
    """The connection ended, or what came on it is no HTTP, before the answer was whole."""


class Source(Protocol):
    """Where an answer comes from."""

    def pause(self) -> None:
        """Stops reading."""

    def resume(self) -> None:
        """Reads on."""

    def give_up(self) -> None:
        """Ends the connection."""


_MOST_HELD = 2**18


class Reply:
    """One answer."""

    __slots__ = (
        "_first", "_is_paused", "_over", "_sink", "_source", "arrived", "error", "held", "held_bytes", "is_whole", "pairs",
        "reason", "status",
    )  # fmt: skip

    def __init__(self, source: Source, loop: asyncio.AbstractEventLoop) -> None:
        self.status, self.reason = 0, ""
        self.pairs: list[tuple[bytes, bytes]] = []
        """Its headers as they came."""
        self.held: list[bytes] = []
        """Bytes of the body that nobody has taken."""
        self.held_bytes = 0
        self.is_whole = False
        """True once its last byte is here."""
        self.error: Exception | None = None
        """SilentError or BrokenError when it did not become whole."""
        self.arrived: asyncio.Future[None] = loop.create_future()
        """Done once the head is here; fails as the answer does."""
        self._over: asyncio.Future[None] | None = None
        self._first: asyncio.Future[None] | None = None
        self._source: Source | None = source
        self._sink: Callable[[bytes], None] | None = None
        self._is_paused = False

    @property
    def headers(self) -> CIMultiDict[str]:
        """Its headers."""
        return CIMultiDict([(name.decode("latin-1"), value.decode("utf-8", "surrogateescape")) for name, value in self.pairs])

    async def first(self) -> bytes:
        """The first bytes of the body, which stay in `held`; b'' when it has none. Fails as the answer does."""
        if not self.held and not self.is_whole and self.error is None:
            self._first = asyncio.get_running_loop().create_future()
            await self._first
        if self.error is not None and not self.held:
            raise self.error
        return self.held[0] if self.held else b""

    def take(self) -> bytes:
        """What is held, as one."""
        held, self.held, self.held_bytes = self.held, [], 0
        self.resume()
        return held[0] if len(held) == 1 else b"".join(held)

    async def pour(self, sink: Callable[[bytes], None]) -> bytes:
        """Gives every piece but the last to `sink` as it comes; the last is returned. Fails as the answer does.

        What `sink` raises ends the answer and is raised here.
        """
        if self.error is not None:
            sink(self.take())
            raise self.error
        if self.is_whole:
            return self.take()
        self._over = asyncio.get_running_loop().create_future()
        self._sink = sink
        try:
            if self.held:
                sink(self.take())
            await self._over
        finally:
            self._sink = None  # it knows the call, which knows this reply: a circle that would wait for the collector
        return self.take()

    def pause(self) -> None:
        """Reads no more from the upstream until `resume`."""
        if self._source is not None and not self._is_paused:
            self._is_paused = True
            self._source.pause()

    def resume(self) -> None:
        """Reads on."""
        if self._source is not None and self._is_paused:
            self._is_paused = False
            self._source.resume()

    @property
    def is_paused(self) -> bool:
        """Whether nobody reads from the upstream just now."""
        return self._is_paused

    def close(self) -> None:
        """Ends an answer that nobody wants any more; nothing happens when it is whole."""
        if self._source is not None:
            source, self._source = self._source, None
            source.give_up()

    # --- the source's side

    def add(self, data: bytes) -> None:
        """Bytes of the body, more will come."""
        if self._sink is not None:
            try:
                self._sink(data)
            except Exception as error:  # whoever waits in `pour` shall see it
                self.fail(error)
            return
        self.held.append(data)
        self.held_bytes += len(data)
        if self.held_bytes > _MOST_HELD:
            self.pause()
        if self._first is not None and not self._first.done():
            self._first.set_result(None)

    def finish(self, data: bytes) -> None:
        """The last bytes of the body, or none."""
        self._source, self.is_whole = None, True
        if data:
            self.held.append(data)
            self.held_bytes += len(data)
        self._tell(None)

    def fail(self, error: Exception) -> None:
        """There will be no more."""
        self.error = error
        self.close()
        self._tell(error)

    def _tell(self, error: Exception | None) -> None:
        for waiter in (self.arrived, self._first, self._over):
            if waiter is not None and not waiter.done():
                if error is None:
                    waiter.set_result(None)
                else:
                    waiter.set_exception(error)
                    waiter.exception()  # it may be that nobody asks
