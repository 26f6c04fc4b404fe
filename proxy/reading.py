"""Says what a request is: target, body, identity, route, or the reason to refuse it. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import msgspec
from msgspec.structs import replace
from multidict import CIMultiDict

from proxy.credentials import has_virtual
from proxy.failures import Failure
from proxy.hosts import is_known_host, is_loopback, is_own_origin
from proxy.identify import BadTagError, Identity, identify
from proxy.kept_headers import for_store
from proxy.peek import Peek, peek
from proxy.route import MESSAGES, Route, RouteError, Target, choose_route, family_of, read_target
from proxy.settings import KEY_FROM_CLIENT, RelaySettings, Upstream
from proxy.wire.call import Call
from proxy.wire.limits import Problem

_NO_TRACE = Failure(
    405, "method_not_allowed", "TRACE is not served here: an upstream may answer it with the key it was sent.", "Use GET."
)
_KEY_IN_URL = Failure(
    401,
    "key_in_url",
    "A virtual key stands in the URL, where logs keep it; it counts in a header alone.",
    "Send it in header Authorization, x-api-key or api-key, and rotate it with `potstill key rotate`.",
)
_READ, _LONGEST_KNOWN = "read", 200
MOST_KNOWN = 16
"""How much may be concluded from one head that bodies have a say in."""


class Asked(msgspec.Struct, frozen=True):
    """A request, read. Either `route` is set, or `failure` says why the request goes nowhere."""

    method: str
    target: Target
    family: str
    headers: Mapping[str, str]
    body: bytes
    peeked: Peek
    identity: Identity
    route: Route | None
    failure: Failure | None
    stored: dict[str, str] = {}
    """The headers that are kept."""
    known: dict[Any, Any] = {}
    """What was concluded from this head under the same configuration, for this request and others."""


class Request(Protocol):
    """What is read of a `Call`, and of a request for a WebSocket."""

    @property
    def method(self) -> str: ...
    @property
    def raw_path(self) -> str: ...
    @property
    def headers(self) -> CIMultiDict[str]: ...
    @property
    def body(self) -> bytes: ...
    @property
    def problem(self) -> Problem | None: ...


def read_call(call: Call, relay: RelaySettings, upstreams: Mapping[str, Upstream], known: dict[Any, Any]) -> Asked:
    """As `read_request`, for one of many calls with the same head: what follows from head, model and stream is found once.

    `known` is what the head is known to mean under these settings (`Head.known_under`).
    """
    peeked = peek(call.body) if not call.head.is_encoded else Peek()
    if call.problem is not None or peeked.names_somebody:
        read = read_request(call, relay, upstreams)
        return replace(read, stored=_with_length(read.stored, call.length), known=known)
    place = (_READ, peeked.model, peeked.is_stream)
    found: Asked | None = known.get(place)
    if found is None:
        found = replace(read_request(call, relay, upstreams), body=b"")
        if found.failure is None and len(peeked.model) <= _LONGEST_KNOWN and len(known) < MOST_KNOWN:
            known[place] = found
    return Asked(
        found.method,
        found.target,
        found.family,
        found.headers,
        call.body,
        found.peeked,
        found.identity,
        found.route,
        found.failure,
        _with_length(found.stored, call.length),
        known,
    )


def _with_length(stored: dict[str, str], length: str | None) -> dict[str, str]:
    return stored if length is None else {**stored, "content-length": length}


def read_request(call: Request, relay: RelaySettings, upstreams: Mapping[str, Upstream]) -> Asked:
    """What `call` asks for; one that must be refused comes back with its `failure`."""
    headers, body = call.headers, call.body
    target, route, failure = Target("", ""), None, None
    family = family_of(Target(MESSAGES if MESSAGES in call.raw_path else "", ""), headers)
    peeked = peek(body) if "content-encoding" not in headers else Peek()
    if has_virtual(call.raw_path):
        failure = _KEY_IN_URL  # and nothing of the target is kept
    else:
        try:
            target = read_target(call.raw_path)
            family = family_of(target, headers)
            route = choose_route(target, family, upstreams, peeked.model)
            family = route.family
            if route.asked:
                peeked = replace(peeked, model=route.asked)
        except RouteError as error:
            failure = Failure(error.status, "bad_path" if error.status == 400 else "not_found", error.what, error.next_step)
    identity = Identity()
    try:
        identity = identify(headers.items(), target.task, peeked)
    except BadTagError as error:
        failure = failure or Failure(
            400, "bad_tag", f"Potstill cannot tag this request: {error}", "Mend the tag or leave it out."
        )
    if call.method == "TRACE":
        failure = _NO_TRACE
    problem = failure_of(call.problem) if call.problem is not None else None
    failure = _refuse_caller(headers, relay, route) or problem or failure
    stored = for_store(headers.items())
    return Asked(call.method, target, family, headers, body, peeked, identity, None if failure else route, failure, stored)


def failure_of(problem: Problem) -> Failure:
    """A problem of the wire in our words to a client."""
    retry_after_s = 1 if problem.status == 503 else 0
    return Failure(problem.status, problem.kind, problem.what, problem.next_step, retry_after_s)


def refuse_host(headers: Mapping[str, str], relay: RelaySettings) -> Failure | None:
    """Why a request is not for us: a web page may have sent it through a name of its own."""
    host = headers.get("host", "")
    if host and not is_known_host(host, relay.hosts) and is_loopback(relay.host):
        return Failure(
            403,
            "foreign_host",
            f"Host {host[:100]!r} is not served here.",
            "Call the relay by its address, or add the name to hosts in [relay] of potstill.toml.",
        )
    return None


def _refuse_caller(headers: Mapping[str, str], relay: RelaySettings, route: Route | None) -> Failure | None:
    """Why a request that a web page may have sent goes nowhere."""
    if failure := refuse_host(headers, relay):
        return failure
    origin, host = headers.get("origin"), headers.get("host", "")
    if origin is None or route is None or route.upstream.key == KEY_FROM_CLIENT or is_own_origin(origin, host, relay.hosts):
        return None
    return Failure(
        403,
        "foreign_origin",
        f"A page from {origin[:100]!r} may not use upstream {route.upstream.name}, whose key is not the client's.",
        "Call the relay from a program, or add the page's host to hosts in [relay] of potstill.toml.",
    )
