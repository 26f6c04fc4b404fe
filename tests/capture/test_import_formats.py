"""Each format's parser on lines as its product writes them, and on anything else."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capture import ids
from capture.derive import derive
from capture.imports import formats, helicone, langfuse, litellm, openai_jsonl
from capture.imports.imported import FORMATS, HELICONE, LANGFUSE, LITELLM, OPENAI_JSONL, ImportedExchange, LineError
from capture.imports.spooled import raw_id, to_spooled
from capture.pricing import PriceTable

CHAT = {"model": "gpt-4o", "messages": [{"role": "user", "content": "Where is my parcel?"}], "temperature": 0.2}
ANSWER = {
    "id": "chatcmpl-9",
    "object": "chat.completion",
    "created": 1_716_990_379,
    "model": "gpt-4o-2024-08-06",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "On its way."}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 12, "completion_tokens": 4, "total_tokens": 16},
}
CLAUDE = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "claude-sonnet-4",
    "content": [{"type": "text", "text": "On its way."}],
    "stop_reason": "end_turn",
    "usage": {"input_tokens": 11, "output_tokens": 5},
}

UI_OBSERVATION: dict[str, Any] = {
    "id": "obs-1",
    "traceId": "trace-1",
    "projectId": "p1",
    "environment": "production",
    "type": "GENERATION",
    "startTime": "2024-05-29T13:46:19.963Z",
    "endTime": "2024-05-29T13:46:20.963Z",
    "completionStartTime": "2024-05-29T13:46:20.163Z",
    "name": "OpenAI-generation",
    "traceName": "answer a ticket",
    "traceTags": ["beta", "team:search"],
    "userId": "u17",
    "sessionId": "s3",
    "level": "DEFAULT",
    "statusMessage": None,
    "model": "gpt-4o",
    "modelParameters": {"temperature": 0.2},
    "input": [{"role": "system", "content": "Be short."}, {"role": "user", "content": "Where is my parcel?"}],
    "output": {"role": "assistant", "content": "On its way."},
    "usageDetails": {"input": 10, "input_cached_tokens": 2, "output": 4, "total": 16},
    "totalCost": 0.00012,
    "metadata": {"region": "eu"},
    "promptName": None,
}
BLOB_OBSERVATION: dict[str, Any] = {
    "id": "obs-2",
    "trace_id": "trace-1",
    "project_id": "p1",
    "environment": "default",
    "type": "GENERATION",
    "start_time": "2024-05-29 13:46:19.963000",
    "end_time": "2024-05-29 13:46:21.000000",
    "name": "call",
    "trace_name": "triage",
    "user_id": "u18",
    "session_id": "",
    "level": "DEFAULT",
    "status_message": "",
    "provided_model_name": "gpt-4o",
    "model_parameters": '{"temperature":0.7}',
    "input": '[{"role":"user","content":"Which label?"}]',
    "output": '{"label": "spam", "content": "no"}',
    "usage_details": {"input": 10, "output": 4, "total": 14},
    "metadata": {},
}
HELICONE_ROW: dict[str, Any] = {
    "response_id": "r-1",
    "response_created_at": "2024-05-29 13:46:21.000",
    "response_body": ANSWER,
    "response_status": 200,
    "response_model": "gpt-4o-2024-08-06",
    "request_id": "q-1",
    "request_created_at": "2024-05-29 13:46:19.963",
    "request_body": CHAT,
    "request_path": "https://api.openai.com/v1/chat/completions",
    "request_user_id": "u17",
    "request_properties": {"Helicone-Session-Id": "s3", "environment": "staging", "feature": "tickets"},
    "request_model": "gpt-4o",
    "provider": "OPENAI",
    "delay_ms": 812,
    "time_to_first_token": 120,
    "prompt_tokens": 12,
    "completion_tokens": 4,
    "prompt_id": "triage",
    "costUSD": 0.0002,
}
SPEND_ROW: dict[str, Any] = {
    "request_id": "chatcmpl-7",
    "call_type": "acompletion",
    "api_key": "88dc28d0f030c55ed4ab77ed8faf098196cb1c05df778539800c9f1243fe6b4b",
    "spend": 0.0002,
    "total_tokens": 16,
    "prompt_tokens": 12,
    "completion_tokens": 4,
    "startTime": "2024-05-29T13:46:19.963000Z",
    "endTime": "2024-05-29T13:46:20.500000Z",
    "completionStartTime": "2024-05-29T13:46:20.500000Z",
    "model": "gpt-4o",
    "model_group": "fast",
    "metadata": {"status": "success", "spend_logs_metadata": {"task": "triage", "team": "search"}},
    "request_tags": '["beta","User-Agent:curl"]',
    "end_user": "u17",
    "session_id": "s3",
    "status": "success",
    "messages": "{}",
    "response": ANSWER,
    "proxy_server_request": {**CHAT, "metadata": {"internal": True}},
}


def no_request(_custom_id: str) -> None:
    return None


def parse(record: dict[str, Any], format: str = "") -> ImportedExchange:
    return formats.parse(format or formats.detect(record), record, no_request)


def loads(body: bytes) -> Any:
    return json.loads(body)


def said(imported: ImportedExchange) -> Any:
    return loads(imported.response)["choices"][0]["message"]["content"]


@pytest.mark.parametrize(
    ("record", "format"),
    [
        (UI_OBSERVATION, LANGFUSE),
        (BLOB_OBSERVATION, LANGFUSE),
        (HELICONE_ROW, HELICONE),
        (SPEND_ROW, LITELLM),
        ({"request": CHAT, "response": ANSWER}, OPENAI_JSONL),
        ({"messages": CHAT["messages"]}, OPENAI_JSONL),
        ({"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": CHAT}, OPENAI_JSONL),
        ({"id": "b", "custom_id": "a", "response": {"status_code": 200, "body": ANSWER}, "error": None}, OPENAI_JSONL),
        ({"prompt": "Say hi ->", "completion": " hi"}, OPENAI_JSONL),
        ({"name": "Ada", "age": 36}, ""),
    ],
)
def test_a_format_is_known_by_its_fields(record: dict[str, Any], format: str) -> None:
    assert formats.detect(record) == format


def test_a_pair_keeps_both_bodies_and_what_stands_beside_them() -> None:
    record = {
        "id": "call-1",
        "timestamp": "2024-05-29T13:46:19.963Z",
        "latency_ms": 812,
        "request": CHAT,
        "response": ANSWER,
        "metadata": {"task": "triage", "Feature Flag": "on", "depth": 3},
        "user_id": "u17",
    }
    found = parse(record)
    assert (loads(found.request), loads(found.response)) == (CHAT, ANSWER)
    assert (found.protocol, found.path, found.status) == ("openai", "/v1/chat/completions", 200)
    assert found.started_us == 1_716_990_379_963_000
    assert found.ended_us == found.started_us + 812_000
    assert (found.source_id, found.task, found.user_name) == ("call-1", "triage", "u17")
    assert found.tags == {"imported_from": "openai-jsonl", "task": "triage", "feature-flag": "on", "depth": "3"}


def test_a_pair_of_anthropic_is_one_of_anthropic() -> None:
    asked = {"model": "claude-sonnet-4", "max_tokens": 10, "system": "Be short.", "messages": CHAT["messages"]}
    found = parse({"request": asked, "response": CLAUDE})
    assert (found.protocol, found.path) == ("anthropic", "/v1/messages")
    assert loads(found.request) == asked


def test_a_pair_without_time_takes_the_time_of_its_answer() -> None:
    assert parse({"request": CHAT, "response": ANSWER}).started_us == 1_716_990_379_000_000


def test_a_pair_that_failed_is_no_success() -> None:
    found = parse({"request": CHAT, "error": {"message": "timed out"}})
    assert (found.status, found.error_message) == (0, "timed out")
    told = {"error": {"message": "slow down", "type": "rate_limit"}}
    assert parse({"request": CHAT, "response": told, "status_code": 429}).status == 429


def test_a_fine_tuning_line_ends_with_its_answer() -> None:
    tools = [{"type": "function", "function": {"name": "find", "parameters": {}}}]
    call = {"id": "c1", "type": "function", "function": {"name": "find", "arguments": '{"n":1}'}}
    last = {"role": "assistant", "tool_calls": [call], "weight": 1}
    asked: list[Any] = [{"role": "user", "content": "Find it"}]
    found = parse({"messages": [*asked, last], "tools": tools})
    assert loads(found.request) == {"tools": tools, "messages": asked}
    assert loads(found.response)["choices"][0]["message"] == {"role": "assistant", "tool_calls": [call]}
    assert found.started_us is None


def test_a_fine_tuning_line_without_answer_says_so() -> None:
    with pytest.raises(LineError, match="role user, not with an answer"):
        parse({"messages": CHAT["messages"]})


def test_a_legacy_line_becomes_a_completion() -> None:
    found = parse({"prompt": "Say hi ->", "completion": " hi"})
    assert found.path == "/v1/completions"
    assert loads(found.request)["prompt"] == "Say hi ->"
    assert loads(found.response)["choices"][0]["text"] == " hi"


def test_a_batch_answer_finds_its_request() -> None:
    record = {"id": "batch_req_1", "custom_id": "a", "response": {"status_code": 200, "body": ANSWER}, "error": None}
    found = openai_jsonl.parse(record, lambda custom_id: (CHAT, "/v1/chat/completions") if custom_id == "a" else None)
    assert (loads(found.request), loads(found.response), found.source_id) == (CHAT, ANSWER, "batch_req_1")
    with pytest.raises(LineError, match="name the batch's input file too"):
        openai_jsonl.parse(record, no_request)


def test_a_batch_request_that_was_never_answered_is_no_bad_line() -> None:
    record = {"id": "b", "custom_id": "a", "response": None, "error": {"code": "batch_expired", "message": "too late"}}
    with pytest.raises(LineError, match="too late") as found:
        parse(record)
    assert not found.value.is_bad


def test_a_generation_of_langfuse_is_an_exchange() -> None:
    found = parse(UI_OBSERVATION)
    asked = loads(found.request)
    assert asked == {"temperature": 0.2, "model": "gpt-4o", "messages": UI_OBSERVATION["input"]}
    assert said(found) == "On its way."
    usage = loads(found.response)["usage"]
    assert usage == {"prompt_tokens": 12, "completion_tokens": 4, "prompt_tokens_details": {"cached_tokens": 2}}
    assert found.started_us == 1_716_990_379_963_000
    assert (found.ended_us, found.first_byte_us) == (found.started_us + 1_000_000, 200_000)
    assert (found.task, found.user_name, found.session_name) == ("answer-a-ticket", "u17", "s3")
    assert found.environment == "production"
    assert found.tags["team"] == "search" and found.tags["beta"] == "true" and found.tags["region"] == "eu"
    assert found.tags["logged_cost_usd"] == "0.00012"


def test_a_row_of_langfuses_blob_export_is_an_exchange_whose_answer_stays_text() -> None:
    found = parse(BLOB_OBSERVATION)
    assert loads(found.request)["messages"] == [{"role": "user", "content": "Which label?"}]
    assert loads(found.request)["temperature"] == 0.7
    assert said(found) == BLOB_OBSERVATION["output"]
    assert (found.task, found.user_name, found.model_asked) == ("triage", "u18", "gpt-4o")


def test_tokens_of_every_kind_are_added_up_as_langfuse_does() -> None:
    details = {"input": 10, "input_audio_tokens": 3, "cache_read_input_tokens": 2, "output": 4, "output_reasoning_tokens": 6}
    usage = loads(parse({**UI_OBSERVATION, "usageDetails": details}).response)["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"]) == (15, 10)
    assert usage["completion_tokens_details"] == {"reasoning_tokens": 6}


def test_a_row_of_langfuses_older_csv_is_an_exchange() -> None:
    asked = json.dumps([{"role": "user", "content": "Where?"}])
    row = {"id": "g", "name": "OpenAI-generation", "traceId": "t", "traceName": "triage", "startTime": "2024-05-29T13:46:19.963Z"}
    row |= {
        "endTime": "2024-05-29T13:46:20.963Z",
        "latency": "1.00s",
        "level": "DEFAULT",
        "model": "gpt-4o",
        "promptTokens": "12",
    }
    row |= {
        "completionTokens": "4",
        "input": asked,
        "output": '{"role":"assistant","content":"Here."}',
        "metadata": "",
        "scores": "{}",
    }
    found = parse(row)
    assert (said(found), found.task) == ("Here.", "triage")
    assert loads(found.response)["usage"] == {"prompt_tokens": 12, "completion_tokens": 4}
    assert (found.ended_us or 0) - (found.started_us or 0) == 1_000_000


def test_a_failed_generation_has_no_http_status_but_its_words() -> None:
    found = parse({**UI_OBSERVATION, "output": None, "level": "ERROR", "statusMessage": "rate limited"})
    assert (found.status, found.error_message) == (0, "rate limited")


@pytest.mark.parametrize("kind", ["SPAN", "EVENT", "TOOL", "AGENT"])
def test_other_observations_are_skipped_and_not_bad(kind: str) -> None:
    with pytest.raises(LineError, match=kind) as found:
        parse({**UI_OBSERVATION, "type": kind})
    assert not found.value.is_bad


def test_langchains_messages_become_openais() -> None:
    call = {"name": "find", "args": {"n": 1}, "id": "c1"}
    asked = [[{"type": "human", "content": "Find it"}, {"role": "ai", "content": "", "tool_calls": [call]}]]
    found = parse({**UI_OBSERVATION, "input": asked, "output": [{"type": "ai", "content": "Found."}]})
    messages = loads(found.request)["messages"]
    assert [message["role"] for message in messages] == ["user", "assistant"]
    assert messages[1]["tool_calls"][0]["function"] == {"name": "find", "arguments": '{"n":1}'}
    assert said(found) == "Found."


def test_a_generation_without_texts_keeps_its_figures_only() -> None:
    found = parse({**UI_OBSERVATION, "input": None, "output": None})
    assert not found.has_content
    assert loads(found.response)["usage"]["prompt_tokens"] == 12


def test_a_row_of_helicone_is_an_exchange() -> None:
    found = parse(HELICONE_ROW)
    assert (loads(found.request), loads(found.response)) == (CHAT, ANSWER)
    assert (found.task, found.user_name, found.session_name, found.environment) == ("triage", "u17", "s3", "staging")
    assert (found.ended_us or 0) - (found.started_us or 0) == 812_000
    assert found.first_byte_us == 120_000
    assert found.tags == {
        "imported_from": "helicone",
        "logged_cost_usd": "0.0002",
        "environment": "staging",
        "feature": "tickets",
    }


def test_a_row_of_helicones_csv_has_its_quotes_doubled_once_too_often() -> None:
    packed = json.dumps(CHAT).replace('"', '""')
    found = parse({**HELICONE_ROW, "request_body": packed, "response_body": json.dumps(ANSWER), "response_status": "200"})
    assert loads(found.request) == CHAT


def test_a_row_of_helicone_without_answer_says_how_to_export_it() -> None:
    row = {key: value for key, value in HELICONE_ROW.items() if key != "response_body"}
    with pytest.raises(LineError, match="--include-body"):
        parse(row)


def test_a_row_of_litellm_is_an_exchange() -> None:
    found = parse(SPEND_ROW)
    assert (loads(found.request), loads(found.response)) == (CHAT, ANSWER)
    assert (found.task, found.user_name, found.session_name) == ("triage", "u17", "s3")
    assert (found.ended_us or 0) - (found.started_us or 0) == 537_000
    assert found.tags["beta"] == "true" and found.tags["team"] == "search"
    assert found.tags["imported_from"] == "litellm"
    assert found.has_content and not found.is_cut


def test_a_row_of_litellm_without_texts_keeps_its_figures_only() -> None:
    found = parse({**SPEND_ROW, "response": "{}", "proxy_server_request": "{}", "metadata": "{}"})
    assert not found.has_content
    assert loads(found.response)["usage"] == {"prompt_tokens": 12, "completion_tokens": 4}


def test_a_row_of_an_older_litellm_has_its_request_in_messages() -> None:
    row = {key: value for key, value in SPEND_ROW.items() if key != "proxy_server_request"}
    found = parse({**row, "messages": json.dumps(CHAT["messages"])})
    assert loads(found.request) == {"model": "gpt-4o", "messages": CHAT["messages"]}


def test_a_failed_row_of_litellm_keeps_status_and_words() -> None:
    failure = {"error_code": "429", "error_message": "slow down", "error_class": "RateLimitError"}
    metadata = json.dumps({"status": "failure", "error_information": failure})
    found = parse({**SPEND_ROW, "status": "failure", "response": "{}", "metadata": metadata})
    assert found.status == 429
    assert loads(found.response)["error"]["message"] == "slow down"


def test_texts_that_litellm_shortened_are_marked_as_cut() -> None:
    answer = json.dumps(ANSWER).replace("On its way.", "On ... (litellm_truncated skipped 900 chars. See docs) ... way.")
    assert parse({**SPEND_ROW, "response": answer}).is_cut


def test_rows_about_other_things_than_models_are_skipped() -> None:
    with pytest.raises(LineError, match="health") as found:
        parse({**SPEND_ROW, "call_type": "/health"})
    assert not found.value.is_bad


def test_an_id_shows_the_original_time_and_is_the_same_every_time() -> None:
    one, same = parse(SPEND_ROW), parse(json.loads(json.dumps(SPEND_ROW)))
    raw = raw_id(LITELLM, one)
    assert raw == raw_id(LITELLM, same)
    assert int.from_bytes(raw[:6], "big") * 1000 == one.started_us
    assert (raw[6] >> 4, raw[8] >> 6) == (7, 2)
    assert raw != raw_id(LITELLM, parse({**SPEND_ROW, "request_id": "another"}))
    assert raw != raw_id(HELICONE, one)


def test_the_records_name_the_source_and_the_task_that_was_asked_for() -> None:
    spooled = to_spooled(LITELLM, parse(SPEND_ROW), task="other", fallback_us=7)
    assert spooled.id == ids.format_id("ex", raw_id(LITELLM, parse(SPEND_ROW)))
    assert (spooled.begin.task, spooled.begin.upstream, spooled.begin.purpose) == ("other", "import:litellm", "app")
    assert (spooled.begin.unit, spooled.begin.unit_source) == ("u17", "user")
    assert spooled.end is not None and spooled.end.latency_us == 537_000
    assert spooled.ended_us - spooled.started_us == 537_000


anything: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)
names = sorted(
    {*UI_OBSERVATION, *BLOB_OBSERVATION, *HELICONE_ROW, *SPEND_ROW, "request", "messages", "custom_id", "body", "prompt"}
)
records = st.one_of(
    st.dictionaries(st.sampled_from(names), anything, max_size=12),
    st.sampled_from([UI_OBSERVATION, BLOB_OBSERVATION, HELICONE_ROW, SPEND_ROW]).flatmap(
        lambda whole: st.dictionaries(st.sampled_from(sorted(whole)), anything, max_size=4).map(lambda other: {**whole, **other})
    ),
    st.fixed_dictionaries({"request": anything, "response": anything, "metadata": anything, "timestamp": anything}),
    st.fixed_dictionaries({"messages": anything, "tools": anything}),
    st.fixed_dictionaries({"custom_id": anything, "response": anything, "error": anything}),
)


@settings(max_examples=300, deadline=None)
@given(record=records, format=st.sampled_from(FORMATS))
def test_whatever_a_line_holds_it_gives_an_exchange_or_a_reason(record: dict[str, Any], format: str) -> None:
    formats.detect(record)
    try:
        found = formats.parse(format, record, lambda _: (CHAT, "/v1/chat/completions"))
    except LineError as error:
        assert error.reason
        return
    spooled = to_spooled(format, found, task="", fallback_us=1)
    assert len(spooled.begin.tags) <= 64 and spooled.ended_us >= spooled.started_us
    assert spooled.begin.tags["imported_from"] in FORMATS
    assert derive(spooled, PriceTable({})).exchange.id == spooled.id


@pytest.mark.parametrize("module", [helicone, langfuse, litellm])
def test_an_empty_record_is_a_reason(module: Any) -> None:
    with pytest.raises(LineError):
        module.parse({})
