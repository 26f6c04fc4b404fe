"""Asks upstreams: the one place where connections to them are opened, used and given up."""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

import msgspec

from capture import clock
from capture.errors import SettingsError
from capture.exchange import COMPLETE, TIMEOUT, UPSTREAM_ABORTED
from proxy.failures import Failure
from proxy.headers import Sent
from proxy.recording import Recording
from proxy.settings import Upstream
from proxy.slots import Slots
from proxy.upstream_settings import proxy_of
from proxy.wire.addresses import is_private_name
from proxy.wire.pool import Origin, Pool
from proxy.wire.reply import BrokenError, ConnectFailedError, PrivateAddressError, Reply, SilentError, UnsendableError
from proxy.wire.through_proxy import ProxiedUpstream
from proxy.wire.upstream import Patience

_WITH_LENGTH = ("POST", "PUT", "PATCH")


class Answer(msgspec.Struct, frozen=True):
    """An upstream that has answered: its reply, whose head is there; `model` is set when we replaced the one asked for."""

    reply: Reply
    upstream: str
    model: str = ""
    slots: Slots | None = None
    """Where a turn was taken for it."""

    def close(self) -> None:
        """Ends it and gives its turn back; to be called once, when nobody wants more of it."""
        self.reply.close()
        if self.slots is not None:
            self.slots.give_back()


class UpstreamFailedError(Exception):
    """An upstream gave no answer, or broke off: the exchange's state, and what the client is told.

    `is_sent` is False when no byte of the request can have reached the upstream.
    """

    def __init__(self, state: str, failure: Failure, is_sent: bool = True) -> None:
        super().__init__(failure.message)
        self.state = state
        self.failure = failure
        self.is_sent = is_sent


@dataclass(frozen=True, slots=True)
class _Way:
    """How an upstream is reached."""

    origin: Origin
    host: str
    prefix: int
    patience: Patience
    through: ProxiedUpstream | None
    proxy: str


class Outbound:
    """Ways to upstreams. Made inside the event loop; `close` ends all connections. SettingsError for a file it cannot read."""

    def __init__(self, upstreams: Iterable[Upstream], keepalive_s: float) -> None:
        self.users = 0
        """How many exchanges may ask here."""
        trusts = [(upstream, _trust(upstream)) for upstream in upstreams]  # first, since a file may be missing
        self._pool = Pool(keepalive_s)
        self._ways = {upstream.name: _way(upstream, tls, keepalive_s) for upstream, tls in trusts}

    async def close(self) -> None:
        """Ends all connections, those at work too."""
        self._pool.close()
        for way in self._ways.values():
            if way.through is not None:
                await way.through.close()

    async def warm(self, upstream: Upstream) -> None:
        """Opens what lacks of the connections that `upstream` is to have at rest; ConnectFailedError."""
        way = self._ways[upstream.name]
        if way.through is None and upstream.warm_connections:
            await self._pool.warm(way.origin, upstream.warm_connections, upstream.connect_timeout_s)

    def may_be_private(self, upstream: Upstream) -> bool:
        """Whether a connection to `upstream` may go to a private, loopback or link-local address."""
        way = self._ways[upstream.name]
        return way.origin.is_private_allowed or bool(way.proxy)  # the proxy looks the name up, not we

    def way_of(self, upstream: Upstream) -> tuple[ssl.SSLContext | None, str]:
        """Whom to trust (None without TLS) and the HTTP proxy ('' for none), for a WebSocket, which dials for itself."""
        way = self._ways[upstream.name]
        return way.origin.tls, way.proxy

    async def ask(self, upstream: Upstream, method: str, url: str, headers: Sent, body: bytes, recording: Recording) -> Reply:
        """The upstream's reply as soon as its head is there; UpstreamFailedError. `url` is complete."""
        way = self._ways[upstream.name]
        before = clock.monotonic_ns()
        is_sent = False
        try:
            if way.through is None:
                connection = self._pool.take_idle(way.origin) or await self._pool.take(way.origin, upstream.connect_timeout_s)
                is_sent = True
                head = _head(method, url[way.prefix :], way.host, headers.lines, body)
                reply = connection.ask(method, head, body, way.patience)
            else:
                is_sent = True
                reply = way.through.ask(method, url, headers.headers, body, way.patience, upstream.connect_timeout_s)
            try:
                await reply.arrived
            except BaseException:
                reply.close()
                raise
        except UnsendableError as error:
            failure = Failure(400, "unsendable_header", str(error), "Send it as UTF-8, or leave it out.")
            raise UpstreamFailedError(COMPLETE, failure, is_sent=False) from error
        except ConnectFailedError as error:
            raise UpstreamFailedError(UPSTREAM_ABORTED, _unreachable(upstream, error), is_sent=False) from error
        except (SilentError, BrokenError) as error:
            raise failed(upstream.name, error, is_sent) from error
        finally:
            recording.waited_ns += clock.monotonic_ns() - before
        return reply


def failed(name: str, error: Exception, is_sent: bool = True) -> UpstreamFailedError:
    """What a reply's SilentError or BrokenError means for the exchange."""
    if isinstance(error, SilentError):
        next_step = f"Try again, or raise the timeouts in [upstreams.{name}] of potstill.toml."
        return UpstreamFailedError(TIMEOUT, Failure(504, "upstream_timeout", f"Upstream {name} {error}.", next_step), is_sent)
    failure = Failure(502, "upstream_aborted", f"Upstream {name} broke off its answer.", "Try again.")
    return UpstreamFailedError(UPSTREAM_ABORTED, failure, is_sent)


def _unreachable(upstream: Upstream, error: Exception) -> Failure:
    what = f"Upstream {upstream.name} at {upstream.root} cannot be reached: {error}."
    next_step = f"Check url in [upstreams.{upstream.name}] of potstill.toml, and the network."
    if isinstance(error, PrivateAddressError):
        next_step = private_step(upstream)
    return Failure(502, "upstream_unreachable", what, next_step)


def private_step(upstream: Upstream) -> str:
    """What to do about a public name that leads into a private network."""
    return f"If it is meant to be there, set allow_private = true in [upstreams.{upstream.name}] of potstill.toml."


def _head(method: str, target: str, host: str, lines: bytes, body: bytes) -> bytes:
    length = f"Content-Length: {len(body)}\r\n" if body or method in _WITH_LENGTH else ""
    return f"{method} {target} HTTP/1.1\r\nHost: {host}\r\n{length}".encode("utf-8", "surrogateescape") + lines + b"\r\n"


def _way(upstream: Upstream, tls: ssl.SSLContext | None, keepalive_s: float) -> _Way:
    parts = urlsplit(upstream.root)
    host = parts.hostname or ""
    is_private_allowed = upstream.allow_private or is_private_name(host)
    origin = Origin(host, parts.port or (80 if tls is None else 443), tls, upstream.socket, is_private_allowed)
    proxy = proxy_of(upstream, os.environ)
    patience = Patience(upstream.first_byte_timeout_s, upstream.idle_timeout_s, upstream.total_timeout_s)
    through = ProxiedUpstream(proxy, tls, keepalive_s) if proxy else None
    return _Way(origin, parts.netloc, len(f"{parts.scheme}://{parts.netloc}"), patience, through, proxy)


def _trust(upstream: Upstream) -> ssl.SSLContext | None:
    """Whose certificates are believed; None without TLS. Only HTTP/1.1 is offered, since we speak nothing else."""
    if urlsplit(upstream.root).scheme != "https":
        return None
    try:
        found = ssl.create_default_context(cafile=upstream.ca_file or None)
    except (OSError, ssl.SSLError) as error:
        raise SettingsError(
            f"section [upstreams.{upstream.name}]: ca_file {upstream.ca_file} cannot be read: {error}.",
            "Give a file of certificates in PEM form.",
        ) from error
    found.set_alpn_protocols(["http/1.1"])
    return found
