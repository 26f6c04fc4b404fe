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


CACHE_HEADER, CACHE_HIT = "x-potstill-cache", "hit"
"""A response header of ours, and its value on an answer from the response cache; no upstream's header of this name is kept."""

KEPT, OMITTED, CUT, MASKED = "kept", "omitted", "cut", "masked"
"""What is in the store of an exchange's content: all; nothing but figures; a beginning; all but personal data."""

MOST_OUTPUT_TEXT = 2_000


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request and its answer, as the relay saw it. Times are UTC microseconds, money is micro-dollars.

    `variant` is what the unit was assigned; when the student failed before its first byte and the teacher answered,
    `fallback_reason` says why and `upstream` names who answered. `cost_microusd` None means unknown, never free.
    `number` counts exchanges in the order of storing. `tokens_cached` and `tokens_cache_written` are parts of `tokens_in`,
    `tokens_reasoning` of `tokens_out`. `output_text` is the answer, a long one cut to `MOST_OUTPUT_TEXT` characters and marked
    with its hash; `body_bytes` is the size of both bodies as relayed. `key_id` names the virtual key that the client used and
    `trace_id` (32 hex) the W3C trace that the request belongs to; '' without one. `saved_microusd` is what an answer from the
    response cache would have cost: such an answer costs nothing.
    """

    number: int
    id: str
    started_us: int
    ended_us: int
    method: str
    path: str
    query: str
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
    tokens_cached: int
    tokens_cache_written: int
    tokens_reasoning: int
    usage_source: str
    cost_microusd: int | None
    input_hash: str
    output_text: str
    content: str
    body_bytes: int
    redactions: int
    key_id: str = ""
    trace_id: str = ""
    saved_microusd: int = 0

    @property
    def is_success(self) -> bool:
        """True when a whole answer with a 2xx status reached the client."""
        return self.state == COMPLETE and 200 <= self.status < 300


@dataclass(frozen=True, slots=True)
class Conversation:
    """The canonical chat form of an exchange: what was asked, and the answer (None when there was none)."""

    asked: tuple[Message, ...]
    answer: Message | None


@dataclass(frozen=True, slots=True)
class Content:
    """Headers and bodies of an exchange as they are stored, and the hex SHA-256 of the bodies as they were relayed."""

    request_headers: Mapping[str, str]
    response_headers: Mapping[str, str]
    request_body: bytes
    response_body: bytes
    request_sha256: str
    response_sha256: str
