"""What to do when an upstream fails before its answer began: ask again, ask the next, or let the client know. Pure functions.

A request is sent to the same upstream again only where that cannot do its work twice: nothing of it was sent, the upstream
said that it did not begin, or it only reads. It goes to another upstream only where that one can answer it as well.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

from proxy.upstream_settings import Upstream

UNREACHABLE, TIMEOUT, ABORTED = "unreachable", "timeout", "aborted"
BUSY, CIRCUIT_OPEN, MISSING_KEY = "busy", "circuit_open", "missing_key"

_ONLY_READS = ("GET", "HEAD", "OPTIONS")
_PORTABLE = frozenset(
    (
        *("/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses", "/v1/moderations"),
        *("/v1/messages", "/v1/messages/count_tokens", "/v1/audio/speech", "/v1/audio/transcriptions"),
        *("/v1/audio/translations", "/v1/images/generations", "/v1/images/edits"),
    )
)
"""Endpoints that need nothing which an upstream remembers."""
_REMEMBERED = (b'"previous_response_id"', b'"conversation"', b'"background"', b'"file_id"', b'"item_reference"', b'"container"')
"""Fields by which a body refers to what one upstream alone knows, or makes it remember the answer."""
_FIRST_PAUSE_S = 0.25


@dataclass(frozen=True, slots=True)
class Failed:
    """How one attempt failed: `reason` in a word, the HTTP status when there was one, and what the upstream asks for."""

    reason: str
    status: int = 0
    is_sent: bool = False
    retry_after_s: float | None = None
    is_final: bool = False
    """True when the upstream says that asking again is of no use."""


@dataclass(frozen=True, slots=True)
class Again:
    """Ask the same upstream once more after `pause_s`."""

    pause_s: float


@dataclass(frozen=True, slots=True)
class Next:
    """Ask the next upstream."""


@dataclass(frozen=True, slots=True)
class Stop:
    """Tell the client."""


def decide(
    upstream: Upstream, failed: Failed, tries: int, jitter: float, *, only_reads: bool, has_next: bool
) -> Again | Next | Stop:
    """What to do after try number `tries` at `upstream`; `jitter` between 0 and 1 keeps clients from coming back together."""
    if tries <= upstream.retries and _may_repeat(upstream, failed, only_reads=only_reads):
        pause_s = failed.retry_after_s
        if pause_s is None:
            pause_s = min(_FIRST_PAUSE_S * 2 ** (tries - 1), upstream.retry_longest_s) * (0.5 + jitter / 2)
        if pause_s <= upstream.retry_longest_s:
            return Again(pause_s)
    if has_next and (not failed.status or failed.status in upstream.fallback_on):
        return Next()
    return Stop()


def failure_of_status(upstream: Upstream, status: int, headers: Mapping[str, str], now_s: float) -> Failed | None:
    """What an answer's head says about this attempt; None when the answer is the client's. `now_s` is the time since 1970."""
    if status not in upstream.retry_on and status not in upstream.fallback_on:
        return None
    is_final = headers.get("x-should-retry", "").lower() == "false"
    return Failed(f"http_{status}", status, True, retry_after_s(headers, now_s), is_final)


def retry_after_s(headers: Mapping[str, str], now_s: float) -> float | None:
    """How long an upstream asks to be left alone, in seconds; None when it does not say."""
    if (milliseconds := _number(headers.get("retry-after-ms", ""))) is not None:
        return milliseconds / 1000
    given = headers.get("retry-after", "")
    if not given or (seconds := _number(given)) is not None:
        return seconds if given else None
    try:
        return max(0.0, parsedate_to_datetime(given).timestamp() - now_s)
    except (ValueError, OverflowError):
        return None


def only_reads(method: str) -> bool:
    """True for a request that changes nothing however often it is sent."""
    return method in _ONLY_READS


def is_portable(method: str, path: str, body: bytes, *, is_encoded: bool) -> bool:
    """True when another upstream can answer just as well: nothing in the request refers to what one of them remembers.

    Names stand in quotation marks that are escaped inside of a JSON text, so what a person wrote is not taken for a field.
    """
    return method == "POST" and path in _PORTABLE and not is_encoded and not any(name in body for name in _REMEMBERED)


def _may_repeat(upstream: Upstream, failed: Failed, *, only_reads: bool) -> bool:
    if failed.is_final:
        return False
    if failed.status:
        return failed.status in upstream.retry_on
    return (failed.reason == UNREACHABLE and not failed.is_sent) or (failed.reason == ABORTED and only_reads)


def _number(value: str) -> float | None:
    try:
        found = float(value)
    except ValueError:
        return None
    return found if math.isfinite(found) and found >= 0 else None
