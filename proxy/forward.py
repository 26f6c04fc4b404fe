"""Brings an answer to the client: an upstream's byte for byte, or our own in the shape the client understands.

A stream is never parsed on the way. What breaks off is ended with an error event and a closed connection; a `[DONE]` or
any other sign of a whole answer is never made up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from http import HTTPStatus

from multidict import CIMultiDict

from capture.exchange import COMPLETE, INTERRUPTED
from proxy import failures
from proxy.failures import Failure
from proxy.headers import for_client, for_store
from proxy.identify import PREFIX
from proxy.outbound import Answer, failed
from proxy.reading import Asked
from proxy.recording import Recording
from proxy.relay import Relay
from proxy.route import RESPONSES
from proxy.wire.call import Call
from proxy.wire.reply import BrokenError, SilentError
from serve.flags import Assignment

_LAST_WORDS_S = 5.0
_STOPPED = Failure(503, "relay_stopped", "Potstill was stopped before the answer was whole.", "Try again.")


async def forward(relay: Relay, call: Call, asked: Asked, assignment: Assignment, recording: Recording, answer: Answer) -> None:
    """Relays `answer` and ends `recording` before the last byte is written."""
    reply = answer.reply
    headers = for_client(reply.headers)
    if is_sse := _is_sse(headers):
        headers.setdefault("X-Accel-Buffering", "no")
        headers.setdefault("Cache-Control", "no-cache")
    stored = for_store(reply.headers.items())
    if relay.is_draining:
        call.is_keepalive = False
    if reply.is_whole:
        body = reply.take()
        recording.whole(reply.status, stored, answer.upstream, answer.model, body)
        await recording.settle()
        add_ours(headers, assignment, recording, answer.upstream)
        call.start(reply.status, reply.reason, headers)
        call.finish(body)
        return
    recording.head(reply.status, stored, answer.upstream, answer.model)
    add_ours(headers, assignment, recording, answer.upstream)
    call.start(reply.status, reply.reason, headers)
    if not reply.held:
        call.flush()
    call.on_pause, call.on_resume = reply.pause, reply.resume

    def pass_on(data: bytes) -> None:
        if data:
            recording.part(data)
            call.write(data)

    try:
        last = await reply.pour(pass_on)
    except (SilentError, BrokenError) as error:
        reason = failed(answer.upstream, error)
        await _break_off(call, asked, recording, is_sse and "content-encoding" not in headers, reason.state, reason.failure)
        return
    except asyncio.CancelledError:
        if relay.is_stopping and not recording.is_ended:
            await _break_off(call, asked, recording, is_sse and "content-encoding" not in headers, INTERRUPTED, _STOPPED)
        raise
    if last:
        recording.part(last)
    recording.end(COMPLETE)
    await recording.settle()
    call.finish(last)


async def refuse(call: Call, asked: Asked, assignment: Assignment, recording: Recording, failure: Failure, state: str) -> None:
    """Answers with `failure` in the client's shape; when the head of an answer is out already, only breaks off."""
    if recording.status:
        recording.end(state, failure.kind, failure.message)
        call.close()
        return
    body = failures.body(asked.family, failure, recording.exchange_id)
    headers = CIMultiDict({"Content-Type": "application/json"})
    name = asked.route.upstream.name if asked.route is not None and failure.status >= 500 else ""
    recording.head(failure.status, dict(headers), name)
    add_ours(headers, assignment, recording, name)
    recording.part(body)
    recording.end(state, failure.kind, failure.message)
    await recording.settle()
    write_failure(call, failure, headers, body)


def write_failure(call: Call, failure: Failure, headers: CIMultiDict[str], body: bytes) -> None:
    """Writes an answer of our own."""
    if failure.status in (401, 404):
        headers["x-should-retry"] = "false"
    if failure.retry_after_s:
        headers["Retry-After"] = str(failure.retry_after_s)
    headers["Content-Length"] = str(len(body))
    call.start(failure.status, reason_of(failure.status), headers)
    call.finish(b"" if call.method == "HEAD" else body)


def reason_of(status: int) -> str:
    """The words beside a status of ours."""
    return HTTPStatus(status).phrase if status in HTTPStatus._value2member_map_ else ""


async def _break_off(call: Call, asked: Asked, recording: Recording, is_plain_sse: bool, state: str, failure: Failure) -> None:
    """Ends an answer that cannot be finished: an error event where one fits, then a closed connection."""
    words = b""
    if is_plain_sse and failures.is_event_boundary(recording.tail):
        words = failures.frame(asked.family, asked.target.path == RESPONSES, failure, recording.last)
        recording.part(words)
    recording.end(state, failure.kind, failure.message)
    await recording.settle()
    if call.is_ended_by_close:
        call.abort()
        return
    if words:
        call.write(words)
    call.close(_LAST_WORDS_S)


def _is_sse(headers: Mapping[str, str]) -> bool:
    return headers.get("content-type", "").startswith("text/event-stream")


def add_ours(headers: CIMultiDict[str], assignment: Assignment, recording: Recording, upstream: str) -> None:
    """Adds our response headers."""
    headers[PREFIX + "exchange-id"] = recording.exchange_id
    if assignment.variant:
        headers[PREFIX + "variant"] = assignment.variant
    if assignment.release_id:
        headers[PREFIX + "release"] = assignment.release_id
    if upstream:
        headers[PREFIX + "upstream"] = upstream
    headers[PREFIX + "overhead-ms"] = f"{recording.overhead_us / 1000:.3f}"
