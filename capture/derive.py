"""From the records of an exchange to what the store keeps: pure, one exchange at a time."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from hashlib import sha256
from operator import attrgetter
from typing import Any

import msgspec
import zstandard

from capture.assemble import RESPONSE, SESSION, Assembled, assemble, input_hash, output_text, rebuild, searched_text, state_of
from capture.cleaned import Cleaned, clean, lower, without_encoding
from capture.exchange import (
    CACHE_HEADER,
    CACHE_HIT,
    CANDIDATE,
    COMPLETE,
    INTERRUPTED,
    KEPT,
    MASKED,
    MOST_OUTPUT_TEXT,
    Content,
    Conversation,
    Exchange,
)
from capture.exchange import CUT as CONTENT_CUT
from capture.ids import content_hash
from capture.loose_json import clean_text, compact
from capture.personal_bodies import hide, hide_in_encoded
from capture.pieces import Parts, take_apart, take_apart_answer
from capture.pricing import PriceTable
from capture.pseudonyms import KEEP_PERSONAL, PersonalPolicy, Pseudonym
from capture.records import CUT, OMIT, Begin, End, Head
from capture.redact import redact, redact_text
from capture.spool_reader import SpooledExchange
from capture.transcript import SWITCHED
from capture.withhold import kept_headers, withhold, without_content

CAPTURE_GAP = "capture_gap"
"""`error_kind` of an exchange whose relayed bytes are not all in the store."""
PARSE_ERROR = "parse_error"
"""`error_kind` of an exchange of a known format that went well, though not all of its bodies could be read."""
_MOST_ERROR_TEXT = 2_000
_compressor = zstandard.ZstdCompressor(level=3)
_NAMES = tuple(field.name for field in fields(Exchange))
_values_of = attrgetter(*_NAMES)
_TEXTS = tuple(position for position, field in enumerate(fields(Exchange)) if field.type == "str")
_TAGS, _IS_STREAM = _NAMES.index("tags"), _NAMES.index("is_stream")


@dataclass(frozen=True, slots=True)
class StoredExchange:
    """An exchange with what it carried, ready for the store.

    `said` is what the full-text index holds beside the request: the whole answer as text. Hashes are SHA-256: of the bodies
    as relayed, and as `seals` of those that are stored in another form (empty otherwise). `spooled` is its dead letter should
    the store refuse it.
    """

    exchange: Exchange
    said: str
    request: Parts
    response: Parts
    request_headers: dict[str, str]
    response_headers: dict[str, str]
    request_sha256: bytes
    response_sha256: bytes
    seals: tuple[bytes, bytes]
    spooled: SpooledExchange
    pseudonyms: tuple[Pseudonym, ...] = ()


def derive(
    spooled: SpooledExchange,
    prices: PriceTable,
    personal: PersonalPolicy = KEEP_PERSONAL,
    tokens_per_second: float | None = None,
) -> StoredExchange:
    """Everything that the store keeps of an exchange. Bodies are byte for byte as relayed unless a secret was in them, or
    `personal` wants personal data out of them; without any content where the relay was told so. `tokens_per_second` is the
    measured throughput of the student's machine, None before it is known.
    """
    raw_request, raw_response = spooled.request_body(), spooled.response_body()
    cleaned, hiding = clean(spooled), personal.hiding()
    if hiding is not None:
        cleaned = hide(cleaned, hiding)
    begin = cleaned.begin
    head = cleaned.head or Head(cleaned.end.status if cleaned.end else 0)
    assembled, hidden = _without_secrets(_assemble(cleaned, head, cleaned.request, cleaned.response))
    response_body, response_headers = cleaned.response, head.response_headers
    if cleaned.in_response and begin.is_stream:  # an event may hold enough of a secret to be found, and the next its rest
        said_head, said_response = spooled.head or head, raw_response
        if hiding is not None:
            said_response, headers = hide_in_encoded(raw_response, lower(said_head.response_headers), hiding)
            said_head = msgspec.structs.replace(said_head, response_headers=headers)
        relayed = _assemble(cleaned, said_head, raw_request, said_response)
        assembled = replace(assembled, unread=relayed.unread)
        whole_answer, _ = _without_secrets(relayed)
        if whole_answer.conversation.answer != assembled.conversation.answer:
            assembled, hidden = replace(assembled, conversation=_answered(assembled, whole_answer)), max(hidden, 1)
    if hidden:  # a secret that ran across several events of a stream
        response_body = redact(rebuild(assembled)).data
        response_headers = without_encoding(response_headers)
        if assembled.form == SESSION:  # what was asked stood in the same body
            written = _assemble(cleaned, head, cleaned.request, response_body)
            assembled = replace(assembled, conversation=written.conversation)
    end = cleaned.end
    relayed_sha256 = (sha256(raw_request).digest(), sha256(raw_response).digest())
    state, error_kind, error_message = _outcome(spooled, head, assembled, len(raw_response), relayed_sha256)
    error_message = " ".join([redact_text(error_message)[0][:_MOST_ERROR_TEXT], *cleaned.notes]).strip()
    error_message = hiding.text(error_message) if hiding is not None else error_message
    end = end or End(head.status, state)
    told_sha256 = (_digest(end.request_sha256) or relayed_sha256[0], _digest(end.response_sha256) or relayed_sha256[1])
    fallback_reason = end.fallback_reason or head.fallback_reason
    usage = assembled.usage
    if begin.variant == CANDIDATE and not fallback_reason:
        cost = prices.student_cost_microusd(end.latency_us, usage.tokens_out, tokens_per_second)
    else:
        cost = _cost(end, begin, assembled, prices)
    is_saved = response_headers.get(CACHE_HEADER) == CACHE_HIT
    exchange = Exchange(
        number=0,
        id=spooled.id,
        started_us=spooled.started_us,
        ended_us=spooled.ended_us,
        method=begin.method,
        path=begin.path,
        query=begin.query,
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
        model_served=assembled.model or end.model_served or head.model_served,
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
        tokens_in=usage.tokens_in,
        tokens_out=usage.tokens_out,
        tokens_cached=usage.tokens_cached,
        tokens_cache_written=usage.tokens_cache_written,
        tokens_reasoning=usage.tokens_reasoning,
        usage_source=usage.source,
        cost_microusd=0 if is_saved else cost,
        input_hash=input_hash(assembled.conversation),
        output_text=shortened(output_text(assembled.conversation.answer)),
        content=_content_kept(end.captured == CUT or len(raw_request) < begin.body_size, hiding is not None and hiding.count > 0),
        body_bytes=max(len(raw_request), begin.body_size) + len(raw_response),
        redactions=cleaned.count + hidden,
        key_id=begin.key_id,
        trace_id=begin.trace_id,
        saved_microusd=cost or 0 if is_saved else 0,
    )
    if begin.content == OMIT:
        nothing = Parts(b"")
        headers = kept_headers(response_headers)
        return StoredExchange(withhold(exchange), "", nothing, nothing, {}, headers, b"", b"", (b"", b""), spooled)
    if hiding is not None and hiding.count:
        # A phone number can be tried out against the hash of the body that held it.
        told_sha256 = (b"", b"")
    return StoredExchange(
        exchange,
        searched_text(assembled),
        take_apart(cleaned.request),
        Parts(response_body) if begin.is_stream else take_apart_answer(response_body),
        begin.request_headers,
        response_headers,
        *told_sha256,
        _seals((cleaned.request, response_body), (raw_request, raw_response), told_sha256, relayed_sha256),
        spooled,
        hiding.pseudonyms if hiding is not None else (),
    )


def said_in(protocol: str, path: str, is_stream: bool, content: Content, status: int) -> str:
    """`StoredExchange.said` of a stored exchange, the same that `derive` had for it."""
    return searched_text(assemble_stored(protocol, path, is_stream, content, status))


def assemble_stored(protocol: str, path: str, is_stream: bool, content: Content, status: int) -> Assembled:
    """Reads both bodies of a stored exchange."""
    return assemble(
        protocol,
        path,
        is_stream,
        content.request_body,
        content.response_body,
        content.response_headers.get("content-encoding", ""),
        status,
        request_encoding=content.request_headers.get("content-encoding", ""),
    )


def columns(exchange: Exchange) -> tuple[Any, ...]:
    """`exchange` as values of its table's columns; NUL, which PostgreSQL refuses in text, becomes U+FFFD."""
    values = list(_values_of(exchange))
    for position in _TEXTS:
        text = values[position]
        if not text.isascii() or "\0" in text:
            values[position] = clean_text(text)
    tags = exchange.tags
    values[_TAGS] = compact({clean_text(key): clean_text(text) for key, text in tags.items()}) if tags else "{}"
    values[_IS_STREAM] = int(exchange.is_stream)
    return tuple(values)


def dead_letter(spooled: SpooledExchange, personal: PersonalPolicy = KEEP_PERSONAL) -> bytes:
    """The records of an exchange in one piece, as zstd over msgpack: begin, head, response bytes, end.

    Without what the exchange itself would be stored without.
    """
    cleaned, hiding = clean(spooled), personal.hiding()
    if hiding is not None:
        cleaned = hide(cleaned, hiding)
    if cleaned.begin.content == OMIT:
        cleaned = without_content(cleaned)
    begin = msgspec.structs.replace(cleaned.begin, body=cleaned.request)
    return _compressor.compress(msgspec.msgpack.encode((begin, cleaned.head, cleaned.response, cleaned.end)))


def _without_secrets(assembled: Assembled) -> tuple[Assembled, int]:
    """`assembled` with an answer that holds no secret, and how many were taken out of it."""
    answer = assembled.conversation.answer
    if answer is None:
        return assembled, 0
    said = "\n".join(
        [answer.text, answer.reasoning, answer.refusal, *[f"{call.name} {call.arguments}" for call in answer.tool_calls]]
    )
    if not redact_text(said)[1]:
        return assembled, 0
    words, total = redact_text(answer.text)
    reasoning, in_reasoning = redact_text(answer.reasoning)
    refusal, in_refusal = redact_text(answer.refusal)
    total += in_reasoning + in_refusal
    calls = []
    for call in answer.tool_calls:
        name, in_name = redact_text(call.name)
        arguments, in_arguments = redact_text(call.arguments)
        calls.append(replace(call, name=name, arguments=arguments))
        total += in_name + in_arguments
    if not total:
        return assembled, 0
    answer = replace(answer, text=words, reasoning=reasoning, refusal=refusal, tool_calls=tuple(calls))
    return replace(assembled, conversation=replace(assembled.conversation, answer=answer)), total


def _answered(assembled: Assembled, other: Assembled) -> Conversation:
    """What `assembled` was asked, with the answer of `other`."""
    return replace(assembled.conversation, answer=other.conversation.answer)


def _assemble(cleaned: Cleaned, head: Head, request: bytes, response: bytes) -> Assembled:
    content = Content(cleaned.begin.request_headers, lower(head.response_headers), request, response, "", "")
    begin = cleaned.begin
    assembled = assemble_stored(begin.protocol, begin.path, begin.is_stream, content, head.status)
    return assembled if cleaned.is_response_whole else replace(assembled, is_terminal=False)


def _outcome(
    spooled: SpooledExchange, head: Head, assembled: Assembled, size: int, relayed: tuple[bytes, bytes]
) -> tuple[str, str, str]:
    """State, kind of error and its text; `size` is that of the response body, `relayed` are the hashes of what was read."""
    end = spooled.end
    if end is None:
        is_whole = spooled.head is not None and not spooled.is_damaged and _is_whole(head, assembled, size)
        wire_state = COMPLETE if is_whole else INTERRUPTED
        kind, text = ("", "") if is_whole else ("relay_died", "The relay ended before the exchange did.")
    else:
        wire_state, kind, text = end.state, end.error_kind, end.error_message
    if not _is_intact(spooled, relayed):
        return INTERRUPTED, CAPTURE_GAP, "Some of what was relayed could not be kept."
    status = end.status if end is not None and end.status else head.status
    state = state_of(wire_state, status, assembled)
    if not kind and assembled.error_in_band:
        kind, text = (f"http_{status}" if status >= 400 else "in_band"), assembled.error_in_band
    elif not kind and status >= 400:
        kind = f"http_{status}"
    elif not kind and (unread := _unread(spooled, wire_state, assembled)):
        kind, text = PARSE_ERROR, f"The {' and the '.join(unread)} could not be read whole."
    return state, kind, text


def _unread(spooled: SpooledExchange, wire_state: str, assembled: Assembled) -> list[str]:
    """The sides that whoever wrote them wrote badly; neither one that the copy cuts, nor a response that the wire cut."""
    begin, end = spooled.begin, spooled.end
    if not assembled.unread or (end is not None and end.captured == CUT) or len(spooled.request_body()) < begin.body_size:
        return []
    return [side for side in assembled.unread if side != RESPONSE or wire_state == COMPLETE]


def _is_whole(head: Head, assembled: Assembled, size: int) -> bool:
    """Whether an exchange whose relay died had its whole answer: by length, by the stream's last event, by whole JSON.

    A WebSocket has no last message that says so.
    """
    if head.status == SWITCHED:
        return False
    length = lower(head.response_headers).get("content-length", "")
    if length.isdigit():
        return size == int(length)
    return assembled.is_terminal and assembled.conversation.answer is not None


def _is_intact(spooled: SpooledExchange, relayed: tuple[bytes, bytes]) -> bool:
    """Whether what was read from the spool is what was relayed, by the relay's own hashes where it gave them."""
    end = spooled.end
    if end is None or end.captured == CUT or not end.response_sha256:
        return not spooled.is_damaged
    is_same_request = not end.request_sha256 or _digest(end.request_sha256) == relayed[0]
    has_head = spooled.head is not None or not spooled.is_damaged
    return is_same_request and has_head and _digest(end.response_sha256) == relayed[1]


def _digest(hexadecimal: str) -> bytes:
    try:
        return bytes.fromhex(hexadecimal)
    except ValueError:
        return b""


def _seals(
    stored: tuple[bytes, bytes], read: tuple[bytes, bytes], told: tuple[bytes, bytes], hashes: tuple[bytes, bytes]
) -> tuple[bytes, bytes]:
    """The hash of each stored body that is not the one as relayed."""
    first, second = (
        b"" if is_told == hash and (body is raw or body == raw) else sha256(body).digest()
        for body, raw, is_told, hash in zip(stored, read, told, hashes, strict=True)
    )
    return first, second


def _content_kept(is_cut: bool, is_masked: bool) -> str:
    return CONTENT_CUT if is_cut else MASKED if is_masked else KEPT


def shortened(said: str) -> str:
    """Long answers end with their hash, so that two of them are the same only when they are."""
    if len(said) <= MOST_OUTPUT_TEXT:
        return said
    return f"{said[:MOST_OUTPUT_TEXT]}… [{content_hash(said.encode('utf-8', 'replace'))[:19]}]"


def _cost(end: End, begin: Begin, assembled: Assembled, prices: PriceTable) -> int | None:
    for model in (assembled.model, end.model_served, begin.model_asked):
        cost = prices.cost_microusd(
            model,
            assembled.usage.tokens_in,
            assembled.usage.tokens_out,
            tokens_cached=assembled.usage.tokens_cached,
            tokens_cache_written=assembled.usage.tokens_cache_written,
            tokens_reasoning=assembled.usage.tokens_reasoning,
            provider=end.upstream or begin.upstream,
        )
        if cost is not None:
            return cost
    return None
