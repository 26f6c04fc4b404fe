"""Reads a request whole and says what it is: target, body, identity, route, or the reason to refuse it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from aiohttp import web

from proxy.budget import Holder
from proxy.failures import Failure
from proxy.hosts import is_known_host, is_loopback, is_own_origin
from proxy.identify import BadTagError, Identity, identify
from proxy.peek import Peek, peek
from proxy.route import Route, RouteError, Target, choose_route, family_of, read_target
from proxy.settings import KEY_FROM_CLIENT, RelaySettings, Upstream

_OVERLOADED = Failure(503, "overloaded", "The relay holds as many request bodies as it may.", "Try again in a moment.", 1)


@dataclass(frozen=True, slots=True)
class Asked:
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


async def read_request(
    request: web.BaseRequest, relay: RelaySettings, upstreams: Mapping[str, Upstream], holder: Holder
) -> Asked:
    """The request with its whole body, accounted for in `holder`; one that must be refused comes back with its `failure`."""
    headers = request.headers
    target, route, failure = Target("", ""), None, None
    family = family_of(target, headers)
    try:
        target = read_target(request.raw_path)
        family = family_of(target, headers)
        route = choose_route(target, family, upstreams)
        family = route.family
    except RouteError as error:
        failure = Failure(error.status, "bad_path" if error.status == 400 else "not_found", error.what, error.next_step)
    body, body_failure = await read_body(request, relay, holder, relay.max_body_bytes, _too_large(relay))
    peeked = peek(body) if "content-encoding" not in headers else Peek()
    identity = Identity()
    try:
        identity = identify(headers.items(), target.task, peeked)
    except BadTagError as error:
        failure = failure or Failure(
            400, "bad_tag", f"Potstill cannot tag this request: {error}", "Mend the tag or leave it out."
        )
    failure = _refuse_caller(headers, relay, route) or body_failure or failure
    return Asked(request.method, target, family, headers, body, peeked, identity, None if failure else route, failure)


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


async def read_body(
    request: web.BaseRequest, relay: RelaySettings, holder: Holder, limit: int, too_large: Failure
) -> tuple[bytes, Failure | None]:
    """The whole body, accounted for in `holder`; `too_large` when it has more than `limit` bytes, or why else it is not whole."""
    if (request.content_length or 0) > limit:
        return b"", too_large
    if not holder.hold(request.content_length or 0):
        return b"", _OVERLOADED
    if request.headers.get("expect", "").lower() == "100-continue":
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0
    content = request.content
    pieces: list[bytes] = []
    size = 0
    try:
        while not content.at_eof():
            if content.is_eof():
                pieces.append(await content.readany())
            else:
                async with asyncio.timeout(relay.body_idle_s):
                    pieces.append(await content.readany())
            size += len(pieces[-1])
            if size > limit:
                return b"", too_large
            if not holder.hold(size):
                return b"", _OVERLOADED
    except TimeoutError:
        what = f"The request body stood still for {relay.body_idle_s:g} s after {size} bytes."
        return b"".join(pieces), Failure(408, "body_timeout", what, "Send it again.")
    except web.RequestPayloadError as error:
        return b"".join(pieces), Failure(400, "bad_body", f"The request body is broken: {error}.", "Send it again.")
    return (pieces[0] if len(pieces) == 1 else b"".join(pieces)), None


def _too_large(relay: RelaySettings) -> Failure:
    return Failure(
        413,
        "body_too_large",
        f"The request body has more than {relay.max_body_mib} MiB.",
        "Send less, or raise max_body_mib in [relay] of potstill.toml.",
    )
