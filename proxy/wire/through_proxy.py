"""Upstreams behind an HTTP proxy: asked with aiohttp's client, answered as by any other connection of ours."""

from __future__ import annotations

import asyncio
import io
import ssl

import aiohttp
from multidict import CIMultiDict
from yarl import URL

from proxy.wire.reply import BrokenError, ConnectFailedError, Reply, SilentError
from proxy.wire.upstream import Patience

_READ_BUFFER = 2**17
_LARGE = 2**18
_SKIPPED = ("User-Agent", "Accept", "Accept-Encoding", "Content-Type")


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
        )

    def ask(self, method: str, url: str, headers: CIMultiDict[str], body: bytes, patience: Patience, connect_s: float) -> Reply:
        """Sends a request; the answer arrives in what is returned."""
        return _Reading(self._session, self._proxy, self._tls, method, url, headers, body, patience, connect_s).reply

    async def close(self) -> None:
        """Ends its connections."""
        await self._session.close()


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
        timeout = aiohttp.ClientTimeout(
            total=patience.total_s or None, sock_connect=connect_s, sock_read=max(patience.first_s, patience.idle_s)
        )
        request = session.request(
            method,
            URL(url, encoded=True),
            data=io.BytesIO(body) if len(body) > _LARGE else body or None,
            headers=headers,
            allow_redirects=False,
            proxy=proxy,
            ssl=True if tls is None else tls,
            timeout=timeout,
        )
        self._task = loop.create_task(self._run(request))

    def pause(self) -> None:
        """Stops reading."""
        self._may_read.clear()

    def resume(self) -> None:
        """Reads on."""
        self._may_read.set()

    def give_up(self) -> None:
        """Ends the connection."""
        self._task.cancel()

    async def _run(self, request: aiohttp.client._RequestContextManager) -> None:
        reply = self.reply
        try:
            async with request as response:
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
        except TimeoutError as error:
            is_connected = not isinstance(error, aiohttp.ConnectionTimeoutError)
            why = "sent nothing for too long" if is_connected else "no connection in time"
            reply.fail(SilentError(why) if is_connected else ConnectFailedError(why))
        except (aiohttp.ClientConnectorError, aiohttp.ClientHttpProxyError, aiohttp.ClientProxyConnectionError) as error:
            reply.fail(ConnectFailedError(getattr(error, "strerror", None) or str(error)))
        except (aiohttp.ClientError, OSError) as error:
            reply.fail(BrokenError(str(error)))
