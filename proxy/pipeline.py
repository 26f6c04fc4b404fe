"""One request's life, top to bottom: read, assign, keep, ask, relay, end. Whatever happens, one exchange stays."""

from __future__ import annotations

import asyncio
import logging

from aiohttp import web

from capture.exchange import CANDIDATE, CLIENT_CLOSED, COMPLETE, INTERRUPTED, PURPOSES
from capture.records import Begin
from proxy.failures import Failure
from proxy.feedback import find_target, take_feedback
from proxy.forward import forward, refuse
from proxy.headers import for_store
from proxy.reading import Asked, read_request
from proxy.recording import Recording
from proxy.relay import Answer, Relay, UpstreamFailedError, upstream_headers
from proxy.route import STUDENT_PATHS, without_secrets
from serve.flags import Assignment, assign

_NOT_ASSIGNED = Assignment()
_NOT_KEPT = Failure(503, "spool_full", "The relay cannot keep this exchange just now.", "Try again in a moment.", 1)
_log = logging.getLogger(__name__)


async def serve_exchange(relay: Relay, request: web.BaseRequest) -> web.StreamResponse:
    """Answers one request and leaves one exchange, or feedback, in the spool."""
    task = asyncio.current_task()
    assert task is not None
    relay.tasks.add(task)
    relay.requests += 1
    try:
        with relay.budget.holder() as holder:
            if (target := find_target(request.raw_path)) is not None:
                return await take_feedback(relay, request, target, holder)
            asked = await read_request(request, relay.settings, relay.upstreams, holder)
            return await _serve(relay, request, asked)
    except ConnectionError:  # the client is gone; what is returned meets a closed connection and goes nowhere
        if request.transport is not None:
            request.transport.close()
        return web.Response()
    finally:
        relay.tasks.discard(task)


async def _serve(relay: Relay, request: web.BaseRequest, asked: Asked) -> web.StreamResponse:
    recording = Recording(relay.spool, relay.capture)
    assignment = _assign(relay, asked)
    answer: Answer | Failure | None = None
    try:
        is_kept = recording.begin(_begin(asked, assignment, relay.omission.content_of(asked)))
        if is_kept or not relay.capture.rejects_when_full:
            is_kept = await recording.rest(asked.body)
        if not is_kept and relay.capture.rejects_when_full:
            return await refuse(request, asked, assignment, recording, _NOT_KEPT, COMPLETE)
        answer = await _ask(relay, asked, assignment, recording)
        if isinstance(answer, Failure):
            return await refuse(request, asked, assignment, recording, answer, COMPLETE)
        return await forward(relay, request, asked, assignment, recording, answer)
    except UpstreamFailedError as error:
        return await refuse(request, asked, assignment, recording, error.failure, error.state)
    except asyncio.CancelledError:
        recording.end(INTERRUPTED if relay.is_stopping else CLIENT_CLOSED)
        raise
    except ConnectionError:
        recording.end(CLIENT_CLOSED)
        raise
    except Exception:
        _log.exception("exchange %s failed inside the relay", recording.exchange_id)
        failure = Failure(500, "relay_error", "Potstill failed while relaying.", f"Report exchange {recording.exchange_id}.")
        return await refuse(request, asked, assignment, recording, failure, INTERRUPTED)
    finally:
        recording.end(INTERRUPTED)
        if isinstance(answer, Answer):
            answer.response.close()


def _assign(relay: Relay, asked: Asked) -> Assignment:
    """Teacher or student: only the apps' own chats and messages take part in an experiment."""
    is_ours = asked.route is not None and asked.route.path in STUDENT_PATHS and asked.method == "POST"
    if not is_ours or asked.identity.purpose != PURPOSES[0]:
        return _NOT_ASSIGNED
    return assign(relay.flags(), asked.identity.task, asked.identity.units)


async def _ask(relay: Relay, asked: Asked, assignment: Assignment, recording: Recording) -> Answer | Failure:
    """The answer to relay, or what to tell the client without asking anybody."""
    if asked.failure is not None:
        return asked.failure
    headers = upstream_headers(asked)
    if isinstance(headers, Failure):
        return headers
    if assignment.variant == CANDIDATE:
        answer = await relay.ask_student(asked, assignment, recording)
        if answer is not None:
            return answer
    return await relay.ask_teacher(asked, headers, recording)


def _begin(asked: Asked, assignment: Assignment, content: str) -> Begin:
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
        request_headers=for_store(asked.headers.items()),
        body=asked.body,
        content=content,
    )
