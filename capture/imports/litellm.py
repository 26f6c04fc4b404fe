"""LiteLLM: rows of the table LiteLLM_SpendLogs, as JSON, JSONL or CSV, or as `/spend/logs` gives them.

Prompts and answers are there only with `store_prompts_in_spend_logs`; the request then stands in `proxy_server_request`
(in `messages` with older versions). LiteLLM shortens long texts and says so in them; such exchanges are marked as cut.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from capture.imports.imported import LITELLM, ImportedExchange, LineError
from capture.imports.values import as_count, as_list, as_object, as_text, labels, pick, tags, task_name, time_us, unpacked
from capture.imports.wire import CHAT, COMPLETIONS, EMBEDDINGS, MESSAGES, RESPONSES, LoggedUsage, error_response, wire_form

_PATHS = {
    "completion": CHAT,
    "text_completion": COMPLETIONS,
    "embedding": EMBEDDINGS,
    "responses": RESPONSES,
    "anthropic_messages": MESSAGES,
}
_CUT = b"(litellm_truncated skipped "
_EMPTY: tuple[Any, ...] = (None, "", {}, [], "{}", "[]")


def recognise(record: Mapping[str, Any]) -> bool:
    """Whether `record` looks like a row of LiteLLM_SpendLogs."""
    return "request_id" in record and "startTime" in record and ("call_type" in record or "spend" in record)


def parse(record: Mapping[str, Any]) -> ImportedExchange:
    """The exchange in one row; LineError, not a bad one for rows about something else than asking a model."""
    call_type = as_text(record.get("call_type"))
    path = _path(call_type)
    if call_type and not path:
        raise LineError(f"a row about {call_type[:60]}, which asks no model", is_bad=False)
    metadata = as_object(record.get("metadata"))
    is_failed = as_text(record.get("status")) == "failure" or as_text(metadata.get("status")) == "failure"
    told = _given(record.get("response"))
    asked = _request(record)
    failure = as_object(metadata.get("error_information"))
    words = as_text(failure.get("error_message"))
    if told is None and is_failed:
        told = error_response(words, as_text(failure.get("error_class")))
    has_content = asked is not None or (told is not None and not is_failed)
    if has_content and told is None:
        raise LineError("has a request but no response")
    model = as_text(pick(record, "model", "model_group"))
    if not has_content and not model:
        raise LineError("has neither texts nor a model")
    form = wire_form(asked, told, model=model, usage=_usage(record, metadata), path="" if _is_odd(told, path) else path)
    started_us = time_us(record.get("startTime"))
    first_us = time_us(record.get("completionStartTime"))
    spend = {"logged_cost_usd": record.get("spend"), "key": pick(metadata, "user_api_key_alias"), "team": _team(metadata)}
    own = as_object(metadata.get("spend_logs_metadata")) | as_object(metadata.get("requester_metadata"))
    code = as_count(failure.get("error_code"))
    return ImportedExchange(
        source_id=as_text(record.get("request_id")),
        protocol=form.protocol,
        path=form.path,
        request=form.request,
        response=form.response,
        started_us=started_us,
        ended_us=time_us(record.get("endTime")),
        first_byte_us=max(0, first_us - started_us) if first_us and started_us and form.is_stream else None,
        status=(code if code is not None and 100 <= code < 600 else 0) if is_failed else 200,
        error_message=words,
        model_asked=as_text(pick(as_object(asked), "model")) or as_text(pick(record, "model_group")) or model,
        model_served="" if is_failed else model,
        task=task_name(own.get("task")),
        user_name=as_text(pick(record, "end_user", "user")),
        session_name=as_text(pick(record, "session_id")),
        environment=as_text(own.get("environment")),
        tags=tags({"imported_from": LITELLM}, spend, labels(as_list(record.get("request_tags"))), own),
        is_stream=form.is_stream,
        has_content=has_content,
        is_cut=_CUT in form.request or _CUT in form.response,
    )


def _path(call_type: str) -> str:
    """The address of a call by LiteLLM's name for it (`acompletion`, `aembedding`); '' when no model is asked."""
    name = call_type.rsplit("/", 1)[-1]
    return _PATHS.get(name) or _PATHS.get(name.removeprefix("a")) or (MESSAGES if name.endswith("anthropic_messages") else "")


def _is_odd(told: Any, path: str) -> bool:
    """LiteLLM may log an answer in OpenAI's words whatever the app spoke; then the answer's shape decides."""
    return path in (MESSAGES, RESPONSES) and isinstance(told, dict) and "choices" in told


def _request(record: Mapping[str, Any]) -> Any:
    request = _given(record.get("proxy_server_request"))
    if isinstance(request, dict):
        request = _given(request.get("body")) if isinstance(request.get("body"), dict) else request
        return {key: value for key, value in request.items() if key not in ("metadata", "litellm_metadata")} if request else None
    return _given(record.get("messages"))


def _given(value: Any) -> Any:
    """`value` unpacked; None where LiteLLM kept nothing."""
    if value in _EMPTY:
        return None
    found = unpacked(value)
    return None if found in _EMPTY else found


def _team(metadata: Mapping[str, Any]) -> Any:
    return pick(metadata, "user_api_key_team_alias", "user_api_key_team_id")


def _usage(record: Mapping[str, Any], metadata: Mapping[str, Any]) -> LoggedUsage:
    details = as_object(pick(metadata, "additional_usage_values", "usage_object"))
    cached = as_count(details.get("cache_read_input_tokens"))
    if cached is None:
        cached = as_count(as_object(details.get("prompt_tokens_details")).get("cached_tokens"))
    reasoning = as_count(as_object(details.get("completion_tokens_details")).get("reasoning_tokens"))
    written = as_count(details.get("cache_creation_input_tokens"))
    return LoggedUsage(
        as_count(record.get("prompt_tokens")), as_count(record.get("completion_tokens")), cached, written, reasoning
    )
