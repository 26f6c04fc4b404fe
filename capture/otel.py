"""An exchange as a span of OpenTelemetry's conventions for generative AI. Pure; the names stand in `capture.otel_names`.

Ids of traces and spans follow from the exchange, so that the same exchange sent twice is one span.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from hashlib import blake2b
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from capture import encoding, ids, loose_json
from capture.assemble import form_of
from capture.exchange import Content, Conversation, Exchange
from capture.feedback import Feedback
from capture.feedback_forms import BOOLEAN, DEMONSTRATION, FLOAT
from capture.messages import Message
from capture.otel_names import FINISH_REASONS, NAMES, OPERATIONS, PARAMETERS, PROTOCOLS, PROVIDERS, SCOPE, SERVICE, VERSION

_TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}")


def span_of(
    exchange: Exchange, content: Content, said: Sequence[Feedback] = (), conversation: Conversation | None = None
) -> Span:
    """The span of `exchange`, child of the app's own span when its traceparent was captured.

    Texts of prompt and answer are in it only when `conversation` is given; what people said of it are its events.
    """
    form = form_of(exchange.protocol, exchange.path)
    trace_id, parent_id = _parent(exchange, content)
    operation = OPERATIONS.get(form, "")
    model = exchange.model_asked or exchange.model_served
    span = Span(
        trace_id=trace_id,
        span_id=blake2b(exchange.id.encode(), digest_size=8).digest(),
        parent_span_id=parent_id,
        name=_text(f"{operation} {model}".strip() if operation else f"{exchange.method} {exchange.path}"),
        kind=Span.SPAN_KIND_CLIENT,
        start_time_unix_nano=max(0, exchange.started_us) * 1_000,
        end_time_unix_nano=max(0, exchange.started_us, exchange.ended_us) * 1_000,
        attributes=_key_values({**_facts(exchange, operation), **_parameters(content), **_texts(exchange, conversation)}),
        events=[_event(each) for each in said],
    )
    if not exchange.is_success:
        span.status.code = Status.STATUS_CODE_ERROR
        span.status.message = _text(exchange.error_message or exchange.state)
    return span


def request_of(spans: Sequence[Span]) -> ExportTraceServiceRequest:
    """What is sent to a collector at once."""
    request = ExportTraceServiceRequest()
    resource = request.resource_spans.add()
    resource.resource.attributes.extend(_key_values({SERVICE: SCOPE}))
    scope = resource.scope_spans.add()
    scope.scope.name = SCOPE
    scope.scope.version = VERSION
    scope.spans.extend(spans)
    return request


def json_of(request: ExportTraceServiceRequest) -> str:
    """The request in OTLP's own JSON, on one line: ids in hex, integers of 64 bits as text."""
    from google.protobuf.json_format import MessageToDict

    found: dict[str, Any] = MessageToDict(request, use_integers_for_enums=True)
    for resource, own in zip(found.get("resourceSpans", []), request.resource_spans, strict=True):
        for scope, own_scope in zip(resource["scopeSpans"], own.scope_spans, strict=True):
            for span, own_span in zip(scope.get("spans", []), own_scope.spans, strict=True):
                span |= {"traceId": own_span.trace_id.hex(), "spanId": own_span.span_id.hex()}
                if own_span.parent_span_id:
                    span["parentSpanId"] = own_span.parent_span_id.hex()
    return json.dumps(found, ensure_ascii=False, separators=(",", ":"))


def _parent(exchange: Exchange, content: Content) -> tuple[bytes, bytes]:
    match = _TRACEPARENT.fullmatch(content.request_headers.get("traceparent", "").strip())
    if match and match[1].strip("0") and match[2].strip("0"):
        return bytes.fromhex(match[1]), bytes.fromhex(match[2])
    try:
        return ids.parse_id(exchange.id), b""
    except (ValueError, OverflowError):
        return blake2b(exchange.id.encode(), digest_size=16).digest(), b""


def _facts(exchange: Exchange, operation: str) -> dict[str, Any]:
    kind = exchange.error_kind or (str(exchange.status) if exchange.status >= 400 else exchange.state)
    values = {
        "operation": operation,
        "provider": PROVIDERS.get(exchange.upstream) or PROTOCOLS.get(exchange.protocol) or exchange.upstream,
        "session": exchange.session_name,
        "model_asked": exchange.model_asked,
        "is_stream": exchange.is_stream,
        "model_served": exchange.model_served,
        "finish_reasons": [exchange.finish_reason] if exchange.finish_reason else None,
        "first_byte_s": None if exchange.first_byte_us is None else exchange.first_byte_us / 1_000_000,
        "tokens_in": exchange.tokens_in,
        "tokens_out": exchange.tokens_out,
        "tokens_cached": exchange.tokens_cached or None,
        "tokens_cache_written": exchange.tokens_cache_written or None,
        "tokens_reasoning": exchange.tokens_reasoning or None,
        "error": "" if exchange.is_success else kind,
        "user": exchange.user_name,
        "environment": exchange.environment,
        "method": exchange.method,
        "status": exchange.status or None,
        "path": exchange.path,
        "id": exchange.id,
        "task": exchange.task,
        "purpose": exchange.purpose,
        "state": exchange.state,
        "variant": exchange.variant,
        "release": exchange.release_id,
        "fallback": exchange.fallback_reason,
        "upstream": exchange.upstream,
        "usage_source": exchange.usage_source,
        "cost_usd": None if exchange.cost_microusd is None else exchange.cost_microusd / 1_000_000,
        "content": exchange.content,
    }
    tags = {NAMES["tag"] + key: value for key, value in exchange.tags.items()}
    return {**{NAMES[name]: value for name, value in values.items()}, **tags}


def _parameters(content: Content) -> dict[str, Any]:
    """What the request asked of the model besides the messages, and the provider's id of the answer."""
    found: dict[str, Any] = {}
    for name, value in _object(content.request_body, content.request_headers).items():
        if name in PARAMETERS and isinstance(value, (int, float, str, list)):
            found[PARAMETERS[name]] = [value] if isinstance(value, str) else value
    id = _object(content.response_body, content.response_headers).get("id")
    return found | ({NAMES["response_id"]: id} if isinstance(id, str) else {})


def _object(body: bytes, headers: Mapping[str, str]) -> dict[str, Any]:
    if not body:
        return {}
    try:
        found = loose_json.parse(encoding.decode(body, headers.get("content-encoding", "")).data)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _texts(exchange: Exchange, conversation: Conversation | None) -> dict[str, Any]:
    if conversation is None:
        return {}
    system = [message for message in conversation.asked if message.role == "system"]
    asked = [message for message in conversation.asked if message.role != "system"]
    found: dict[str, Any] = {}
    if system:
        found[NAMES["system"]] = loose_json.compact([part for message in system for part in _parts(message)])
    if asked:
        found[NAMES["input"]] = loose_json.compact([{"role": message.role, "parts": list(_parts(message))} for message in asked])
    if conversation.answer is not None:
        reason = FINISH_REASONS.get(exchange.finish_reason, exchange.finish_reason)
        answer = {"role": "assistant", "parts": list(_parts(conversation.answer)), "finish_reason": reason}
        found[NAMES["output"]] = loose_json.compact([answer])
    return found


def _parts(message: Message) -> Iterator[dict[str, Any]]:
    if message.reasoning:
        yield {"type": "reasoning", "content": message.reasoning}
    if message.role == "tool":
        yield {"type": "tool_call_response", "id": message.tool_call_id or None, "response": message.text}
    elif message.text:
        yield {"type": "text", "content": message.text}
    if message.refusal and message.refusal != message.text:
        yield {"type": "refusal", "content": message.refusal}
    for media in message.media:
        kind, _, file_id = media.reference.partition(":")
        where = {"type": "file", "file_id": file_id} if kind == "file" else {"type": "uri", "uri": media.reference}
        yield {**where, "modality": media.kind, "mime_type": media.media_type or None}
    for call in message.tool_calls:
        yield {"type": "tool_call", "id": call.id or None, "name": call.name, "arguments": _arguments(call.arguments)}


def _arguments(written: str) -> Any:
    try:
        return loose_json.parse(written.encode("utf-8", "replace"))
    except ValueError:
        return written


def _event(said: Feedback) -> Span.Event:
    value = said.value if said.kind in (BOOLEAN, FLOAT) else None
    label = "" if said.kind not in (BOOLEAN, "category") else said.text or ("true" if said.value else "false")
    words = said.text if said.kind in ("comment", DEMONSTRATION) else ""
    attributes = {
        NAMES["evaluation_name"]: said.name,
        NAMES["evaluation_value"]: value,
        NAMES["evaluation_label"]: label,
        NAMES["evaluation_words"]: words,
    }
    return Span.Event(
        time_unix_nano=max(0, said.created_us) * 1_000, name=NAMES["evaluation"], attributes=_key_values(attributes)
    )


def _key_values(values: Mapping[str, Any]) -> list[KeyValue]:
    """What is unknown or empty is left out."""
    told = {key: value for key, value in values.items() if value is not None and value not in ("", [])}
    return [KeyValue(key=_text(key), value=_any(value)) for key, value in told.items()]


def _any(value: Any) -> AnyValue:
    if isinstance(value, bool):
        return AnyValue(bool_value=value)
    if isinstance(value, int) and -(1 << 63) <= value < 1 << 63:
        return AnyValue(int_value=value)
    if isinstance(value, float):
        return AnyValue(double_value=value)
    if isinstance(value, list):
        return AnyValue(array_value=ArrayValue(values=[_any(one) for one in value if isinstance(one, (str, int, float))]))
    return AnyValue(string_value=_text(str(value)))


def _text(text: str) -> str:
    return text.encode("utf-8", "replace").decode()
