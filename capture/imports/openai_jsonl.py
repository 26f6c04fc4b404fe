"""OpenAI-style files: logged pairs, fine-tuning lines, and the input and output of the batch API.

Formats: https://platform.openai.com/docs/guides/fine-tuning and https://platform.openai.com/docs/guides/batch (a line of
a batch's output names its request by `custom_id` only, so `find_request` must know the lines of the input).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from capture.imports.imported import OPENAI_JSONL, ImportedExchange, LineError
from capture.imports.values import as_count, as_number, as_object, as_text, labels, pick, tags, task_name, time_us
from capture.imports.wire import CHAT, COMPLETIONS, LoggedUsage, WireForm, as_request, error_response, is_message, wire_form
from capture.loose_json import as_list

FindRequest = Callable[[str], tuple[dict[str, Any], str] | None]
"""Body and address of the batch request with this custom_id; None when it is not known."""


def recognise(record: Mapping[str, Any]) -> bool:
    """Whether `record` looks like a line of such a file."""
    if "custom_id" in record:
        return "body" in record or "response" in record or "error" in record
    is_pair = "request" in record and ("response" in record or "error" in record)
    is_legacy = isinstance(record.get("prompt"), str) and "completion" in record
    return is_pair or is_legacy or isinstance(record.get("messages"), list)


def is_batch_request(record: Mapping[str, Any]) -> bool:
    """Whether `record` is a line of a batch's input."""
    return "custom_id" in record and "body" in record and "response" not in record


def parse(record: Mapping[str, Any], find_request: FindRequest) -> ImportedExchange:
    """The exchange in one line; LineError."""
    if is_batch_request(record):
        raise LineError("a request of a batch; it is stored with its answer", is_bad=False)
    if "custom_id" in record:
        return _batch_answer(record, find_request)
    if "request" in record:
        return _pair(record)
    if isinstance(record.get("messages"), list):
        return _fine_tuning(record)
    if "prompt" in record and "completion" in record:
        return _legacy(record)
    raise LineError(
        f"has neither request and response, nor messages, nor custom_id, but {', '.join(list(record)[:6]) or 'nothing'}"
    )


def _batch_answer(record: Mapping[str, Any], find_request: FindRequest) -> ImportedExchange:
    custom_id = as_text(record["custom_id"])
    response = as_object(record.get("response"))
    told = as_object(response.get("body"))
    if not told:
        reason = as_text(as_object(record.get("error")).get("message")) or "the batch gave it no answer"
        raise LineError(f"{custom_id} was never answered: {reason}", is_bad=False)
    found = find_request(custom_id)
    if found is None:
        raise LineError(f"the request {custom_id} is not in the files given; name the batch's input file too")
    asked, path = found
    form = wire_form(asked, told, model=as_text(asked.get("model")), usage=LoggedUsage(), path=path)
    status = as_count(response.get("status_code"))
    return _exchange(record, form, asked, told, status=200 if status is None else status, metadata=asked.get("metadata"))


def _pair(record: Mapping[str, Any]) -> ImportedExchange:
    asked, told = record["request"], record.get("response")
    inner = as_object(asked)
    path = as_text(pick(inner, "url", "path")) or as_text(pick(record, "path", "url", "endpoint"))
    if isinstance(inner.get("body"), dict | str) and "messages" not in inner:
        asked = as_object(inner["body"])
    status = as_count(pick(record, "status", "status_code"))
    outer = as_object(told)
    if "body" in outer and "choices" not in outer:
        told, status = outer["body"], status if status is not None else as_count(pick(outer, "status", "status_code"))
    error = record.get("error")
    if told is None and error:
        told = error_response(as_text(as_object(error).get("message") or error))
        status = status or 0
    if told is None:
        raise LineError("has no response")
    model = as_text(pick(as_object(asked), "model")) or as_text(pick(record, "model"))
    form = wire_form(asked, told, model=model, usage=_usage(record), path=path)
    if not form.request:
        raise LineError("has an empty request")
    told_object = as_object(told)
    if status is None:
        status = 0 if told_object.get("error") and "choices" not in told_object else 200
    return _exchange(record, form, as_object(asked), told_object, status=status, metadata=record.get("metadata"))


def _fine_tuning(record: Mapping[str, Any]) -> ImportedExchange:
    messages = record["messages"]
    if not messages or not all(map(is_message, messages)):
        raise LineError("its messages are not a list of messages with role and content")
    if messages[-1].get("role") not in ("assistant", "model"):
        raise LineError(f"ends with a message of role {as_text(messages[-1].get('role'))}, not with an answer")
    asked = {key: record[key] for key in ("model", "tools", "functions", "parallel_tool_calls") if key in record}
    asked["messages"] = messages[:-1]
    answer = {key: value for key, value in messages[-1].items() if key != "weight"}
    form = wire_form(asked, answer, model=as_text(record.get("model")), usage=_usage(record), path=CHAT)
    return _exchange(record, form, asked, {}, status=200, metadata=record.get("metadata"))


def _legacy(record: Mapping[str, Any]) -> ImportedExchange:
    asked = as_request({"model": as_text(record.get("model")), "prompt": record["prompt"]}, "")
    choice = {"index": 0, "text": as_text_whole(record["completion"]), "finish_reason": None}
    told = {"object": "text_completion", "choices": [choice]}
    form = wire_form(asked, told, model=as_text(record.get("model")), usage=_usage(record), path=COMPLETIONS)
    return _exchange(record, form, asked, {}, status=200, metadata=record.get("metadata"))


def as_text_whole(value: Any) -> str:
    """`value` when it is a text, of any length."""
    if not isinstance(value, str):
        raise LineError("its completion is not a text")
    return value


def _exchange(
    record: Mapping[str, Any], form: WireForm, asked: Mapping[str, Any], told: Mapping[str, Any], *, status: int, metadata: Any
) -> ImportedExchange:
    given = as_object(metadata)
    started_us = time_us(pick(record, "started_at", "start_time", "timestamp", "created_at", "time", "created", "date"))
    started_us = started_us or time_us(pick(told, "created", "created_at"))
    ended_us = time_us(pick(record, "ended_at", "end_time", "completed_at", "finished_at"))
    latency_ms = as_number(pick(record, "latency_ms", "duration_ms"))
    if ended_us is None and started_us is not None and latency_ms is not None:
        ended_us = started_us + round(latency_ms * 1000)
    label = record.get("tags")
    own_tags = as_object(label) or labels(as_list(label))
    return ImportedExchange(
        source_id=as_text(pick(record, "id", "request_id", "custom_id")) or as_text(told.get("id")),
        protocol=form.protocol,
        path=form.path,
        request=form.request,
        response=form.response,
        started_us=started_us,
        ended_us=ended_us,
        status=status,
        error_message="" if status else as_text(as_object(told.get("error")).get("message") or record.get("error")),
        model_asked=as_text(asked.get("model")) or as_text(record.get("model")),
        model_served=as_text(told.get("model")),
        task=task_name(pick(record, "task") or given.get("task")),
        user_name=as_text(pick(record, "user", "user_id") or asked.get("user") or given.get("user_id")),
        session_name=as_text(pick(record, "session", "session_id") or given.get("session_id")),
        environment=as_text(pick(record, "environment")),
        tags=tags({"imported_from": OPENAI_JSONL}, own_tags, given),
        is_stream=form.is_stream,
    )


def _usage(record: Mapping[str, Any]) -> LoggedUsage:
    given = as_object(record.get("usage"))
    return LoggedUsage(
        as_count(pick(given, "prompt_tokens", "input_tokens") or pick(record, "prompt_tokens", "input_tokens", "tokens_in")),
        as_count(
            pick(given, "completion_tokens", "output_tokens") or pick(record, "completion_tokens", "output_tokens", "tokens_out")
        ),
    )
