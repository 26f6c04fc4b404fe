"""The scripted provider's replies on their way to the client, and what a script does to them there."""

from __future__ import annotations

import asyncio
import socket
import struct
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from aiohttp import web

from proxy.provider_script import Script


@dataclass(frozen=True, slots=True)
class Reply:
    """A response before any fault is done to it; `pieces` are sent one by one when it is a stream, else at once."""

    status: int
    headers: Mapping[str, str]
    pieces: Iterable[bytes]
    is_stream: bool = False


async def send(request: web.Request, reply: Reply, script: Script, stopping: asyncio.Event) -> web.StreamResponse:
    """Sends `reply` with the faults of `script`; a stall lasts until the client leaves or `stopping` is set."""
    pieces = _compressed(reply.pieces) if script.gzip else reply.pieces
    headers = dict(reply.headers) | ({"content-encoding": "gzip"} if script.gzip else {}) | dict(script.headers)
    response = web.StreamResponse(status=reply.status, headers=headers)
    if not reply.is_stream:
        body = b"".join(pieces)
        response.content_length = len(body)
        pieces = [body[: len(body) // 2], body[len(body) // 2 :]] if script.stall or script.chunk_delay_ms else [body]
    await response.prepare(request)
    sent = 0
    for piece in _torn(pieces, is_split=script.split):
        if sent and script.chunk_delay_ms:
            await asyncio.sleep(script.chunk_delay_ms / 1000)
        if sent and script.stall == "body":
            await stopping.wait()
        if 0 <= script.cut_after_bytes <= sent + len(piece):
            await response.write(piece[: script.cut_after_bytes - sent])
            _drop(request, is_reset=script.reset)
            return response
        await response.write(piece)
        sent += len(piece)
    await response.write_eof()
    return response


def _compressed(pieces: Iterable[bytes]) -> Iterator[bytes]:
    squeeze = zlib.compressobj(wbits=31)
    for piece in pieces:
        yield squeeze.compress(piece) + squeeze.flush(zlib.Z_SYNC_FLUSH)
    yield squeeze.flush()


def _torn(pieces: Iterable[bytes], *, is_split: bool) -> Iterator[bytes]:
    for piece in pieces:
        if is_split:
            yield from (piece[at : at + 1] for at in range(len(piece)))
        else:
            yield piece


def _drop(request: web.Request, *, is_reset: bool) -> None:
    """Ends the connection without the end of the body: a close after what was written, or a reset."""
    transport = request.transport
    if transport is None:
        return
    if is_reset:
        connection = transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()
    else:
        transport.close()
