"""Exchange: one request, its answer or its failure, with timing, tokens, cost and assignment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from capture.messages import Message

COMPLETE, TRUNCATED, ERROR_IN_BAND = "complete", "truncated", "error_in_band"
CLIENT_CLOSED, UPSTREAM_ABORTED, TIMEOUT, INTERRUPTED = "client_closed", "upstream_aborted", "timeout", "interrupted"
STATES = (COMPLETE, TRUNCATED, ERROR_IN_BAND, CLIENT_CLOSED, UPSTREAM_ABORTED, TIMEOUT, INTERRUPTED)
"""Terminal states. A provider's 4xx or 5xx that arrived whole is `complete` with that status."""

BASELINE, CANDIDATE = "baseline", "candidate"
"""Variants. An exchange of a task without a flag has variant ''."""

PURPOSES = ("app", "judge", "relabel", "shadow", "eval")


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request and its answer, as the relay saw it. Times are UTC microseconds, money is micro-dollars.

    `variant` is what the unit was assigned; when the student failed before its first byte and the teacher answered,
    `fallback_reason` says why and `upstream` names who answered. `cost_microusd` None means unknown, never free.
    """

    id: str
    started_us: int
    ended_us: int
    method: str
    path: str
    protocol: str
    purpose: str
    task: str
    unit: str
    unit_source: str
    user_name: str
    session_name: str
    environment: str
    tags: Mapping[str, str]
    model_asked: str
    model_served: str
    upstream: str
    variant: str
    release_id: str
    flag_revision: int
    fallback_reason: str
    is_stream: bool
    status: int
    state: str
    error_kind: str
    error_message: str
    finish_reason: str
    latency_us: int | None
    first_byte_us: int | None
    overhead_us: int | None
    tokens_in: int | None
    tokens_out: int | None
    usage_source: str
    cost_microusd: int | None
    input_hash: str
    output_text: str
    request_headers: Mapping[str, str]
    response_headers: Mapping[str, str]
    request_body: str
    response_body: str
    request_sha256: str
    response_sha256: str
    redactions: int

    @property
    def is_success(self) -> bool:
        """True when a whole answer with a 2xx status reached the client."""
        return self.state == COMPLETE and 200 <= self.status < 300


@dataclass(frozen=True, slots=True)
class Conversation:
    """The canonical chat form of an exchange: what was asked, and the answer (None when there was none)."""

    asked: tuple[Message, ...]
    answer: Message | None
