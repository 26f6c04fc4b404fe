"""The way to an upstream that speaks WebSockets: TLS with certificates of the settings, and an HTTP proxy."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from websockets.asyncio.server import serve
from websockets.exceptions import InvalidStatus

from capture.settings import Settings, load_settings
from proxy.worker import start_worker
from tests.proxy.certificates import make_certificate
from tests.proxy.scripting import relay_settings
from tests.proxy.websocket.sockets import Upstream, reach


@pytest.fixture
async def upstream(tmp_path: Path) -> AsyncIterator[Upstream]:
    """An upstream behind TLS, with a certificate that nobody else has signed."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*make_certificate(tmp_path))
    found = Upstream()
    async with serve(found.serve, "127.0.0.1", 0, ssl=context, process_request=found.answer, close_timeout=1) as server:
        found.port = server.sockets[0].getsockname()[1]
        yield found


def ways(folder: Path, upstream: Upstream, *lines: str) -> Settings:
    """Settings with `lines` in the section of the upstream."""
    relay_settings(folder, f"https://localhost:{upstream.port}")
    path = folder / "potstill.toml"
    text = path.read_text("utf-8").replace("[upstreams.openai]\n", "\n".join(["[upstreams.openai]", *lines, ""]))
    path.write_text(text, "utf-8")
    return load_settings(path, environ={})


async def test_a_certificate_of_the_settings_is_trusted_and_no_other(tmp_path: Path, upstream: Upstream) -> None:
    worker = await start_worker(ways(tmp_path, upstream, 'ca_file = "ca.pem"'))
    async with reach(worker) as socket:
        await socket.send("hi")
        assert await socket.recv() == "hi"
    await worker.drain(0.0)
    stranger = await start_worker(ways(tmp_path, upstream))
    with pytest.raises(InvalidStatus) as refused:
        async with reach(stranger):
            pass
    await stranger.drain(0.0)
    assert refused.value.response.status_code == 502
    assert len(upstream.requests) == 1, "nothing was sent to somebody who is not trusted"


async def test_an_upstream_behind_an_http_proxy_is_reached_through_a_tunnel(tmp_path: Path, upstream: Upstream) -> None:
    asked: list[bytes] = []

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(2**16):
            writer.write(data)
            await writer.drain()
        writer.close()

    async def tunnel(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", upstream.port)
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        await asyncio.gather(copy(reader, far_writer), copy(far_reader, writer), return_exceptions=True)

    proxy = await asyncio.start_server(tunnel, "127.0.0.1", 0)
    address = f"http://127.0.0.1:{proxy.sockets[0].getsockname()[1]}"
    worker = await start_worker(ways(tmp_path, upstream, 'ca_file = "ca.pem"', f'proxy = "{address}"'))
    async with reach(worker) as socket:
        await socket.send("hi")
        assert await socket.recv() == "hi"
    await worker.drain(0.0)
    proxy.close()
    assert asked[0].startswith(f"CONNECT localhost:{upstream.port} HTTP/1.1\r\n".encode())
    assert b"Authorization" not in asked[0]
