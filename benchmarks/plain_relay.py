"""The least a tuned aiohttp relay can do: pass bytes both ways. No capture, no tags, no routes, no flags, no care for failures.

    python -m benchmarks.plain_relay PORT UPSTREAM_PORT

Server, client session, event loop and garbage collector are set as in Potstill's relay worker, so that the difference
between the two is what Potstill does for each exchange.
"""

from __future__ import annotations

import asyncio
import gc
import signal
import sys

import aiohttp
import uvloop
from aiohttp import web
from multidict import CIMultiDict
from yarl import URL

_STAYS = frozenset(("connection", "keep-alive", "transfer-encoding", "host", "content-length"))


async def _relay(session: aiohttp.ClientSession, upstream: str, request: web.BaseRequest) -> web.StreamResponse:
    body = await request.content.read()
    headers = CIMultiDict([(name, value) for name, value in request.headers.items() if name.lower() not in _STAYS])
    url = URL(upstream + request.raw_path, encoded=True)
    answer = await session.request(request.method, url, data=body, headers=headers, allow_redirects=False)
    content = answer.content
    response = web.StreamResponse(status=answer.status, reason=answer.reason)
    for name, value in answer.headers.items():
        if name.lower() not in _STAYS or (name.lower() == "content-length" and "transfer-encoding" not in answer.headers):
            response.headers[name] = value
    chunk = content.read_nowait()
    response._send_headers_immediately = not chunk
    await response.prepare(request)
    while chunk := chunk or await content.readany():
        if content.at_eof():
            await response.write_eof(chunk)
            return response
        await response.write(chunk)
        chunk = b""
    await response.write_eof()
    return response


async def serve(port: int, upstream_port: int) -> None:
    """Relays on `port` until SIGTERM."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    session = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=15),
        auto_decompress=False,
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=600),
        read_bufsize=2**17,
        skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
    )
    upstream = f"http://127.0.0.1:{upstream_port}"

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        return await _relay(session, upstream, request)

    server = web.Server(handle, handler_cancellation=True, access_log=None, keepalive_timeout=30, auto_decompress=False)
    listening = await loop.create_server(server, "127.0.0.1", port, backlog=1024)
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 50, 100)
    await stop.wait()
    listening.close()
    await server.shutdown(1.0)
    await session.close()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(int(sys.argv[1]), int(sys.argv[2])))
