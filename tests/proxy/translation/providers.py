"""Scripted providers that speak Gemini, Vertex AI and Bedrock: what they answer is given byte for byte."""

from __future__ import annotations

import asyncio
import base64
import json
import struct
import threading
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from tests.proxy.scripting import Received, Script, Upstream, chunk, chunked_head, http_answer

EVENTS = "text/event-stream"
PIXEL = "data:image/png;base64," + base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(16)).decode()


@contextmanager
def provider_thread() -> Iterator[Upstream]:
    """A provider in a thread of its own, so that it outlives the event loop of one test."""
    found, loop = Upstream(), asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    starting = asyncio.start_server(found.serve, "127.0.0.1", 0, limit=2**26)
    server = asyncio.run_coroutine_threadsafe(starting, loop).result(10)
    found.port = server.sockets[0].getsockname()[1]
    try:
        yield found
    finally:
        asyncio.run_coroutine_threadsafe(_end(server), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


async def _end(server: asyncio.Server) -> None:
    server.close()
    remaining = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    for task in remaining:
        task.cancel()
    await asyncio.gather(*remaining, return_exceptions=True)


def answering(body: bytes, *, status: str = "200 OK", headers: Mapping[str, str] | None = None) -> Script:
    """Answers every request with `body`; a request for a Google token gets one."""

    async def script(received: Received, writer: asyncio.StreamWriter) -> None:
        if " /token" in received.line:
            writer.write(http_answer(b'{"access_token":"ya29.test","expires_in":3600,"token_type":"Bearer"}'))
        else:
            writer.write(http_answer(body, status=status, headers=headers))

    return script


def streaming(
    pieces: Sequence[bytes], content_type: str, *, pause: Sequence[threading.Event] = (), is_cut: bool = False
) -> Script:
    """Answers with one HTTP chunk for each piece; before piece N + 1 waits for `pause[N]`; `is_cut` leaves the end out."""

    async def script(received: Received, writer: asyncio.StreamWriter) -> None:
        if " /token" in received.line:
            return await answering(b"")(received, writer)
        writer.write(chunked_head(content_type))
        await writer.drain()
        for number, piece in enumerate(pieces):
            while 0 < number <= len(pause) and not pause[number - 1].is_set():  # noqa: ASYNC110
                await asyncio.sleep(0.005)
            writer.write(chunk(piece))
            await writer.drain()
        if is_cut:
            writer.transport.abort()
            return None
        writer.write(b"0\r\n\r\n")
        return None

    return script


def gemini(parts: Sequence[Mapping[str, Any]], finish: str | None = "STOP", **more: Any) -> dict[str, Any]:
    """An answer of Gemini's, or a chunk of one."""
    candidate: dict[str, Any] = {"content": {"parts": list(parts), "role": "model"}, "index": 0}
    if finish is not None:
        candidate["finishReason"] = finish
    usage = {"promptTokenCount": 5, "candidatesTokenCount": 2, "totalTokenCount": 7}
    return {"candidates": [candidate], "usageMetadata": usage, "modelVersion": "gemini-2.5-flash", "responseId": "r1", **more}


def sse(pieces: Sequence[Mapping[str, Any]]) -> list[bytes]:
    """Google's server-sent events."""
    return [b"data: " + json.dumps(piece).encode() + b"\r\n\r\n" for piece in pieces]


def event_stream(events: Sequence[tuple[str, Mapping[str, Any]]]) -> list[bytes]:
    """Frames of application/vnd.amazon.eventstream, with their checksums."""
    return [_frame(kind, json.dumps(data).encode()) for kind, data in events]


def _frame(kind: str, payload: bytes) -> bytes:
    headers = b"".join(
        bytes([len(name)]) + name.encode() + b"\x07" + struct.pack(">H", len(value)) + value.encode()
        for name, value in ((":event-type", kind), (":content-type", "application/json"), (":message-type", "event"))
    )
    prelude = struct.pack(">II", 16 + len(headers) + len(payload), len(headers))
    prelude += struct.pack(">I", zlib.crc32(prelude))
    message = prelude + headers + payload
    return message + struct.pack(">I", zlib.crc32(message))


def converse(texts: Sequence[str], stop: str = "end_turn") -> list[tuple[str, dict[str, Any]]]:
    """The events of a Bedrock Converse stream that says `texts`."""
    return [
        ("messageStart", {"role": "assistant"}),
        *(("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": text}}) for text in texts),
        ("contentBlockStop", {"contentBlockIndex": 0}),
        ("messageStop", {"stopReason": stop}),
        ("metadata", {"usage": {"inputTokens": 5, "outputTokens": 2, "totalTokens": 7}, "metrics": {"latencyMs": 10}}),
    ]
