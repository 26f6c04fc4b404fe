"""Upstreams behind an HTTP proxy: asked with aiohttp's client, answered as by any other connection of ours."""

from __future__ import annotations

import asyncio
import io
import logging
import ssl
from types import SimpleNamespace

import aiohttp
from multidict import CIMultiDict
from yarl import URL

from proxy.wire.reply import BrokenError, ConnectFailedError, Reply, SilentError, UnsendableError
from proxy.wire.upstream import Patience

_READ_BUFFER = 2**17
_LARGE = 2**18
_SKIPPED = ("User-Agent", "Accept", "Accept-Encoding", "Content-Type")
_log = logging.getLogger(__name__)


class ProxiedUpstream:
    """One upstream and the proxy before it. Made inside the event loop; `close` ends its connections."""

    def __init__(self, proxy: str, tls: ssl.SSLContext | None, keepalive_s: float) -> None:
        self._proxy, self._tls = proxy, tls
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=keepalive_s),
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            read_bufsize=_READ_BUFFER,
            skip_auto_headers=_SKIPPED,
            max_line_size=2**16,
            max_field_size=2**16,
            trace_configs=[_telling_when_connected()],
        )

    def ask(self, method: str, url: str, headers: CIMultiDict[str], body: bytes, patience: Patience, connect_s: float) -> Reply:
        """Sends a request; the answer arrives in what is returned."""
        return _Reading(self._session, self._proxy, self._tls, method, url, headers, body, patience, connect_s).reply

    async def close(self) -> None:
        """Ends its connections."""
        await self._session.close()


def _telling_when_connected() -> aiohttp.TraceConfig:
    """Calls what a request gives as its context once it has a connection, through the proxy where TLS needs that."""

    async def tell(_session: aiohttp.ClientSession, context: SimpleNamespace, _parameters: object) -> None:
        context.trace_request_ctx()

    found = aiohttp.TraceConfig()
    found.on_connection_create_end.append(tell)
    found.on_connection_reuseconn.append(tell)
    return found


class _Reading:
    """The task that carries one answer from aiohttp to a `Reply`."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        proxy: str,
        tls: ssl.SSLContext | None,
        method: str,
        url: str,
        headers: CIMultiDict[str],
        body: bytes,
        patience: Patience,
        connect_s: float,
    ) -> None:
        loop = asyncio.get_running_loop()
        self.reply = Reply(self, loop)
        self._may_read = asyncio.Event()
        self._may_read.set()
        self._patience = patience
        self._head = asyncio.timeout(None)
        """How long the head may take; the connection has a bound of its own."""
        request = session.request(
            method,
            URL(url, encoded=True),
            data=io.BytesIO(body) if len(body) > _LARGE else body or None,
            headers=headers,
            allow_redirects=False,
            proxy=proxy,
            ssl=True if tls is None else tls,
            timeout=aiohttp.ClientTimeout(total=patience.total_s or None, connect=connect_s),
            trace_request_ctx=lambda: self._head.reschedule(loop.time() + patience.first_s),
        )
        self._task = loop.create_task(self._run(session, request, headers))

    def pause(self) -> None:
        """Stops reading."""
        self._may_read.clear()

    def resume(self) -> None:
        """Reads on."""
        self._may_read.set()

    def give_up(self) -> None:
        """Ends the connection."""
        self._task.cancel()

    async def _run(
        self,
        session: aiohttp.ClientSession,
        request: aiohttp.client._RequestContextManager,
        headers: CIMultiDict[str],
    ) -> None:
        reply = self.reply
        try:
            _refuse_unsendable(headers)
            async with self._head:
                response = await request
            async with response:
                await self._read(response)
        except TimeoutError as error:
            is_connected = not isinstance(error, aiohttp.ConnectionTimeoutError)
            why = "sent nothing for too long" if is_connected else "no connection in time"
            reply.fail(SilentError(why) if is_connected else ConnectFailedError(why))
        except ConnectFailedError as error:
            reply.fail(error)
        except (aiohttp.ClientConnectorError, aiohttp.ClientHttpProxyError, aiohttp.ClientProxyConnectionError) as error:
            reply.fail(ConnectFailedError(getattr(error, "strerror", None) or str(error)))
        except (aiohttp.ClientError, OSError) as error:
            reply.fail(BrokenError(str(error)))
        except Exception as error:  # whatever it is, somebody waits for the answer; its text may hold what a client sent
            if session.closed:
                reply.fail(ConnectFailedError("the relay has closed its connections meanwhile"))
                return
            _log.error("asking through an HTTP proxy failed by a %s", type(error).__name__)
            reply.fail(BrokenError(f"it failed in the relay by a {type(error).__name__}"))
        finally:
            request.close()

    async def _read(self, response: aiohttp.ClientResponse) -> None:
        reply = self.reply
        reply.status, reply.reason = response.status, response.reason or ""
        reply.pairs = list(response.raw_headers)
        reply.arrived.set_result(None)
        while True:
            async with asyncio.timeout(self._patience.idle_s):
                data = await response.content.readany()
            if not data:
                break
            await self._may_read.wait()
            reply.add(data)
        reply.finish(b"")


def _refuse_unsendable(headers: CIMultiDict[str]) -> None:
    """Raises UnsendableError for bytes that are no UTF-8, which aiohttp would leave out without a word."""
    for name, value in headers.items():
        try:
            f"{name}{value}".encode()
        except UnicodeEncodeError as error:
            named = name.encode("ascii", "replace").decode()
            raise UnsendableError(f"Header {named} is not UTF-8, and cannot pass the HTTP proxy.") from error
