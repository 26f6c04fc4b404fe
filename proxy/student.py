"""Asks the student, and says why the teacher must answer instead when it does not do."""

from __future__ import annotations

import asyncio

from capture import clock
from proxy.engine_way import ENGINE, Engine
from proxy.headers import Sent, for_student
from proxy.outbound import Answer, UpstreamFailedError
from proxy.peek import with_model
from proxy.reading import Asked
from proxy.recording import Recording
from proxy.relay import Relay
from proxy.wire.reply import BrokenError, Reply, SilentError
from serve.flags import Assignment

_ERRORS = (b'data: {"error"', b'data:{"error"', b"event: error")


def _headers(asked: Asked) -> Sent:
    found: Sent | None = asked.known.get(ENGINE)
    if found is None:
        found = asked.known[ENGINE] = Sent.of(for_student(asked.headers))
    return found


async def ask_student(relay: Relay, asked: Asked, assignment: Assignment, recording: Recording) -> Answer | None:
    """The student's answer once its first byte is there; None when the teacher must answer, `recording` says why."""
    answer = await _try(relay.engine, asked, assignment, recording, relay.config.relay.student_timeout_s)
    if isinstance(answer, Answer):
        return answer
    recording.fallback_reason = answer
    relay.fallbacks += 1
    relay.counters.fell_back(answer)
    return None


async def _try(engine: Engine, asked: Asked, assignment: Assignment, recording: Recording, patience_s: float) -> Answer | str:
    assert asked.route is not None
    if "content-encoding" in asked.headers:
        return "encoded_body"
    try:
        body = with_model(asked.body, assignment.engine_model)
    except ValueError:
        return "unreadable_body"
    if not engine.breaker.may_try():
        return "breaker_open"
    reply: Reply | None = None
    is_kept = False
    try:
        async with asyncio.timeout(patience_s):
            url = engine.upstream.root + asked.route.path
            reply = await engine.outbound.ask(engine.upstream, "POST", url, _headers(asked), body, recording)
            if not 200 <= reply.status < 300:
                engine.breaker.succeeded()
                return f"http_{reply.status}"
            before = clock.monotonic_ns()
            first = await reply.first()
            recording.waited_ns += clock.monotonic_ns() - before
        engine.breaker.succeeded()
        if not first:
            return "empty_answer"
        if first.startswith(_ERRORS):
            return "error_in_band"
        is_kept = True
        return Answer(reply, ENGINE, assignment.engine_model)
    except (TimeoutError, SilentError):
        engine.breaker.failed()
        return "timeout"
    except UpstreamFailedError as error:
        engine.breaker.failed()
        return "unreachable" if not error.is_sent else "timeout" if error.failure.status == 504 else "aborted"
    except BrokenError:
        engine.breaker.failed()
        return "aborted"
    finally:
        if reply is not None and not is_kept:
            reply.close()
