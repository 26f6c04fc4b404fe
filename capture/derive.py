"""From the records of an exchange to what the store keeps: pure, one exchange at a time."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from hashlib import sha256
from typing import Any

import msgspec
import zstandard

from capture import ids
from capture.assemble import Assembled, assemble, input_hash, output_text, rebuild, state_of
from capture.cleaned import clean, without_encoding
from capture.exchange import CANDIDATE, COMPLETE, INTERRUPTED, Conversation, Exchange
from capture.loose_json import compact, whole
from capture.pricing import PriceTable
from capture.records import Begin, End, Head
from capture.redact import redact, redact_text
from capture.spool_reader import SpooledExchange

CAPTURE_GAP = "capture_gap"
"""`error_kind` of an exchange whose relayed bytes are not all in the store."""
_MOST_ERROR_TEXT = 2_000
_compressor = zstandard.ZstdCompressor(level=3)


@dataclass(frozen=True, slots=True)
class StoredBody:
    """A row of table bodies."""

    hash: str
    size: int
    zstd: bytes


@dataclass(frozen=True, slots=True)
class StoredExchange:
    """An exchange with its bodies, ready for the store; `record` is its dead letter should the store refuse it."""

    exchange: Exchange
    bodies: tuple[StoredBody, ...]
    spooled: SpooledExchange


def derive(spooled: SpooledExchange, prices: PriceTable) -> StoredExchange:
    """Everything that the store keeps of an exchange. Bodies are byte for byte as relayed unless a secret was in them."""
    raw_response = b"".join(spooled.parts)
    cleaned = clean(spooled)
    begin = cleaned.begin
    head = cleaned.head or Head(cleaned.end.status if cleaned.end else 0)
    assembled, hidden = _without_secrets(_assemble(begin, head, cleaned.response, cleaned.is_response_whole))
    response_body, response_headers = cleaned.response, head.response_headers
    if cleaned.in_response and begin.is_stream:  # an event may hold enough of a secret to be found, and the next its rest
        relayed = _assemble(spooled.begin, spooled.head or head, raw_response, cleaned.is_response_whole)
        whole_answer, _ = _without_secrets(relayed)
        if whole_answer.conversation.answer != assembled.conversation.answer:
            assembled, hidden = replace(assembled, conversation=_answered(assembled, whole_answer)), max(hidden, 1)
    if hidden:  # a secret that ran across several events of a stream
        response_body = redact(rebuild(begin.protocol, assembled)).data
        response_headers = without_encoding(response_headers)
    state, error_kind, error_message = _outcome(spooled, head, assembled, raw_response)
    error_message = " ".join([redact_text(error_message)[0][:_MOST_ERROR_TEXT], *cleaned.notes]).strip()
    request, response = _body(begin.body), _body(response_body)
    end = cleaned.end or End(head.status, state)
    fallback_reason = end.fallback_reason or head.fallback_reason
    model_served = assembled.model or end.model_served or head.model_served
    exchange = Exchange(
        id=spooled.id,
        started_us=spooled.started_us,
        ended_us=spooled.ended_us,
        method=begin.method,
        path=begin.path,
        protocol=begin.protocol,
        purpose=begin.purpose,
        task=begin.task,
        unit=begin.unit,
        unit_source=begin.unit_source,
        user_name=begin.user_name,
        session_name=begin.session_name,
        environment=begin.environment,
        tags=begin.tags,
        model_asked=begin.model_asked,
        model_served=model_served,
        upstream=end.upstream or head.upstream or begin.upstream,
        variant=begin.variant,
        release_id=begin.release_id,
        flag_revision=begin.flag_revision,
        fallback_reason=fallback_reason,
        is_stream=begin.is_stream,
        status=end.status or head.status,
        state=state,
        error_kind=error_kind,
        error_message=error_message,
        finish_reason=assembled.finish_reason,
        latency_us=end.latency_us,
        first_byte_us=end.first_byte_us if end.first_byte_us is not None else head.first_byte_us,
        overhead_us=end.overhead_us,
        tokens_in=assembled.usage.tokens_in,
        tokens_out=assembled.usage.tokens_out,
        usage_source=assembled.usage.source,
        cost_microusd=_cost(begin.variant == CANDIDATE and not fallback_reason, end, assembled, begin.model_asked, prices),
        input_hash=input_hash(assembled.conversation),
        output_text=output_text(assembled.conversation.answer),
        request_headers=begin.request_headers,
        response_headers=response_headers,
        request_body=request.hash,
        response_body=response.hash,
        request_sha256=end.request_sha256 or sha256(spooled.begin.body).hexdigest(),
        response_sha256=end.response_sha256 or sha256(raw_response).hexdigest(),
        redactions=cleaned.count + hidden,
    )
    return StoredExchange(exchange, (request, response), spooled)


def columns(exchange: Exchange) -> dict[str, Any]:
    """`exchange` as values of its table's columns; NUL, which PostgreSQL refuses in text, becomes U+FFFD."""
    values: dict[str, Any] = {}
    for field in fields(exchange):
        value = getattr(exchange, field.name)
        if isinstance(value, str):
            value = clean_text(value)
        elif isinstance(value, bool):
            value = int(value)
        elif value is not None and not isinstance(value, int):
            value = compact({clean_text(key): clean_text(text) for key, text in value.items()})
        values[field.name] = value
    return values


def clean_text(text: str) -> str:
    """`text` as both stores accept it."""
    return whole(text).replace("\0", "\ufffd")


def dead_letter(spooled: SpooledExchange) -> bytes:
    """The records of an exchange in one piece, without secrets, as zstd over msgpack: begin, head, response bytes, end."""
    cleaned = clean(spooled)
    return _compressor.compress(msgspec.msgpack.encode((cleaned.begin, cleaned.head, cleaned.response, cleaned.end)))


def _without_secrets(assembled: Assembled) -> tuple[Assembled, int]:
    """`assembled` with an answer that holds no secret, and how many were taken out of it."""
    answer = assembled.conversation.answer
    if answer is None:
        return assembled, 0
    words, total = redact_text(answer.text)
    calls = []
    for call in answer.tool_calls:
        name, in_name = redact_text(call.name)
        arguments, in_arguments = redact_text(call.arguments)
        calls.append(replace(call, name=name, arguments=arguments))
        total += in_name + in_arguments
    if not total:
        return assembled, 0
    answer = replace(answer, text=words, tool_calls=tuple(calls))
    return replace(assembled, conversation=replace(assembled.conversation, answer=answer)), total


def _answered(assembled: Assembled, other: Assembled) -> Conversation:
    """What `assembled` was asked, with the answer of `other`."""
    return replace(assembled.conversation, answer=other.conversation.answer)


def _assemble(begin: Begin, head: Head, response: bytes, is_whole: bool) -> Assembled:
    asked_headers, told_headers = _lower(begin.request_headers), _lower(head.response_headers)
    assembled = assemble(
        begin.protocol,
        begin.path,
        begin.is_stream,
        begin.body,
        response,
        told_headers.get("content-encoding", ""),
        head.status,
        request_encoding=asked_headers.get("content-encoding", ""),
    )
    return assembled if is_whole else replace(assembled, is_terminal=False)


def _outcome(spooled: SpooledExchange, head: Head, assembled: Assembled, response: bytes) -> tuple[str, str, str]:
    """State, kind of error and its text."""
    end = spooled.end
    if end is None:
        is_whole = spooled.head is not None and not spooled.is_damaged and _is_whole(spooled, head, assembled, response)
        wire_state = COMPLETE if is_whole else INTERRUPTED
        kind, text = ("", "") if is_whole else ("relay_died", "The relay ended before the exchange did.")
    else:
        wire_state, kind, text = end.state, end.error_kind, end.error_message
    if not _is_intact(spooled, response):
        return INTERRUPTED, CAPTURE_GAP, "Some of what was relayed could not be kept."
    status = end.status if end is not None and end.status else head.status
    state = state_of(wire_state, status, assembled)
    if not kind and assembled.error_in_band:
        kind, text = (f"http_{status}" if status >= 400 else "in_band"), assembled.error_in_band
    elif not kind and status >= 400:
        kind = f"http_{status}"
    return state, kind, text


def _is_whole(spooled: SpooledExchange, head: Head, assembled: Assembled, response: bytes) -> bool:
    """Whether an exchange whose relay died had its whole answer: by length, by the stream's last event, by whole JSON."""
    length = _lower(head.response_headers).get("content-length", "")
    if length.isdigit():
        return len(response) == int(length)
    return assembled.is_terminal and assembled.conversation.answer is not None


def _is_intact(spooled: SpooledExchange, response: bytes) -> bool:
    """Whether what was read from the spool is what was relayed, by the relay's own hashes where it gave them."""
    end = spooled.end
    if end is None or not end.response_sha256:
        return not spooled.is_damaged
    is_same_request = not end.request_sha256 or end.request_sha256 == sha256(spooled.begin.body).hexdigest()
    has_head = spooled.head is not None or not spooled.is_damaged
    return is_same_request and has_head and end.response_sha256 == sha256(response).hexdigest()


def _cost(is_student: bool, end: End, assembled: Assembled, model_asked: str, prices: PriceTable) -> int | None:
    if is_student:
        return prices.student_cost_microusd(end.latency_us)
    for model in (assembled.model, end.model_served, model_asked):
        cost = prices.cost_microusd(
            model,
            assembled.usage.tokens_in,
            assembled.usage.tokens_out,
            tokens_cached=assembled.tokens_cached,
            tokens_cache_written=assembled.tokens_cache_written,
        )
        if cost is not None:
            return cost
    return None


def _lower(headers: dict[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


def _body(data: bytes) -> StoredBody:
    return StoredBody(ids.content_hash(data), len(data), _compressor.compress(data))
