"""One request's life, top to bottom: read, assign, keep, ask, relay, end. Whatever happens, one exchange stays."""

from __future__ import annotations

import asyncio
import logging

from msgspec.structs import replace
from multidict import CIMultiDict

from capture.exchange import CANDIDATE, CLIENT_CLOSED, COMPLETE, INTERRUPTED, PURPOSES
from capture.records import Begin
from proxy import failures
from proxy.failures import Failure
from proxy.feedback import find_target, take_feedback
from proxy.forward import STOPPED, forward, refuse, replay, write_failure
from proxy.keys.gate import FREE, Grant
from proxy.outbound import Answer, UpstreamFailedError
from proxy.reading import Asked, failure_of, read_call, refuse_host
from proxy.recording import Recording
from proxy.relay import Config, Relay
from proxy.response_cache import KeptAnswer
from proxy.route import STUDENT_PATHS, without_secrets
from proxy.settings import ANTHROPIC, OPENAI
from proxy.student import ask_student
from proxy.teacher import ask_teacher, upstream_headers
from proxy.upstream_keys import is_ours_to_mend
from proxy.wire.call import Call
from proxy.wire.limits import Problem
from serve.flags import Assignment, assign

NOT_ASSIGNED = Assignment()
NOT_KEPT = Failure(503, "spool_full", "The relay cannot keep this exchange just now.", "Try again in a moment.", 1)
_HELLO = b'{"relay": "potstill"}\n'
_log = logging.getLogger(__name__)


async def serve_exchange(relay: Relay, call: Call) -> None:
    """Answers one request and leaves one exchange, or feedback, in the spool."""
    relay.requests += 1
    relay.counters.began()
    if call.problem is not None and call.problem.is_malformed:
        _refuse_malformed(relay, call, call.problem)
        return
    if call.raw_path == "/" and call.method in ("GET", "HEAD"):
        _say_hello(relay, call)
        return
    if (target := find_target(call.raw_path)) is not None:
        await take_feedback(relay, call, target)
        return
    config = relay.enter()
    try:
        await _serve(relay, config, call, read_call(call, config.relay, config.upstreams, call.head.known_under(config)))
    finally:
        relay.leave(config)


def _say_hello(relay: Relay, call: Call) -> None:
    """Answers who only looks whether somebody is here, as Claude Code does at its start; that is no exchange."""
    failure = refuse_host(call.headers, relay.config.relay)
    if failure is not None:
        relay.counters.refused(failure.kind)
        write_failure(call, failure, CIMultiDict({"Content-Type": "application/json"}), failures.body(OPENAI, failure, ""))
        return
    call.start(200, "OK", b"Content-Type: application/json\r\nContent-Length: %d\r\n" % len(_HELLO), has_length=True)
    call.finish(b"" if call.method == "HEAD" else _HELLO)


def _refuse_malformed(relay: Relay, call: Call, problem: Problem) -> None:
    """Answers what is not even a request; nothing of it is kept, as it may be anything, and secret."""
    relay.counters.refused(problem.kind)
    is_anthropic = "/v1/messages" in call.raw_path or "anthropic-version" in call.headers
    failure = failure_of(problem)
    body = failures.body(ANTHROPIC if is_anthropic else OPENAI, failure, "")
    write_failure(call, failure, CIMultiDict({"Content-Type": "application/json"}), body)


async def _serve(relay: Relay, config: Config, call: Call, asked: Asked) -> None:
    recording = Recording(relay.spool, config.capture)
    asked, grant, key_id = admit(relay, asked, recording.raw_id)
    assignment = NOT_ASSIGNED
    answer: Answer | Failure | None = None
    is_begun = is_kept = False
    try:
        assignment = _assign(relay, asked)
        content = config.omission.content_of(asked)
        is_kept = recording.begin(begin_of(asked, assignment, content, key_id))
        is_begun = True
        if is_kept or not config.capture.rejects_when_full:
            is_kept = await recording.rest(asked.body)
        if not is_kept and config.capture.rejects_when_full:
            grant.cancel()
            await _refuse(relay, call, asked, assignment, recording, NOT_KEPT, COMPLETE)
            return
        collector = None
        if relay.cache is not None and not (assignment.variant or content):
            found = relay.cache.look(asked, key_id)
            if isinstance(found, KeptAnswer):
                relay.counters.cached(asked.route.upstream.name if asked.route is not None else "")
                await replay(relay, call, assignment, recording, found)
                return
            collector = found
        answer = await _ask(relay, config, asked, assignment, recording, key_id)
        if isinstance(answer, Failure):
            await _refuse(relay, call, asked, assignment, recording, answer, COMPLETE)
        else:
            await forward(relay, call, asked, assignment, recording, answer, collector)
    except UpstreamFailedError as error:
        await _refuse(relay, call, asked, assignment, recording, error.failure, error.state)
    except asyncio.CancelledError:
        if relay.is_stopping and not (call.has_started or call.is_gone or recording.status):
            await _refuse(relay, call, asked, assignment, recording, STOPPED, INTERRUPTED)
        recording.end(INTERRUPTED if relay.is_stopping else CLIENT_CLOSED)
        raise
    except ConnectionError:
        recording.end(CLIENT_CLOSED)
        call.abort()
    except Exception:
        _log.exception("exchange %s failed inside the relay", recording.exchange_id)
        failure = Failure(500, "relay_error", "Potstill failed while relaying.", f"Report exchange {recording.exchange_id}.")
        await _refuse(relay, call, asked, assignment, recording, failure, INTERRUPTED)
    finally:
        recording.end(INTERRUPTED)
        if not is_begun:
            grant.cancel()
        grant.end(is_kept)
        if isinstance(answer, Answer):
            answer.close()
        count(relay, asked, assignment, recording)


def admit(relay: Relay, asked: Asked, raw_id: bytes) -> tuple[Asked, Grant, str]:
    """`asked` with the reason where the gate refuses it, what it granted, and the id of the virtual key that was used."""
    found = relay.gate.admit(asked, raw_id)
    if isinstance(found, Grant):
        return found.narrowed(asked), found, found.key_id
    return replace(asked, route=None, failure=found), FREE, relay.gate.blamed_key(asked.headers, found)


async def _refuse(
    relay: Relay, call: Call, asked: Asked, assignment: Assignment, recording: Recording, failure: Failure, state: str
) -> None:
    relay.counters.refused(failure.kind)
    await refuse(call, asked, assignment, recording, failure, state)


def count(relay: Relay, asked: Asked, assignment: Assignment, recording: Recording) -> None:
    """Counts an exchange that has ended."""
    relay.counters.ended(
        asked.route.protocol if asked.route is not None else asked.family,
        recording.upstream,
        assignment.variant,
        recording.status,
        recording.state,
        recording.latency_us,
        recording.first_byte_us,
        recording.overhead_us,
        len(asked.body),
        recording.response_bytes,
    )


def _assign(relay: Relay, asked: Asked) -> Assignment:
    """Teacher or student: only the apps' own chats and messages take part in an experiment."""
    is_ours = asked.route is not None and asked.route.path in STUDENT_PATHS and asked.method == "POST"
    if not is_ours or asked.identity.purpose != PURPOSES[0]:
        return NOT_ASSIGNED
    return assign(relay.flags(), asked.identity.task, asked.identity.units)


async def _ask(
    relay: Relay, config: Config, asked: Asked, assignment: Assignment, recording: Recording, key_id: str
) -> Answer | Failure:
    """The answer to relay, or what to tell the client without asking anybody."""
    if asked.failure is not None:
        return asked.failure
    assert asked.route is not None
    headers = upstream_headers(relay, asked, asked.route.upstream)
    if isinstance(headers, Failure) and not is_ours_to_mend(headers):
        return headers
    if assignment.variant == CANDIDATE:
        answer = await ask_student(relay, asked, assignment, recording)
        if answer is not None:
            return answer
    return await ask_teacher(relay, config, asked, headers, recording, key_id)


def begin_of(asked: Asked, assignment: Assignment, content: str, key_id: str = "") -> Begin:
    """What the spool is told first of an exchange."""
    identity, route = asked.identity, asked.route
    unit, unit_source = (assignment.unit, assignment.unit_source) if assignment.variant else identity.unit
    return Begin(
        method=asked.method,
        path=asked.target.path,
        query=without_secrets(asked.target.query),
        protocol=route.protocol if route is not None else asked.family,
        task=identity.task,
        unit=unit,
        unit_source=unit_source,
        user_name=identity.user,
        session_name=identity.session,
        environment=identity.environment,
        tags=dict(identity.tags),
        purpose=identity.purpose,
        model_asked=asked.peeked.model,
        is_stream=asked.peeked.is_stream,
        variant=assignment.variant,
        release_id=assignment.release_id,
        flag_revision=assignment.flag_revision,
        upstream=route.upstream.name if route is not None else "",
        request_headers=asked.stored,
        body=asked.body,
        content=content,
        trace_id=identity.trace_id,
        key_id=key_id,
    )
