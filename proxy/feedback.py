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
from aiohttp import web

from capture import ids
from capture.errors import FeedbackError
from capture.feedback_forms import COMMENT, DEMONSTRATION, MAX_BYTES, Given, read_feedback
from proxy import failures
from proxy.budget import Holder
from proxy.failures import Failure
from proxy.hosts import is_own_origin
from proxy.identify import BadTagError, identify
from proxy.peek import Peek
from proxy.reading import read_body, refuse_host
from proxy.relay import Relay
from proxy.route import RouteError, read_target
from proxy.settings import OPENAI

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


async def take_feedback(relay: Relay, request: web.BaseRequest, target: FeedbackTarget, holder: Holder) -> web.StreamResponse:
    """Keeps the feedback of one request and answers. What is malformed keeps all of it out; a full disk maybe the rest only."""
    failure = refuse_host(request.headers, relay.settings) or _refuse_page(request.headers, relay.settings.hosts)
    if failure is None and request.method != "POST":
        failure = _NOT_POST
    body = b""
    if failure is None:
        body, failure = await read_body(request, relay.settings, holder, MAX_BYTES, _TOO_LARGE)
    found = failure or _read(relay, request.headers, target, body)
    if isinstance(found, Failure):
        response = _refusal(found)
    elif _keep(relay, found) and await _is_settled(relay):
        response = _acceptance(found, is_list=body.lstrip()[:1] == b"[")
    else:
        response = _refusal(_NOT_KEPT, found)
    if relay.is_draining or failure is not None:  # of a request that was refused unread, the body may still come
        response.force_close()
    return response


def _refuse_page(headers: Mapping[str, str], hosts: tuple[str, ...]) -> Failure | None:
    """Why a web page of somebody else's may not send feedback: it needs no key, so nothing else would stop it."""
    origin = headers.get("origin")
    if origin is None or is_own_origin(origin, headers.get("host", ""), hosts):
        return None
    what = f"A page from {origin[:100]!r} may not send feedback."
    return Failure(
        403, "foreign_origin", what, "Send it from a program, or add the page's host to hosts in [relay] of potstill.toml."
    )


def _read(relay: Relay, headers: Mapping[str, str], target: FeedbackTarget, body: bytes) -> list[Given] | Failure:
    try:
        identity = identify(headers.items(), target.task, Peek())
        found = read_feedback(body, source="api", exchange_id=target.exchange_id, who=identity.user)
    except BadTagError as error:
        return Failure(400, "bad_tag", f"Potstill cannot tag this feedback: {error}", "Mend the tag or leave it out.")
    except FeedbackError as error:
        return Failure(400, "bad_feedback", error.what, error.next_step)
    if not relay.omission.omits(identity.task, headers):
        return found
    return [replace(each, notes=tuple(note for note in each.notes if note.kind not in _CONTENT)) for each in found]


def _keep(relay: Relay, found: list[Given]) -> bool:
    """Appends note after note, up to the first that the spool does not take; False then, and those before it stay."""
    return all(relay.spool.note(ids.new_raw_id(), note) for given in found for note in given.notes)


async def _is_settled(relay: Relay) -> bool:
    """Waits in strict mode until all that was appended survives a power cut; False when the disk refuses."""
    if not relay.capture.is_strict:
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


def _acceptance(found: list[Given], *, is_list: bool) -> web.Response:
    told = [{"id": given.id, "is_accepted": True} for given in found]
    return web.Response(status=202, body=msgspec.json.encode(told if is_list else told[0]), content_type="application/json")


def _refusal(failure: Failure, found: Sequence[Given] = ()) -> web.Response:
    """The answer to what was not taken; it tells the ids of what was `found` well-formed."""
    headers = {}
    if failure.retry_after_s:
        headers["Retry-After"] = str(failure.retry_after_s)
    if failure.status == 405:
        headers["Allow"] = "POST"
    body = failures.body(OPENAI, failure, "")
    if found:
        told = [{"id": given.id, "is_accepted": False} for given in found]
        body = msgspec.json.encode({**msgspec.json.decode(body), "feedback": told})
    return web.Response(status=failure.status, headers=headers, body=body, content_type="application/json")
