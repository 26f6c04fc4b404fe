"""Helicone: rows of its export tool (`npx @helicone/export`, JSONL, JSON or CSV) and of its request query API.

Fields: https://docs.helicone.ai/rest/request/post-v1requestquery-clickhouse; bodies are there with `--include-body` only, and the
export tool's CSV has no column for the answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from capture.imports.imported import HELICONE, ImportedExchange, LineError
from capture.imports.values import as_count, as_number, as_object, as_text, pick, tags, task_name, time_us, unpacked
from capture.imports.wire import LoggedUsage, error_response, wire_form

_OWN_PROPERTIES = {
    "helicone-session-id": "session",
    "helicone-session-path": "",
    "helicone-session-name": "",
    "helicone-prompt-id": "task",
    "helicone-user-id": "user",
}
_SUCCESS_WITHOUT_STATUS = 200


def recognise(record: Mapping[str, Any]) -> bool:
    """Whether `record` looks like a request in Helicone's words."""
    return "request_created_at" in record and any(
        name in record for name in ("request_body", "response_status", "request_id", "request_properties")
    )


def parse(record: Mapping[str, Any]) -> ImportedExchange:
    """The exchange in one row; LineError."""
    asked, told = unpacked(pick(record, "request_body")), unpacked(pick(record, "response_body"))
    asked, told = _without_reference(asked), _without_reference(told)
    if isinstance(told, dict) and isinstance(told.get("streamed_data"), str) and told["streamed_data"]:
        told = told["streamed_data"]
    model = as_text(pick(record, "request_model", "model_override", "model", "response_model"))
    status = _status(record)
    if asked is None and told is None and not model:
        raise LineError("has neither bodies nor a model")
    if asked is not None and told is None and not _is_success(status):
        told = error_response(f"The answer with status {status} is not in the log.")
    if asked is not None and told is None and "response_body" not in record:
        raise LineError("has no response_body; export as JSONL with --include-body, the CSV export leaves answers out")
    if asked is not None and told is None:
        raise LineError("its response_body is empty; export with --include-body")
    properties, own = _properties(record)
    form = wire_form(asked, told, model=model, usage=_usage(record), path=as_text(record.get("request_path")))
    started_us = time_us(pick(record, "request_created_at"))
    first_ms = as_number(pick(record, "time_to_first_token"))
    mine = {"imported_from": HELICONE, "logged_cost_usd": pick(record, "cost_usd", "costUSD")}
    return ImportedExchange(
        source_id=as_text(pick(record, "request_id", "response_id")),
        protocol=form.protocol,
        path=form.path,
        request=form.request,
        response=form.response,
        started_us=started_us,
        ended_us=_ended_us(record, started_us),
        first_byte_us=None if first_ms is None else round(first_ms * 1000),
        status=status,
        model_asked=as_text(pick(as_object(asked), "model")) or model,
        model_served=as_text(pick(record, "response_model")),
        task=task_name(own.get("task") or pick(record, "prompt_id") or properties.get("task")),
        user_name=as_text(pick(record, "request_user_id", "user_id") or own.get("user")),
        session_name=as_text(own.get("session")),
        environment=as_text(properties.get("environment")),
        tags=tags(mine, properties),
        is_stream=form.is_stream,
        has_content=asked is not None or told is not None,
    )


def _without_reference(body: Any) -> Any:
    """None for what stands where a body was not exported: nothing, {} or a note of Helicone's."""
    if body in ({}, [], "") or (isinstance(body, dict) and set(body) <= {"heliconeMessage", "helicone_message"}):
        return None
    return body


def _status(record: Mapping[str, Any]) -> int:
    """Helicone writes negative numbers for requests that it ended itself; those have no HTTP status."""
    value = record.get("response_status")
    if value is None or value == "":
        return _SUCCESS_WITHOUT_STATUS
    found = as_count(value)
    return found if found is not None and found < 1000 else 0


def _is_success(status: int) -> bool:
    return 200 <= status < 300


def _properties(record: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The app's own properties, and those by which Helicone knows user, session and prompt."""
    given = as_object(pick(record, "request_properties", "properties"))
    own = {_OWN_PROPERTIES[key.lower()]: value for key, value in given.items() if key.lower() in _OWN_PROPERTIES}
    return {key: value for key, value in given.items() if key.lower() not in _OWN_PROPERTIES}, own


def _ended_us(record: Mapping[str, Any], started_us: int | None) -> int | None:
    delay_ms = as_number(pick(record, "delay_ms", "latency"))
    if started_us is not None and delay_ms is not None:
        return started_us + round(delay_ms * 1000)
    return time_us(pick(record, "response_created_at"))


def _usage(record: Mapping[str, Any]) -> LoggedUsage:
    return LoggedUsage(
        as_count(record.get("prompt_tokens")),
        as_count(record.get("completion_tokens")),
        as_count(record.get("prompt_cache_read_tokens")),
        as_count(record.get("prompt_cache_write_tokens")),
        as_count(record.get("reasoning_tokens")),
    )
