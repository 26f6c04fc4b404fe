"""Langfuse: generations out of the UI's export (JSON, CSV), the API (`data`), and the blob storage export (JSONL, JSON, CSV).

The first two write camel case (`startTime`, `usageDetails`), the last snake case (`start_time`, `usage_details`) with input
and output as text: https://langfuse.com/docs/api-and-data-platform/features/blob-storage-export-fields
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from capture.imports.imported import LANGFUSE, ImportedExchange, LineError
from capture.imports.values import (
    as_count,
    as_list,
    as_object,
    as_text,
    labels,
    pick,
    tags,
    task_name,
    time_us,
    unpacked,
)
from capture.imports.wire import LoggedUsage, error_response, wire_form

_ASKS_A_MODEL = ("GENERATION", "EMBEDDING")
_OTHERS = ("SPAN", "EVENT", "AGENT", "TOOL", "CHAIN", "RETRIEVER", "EVALUATOR", "GUARDRAIL")
_INNER = ("attributes", "resourceAttributes", "scope")
"""Metadata that tracing libraries add: long, and about themselves."""


def recognise(record: Mapping[str, Any]) -> bool:
    """Whether `record` looks like an observation (or a trace) of Langfuse."""
    has_start = "startTime" in record or "start_time" in record
    has_trace = any(name in record for name in ("traceId", "trace_id", "projectId", "project_id"))
    return (has_start and has_trace) or "usageDetails" in record or "usage_details" in record or _is_trace(record)


def parse(record: Mapping[str, Any]) -> ImportedExchange:
    """The exchange in one observation; LineError, not a bad one for spans and other steps that ask no model."""
    kind = as_text(record.get("type")).upper()
    if not kind and _is_trace(record):
        raise LineError("a trace, which holds no calls of its own; export the observations", is_bad=False)
    if kind in _OTHERS:
        raise LineError(f"an observation of type {kind}, which asks no model", is_bad=False)
    if kind not in (*_ASKS_A_MODEL, ""):
        raise LineError(f"an observation of unknown type {kind[:40]}")
    model = as_text(pick(record, "model", "provided_model_name", "providedModelName"))
    asked, told = pick(record, "input", "prompt"), pick(record, "output", "completion")
    is_failed = as_text(record.get("level")).upper() == "ERROR"
    words = as_text(pick(record, "statusMessage", "status_message"))
    has_content = asked is not None or told is not None
    if has_content and told is None and not is_failed:
        raise LineError("a generation without output")
    if not has_content and not model:
        raise LineError("a generation without input, output and model")
    if told is None and is_failed:
        told = error_response(words)
    given = as_object(pick(record, "modelParameters", "model_parameters"))
    parameters = {key: unpacked(value) for key, value in given.items() if key not in ("messages", "model")}
    form = wire_form(asked, told, model=model, usage=_usage(record), parameters=parameters)
    metadata = as_object(record.get("metadata"))
    own = {"imported_from": LANGFUSE, "logged_cost_usd": pick(record, "totalCost", "total_cost", "calculatedTotalCost")}
    release = {"release": pick(record, "release"), "version": pick(record, "version")}
    started_us = time_us(pick(record, "startTime", "start_time"))
    first_us = time_us(pick(record, "completionStartTime", "completion_start_time"))
    return ImportedExchange(
        source_id=as_text(pick(record, "id")),
        protocol=form.protocol,
        path=form.path,
        request=form.request,
        response=form.response,
        started_us=started_us,
        ended_us=time_us(pick(record, "endTime", "end_time")),
        first_byte_us=max(0, first_us - started_us) if first_us and started_us else None,
        status=0 if is_failed else 200,
        error_message=words if is_failed else "",
        model_asked=model,
        model_served="" if is_failed else model,
        task=task_name(pick(record, "promptName", "prompt_name") or metadata.get("task") or _name(record)),
        user_name=as_text(pick(record, "userId", "user_id")),
        session_name=as_text(pick(record, "sessionId", "session_id")),
        environment=as_text(pick(record, "environment")),
        tags=tags(own, labels(as_list(pick(record, "tags", "traceTags", "trace_tags"))), release, _outer(metadata)),
        is_stream=form.is_stream or first_us is not None,
        has_content=has_content,
    )


def _is_trace(record: Mapping[str, Any]) -> bool:
    return "timestamp" in record and "type" not in record and ("sessionId" in record or "session_id" in record)


def _name(record: Mapping[str, Any]) -> Any:
    """The name of the trace, which is the app's own; that of the generation is often the tracing library's."""
    return pick(record, "traceName", "trace_name") or pick(record, "name")


def _usage(record: Mapping[str, Any]) -> LoggedUsage:
    """Langfuse counts tokens of a special kind (cached, audio) apart from `input` and `output`; `usage` is its older form."""
    details = as_object(pick(record, "usageDetails", "usage_details"))
    usage = as_object(record.get("usage"))
    cached = _first_count(details, "input_cached_tokens", "cache_read_input_tokens", "input_cache_read")
    written = _first_count(details, "cache_creation_input_tokens", "input_cache_creation")
    reasoning = _first_count(details, "output_reasoning_tokens", "output_reasoning", "reasoning_tokens")
    tokens_in = _sum(details, "input", "cache_read_input_tokens", "cache_creation_input_tokens")
    tokens_out = _sum(details, "output")
    if tokens_in is None and tokens_out is None:
        tokens_in = _first_count(details | usage, "prompt_tokens", "promptTokens", "input")
        tokens_out = _first_count(details | usage, "completion_tokens", "completionTokens", "output")
    if tokens_in is None and tokens_out is None:
        tokens_in = _first_count(record, "promptTokens", "inputUsage", "input_usage")
        tokens_out = _first_count(record, "completionTokens", "outputUsage", "output_usage")
    return LoggedUsage(tokens_in, tokens_out, cached, written, reasoning)


def _sum(details: Mapping[str, Any], start: str, *others: str) -> int | None:
    """The sum of the counts whose names begin with `start`, as Langfuse itself adds them up, and of `others`."""
    counts = [as_count(value) for name, value in details.items() if name.startswith(start) or name in others]
    known = [count for count in counts if count is not None]
    return sum(known) if known else None


def _first_count(given: Mapping[str, Any], *names: str) -> int | None:
    return next((count for name in names if (count := as_count(given.get(name))) is not None), None)


def _outer(metadata: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in metadata.items() if key not in _INNER and not isinstance(value, dict | list)}
