"""Connections to upstreams, kept open for the next request for a while."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

import aiohappyeyeballs

from proxy.wire.addresses import is_public_address
from proxy.wire.reply import ConnectFailedError, PrivateAddressError
from proxy.wire.upstream import UpstreamConnection

_SWEEP_S = 1.0
_EYEBALLS_S = 0.25


@dataclass(frozen=True, slots=True)
class Origin:
    """Where connections go: a TCP address, or a unix socket when `path` is set; with TLS when `tls` is."""

    host: str
    port: int
    tls: ssl.SSLContext | None = None
    path: str = ""
    is_private_allowed: bool = True
    """Whether `host` may lead to a private, loopback or link-local address."""


class Pool:
    """Idle connections by origin. Made inside the event loop; `close` ends them, and those at work."""

    def __init__(self, keepalive_s: float) -> None:
        self._keepalive_s = keepalive_s
        self._idle: defaultdict[Origin, list[UpstreamConnection]] = defaultdict(list)
        self._all: set[UpstreamConnection] = set()
        self._loop = asyncio.get_running_loop()
        self._is_closed = False
        self._sweeping = self._loop.call_later(_SWEEP_S, self._sweep)

    async def take(self, origin: Origin, connect_s: float) -> UpstreamConnection:
        """A connection at rest, a new one when there is none; ConnectFailedError."""
        return self.take_idle(origin) or await self._dial(origin, connect_s)

    def take_idle(self, origin: Origin) -> UpstreamConnection | None:
        """A connection at rest; None when there is none."""
        idle = self._idle[origin]
        while idle:
            found = idle.pop()
            if found.is_open:
                return found
        return None

    async def warm(self, origin: Origin, count: int, connect_s: float) -> None:
        """Opens what lacks of `count` connections at rest; ConnectFailedError."""
        idle = self._idle[origin]
        while sum(each.is_open for each in idle) < count:
            connection = await self._dial(origin, connect_s)
            connection.rested_at = self._loop.time()
            idle.append(connection)

    def close(self) -> None:
        """Ends every connection."""
        self._is_closed = True
        self._sweeping.cancel()
        for connection in list(self._all):
            connection.close()
        self._idle.clear()

    async def _dial(self, origin: Origin, connect_s: float) -> UpstreamConnection:
        idle = self._idle[origin]

        def free(connection: UpstreamConnection) -> None:
            if self._is_closed:
                connection.close()
            else:
                idle.append(connection)

        def lost(connection: UpstreamConnection) -> None:
            self._all.discard(connection)
            if connection in idle:
                idle.remove(connection)

        def make() -> UpstreamConnection:
            return UpstreamConnection(free, lost)

        try:
            async with asyncio.timeout(connect_s):
                connection = await self._connect(origin, make)
        except TimeoutError as error:
            raise ConnectFailedError(f"no connection within {connect_s:g} s") from error
        except ssl.SSLError as error:
            raise ConnectFailedError(f"TLS: {error.reason or error}") from error
        except (OSError, UnicodeError) as error:  # the latter for a name that cannot be looked up
            raise ConnectFailedError(getattr(error, "strerror", "") or str(error) or type(error).__name__) from error
        if self._is_closed:
            connection.close()
            raise ConnectFailedError("the relay has closed its connections meanwhile")
        if not connection.is_open:
            raise ConnectFailedError("it closed the connection at once")
        self._all.add(connection)
        return connection

    async def _connect(self, origin: Origin, make: Callable[[], UpstreamConnection]) -> UpstreamConnection:
        if origin.path:
            _, protocol = await self._loop.create_unix_connection(make, origin.path)
            return protocol
        found = await self._loop.getaddrinfo(origin.host, origin.port, type=socket.SOCK_STREAM)
        if not origin.is_private_allowed:
            public = [each for each in found if is_public_address(str(each[4][0]))]
            if found and not public:
                led = found[0][4][0]
                raise PrivateAddressError(f"its name leads to {led}, which is no address of the public internet")
            found = public
        connected = await aiohappyeyeballs.start_connection(found, happy_eyeballs_delay=_EYEBALLS_S)
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            name = origin.host if origin.tls is not None else None
            _, protocol = await self._loop.create_connection(make, sock=connected, ssl=origin.tls, server_hostname=name)
        except BaseException:
            connected.close()
            raise
        return protocol

    def _sweep(self) -> None:
        oldest = self._loop.time() - self._keepalive_s
        for idle in self._idle.values():
            for connection in [each for each in idle if each.rested_at < oldest]:
                idle.remove(connection)
                connection.close()
        self._sweeping = self._loop.call_later(_SWEEP_S, self._sweep)
