"""Azure's addresses for OpenAI's endpoints: how clients write them, and how a resource wants them. Pure functions.

A client may write `/openai/deployments/D/chat/completions?api-version=V` (model in the path), `/openai/files?api-version=V`
(no model), or `/openai/v1/chat/completions` (as OpenAI does, model in the body). A resource understands all of them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import quote, unquote

from proxy.upstream_settings import Upstream

_PREFIX = "/openai/"
_DEPLOYMENTS, _VERSIONED = _PREFIX + "deployments/", _PREFIX + "v1/"
_OF_DEPLOYMENTS = frozenset(
    (
        *("/chat/completions", "/completions", "/embeddings", "/audio/transcriptions", "/audio/translations", "/audio/speech"),
        *("/images/generations", "/images/edits"),
    )
)
"""Endpoints that older versions of the API keep under a deployment."""
_API_VERSION = re.compile(r"(?<![^&])api-version=[^&]*&?")


@dataclass(frozen=True, slots=True)
class AzurePath:
    """What a client's path of Azure's kind means: OpenAI's path for it, and the deployment that it names, '' for none."""

    openai_path: str
    deployment: str = ""


def read_azure_path(path: str) -> AzurePath | None:
    """What `path` means; None when it is not of Azure's kind."""
    if not path.startswith(_PREFIX):
        return None
    if path.startswith(_VERSIONED):
        return AzurePath("/v1/" + path.removeprefix(_VERSIONED))
    if path.startswith(_DEPLOYMENTS):
        deployment, slash, rest = path.removeprefix(_DEPLOYMENTS).partition("/")
        if not deployment or not rest:
            return AzurePath("/v1/deployments" + (f"/{deployment}{slash}" if deployment else ""))
        return AzurePath("/v1/" + rest, unquote(deployment))
    return AzurePath("/v1/" + path.removeprefix(_PREFIX))


def azure_url(upstream: Upstream, path: str, openai_path: str, query: str, model: str) -> str:
    """The address at resource `upstream` for a client's `path`, which means `openai_path`; `model` is the one to send, or ''.

    The client's own api-version wins; without one, that of the settings; without that, the address that needs none.
    """
    has_version = _API_VERSION.search(query) is not None
    if path.startswith(_VERSIONED) or not (upstream.api_version or has_version):
        return _joined(upstream.base + openai_path.removeprefix("/v1"), query)
    if not has_version:
        query = f"api-version={upstream.api_version}" + (f"&{query}" if query else "")
    rest = openai_path.removeprefix("/v1")
    if model and rest in _OF_DEPLOYMENTS:
        return _joined(f"{upstream.root}{_DEPLOYMENTS}{quote(model, safe='')}{rest}", query)
    return _joined(f"{upstream.root}/openai{rest}", query)


def names_deployment(url: str) -> bool:
    """True for an address whose path says which model is meant, so that the body need not."""
    return _DEPLOYMENTS in url.partition("?")[0]


def without_api_version(query: str) -> str:
    """`query` as an upstream that is not Azure's wants it."""
    return _API_VERSION.sub("", query).rstrip("&") if "api-version" in query else query


def _joined(url: str, query: str) -> str:
    return f"{url}?{query}" if query else url
