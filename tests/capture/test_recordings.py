"""What providers really sent: every exchange in the recorded cassettes is read, and what cannot be is counted."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capture import encoding, openai_chat, openai_plain, sse
from capture.assemble import CHAT, EMBEDDINGS, Assembled, assemble, form_of, input_hash, output_text, rebuild, state_of
from capture.loose_json import as_object, is_valid, parse
from capture.messages import ESTIMATED, MISSING, REPORTED, Message

FORMS = {"chat", "completions", "embeddings", "responses", "messages"}
HOSTS = (
    "openai.com", "anthropic.com", "azure.com", "groq.com", "openrouter.ai", "mistral.ai", "deepseek.com", "together.xyz", "x.ai",
    "cerebras.ai", "z.ai",
)  # fmt: skip
MARKS = [b'"\\ud83d', b"\\u0000", b"\0", b"\xff", b"[" * 5_000, b"9" * 400, b"NaN", b"1e999", b"null", b"{}"]
_FEW_UNREAD = 3


def assembled(item: Any, response: bytes | None = None) -> Assembled:
    body = item.response if response is None else response
    return assemble(item.protocol, item.path, item.is_stream, item.request, body, item.encoding, item.status)


def answered(recordings: list[Any]) -> list[tuple[Any, Assembled]]:
    """The 2xx that are an answer of a provider: not empty, not a page of something else."""
    read = [(item, assembled(item)) for item in recordings if 200 <= item.status < 300]
    return [(item, got) for item, got in read if state_of("complete", item.status, got) != "truncated"]


def value_of(item: Any) -> dict[str, Any]:
    try:
        return as_object(parse(encoding.decode(item.response, item.encoding).data))
    except ValueError:
        return {}


def test_the_recordings_hold_every_form_streamed_and_not(recordings: list[Any]) -> None:
    seen = {(form_of(item.protocol, item.path), item.is_stream) for item in recordings}
    assert seen == {(form, is_stream) for form in FORMS for is_stream in (False, True)} - {(EMBEDDINGS, True)}
    hosts = {item.host for item in recordings}
    assert [host for host in HOSTS if not any(known.split(":")[0].endswith(host) for known in hosts)] == []


def test_every_answer_is_whole_but_for_a_few_that_are_none(recordings: list[Any]) -> None:
    good = [item for item in recordings if 200 <= item.status < 300]
    unread = [item for item in good if state_of("complete", item.status, assembled(item)) == "truncated"]
    assert len(good) > 1_800
    assert len(unread) < _FEW_UNREAD, [(item.name, item.response[:80]) for item in unread]
    assert all(not item.response or not is_valid(item.response.decode()) for item in unread)


def test_nothing_of_what_providers_answered_is_unreadable(recordings: list[Any]) -> None:
    read = [(item, assembled(item)) for item in recordings if 200 <= item.status < 300]
    unread = [(item, got) for item, got in read if got.unread]
    assert len(unread) < _FEW_UNREAD, [(item.name, got.unread) for item, got in unread]
    assert all(state_of("complete", item.status, got) == "truncated" for item, got in unread)


def test_usage_is_reported_or_there_is_a_reason(recordings: list[Any]) -> None:
    sources = Counter[str]()
    for item, got in answered(recordings):
        sources[got.usage.source] += 1
        body = encoding.decode(item.response, item.encoding).data
        if got.usage.source == ESTIMATED:
            assert b'"completion_tokens":' not in body.replace(b": ", b":").replace(b'"completion_tokens":null', b""), item.name
        elif got.usage.source == MISSING:
            assert got.error_in_band or value_of(item).get("status") in ("queued", "in_progress"), item.name
        else:
            assert got.usage.tokens_cached + got.usage.tokens_cache_written <= (got.usage.tokens_in or 0), item.name
    assert sources[REPORTED] > 20 * sources[ESTIMATED] > 0


def test_every_answer_says_something_or_there_is_a_reason(recordings: list[Any]) -> None:
    silent = []
    for item, got in answered(recordings):
        answer = got.conversation.answer
        if got.form == EMBEDDINGS or got.error_in_band or value_of(item).get("status") in ("queued", "in_progress"):
            continue
        assert answer is not None, item.name
        # A model that thought until its limit, or was stopped by a filter, has said nothing.
        if not output_text(answer) and not answer.other_parts and got.finish_reason not in ("length", "content_filter"):
            silent.append(item.name)
        # Snowflake and Writer leave the reason away.
        assert got.finish_reason or "snowflake" in item.host or "writer" in item.host, item.name
    # Models that wanted a tool and were not allowed one ended without a word.
    assert len(silent) < 4 and all("choice_none" in name for name in silent)


def test_every_request_asks_something(recordings: list[Any]) -> None:
    for item, got in answered(recordings):
        is_template = "/prompts/" in item.path  # a prompt that Portkey keeps
        assert input_hash(got.conversation) or is_template, item.name


def test_tool_calls_are_whole(recordings: list[Any]) -> None:
    forms = Counter[str]()
    for item, got in answered(recordings):
        for call in (got.conversation.answer or Message("", "")).tool_calls:
            forms[got.form] += 1
            assert call.name, item.name
            body = encoding.decode(item.response, item.encoding).data
            assert call.id or b'"function_call"' in body, item.name  # the legacy ones have none
            assert call.is_complete, item.name
            assert call.is_custom or not call.arguments or isinstance(json.loads(call.arguments), dict), item.name
    assert min(forms[form] for form in ("chat", "responses", "messages")) > 50


def test_reasoning_is_found_in_every_form(recordings: list[Any]) -> None:
    found = Counter(got.form for _, got in answered(recordings) if got.conversation.answer and got.conversation.answer.reasoning)
    assert min(found[form] for form in ("chat", "responses", "messages")) > 10


def test_streams_cut_short_are_never_complete(recordings: list[Any]) -> None:
    streams = [item for item in recordings if item.status == 200 and item.is_stream and not item.encoding]
    assert len(streams) > 300
    for item in streams[::4]:
        for cut in range(0, len(item.response) * 3 // 4, max(1, len(item.response) // 8)):
            got = assembled(item, item.response[:cut])
            assert state_of("complete", 200, got) in ("truncated", "error_in_band"), (item.name, cut)


def test_a_rebuilt_answer_reads_like_the_recorded_one(recordings: list[Any]) -> None:
    for item, got in answered(recordings):
        answer = got.conversation.answer
        if answer is None or got.error_in_band or set(answer.other_parts) - {"refusal"}:
            continue
        again = assemble(item.protocol, item.path, item.is_stream, item.request, rebuild(got), "", 200)
        assert again.conversation == got.conversation, item.name
        assert again.usage == got.usage, item.name


def test_plain_chats_are_read_alike_by_both_readers(recordings: list[Any]) -> None:
    streams = plain = 0
    for item in recordings:
        if form_of(item.protocol, item.path) != CHAT or not 200 <= item.status < 300:
            continue
        asked = openai_plain.asked(item.request)
        assert asked is None or asked == openai_chat.asked(parse(item.request)), item.name
        body = encoding.decode(item.response, item.encoding).data
        if not sse.looks_like_events(body):
            whole = openai_plain.read_whole(body)
            assert whole is None or whole == openai_chat.read_whole(parse(body)), item.name
            continue
        streams += 1
        read = openai_plain.read_events(body)
        plain += read is not None
        assert read is None or read == openai_chat.read_events(sse.parse_events(body)), item.name
    assert plain > streams // 2


@pytest.mark.parametrize("form", sorted(FORMS))
@given(data=st.data())
def test_damaged_recordings_are_read_as_far_as_possible(recordings: list[Any], form: str, data: st.DataObject) -> None:
    items = [item for item in recordings if form_of(item.protocol, item.path) == form and len(item.response) < 20_000]
    item = data.draw(st.sampled_from(items))
    bodies = [item.request, encoding.decode(item.response, item.encoding).data]
    for side, body in enumerate(bodies):
        at = data.draw(st.integers(0, len(body)))
        removed = data.draw(st.integers(0, 40))
        marks = st.sampled_from(
            [b'"\\ud83d', b"\\u0000", b"\0", b"\xff", b"[" * 5_000, b"9" * 400, b"NaN", b"1e999", b"null", b"{}"]
        )
        bodies[side] = body[:at] + data.draw(marks | st.binary(max_size=20)) + body[at + removed :]
    got = assemble(item.protocol, item.path, item.is_stream, bodies[0], bodies[1], "", item.status)
    input_hash(got.conversation).encode()
    output_text(got.conversation.answer).encode()
    rebuild(got).decode()
