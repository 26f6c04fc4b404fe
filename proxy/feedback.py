"""POST /feedback: what an app's users thought of an answer, on its way into the spool. No upstream ever hears of it.

The answer is 202 once the feedback is in the spool, so that it survives the death of this process (in strict mode a power cut
too); 503 with Retry-After when some of it could not be kept, with the ids under which to send all of it again: what was kept
already is not stored twice. Nobody asks the store, so feedback may come before its exchange, or for
one that nobody knows. Where content is not to be stored, values are kept, but neither comments nor demonstrations.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from urllib.parse import unquote

import msgspec
from multidict import CIMultiDict

from capture import ids
from capture.errors import FeedbackError
from capture.feedback_forms import COMMENT, DEMONSTRATION, MAX_BYTES, Given, read_feedback
from proxy import failures
from proxy.failures import Failure
from proxy.forward import write_failure
from proxy.hosts import is_own_origin
from proxy.identify import BadTagError, identify
from proxy.peek import Peek
from proxy.reading import failure_of, refuse_host
from proxy.relay import Config, Relay
from proxy.route import RouteError, read_target
from proxy.settings import OPENAI
from proxy.wire.call import Call

_CONTENT = (COMMENT, DEMONSTRATION)
_PATHS = ("/feedback", "/v1/feedback")
_OF_REQUEST = re.compile(r"/v1/request/([^/]+)/feedback")
"""Helicone's path, which names the exchange."""
_TOO_LARGE = Failure(413, "body_too_large", f"The feedback has more than {MAX_BYTES} bytes.", "Send less at once.")
_NOT_POST = Failure(405, "method_not_allowed", "Feedback is taken by POST only.", "Send it by POST.")
_NOT_KEPT = Failure(
    503, "spool_full", "The feedback could not be kept, or not all of it.", "Send it again with the ids in `feedback`.", 1
)


@dataclass(frozen=True, slots=True)
class FeedbackTarget:
    """A request target that takes feedback; `exchange_id` is '' when the path names none."""

    exchange_id: str
    task: str


def find_target(raw_path: str) -> FeedbackTarget | None:
    """What a request's target says when it takes feedback; None when the request is for an upstream."""
    if "/feedback" not in raw_path:
        return None
    try:
        target = read_target(raw_path)
    except RouteError:
        return None
    if target.upstream:
        return None
    if target.path in _PATHS:
        return FeedbackTarget("", target.task)
    found = _OF_REQUEST.fullmatch(target.path)
    return FeedbackTarget(unquote(found[1], errors="replace"), target.task) if found else None


async def take_feedback(relay: Relay, call: Call, target: FeedbackTarget) -> None:
    """Keeps the feedback of one request and answers. What is malformed keeps all of it out; a full disk maybe the rest only."""
    config = relay.config
    failure = refuse_host(call.headers, config.relay) or _refuse_page(call.headers, config.relay.hosts)
    if failure is None and call.method != "POST":
        failure = _NOT_POST
    if failure is None and call.problem is not None:
        failure = failure_of(call.problem)
    if failure is None and len(call.body) > MAX_BYTES:
        failure = _TOO_LARGE
    if failure is None and isinstance(key := relay.gate.admit_feedback(call.headers), Failure):
        failure = key
    found = failure or _read(config, call.headers, target, call.body)
    if isinstance(found, Failure):
        relay.counters.refused(found.kind)
        _refuse(call, found)
    elif _keep(relay, found) and await _is_settled(relay):
        _accept(call, found)
    else:
        relay.counters.refused(_NOT_KEPT.kind)
        _refuse(call, _NOT_KEPT, found)


def _refuse_page(headers: Mapping[str, str], hosts: tuple[str, ...]) -> Failure | None:
    """Why a web page of somebody else's may not send feedback: it needs no key, so nothing else would stop it."""
    origin = headers.get("origin")
    if origin is None or is_own_origin(origin, headers.get("host", ""), hosts):
        return None
    what = f"A page from {origin[:100]!r} may not send feedback."
    return Failure(
        403, "foreign_origin", what, "Send it from a program, or add the page's host to hosts in [relay] of potstill.toml."
    )


def _read(config: Config, headers: Mapping[str, str], target: FeedbackTarget, body: bytes) -> list[Given] | Failure:
    try:
        identity = identify(headers.items(), target.task, Peek())
        found = read_feedback(body, source="api", exchange_id=target.exchange_id, who=identity.user)
    except BadTagError as error:
        return Failure(400, "bad_tag", f"Potstill cannot tag this feedback: {error}", "Mend the tag or leave it out.")
    except FeedbackError as error:
        return Failure(400, "bad_feedback", error.what, error.next_step)
    if not config.omission.omits(identity.task, headers):
        return found
    return [replace(each, notes=tuple(note for note in each.notes if note.kind not in _CONTENT)) for each in found]


def _keep(relay: Relay, found: list[Given]) -> bool:
    """Appends note after note, up to the first that the spool does not take; False then, and those before it stay."""
    return all(relay.spool.note(ids.new_raw_id(), note) for given in found for note in given.notes)


async def _is_settled(relay: Relay) -> bool:
    """Waits in strict mode until all that was appended survives a power cut; False when the disk refuses."""
    if not relay.config.capture.is_strict:
        return True
    loop = asyncio.get_running_loop()
    settled = asyncio.Event()
    answers: list[bool] = []

    def tell(is_durable: bool) -> None:
        answers.append(is_durable)
        loop.call_soon_threadsafe(settled.set)

    relay.spool.when_durable(tell)
    await settled.wait()
    return answers[0]


def _accept(call: Call, found: list[Given]) -> None:
    told = [{"id": given.id, "is_accepted": True} for given in found]
    is_list = call.body.lstrip()[:1] == b"["
    body = msgspec.json.encode(told if is_list else told[0])
    lines = b"Content-Type: application/json\r\nContent-Length: %d\r\n" % len(body)
    call.start(202, "Accepted", lines, has_length=True)
    call.finish(body)


def _refuse(call: Call, failure: Failure, found: Sequence[Given] = ()) -> None:
    """Answers what was not taken; tells the ids of what was `found` well-formed."""
    headers = CIMultiDict({"Content-Type": "application/json"})
    if failure.status == 405:
        headers["Allow"] = "POST"
    body = failures.body(OPENAI, failure, "")
    if found:
        told = [{"id": given.id, "is_accepted": False} for given in found]
        body = msgspec.json.encode({**msgspec.json.decode(body), "feedback": told})
    write_failure(call, failure, headers, body)
