"""Where a request goes: a pure function of its target, its headers and the configured upstreams.

Nothing in a request can choose a host: it can only name an upstream of the configuration, and its path is appended to
that upstream's address after it was checked for ways out of it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import unquote

from proxy.settings import ANTHROPIC, OPENAI, Upstream

RAW = "raw"
"""Protocol of paths that are relayed and captured but not understood."""

CHAT, MESSAGES, RESPONSES = "/v1/chat/completions", "/v1/messages", "/v1/responses"
STUDENT_PATHS = frozenset((CHAT, MESSAGES))
"""What a student can answer."""

_PROTOCOLS: Mapping[str, str] = {
    CHAT: OPENAI,
    "/v1/completions": OPENAI,
    "/v1/embeddings": OPENAI,
    RESPONSES: OPENAI,
    MESSAGES: ANTHROPIC,
}
_BARE = ("/chat/completions", "/completions", "/embeddings", "/responses", "/models", "/messages")
_SECRET_PARAMETER = re.compile(r"(?i)(?<![^&])([^=&]*(?:key|token|secret|signature|password)[^=&]*)=[^&]*")
_ABSOLUTE = re.compile(r"\A[A-Za-z][A-Za-z0-9+.-]*://[^/?#]*")


class RouteError(ValueError):
    """The target leads nowhere; `status` is the HTTP status that says so, `next_step` what to do."""

    def __init__(self, status: int, what: str, next_step: str) -> None:
        super().__init__(what)
        self.status = status
        self.what = what
        self.next_step = next_step


@dataclass(frozen=True, slots=True)
class Target:
    """A request target without our prefixes: `path` still percent-encoded, `query` without '?'."""

    path: str
    query: str
    task: str = ""
    upstream: str = ""


@dataclass(frozen=True, slots=True)
class Route:
    """Where to: `url` is complete; `family` decides the shape of our own errors."""

    protocol: str
    family: str
    path: str
    upstream: Upstream
    url: str


def read_target(raw: str) -> Target:
    """`raw` (the target of the request line) with /task/NAME and /upstream/NAME taken off, in any order; RouteError."""
    raw = raw if raw.startswith("/") else _ABSOLUTE.sub("", raw)
    path, _, query = raw.partition("?")
    path = "/" + path.lstrip("/")
    if "%" in path or ".." in path or "\\" in path or "/." in path:
        _refuse_ways_out(path)
    task = upstream = ""
    while True:
        head, _, rest = path[1:].partition("/")
        if head == "task" and not task:
            name, _, rest = rest.partition("/")
            task = unquote(name)
        elif head == "upstream" and not upstream:
            upstream, _, rest = rest.partition("/")
        else:
            break
        path = "/" + rest
    while path.startswith("/v1/v1/"):
        path = path[3:]
    if path in _BARE:
        path = "/v1" + path
    return Target(path, query, task, upstream)


def family_of(target: Target, header_names: Mapping[str, str]) -> str:
    """openai or anthropic, by path; for a path that both have, by the headers that only Anthropic's clients send."""
    if known := _known_family(target.path):
        return known
    return ANTHROPIC if "anthropic-version" in header_names else OPENAI


def choose_route(target: Target, family: str, upstreams: Mapping[str, Upstream]) -> Route:
    """The route to the upstream that the path names, else to the one for `family`; RouteError."""
    if target.upstream:
        upstream = upstreams.get(target.upstream)
        if upstream is None:
            raise RouteError(
                404,
                f"No upstream is named {target.upstream[:64]!r}.",
                f"Use one of {', '.join(upstreams)}, or add [upstreams.{target.upstream[:64]}] to potstill.toml.",
            )
    elif target.path.startswith("/v1/"):
        upstream = _for_family(family, upstreams)
    else:
        raise RouteError(
            404,
            f"Nothing is at {target.path[:100]}.",
            "Set the app's base URL to this address with /v1 (OpenAI) or without (Anthropic).",
        )
    protocol = _PROTOCOLS.get(target.path, RAW)
    query = f"?{target.query}" if target.query else ""
    is_versioned = target.path.startswith("/v1/")
    place = upstream.base + target.path[3:] if is_versioned else upstream.root + target.path
    return Route(protocol, _known_family(target.path) or upstream.protocol, target.path, upstream, place + query)


def _known_family(path: str) -> str:
    return _PROTOCOLS.get(path) or (ANTHROPIC if path.startswith(MESSAGES + "/") or path == "/v1/complete" else "")


def _for_family(family: str, upstreams: Mapping[str, Upstream]) -> Upstream:
    named = upstreams.get(family)
    if named is not None and named.protocol == family:
        return named
    for upstream in upstreams.values():
        if upstream.protocol == family:
            return upstream
    raise RouteError(
        404,
        f"No upstream speaks {family}.",
        f'Add [upstreams.{family}] with url and protocol = "{family}" to potstill.toml.',
    )


def _refuse_ways_out(path: str) -> None:
    decoded = unquote(path, errors="replace")
    segments = re.split(r"[/\\]", decoded)
    if any(segment in (".", "..") for segment in segments) or "\\" in decoded or any(ord(each) < 32 for each in decoded):
        raise RouteError(400, f"The path {path[:100]!r} has '..', a backslash or a control character.", "Send a plain path.")


def without_secrets(query: str) -> str:
    """`query` with the values of parameters that carry keys taken out."""
    return _SECRET_PARAMETER.sub(r"\1=[REDACTED]", query) if query else query
