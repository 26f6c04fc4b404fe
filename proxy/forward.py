"""Brings an answer to the client: an upstream's byte for byte, or our own in the shape the client understands.

A stream is never parsed on the way. What breaks off is ended with an error event and a closed connection; a `[DONE]` or
any other sign of a whole answer is never made up.
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus

from multidict import CIMultiDict

from capture.exchange import CACHE_HEADER, CACHE_HIT, COMPLETE, INTERRUPTED
from proxy import failures
from proxy.failures import Failure
from proxy.headers import pass_on
from proxy.identify import PREFIX
from proxy.outbound import Answer, failed
from proxy.reading import Asked
from proxy.recording import Recording
from proxy.relay import Relay
from proxy.response_cache import Collector, KeptAnswer
from proxy.route import RESPONSES
from proxy.wire.call import Call, encode_lines
from proxy.wire.reply import BrokenError, SilentError
from serve.flags import Assignment

_LAST_WORDS_S = 5.0
_ID, _OVERHEAD, _UPSTREAM, _VARIANT, _RELEASE = (
    PREFIX + name for name in ("exchange-id", "overhead-ms", "upstream", "variant", "release")
)
STOPPED = Failure(503, "relay_stopped", "Potstill was stopped before the answer was whole.", "Try again.")


async def forward(
    relay: Relay,
    call: Call,
    asked: Asked,
    assignment: Assignment,
    recording: Recording,
    answer: Answer,
    collector: Collector | None = None,
) -> None:
    """Relays `answer` and ends `recording` before the last byte is written; `collector` gets what may be given again."""
    reply = answer.reply
    passed = pass_on(reply.pairs)
    if relay.is_draining:
        call.is_keepalive = False
    if reply.is_whole:
        body = reply.take()
        recording.whole(reply.status, passed.stored, answer.upstream, answer.model, body)
        await recording.settle()
        lines = passed.lines + encode_lines(_ours(assignment, recording, answer.upstream))
        if collector is not None:
            collector.add(body)
            collector.finish(reply.status, reply.reason, passed, answer.upstream, answer.model)
        call.start(reply.status, reply.reason, lines, has_length=passed.has_length)
        call.finish(body)
        return
    recording.head(reply.status, passed.stored, answer.upstream, answer.model)
    lines = passed.lines + encode_lines(_ours(assignment, recording, answer.upstream))
    call.start(reply.status, reply.reason, lines, has_length=passed.has_length)
    if not reply.held:
        call.flush()
    call.on_pause, call.on_resume = reply.pause, reply.resume

    def send(data: bytes) -> None:
        if data:
            recording.part(data)
            if collector is not None:
                collector.add(data)
            call.write(data)

    try:
        last = await reply.pour(send)
    except (SilentError, BrokenError) as error:
        reason = failed(answer.upstream, error)
        await _break_off(call, asked, recording, passed.is_stream and not passed.is_encoded, reason.state, reason.failure)
        return
    except asyncio.CancelledError:
        if relay.is_stopping and not recording.is_ended:
            await _break_off(call, asked, recording, passed.is_stream and not passed.is_encoded, INTERRUPTED, STOPPED)
        raise
    if last:
        recording.part(last)
    recording.end(COMPLETE)
    await recording.settle()
    if collector is not None:
        collector.add(last)
        collector.finish(reply.status, reply.reason, passed, answer.upstream, answer.model)
    call.finish(last)


async def replay(relay: Relay, call: Call, assignment: Assignment, recording: Recording, kept: KeptAnswer) -> None:
    """Gives an answer of before again, and ends `recording` before it is written."""
    if relay.is_draining:
        call.is_keepalive = False
    recording.whole(kept.status, {**kept.passed.stored, CACHE_HEADER: CACHE_HIT}, kept.upstream, kept.model, kept.body)
    await recording.settle()
    ours = [*_ours(assignment, recording, kept.upstream), (CACHE_HEADER, CACHE_HIT)]
    call.start(kept.status, kept.reason, kept.passed.lines + encode_lines(ours), has_length=kept.passed.has_length)
    call.finish(kept.body)


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
    headers.update(failures.headers(failure))
    headers["Content-Length"] = str(len(body))
    call.start(failure.status, reason_of(failure.status), encode_lines(headers.items()), has_length=True)
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


def add_ours(headers: CIMultiDict[str], assignment: Assignment, recording: Recording, upstream: str) -> None:
    """Adds our own headers of an answer."""
    headers.update(_ours(assignment, recording, upstream))


def _ours(assignment: Assignment, recording: Recording, upstream: str) -> list[tuple[str, str]]:
    """Our own headers of an answer."""
    ours = [(_ID, recording.exchange_id), (_OVERHEAD, f"{recording.overhead_us / 1000:.3f}")]
    if upstream:
        ours.append((_UPSTREAM, upstream))
    if assignment.variant:
        ours.append((_VARIANT, assignment.variant))
    if assignment.release_id:
        ours.append((_RELEASE, assignment.release_id))
    return ours
