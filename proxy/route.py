"""Where a request goes: a pure function of its target, its headers, the model it asks for and the configured upstreams.

Nothing in a request can choose a host: it can only name an upstream of the configuration, and its path is appended to
that upstream's address after it was checked for ways out of it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl, unquote

from proxy.admin_routes import ROUTES as ADMIN_ROUTES
from proxy.azure import AzurePath, azure_url, names_deployment, read_azure_path, without_api_version
from proxy.upstream_settings import ANTHROPIC, FAMILIES, LITELLM, OPENAI, Upstream

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
_BARE = frozenset(("/chat/completions", "/completions", "/embeddings", "/responses", "/models", "/messages"))
"""What is served without /v1 at every upstream."""
_BARE_HEADS = frozenset(
    (
        *("assistants", "audio", "batches", "chat", "completions", "containers", "conversations", "embeddings", "evals"),
        *("files", "fine_tuning", "images", "messages", "models", "moderations", "realtime", "responses", "threads"),
        *("uploads", "vector_stores", "videos"),
    )
)
"""First names of what is served without /v1 where the path names no upstream."""
_ADMIN_HEADS = frozenset(route.path[1:].partition("/")[0] for route in ADMIN_ROUTES)
"""First names of what the admin listener serves, on its own port."""
_ANTHROPIC_PREFIX = "/anthropic/v1/"
_SECRET_NAME = re.compile(r"(?i)key|token|secret|signature|passw|pwd|credential|authorization|\A(?:auth|sig)\Z")
_MOST_DECODED = 3
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
    """Where to: `url` is complete; `family` decides the shape of our own errors.

    `path` is what the target means in the words of its family, so that Azure's ways of writing it are one with OpenAI's.
    `model` is the model to send when it is not the one in the body; '' leaves the body as it is. `asked` is the model that
    the path names, which counts more than the one in the body; '' when the path names none.
    """

    protocol: str
    family: str
    path: str
    upstream: Upstream
    url: str
    model: str = ""
    asked: str = ""


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
    if path in _BARE or (not upstream and path[1:].partition("/")[0] in _BARE_HEADS):
        path = "/v1" + path
    elif not upstream and path.startswith(_ANTHROPIC_PREFIX):
        path = path.removeprefix("/anthropic")
    return Target(path, query, task, upstream)


def family_of(target: Target, header_names: Mapping[str, str]) -> str:
    """openai or anthropic, by path; for a path that both have, by the headers that only Anthropic's clients send."""
    if known := _known_family(target.path):
        return known
    return ANTHROPIC if "anthropic-version" in header_names else OPENAI


def choose_route(target: Target, family: str, upstreams: Mapping[str, Upstream], model: str = "") -> Route:
    """The route to the upstream that the path names, else to the one for `model`, else to the one for `family`; RouteError."""
    if target.upstream:
        upstream = upstreams.get(target.upstream)
        if upstream is None:
            raise RouteError(
                404,
                f"No upstream is named {target.upstream[:64]!r}.",
                f"Use one of {', '.join(upstreams)}, or add [upstreams.{target.upstream[:64]}] to potstill.toml.",
            )
        return route_to(upstream, target, family, model)
    azure = read_azure_path(target.path)
    if azure is None and not target.path.startswith("/v1/"):
        next_step = "Set the app's base URL to this address with /v1 (OpenAI) or without (Anthropic)."
        if target.path[1:].partition("/")[0] in _ADMIN_HEADS:
            next_step = "Ask the admin listener, on the port that admin_port in [relay] names, 8485 where it is not set."
        raise RouteError(404, f"Nothing is at {target.path[:100]}.", next_step)
    asked = (azure.deployment if azure else "") or model or model_in_query(target)
    upstream = _for_model(family, asked, upstreams) or _for_family(family, asked, upstreams, prefers_azure=azure is not None)
    return route_to(upstream, target, family, model)


def route_to(upstream: Upstream, target: Target, family: str, model: str, meant: str = "") -> Route:
    """The route of a request that asks for `model` in its body ('' for none) to `upstream`, which may be one that stands in.

    Then `meant` is the model that stands behind an alias of the one it stands in for; its own alias counts more.
    """
    azure = read_azure_path(target.path)
    is_understood = azure is not None and (upstream.is_azure or not target.upstream or upstream.protocol == LITELLM)
    path = azure.openai_path if azure is not None and is_understood else target.path
    named = azure.deployment if azure is not None else ""
    asked = named or model
    if asked not in upstream.aliases and meant:
        sent = upstream.aliases.get(meant, meant)
    else:
        sent = upstream.aliases.get(asked, asked)
    url = _url(upstream, target, path, sent, azure if is_understood else None)
    changed = sent if sent != model and (is_understood or sent != asked) and not names_deployment(url) else ""
    known = _known_family(path)
    own = upstream.protocol if upstream.protocol in FAMILIES else family
    return Route(_protocol(path, upstream), known or own, path, upstream, url, changed, named)


def takes(upstream: Upstream, model: str) -> bool:
    """True when `upstream` names `model`, by a pattern or an alias."""
    return model in upstream.aliases or any(matches(each, model) for each in upstream.models)


def matches(pattern: str, model: str) -> bool:
    """True when `model` is `pattern`, in which each * stands for any text; in time linear in both."""
    first, *rest = pattern.split("*")
    if not rest:
        return pattern == model
    *inner, last = rest
    if not model.startswith(first):
        return False
    at = len(first)
    for part in inner:
        found = model.find(part, at)
        if found < 0:
            return False
        at = found + len(part)
    return len(model) - len(last) >= at and model.endswith(last)


def _url(upstream: Upstream, target: Target, path: str, model: str, azure: AzurePath | None) -> str:
    if upstream.is_azure and path.startswith("/v1/"):
        return azure_url(upstream, target.path, path, target.query, model)
    query = without_api_version(target.query) if azure is not None else target.query
    place = upstream.base + path[3:] if path.startswith("/v1/") else upstream.root + path
    return f"{place}?{query}" if query else place


def _protocol(path: str, upstream: Upstream) -> str:
    """What a path's bodies are written in; a path that an upstream keeps elsewhere than under /v1 goes by its end."""
    if known := _PROTOCOLS.get(path):
        return known
    for ending, protocol in _PROTOCOLS.items():
        if path.endswith(ending) and upstream.speaks(protocol):
            return protocol
    return RAW


def _known_family(path: str) -> str:
    if path.startswith("/openai/"):
        return OPENAI
    return _PROTOCOLS.get(path) or (ANTHROPIC if path.startswith(MESSAGES + "/") or path == "/v1/complete" else "")


def model_in_query(target: Target) -> str:
    """The model of a path that has no body to name it in."""
    if not target.path.endswith("/realtime"):
        return ""
    named = dict(parse_qsl(target.query))
    return named.get("deployment") or named.get("model", "")


def _for_model(family: str, model: str, upstreams: Mapping[str, Upstream]) -> Upstream | None:
    if not model:
        return None
    for upstream in upstreams.values():
        if (upstream.models or upstream.aliases) and upstream.speaks(family) and takes(upstream, model):
            return upstream
    return None


def _for_family(family: str, model: str, upstreams: Mapping[str, Upstream], *, prefers_azure: bool) -> Upstream:
    """Who gets what no upstream names: the one called like the family, else the first; RouteError.

    An upstream that names its models gets no other model, but may get a request without one.
    """
    named = upstreams.get(family)
    if named is not None and named.protocol == family and not named.models and not prefers_azure:
        return named
    of_family = [each for each in upstreams.values() if each.protocol == family]
    if not of_family:
        translated = [each for each in upstreams.values() if each.protocol == LITELLM]
        if model and translated:
            raise _no_upstream_for(model, translated)
        raise RouteError(
            404,
            f"No upstream speaks {family}.",
            f'Add [upstreams.{family}] with url and protocol = "{family}" to potstill.toml.',
        )
    open_to_all = [each for each in of_family if not each.models]
    if model and not open_to_all:
        raise _no_upstream_for(model, of_family)
    candidates = open_to_all or of_family
    if prefers_azure and (azure := [each for each in candidates if each.is_azure]):
        return azure[0]
    return next((each for each in candidates if each.name == family), candidates[0])


def _no_upstream_for(model: str, upstreams: list[Upstream]) -> RouteError:
    names = ", ".join(each.name for each in upstreams)
    return RouteError(
        404,
        f"No upstream takes model {model[:100]!r}.",
        f"Add it to models of one of {names} in potstill.toml, or ask for a model that is there.",
    )


def _refuse_ways_out(path: str) -> None:
    """Refuses what any server between here and the upstream's files may take for a way out, however often it decodes."""
    decoded = path
    for _ in range(_MOST_DECODED):
        try:
            decoded, before = unquote(decoded, errors="strict"), decoded
        except UnicodeDecodeError as error:
            raise RouteError(400, f"The path {path[:100]!r} is not UTF-8 where it is encoded.", "Send a plain path.") from error
        if decoded == before:
            break
    else:
        raise RouteError(400, f"The path {path[:100]!r} is encoded several times over.", "Encode it once.")
    segments = [segment.partition(";")[0] for segment in re.split(r"[/\\]", decoded)]
    if any(segment in (".", "..") for segment in segments) or "\\" in decoded or any(ord(each) < 32 for each in decoded):
        raise RouteError(400, f"The path {path[:100]!r} has '..', a backslash or a control character.", "Send a plain path.")


def without_secrets(query: str) -> str:
    """`query` with the values of parameters that carry keys taken out, however their names are written."""
    return "".join(map(_without_secret, re.split("([&;])", query))) if query else query


def _without_secret(parameter: str) -> str:
    name, has_value, _ = parameter.partition("=")
    return f"{name}=[REDACTED]" if has_value and _SECRET_NAME.search(unquote(name)) else parameter
