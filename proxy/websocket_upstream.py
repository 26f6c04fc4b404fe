"""The upstream's end of a WebSocket: the handshake, or the answer that an upstream gives in place of one."""

from __future__ import annotations

import socket as sockets
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

import aiohttp
from multidict import CIMultiDict
from yarl import URL

from capture import clock
from capture.exchange import TIMEOUT, UPSTREAM_ABORTED
from capture.transcript import SWITCHED
from proxy.failures import Failure
from proxy.outbound import UpstreamFailedError, private_step
from proxy.recording import Recording
from proxy.relay import Config
from proxy.settings import Upstream
from proxy.wire.addresses import is_public_address

_MOST_REFUSAL = 2**20
_CLOSING_S = 0.5
_SKIPPED = ("User-Agent", "Accept", "Accept-Encoding", "Content-Type")


@dataclass(frozen=True, slots=True)
class Opened:
    """A WebSocket at the upstream, its head, and the subprotocol that the upstream chose."""

    socket: aiohttp.ClientWebSocketResponse[bool]
    headers: Mapping[str, str]
    protocol: str | None


@dataclass(frozen=True, slots=True)
class Refusal:
    """An answer of the upstream that is no WebSocket."""

    status: int
    reason: str
    headers: Mapping[str, str]
    body: bytes


class _RefusedError(Exception):
    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.status)
        self.refusal = refusal


class _Door:
    """Opens sockets to public addresses alone when `is_private_allowed` is False, and knows whom it refused."""

    def __init__(self, is_private_allowed: bool) -> None:
        self._is_private_allowed = is_private_allowed
        self.refused = ""

    def open(self, address: aiohttp.AddrInfoType) -> sockets.socket:
        """As aiohttp wants it of a maker of sockets."""
        family, kind, protocol, _, place = address
        if not self._is_private_allowed and not is_public_address(str(place[0])):
            self.refused = str(place[0])
            raise OSError(f"its name leads to {self.refused}, which is no address of the public internet")
        return sockets.socket(family, kind, protocol)


class _Answered:
    """The upstream's answer to the handshake, which aiohttp hides behind the WebSocket, or throws away when it is none."""

    def __init__(self) -> None:
        self._response: aiohttp.ClientResponse | None = None

    @property
    def headers(self) -> Mapping[str, str]:
        return self._response.headers if self._response is not None else {}

    async def read(self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
        """Keeps the answer, with its body when it is no WebSocket; as aiohttp wants it of a middleware."""
        response = self._response = await handler(request)
        if response.status == SWITCHED:
            return response
        body = bytearray()
        async for piece in response.content.iter_any():
            body += piece
            if len(body) > _MOST_REFUSAL:
                raise aiohttp.ClientPayloadError(f"the refusal of a WebSocket has more than {_MOST_REFUSAL} bytes")
        raise _RefusedError(Refusal(response.status, response.reason or "", response.headers, bytes(body)))

    def close(self) -> None:
        """Ends the connection once what was sent is on its way."""
        if self._response is not None:
            self._response.close()


@asynccontextmanager
async def dial(
    config: Config, upstream: Upstream, url: str, headers: CIMultiDict[str], protocols: tuple[str, ...], recording: Recording
) -> AsyncIterator[Opened | Refusal]:
    """What the upstream answers to a handshake with these headers and subprotocols; UpstreamFailedError.

    Its connection serves this WebSocket alone, and is closed at the end of the context whatever became of it.
    """
    answered = _Answered()
    door = _Door(config.outbound.may_be_private(upstream))
    connector = (
        aiohttp.UnixConnector(upstream.socket) if upstream.socket else aiohttp.TCPConnector(limit=0, socket_factory=door.open)
    )
    session = aiohttp.ClientSession(
        connector=connector,
        auto_decompress=False,
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(
            total=None, sock_connect=upstream.connect_timeout_s, sock_read=upstream.first_byte_timeout_s
        ),
        skip_auto_headers=_SKIPPED,
        middlewares=(answered.read,),
        max_line_size=2**16,
        max_field_size=2**16,
    )
    try:
        before = clock.monotonic_ns()
        try:
            found = await _shake_hands(config, session, answered, door, upstream, url, headers, protocols)
        finally:
            recording.waited_ns += clock.monotonic_ns() - before
        yield found
    finally:
        answered.close()
        await session.close()


async def _shake_hands(
    config: Config,
    session: aiohttp.ClientSession,
    answered: _Answered,
    door: _Door,
    upstream: Upstream,
    url: str,
    headers: CIMultiDict[str],
    protocols: tuple[str, ...],
) -> Opened | Refusal:
    tls, proxy = config.outbound.way_of(upstream)
    try:
        socket = await session.ws_connect(
            URL(url, encoded=True),
            headers=headers,
            protocols=protocols,
            ssl=tls if tls is not None else True,
            proxy=proxy or None,
            autoclose=False,
            autoping=False,
            max_msg_size=config.relay.websocket_message_mib * 2**20,
            decode_text=False,
            timeout=aiohttp.ClientWSTimeout(ws_close=_CLOSING_S),
        )
    except _RefusedError as refused:
        return refused.refusal
    except aiohttp.SocketTimeoutError as error:
        what = f"Upstream {upstream.name} did not answer the handshake within {upstream.first_byte_timeout_s:g} s."
        raise UpstreamFailedError(TIMEOUT, Failure(504, "upstream_timeout", what, "Try again.")) from error
    except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
        reason = getattr(error, "strerror", "") or str(getattr(error, "os_error", "")) or type(error).__name__
        what = f"Upstream {upstream.name} at {upstream.root} cannot be reached: {reason}."
        next_step = f"Check url in [upstreams.{upstream.name}] of potstill.toml, and the network."
        if door.refused:
            next_step = private_step(upstream)
        raise UpstreamFailedError(UPSTREAM_ABORTED, Failure(502, "upstream_unreachable", what, next_step)) from error
    except (aiohttp.ClientError, OSError) as error:
        what = f"Upstream {upstream.name} broke off the handshake."
        raise UpstreamFailedError(UPSTREAM_ABORTED, Failure(502, "upstream_aborted", what, "Try again.")) from error
    return Opened(socket, answered.headers, socket.protocol)
