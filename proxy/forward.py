"""Brings an answer to the client: an upstream's byte for byte, or our own in the shape the client understands.

A stream is never parsed on the way. What breaks off is ended with an error event and a closed connection; a `[DONE]` or
any other sign of a whole answer is never made up.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Mapping

from aiohttp import HttpVersion11, web
from multidict import CIMultiDict

from capture.exchange import COMPLETE, INTERRUPTED
from proxy import failures
from proxy.failures import Failure
from proxy.headers import for_client, for_store
from proxy.identify import PREFIX
from proxy.reading import Asked
from proxy.recording import Recording
from proxy.relay import Answer, Relay, UpstreamFailedError
from proxy.route import RESPONSES
from serve.flags import Assignment

_LAST_WORDS_S = 5.0
_WITHOUT_BODY = (204, 304)
_STOPPED = Failure(503, "relay_stopped", "Potstill was stopped before the answer was whole.", "Try again.")


class _RelayedResponse(web.StreamResponse):
    """Sends the head together with the first bytes when those are there already, and adds no header of aiohttp's."""

    def __init__(self, status: int, reason: str | None, headers: CIMultiDict[str], *, has_bytes: bool) -> None:
        super().__init__(status=status, reason=reason, headers=headers)
        self._send_headers_immediately = not has_bytes
        self._names = frozenset(name.lower() for name in headers)

    async def _prepare_headers(self) -> None:
        await super()._prepare_headers()
        for name in ("server", "content-type"):
            if name not in self._names:
                self.headers.popall(name, None)


async def forward(
    relay: Relay, request: web.BaseRequest, asked: Asked, assignment: Assignment, recording: Recording, answer: Answer
) -> web.StreamResponse:
    """Relays `answer` and ends `recording` before the last byte is written."""
    upstream, content = answer.response, answer.response.content
    headers = for_client(upstream.headers)
    if _is_sse(headers):
        headers.setdefault("X-Accel-Buffering", "no")
        headers.setdefault("Cache-Control", "no-cache")
    recording.head(upstream.status, for_store(upstream.headers.items()), answer.upstream, answer.model)
    _add_ours(headers, assignment, recording, answer.upstream)
    length = int(headers["content-length"]) if "content-length" in headers else None
    chunk = answer.first or (content.read_nowait() if content.exception() is None else b"")
    response = _RelayedResponse(upstream.status, upstream.reason, headers, has_bytes=bool(chunk))
    if relay.is_draining:
        response.force_close()
    if length == 0 or asked.method == "HEAD" or upstream.status in _WITHOUT_BODY:
        recording.end(COMPLETE)
        await recording.settle()
    await response.prepare(request)
    try:
        await _pump(relay, recording, answer, response, chunk, length)
    except UpstreamFailedError as error:
        if rest := content._read_nowait(-1):  # what came before the break is the client's; the public method refuses
            recording.part(rest)
            await response.write(rest)
        await _break_off(request, asked, recording, response, error.state, error.failure)
    except asyncio.CancelledError:
        if relay.is_stopping and not recording.is_ended:
            await _break_off(request, asked, recording, response, INTERRUPTED, _STOPPED)
        raise
    return response


async def _pump(
    relay: Relay, recording: Recording, answer: Answer, response: web.StreamResponse, chunk: bytes, length: int | None
) -> None:
    """Passes `chunk` and all that follows, each piece kept before it is written, the end kept before the last."""
    content = answer.response.content
    passed = 0
    while chunk := chunk or await relay.read_on(answer):
        recording.part(chunk)
        passed += len(chunk)
        if passed == length or content.at_eof():
            recording.end(COMPLETE)
            await recording.settle()
            await response.write_eof(chunk)
            return
        await response.write(chunk)
        chunk = b""
    recording.end(COMPLETE)
    await recording.settle()
    await response.write_eof()


async def refuse(
    request: web.BaseRequest, asked: Asked, assignment: Assignment, recording: Recording, failure: Failure, state: str
) -> web.StreamResponse:
    """Answers with `failure` in the client's shape; when the head of an answer is out already, only breaks off."""
    if recording.status:
        recording.end(state, failure.kind, failure.message)
        raise ConnectionResetError(failure.message)
    body = failures.body(asked.family, failure, recording.exchange_id)
    headers = CIMultiDict({"Content-Type": "application/json"})
    name = asked.route.upstream.name if asked.route is not None and failure.status >= 500 else ""
    recording.head(failure.status, dict(headers), name)
    _add_ours(headers, assignment, recording, name)
    if failure.status in (401, 404):
        headers["x-should-retry"] = "false"
    if failure.retry_after_s:
        headers["Retry-After"] = str(failure.retry_after_s)
    recording.part(body)
    recording.end(state, failure.kind, failure.message)
    await recording.settle()
    response = web.Response(status=failure.status, headers=headers, body=body)
    await response.prepare(request)
    await response.write_eof()
    return response


async def _break_off(
    request: web.BaseRequest, asked: Asked, recording: Recording, response: web.StreamResponse, state: str, failure: Failure
) -> None:
    """Ends an answer that cannot be finished: an error event where one fits, then a closed connection."""
    is_plain_sse = _is_sse(response.headers) and "content-encoding" not in response.headers
    words = b""
    if is_plain_sse and failures.is_event_boundary(recording.tail):
        words = failures.frame(asked.family, asked.target.path == RESPONSES, failure, recording.last)
        recording.part(words)
    recording.end(state, failure.kind, failure.message)
    await recording.settle()
    transport = request.transport
    if transport is None:
        return
    if request.version < HttpVersion11 and "content-length" not in response.headers:
        _reset(transport)
        return
    asyncio.get_running_loop().call_later(_LAST_WORDS_S, transport.abort)
    if words:
        await response.write(words)
    transport.close()


def _reset(transport: asyncio.Transport) -> None:
    """Ends a connection by a TCP reset: a client without chunks takes a plain close for the end of a whole answer."""
    found = transport.get_extra_info("socket")
    if found is not None:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


def _is_sse(headers: Mapping[str, str]) -> bool:
    return headers.get("content-type", "").startswith("text/event-stream")


def _add_ours(headers: CIMultiDict[str], assignment: Assignment, recording: Recording, upstream: str) -> None:
    ours: Mapping[str, str] = {
        "exchange-id": recording.exchange_id,
        "variant": assignment.variant,
        "release": assignment.release_id,
        "upstream": upstream,
        "overhead-ms": f"{recording.overhead_us / 1000:.3f}",
    }
    for name, value in ours.items():
        if value:
            headers[PREFIX + name] = value
