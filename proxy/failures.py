"""What a client sees when we, not an upstream, must say no: in the words and shape of the family it speaks.

Text here is ours alone: nothing of an upstream's answer and no credential gets into it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import msgspec

from proxy.settings import ANTHROPIC

RATE_LIMITED, BUDGET_SPENT = "rate_limit_exceeded", "insufficient_quota"
"""Kinds of failures: too much at once, which waiting mends, and a budget that is used up, which only its next period does."""

_OPENAI_TYPES = {
    400: "invalid_request_error",
    401: "invalid_request_error",
    403: "invalid_request_error",
    404: "invalid_request_error",
    405: "invalid_request_error",
    408: "timeout_error",
    413: "invalid_request_error",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}
_ANTHROPIC_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}
_FINAL = (401, 402, 403, 404)
_SEQUENCE_NUMBER = re.compile(rb'"sequence_number"\s*:\s*(\d+)')


@dataclass(frozen=True, slots=True)
class Failure:
    """A refusal or a failure of ours: HTTP status, a kind to filter by, what happened, what to do next, seconds to wait."""

    status: int
    kind: str
    what: str
    next_step: str = ""
    retry_after_s: int = 0

    @property
    def message(self) -> str:
        """Both sentences."""
        return f"{self.what} {self.next_step}".strip()


def body(family: str, failure: Failure, exchange_id: str) -> bytes:
    """The JSON error body that SDKs of `family` understand."""
    if family == ANTHROPIC:
        error = {"type": _ANTHROPIC_TYPES.get(failure.status, "api_error"), "message": failure.message}
        return msgspec.json.encode({"type": "error", "error": error, "request_id": exchange_id or None})
    kind = _OPENAI_TYPES.get(failure.status, "upstream_error" if failure.status == 502 else "server_error")
    kind = BUDGET_SPENT if failure.kind == BUDGET_SPENT else kind
    return msgspec.json.encode({"error": {"message": failure.message, "type": kind, "param": None, "code": failure.kind}})


def headers(failure: Failure) -> dict[str, str]:
    """The response headers that go with the body: what it is, how long to wait, and whether an SDK should try again at all."""
    found = {"Content-Type": "application/json"}
    if failure.status in _FINAL or failure.kind == BUDGET_SPENT:
        found["x-should-retry"] = "false"
    if failure.retry_after_s:
        found["Retry-After"] = str(failure.retry_after_s)
    return found


def frame(family: str, is_responses: bool, failure: Failure, last: bytes) -> bytes:
    """The event that ends a broken stream; `last` is what was relayed last, for the sequence number of the Responses API."""
    if family == ANTHROPIC:
        error = {"type": "error", "error": {"type": "api_error", "message": failure.message}}
        return b"event: error\ndata: " + msgspec.json.encode(error) + b"\n\n"
    if is_responses:
        numbers = _SEQUENCE_NUMBER.findall(last)
        number = int(numbers[-1]) + 1 if numbers else 0
        error = {"code": failure.kind, "message": failure.message}
        failed = {"type": "response.failed", "sequence_number": number, "response": {"status": "failed", "error": error}}
        return b"event: response.failed\ndata: " + msgspec.json.encode(failed) + b"\n\n"
    shown = {"error": {"message": failure.message, "type": "upstream_error", "param": None, "code": failure.kind}}
    return b"data: " + msgspec.json.encode(shown) + b"\n\n"


def is_event_boundary(tail: bytes) -> bool:
    """True when `tail`, the end of what was relayed, leaves no event half open (or nothing was relayed)."""
    return not tail or tail.endswith((b"\n\n", b"\r\n\r\n", b"\r\r", b"\n\r\n"))
