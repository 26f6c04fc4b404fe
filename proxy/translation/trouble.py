"""What a client is told when a provider, or litellm before it, says no: the provider's status and words in the client's shape.

Pure. litellm wraps errors in errors and adds its own advice; the provider's own answer is looked for inside. Keys never
get into a message.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx
import msgspec

from proxy.settings import ANTHROPIC
from proxy.translation.library import passed_headers

_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}
_OPENAI_OWN = dict.fromkeys((401, 403, 404, 413), "invalid_request_error")
_HIGHEST_STATUS, _LOWEST_STATUS, _SERVER_ERROR = 599, 400, 500
_BAD_GATEWAY, _GATEWAY_TIMEOUT = 502, 504
_LONGEST_MESSAGE = 2_000
_OWN_PREFIX = re.compile(r"^(?:(?:litellm\.)?\w+(?:Error|Exception)(?: -|:) *)+")
_ADVICE = re.compile(
    r"(?:\.? ?To drop these, set `litellm| ?Pass model as E\.g\.| Received Model Group=|\n?\s*Traceback \().*", re.DOTALL
)
_KEY_IN_ADDRESS = re.compile(r"(?<=[?&]key=)[^&\s'\"`]+")
_DELAY = re.compile(r"(\d+(?:\.\d+)?)s")
_KEY_MISSING = re.compile(r"api[_ ]?key|credential", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Trouble:
    """A failure as the client will see it. `kind` is the provider's own word for it, or ours; `parameter` the field at fault."""

    status: int
    message: str
    kind: str = ""
    parameter: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)


class CutError(Exception):
    """The provider's stream ended without saying that it was finished."""


def explain(error: BaseException, provider: str, key: str = "") -> Trouble:
    """What became of a request that raised `error`; `provider` is the upstream's name, `key` never appears."""
    chain = list(_chain(error))
    if isinstance(error, CutError):
        return Trouble(_BAD_GATEWAY, f"{provider} ended its answer before it was complete.", "upstream_aborted")
    answered = next((status for each in reversed(chain) if (status := _answered_with(each)) is not None), None)
    if answered is None:
        own = _own_failure(chain, provider)
        if own is not None:
            return own
    status = answered if answered is not None else _status(error)
    words, kind, delay = _words(chain)
    message = _cleaned(words or str(getattr(error, "message", error)), key) or f"{provider} answered with status {status}."
    headers = next((found for each in reversed(chain) if (found := passed_headers(_headers(each)))), {})
    if delay and "retry-after" not in headers:
        headers = {**headers, "retry-after": delay}
    return Trouble(status, message, kind, headers=headers)


def error_body(family: str, trouble: Trouble) -> bytes:
    """The JSON body that SDKs of `family` understand."""
    if family == ANTHROPIC:
        kind = _TYPES.get(trouble.status, "invalid_request_error" if trouble.status < _SERVER_ERROR else "api_error")
        return msgspec.json.encode({"type": "error", "error": {"type": kind, "message": trouble.message}})
    return msgspec.json.encode({"error": _openai_error(trouble)})


def error_event(family: str, is_responses: bool, trouble: Trouble, number: int) -> bytes:
    """The event that ends a stream that broke; `number` is the next sequence number of the Responses API."""
    if family == ANTHROPIC:
        return b"event: error\ndata: " + error_body(family, trouble) + b"\n\n"
    if is_responses:
        error = {"code": trouble.kind or "server_error", "message": trouble.message}
        failed = {"type": "response.failed", "sequence_number": number, "response": {"status": "failed", "error": error}}
        return b"event: response.failed\ndata: " + msgspec.json.encode(failed) + b"\n\n"
    return b"data: " + error_body(family, trouble) + b"\n\n"


def _openai_error(trouble: Trouble) -> dict[str, Any]:
    fallback = "server_error" if trouble.status >= _SERVER_ERROR else "invalid_request_error"
    kind = _OPENAI_OWN.get(trouble.status) or _TYPES.get(trouble.status, fallback)
    return {"message": trouble.message, "type": kind, "param": trouble.parameter or None, "code": trouble.kind or None}


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error and those behind it, nearest first."""
    seen: set[int] = set()
    found: BaseException | None = error
    while found is not None and id(found) not in seen:
        seen.add(id(found))
        yield found
        found = found.__cause__ or found.__context__


def _answered_with(error: BaseException) -> int | None:
    """The status of the provider's answer that `error` was made from; None when it was made from something else."""
    response = getattr(error, "response", None)
    if isinstance(error, httpx.HTTPStatusError) or type(error).__module__.startswith("openai"):
        status = getattr(response, "status_code", None)
    elif getattr(error, "headers", None):
        status = getattr(error, "status_code", None)
    else:
        return None
    return status if isinstance(status, int) and _LOWEST_STATUS <= status <= _HIGHEST_STATUS else None


def _status(error: BaseException) -> int:
    status = getattr(error, "status_code", None)
    return status if isinstance(status, int) and _LOWEST_STATUS <= status <= _HIGHEST_STATUS else _BAD_GATEWAY


def _own_failure(chain: list[BaseException], provider: str) -> Trouble | None:
    """A failure without any answer of the provider: not reached, not in time, or litellm's own."""
    names = {type(each).__name__ for each in chain}
    if any(isinstance(each, httpx.TimeoutException | TimeoutError) for each in chain) or "Timeout" in names:
        return Trouble(_GATEWAY_TIMEOUT, f"{provider} did not answer in time.", "upstream_timeout")
    if any(isinstance(each, httpx.TransportError | ConnectionError) for each in chain):
        return Trouble(_BAD_GATEWAY, f"{provider} could not be reached, or broke off.", "upstream_unreachable")
    if names & {"NoCredentialsError", "DefaultCredentialsError", "PartialCredentialsError", "RefreshError"}:
        what = f"There are no usable credentials for {provider}."
        return Trouble(401, f"{what} Set key in [upstreams.{provider}], or what litellm reads from the environment.", "no_key")
    if isinstance(chain[0], httpx.HTTPError) or _status(chain[0]) < _SERVER_ERROR:
        return None
    innermost = chain[-1]
    if _KEY_MISSING.search(str(innermost)) and _status(innermost) < _SERVER_ERROR:
        return None
    return Trouble(
        500, f"litellm could not translate this request for {provider} ({type(innermost).__name__}).", "translation_failed"
    )


def _headers(error: BaseException) -> Mapping[str, Any]:
    for found in (getattr(getattr(error, "response", None), "headers", None), getattr(error, "headers", None)):
        if isinstance(found, Mapping) and found:
            return found
    return {}


def _words(chain: list[BaseException]) -> tuple[str, str, str]:
    """What the provider said, its word for it, and how many seconds it asks to wait; '' for each that it did not say."""
    for each in reversed(chain):
        for text in (getattr(each, "text", None), getattr(each, "message", None), str(each)):
            found = _json_in(text)
            if found is not None and (words := _message_of(found)):
                return words, _kind_of(found), _delay_of(found)
    return "", "", ""


def _json_in(text: object) -> Any:
    shown = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
    if not isinstance(shown, str):
        return None
    if shown.startswith(("b'", 'b"')):
        try:
            shown = str(ast.literal_eval(shown).decode("utf-8", "replace"))
        except (ValueError, SyntaxError):
            return None
    start = shown.find("{")
    if start < 0:
        return None
    try:
        return json.JSONDecoder().raw_decode(shown, start)[0]
    except (ValueError, RecursionError):
        return None


def _message_of(found: Any) -> str:
    if not isinstance(found, dict):
        return ""
    inner = found.get("error")
    for value in (
        inner.get("message") if isinstance(inner, dict) else inner,
        found.get("message"),
        found.get("Message"),
        found.get("detail"),
    ):
        if isinstance(value, str) and value:
            return value
    return ""


def _kind_of(found: dict[str, Any]) -> str:
    inner = found.get("error")
    source = inner if isinstance(inner, dict) else found
    for name in ("status", "type", "__type", "code"):
        if isinstance(source.get(name), str):
            return str(source[name])[:100]
    return ""


def _delay_of(found: dict[str, Any]) -> str:
    """Google says how long to wait in the body: RetryInfo."""
    inner = found.get("error")
    details = inner.get("details") if isinstance(inner, dict) else None
    for detail in details if isinstance(details, list) else ():
        match = _DELAY.fullmatch(str(detail.get("retryDelay", ""))) if isinstance(detail, dict) else None
        if match:
            return str(max(1, -int(-float(match[1]) // 1)))
    return ""


def _cleaned(words: str, key: str) -> str:
    words = _ADVICE.sub("", _OWN_PREFIX.sub("", words.strip())).strip()
    words = _KEY_IN_ADDRESS.sub("[key]", words)
    if key:
        words = words.replace(key, "[key]")
    return words if len(words) <= _LONGEST_MESSAGE else words[: _LONGEST_MESSAGE - 3] + "..."
