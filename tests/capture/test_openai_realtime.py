"""A session over a WebSocket reads like the chat that it was: turns, last answer, summed usage, and whether it is whole."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capture import feed, ids
from capture.assemble import OPENAI, Assembled, assemble, output_text, rebuild, searched_text, state_of
from capture.database import Database
from capture.exchange import CLIENT_CLOSED, COMPLETE, ERROR_IN_BAND, INTERRUPTED, TRUNCATED, UPSTREAM_ABORTED
from capture.filters import parse_filter
from capture.messages import ESTIMATED, MISSING, REPORTED, Message, ToolCall
from capture.records import Begin, End, Head
from capture.spool import SpoolWriter
from capture.transcript import CLIENT, SERVER, SWITCHED, write_close, write_message
from capture.verify import verify
from tests.capture.planting import drain, everything

REALTIME, RESPONSES = "/v1/realtime", "/v1/responses"


def client(kind: str, **body: Any) -> bytes:
    return write_message(CLIENT, True, json.dumps({"type": kind, **body}).encode(), 1_000)


def server(kind: str, **body: Any) -> bytes:
    return write_message(SERVER, True, json.dumps({"type": kind, **body}).encode(), 2_000)


def read(*events: bytes, path: str = REALTIME) -> Assembled:
    return assemble(OPENAI, path, True, b"", b"".join(events), "", SWITCHED)


def user(text: str, **more: Any) -> dict[str, Any]:
    return {"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}], **more}


def counts(tokens_in: int, tokens_out: int, cached: int = 0) -> dict[str, Any]:
    return {"input_tokens": tokens_in, "output_tokens": tokens_out, "input_token_details": {"cached_tokens": cached}}


def message(id: str, *parts: dict[str, Any], status: str = "completed") -> dict[str, Any]:
    return {"id": id, "type": "message", "role": "assistant", "status": status, "content": list(parts)}


def done(id: str, *output: dict[str, Any], status: str = "completed", **more: Any) -> bytes:
    response = {"object": "realtime.response", "id": id, "status": status, "output": list(output), **more}
    return server("response.done", response=response)


TEXT_TURN = (
    server("session.created", session={"id": "sess", "model": "gpt-realtime", "instructions": "the provider's own"}),
    client("session.update", session={"instructions": "Be kind."}),
    client("conversation.item.create", item=user("hi")),
    client("response.create"),
    server("conversation.item.added", item=user("hi", id="i1", status="completed"), previous_item_id=None),
    server("conversation.item.done", item=user("hi", id="i1", status="completed")),
    server("response.created", response={"id": "r1", "status": "in_progress", "output": []}),
    server("response.output_item.added", response_id="r1", output_index=0, item=message("o1", status="in_progress")),
    server("conversation.item.added", item=message("o1", status="in_progress"), previous_item_id="i1"),
    server("response.output_text.delta", response_id="r1", item_id="o1", output_index=0, content_index=0, delta="Good "),
    server("response.output_text.delta", response_id="r1", item_id="o1", output_index=0, content_index=0, delta="day."),
    server("response.output_text.done", response_id="r1", item_id="o1", output_index=0, content_index=0, text="Good day."),
    server("conversation.item.done", item=message("o1", {"type": "output_text", "text": "Good day."}), previous_item_id="i1"),
    done("r1", message("o1", {"type": "output_text", "text": "Good day."}), usage=counts(20, 4, 16)),
)


def test_a_text_turn_is_a_question_and_its_answer() -> None:
    found = read(*TEXT_TURN)
    assert found.conversation.asked == (Message("system", "Be kind."), Message("user", "hi"))
    assert found.conversation.answer == Message("assistant", "Good day.")
    assert (found.model, found.finish_reason, found.is_terminal, found.error_in_band) == ("gpt-realtime", "completed", True, "")
    assert (found.usage.tokens_in, found.usage.tokens_out, found.usage.tokens_cached) == (20, 4, 16)
    assert found.usage.source == REPORTED
    assert state_of(COMPLETE, SWITCHED, found) == COMPLETE
    assert state_of(CLIENT_CLOSED, SWITCHED, found) == COMPLETE
    assert state_of(UPSTREAM_ABORTED, SWITCHED, found) == UPSTREAM_ABORTED


@pytest.mark.parametrize("length", range(3, len(TEXT_TURN)))
def test_a_session_that_ends_before_its_response_does_is_never_complete(length: int) -> None:
    found = read(*TEXT_TURN[:length])
    is_asked = length >= 4
    assert found.is_terminal is not is_asked
    assert state_of(COMPLETE, SWITCHED, found) == (TRUNCATED if is_asked else COMPLETE)
    assert output_text(found.conversation.answer) == ("" if length < 10 else "Good " if length == 10 else "Good day.")
    assert found.usage.source in (ESTIMATED, MISSING) if is_asked and length > 6 else found.usage.tokens_in == 0


@pytest.mark.parametrize(
    ("spoken", "part"), [("response.audio_transcript", "audio"), ("response.output_audio_transcript", "output_audio")]
)
def test_speech_is_read_as_the_words_that_it_was_heard_as(spoken: str, part: str) -> None:
    heard = {"id": "i1", "type": "message", "role": "user", "content": [{"type": "input_audio", "transcript": None}]}
    events = [
        client("input_audio_buffer.append", audio="UklGRg=="),
        server("input_audio_buffer.committed", item_id="i1"),
        server("conversation.item.created", item=heard),
        server("response.created", response={"id": "r1", "status": "in_progress", "output": []}),
        server("conversation.item.input_audio_transcription.delta", item_id="i1", content_index=0, delta="What is"),
        server("conversation.item.input_audio_transcription.completed", item_id="i1", content_index=0, transcript="What is it?"),
        server(f"{spoken}.delta", response_id="r1", item_id="o1", output_index=0, content_index=0, delta="It is"),
        server(f"{spoken}.delta", response_id="r1", item_id="o1", output_index=0, content_index=0, delta=" tea."),
    ]
    assert output_text(read(*events).conversation.answer) == "It is tea."
    found = read(*events, done("r1", message("o1", {"type": part, "transcript": "It is tea."}), usage=counts(9, 5)))
    assert found.conversation.asked == (Message("user", "What is it?"),)
    assert found.conversation.answer == Message("assistant", "It is tea.")


def test_earlier_responses_are_turns_and_usage_is_the_sum() -> None:
    call = {"id": "f1", "type": "function_call", "call_id": "c1", "name": "find", "arguments": '{"a":1}', "status": "completed"}
    found = read(
        client("conversation.item.create", item=user("find it")),
        client("response.create"),
        server("response.created", response={"id": "r1", "status": "in_progress", "output": []}),
        done("r1", call, usage=counts(10, 3)),
        client("conversation.item.create", item={"type": "function_call_output", "call_id": "c1", "output": "found"}),
        client("response.create", response={"instructions": "In short."}),
        server("response.created", response={"id": "r2", "status": "in_progress", "output": []}),
        done("r2", message("o2", {"type": "output_text", "text": "Here."}), usage=counts(15, 2, 8)),
    )
    assert found.conversation.asked == (
        Message("user", "find it"),
        Message("assistant", "", (ToolCall("find", '{"a":1}', "c1"),)),
        Message("tool", "found", tool_call_id="c1"),
        Message("system", "In short."),
    )
    assert output_text(found.conversation.answer) == "Here."
    assert (found.usage.tokens_in, found.usage.tokens_out, found.usage.tokens_cached) == (25, 5, 8)
    assert searched_text(found).split("\n") == ["Here.", "find it", "", "found", "In short."]


def test_a_deleted_item_is_no_part_of_the_conversation() -> None:
    found = read(
        client("conversation.item.create", item=user("secret", id="i1")),
        client("conversation.item.create", item=user("hi", id="i2")),
        server("conversation.item.deleted", item_id="i1"),
        client("response.create"),
    )
    assert found.conversation.asked == (Message("user", "hi"),)


def test_what_a_response_ended_with_is_told() -> None:
    cut = done(
        "r1",
        message("o1", status="incomplete"),
        status="incomplete",
        status_details={"type": "incomplete", "reason": "max_output_tokens"},
    )
    assert read(cut).finish_reason == "max_output_tokens"
    assert read(done("r1", status="cancelled", status_details={"reason": "turn_detected"})).finish_reason == "cancelled"
    failed = read(done("r1", status="failed", status_details={"error": {"type": "server_error", "message": "out of luck"}}))
    assert failed.error_in_band == "out of luck"
    assert state_of(COMPLETE, SWITCHED, failed) == ERROR_IN_BAND


def test_an_error_counts_only_when_it_took_the_place_of_a_response() -> None:
    error = server("error", error={"type": "invalid_request_error", "message": "no such voice"})
    assert state_of(COMPLETE, SWITCHED, read(error)) == ERROR_IN_BAND
    assert state_of(COMPLETE, SWITCHED, read(*TEXT_TURN, error)) == COMPLETE
    assert state_of(COMPLETE, SWITCHED, read(*TEXT_TURN, client("response.create"), error)) == ERROR_IN_BAND
    assert state_of(COMPLETE, SWITCHED, read(error, *TEXT_TURN)) == COMPLETE


def test_responses_over_a_websocket_read_like_responses() -> None:
    def ended(id: str, text: str) -> bytes:
        whole = {
            "id": id,
            "object": "response",
            "model": "gpt-5",
            "status": "completed",
            "output": [message(f"m{id}", {"type": "output_text", "text": text})],
        }
        return server(
            "response.completed",
            response={**whole, "usage": {"input_tokens": 7, "output_tokens": 2, "input_tokens_details": {"cached_tokens": 3}}},
        )

    found = read(
        client("response.create", model="gpt-5", instructions="Be kind.", input="hi"),
        server("response.created", response={"id": "1", "status": "in_progress", "output": []}),
        server("response.output_text.delta", item_id="m1", output_index=0, content_index=0, delta="Hel"),
        ended("1", "Hello."),
        client("response.create", model="gpt-5", previous_response_id="1", input=[user("and you?")]),
        server("response.created", response={"id": "2", "status": "in_progress", "output": []}),
        ended("2", "Fine."),
        write_close(CLIENT, 1000, "", 9),
        path=RESPONSES,
    )
    assert found.conversation.asked == (
        Message("system", "Be kind."),
        Message("user", "hi"),
        Message("assistant", "Hello."),
        Message("user", "and you?"),
    )
    assert output_text(found.conversation.answer) == "Fine."
    assert (found.model, found.usage.tokens_in, found.usage.tokens_out, found.usage.tokens_cached) == ("gpt-5", 14, 4, 6)
    assert found.is_terminal


def test_a_transcript_that_had_to_be_written_anew_says_the_same() -> None:
    found = read(
        *TEXT_TURN,
        client("conversation.item.create", item=user("bye")),
        client("response.create"),
        done("r2", message("o2", {"type": "output_text", "text": "Bye."}), usage=counts(30, 1)),
    )
    again = read(rebuild(found))
    assert again.conversation == found.conversation
    assert (again.model, again.usage, again.is_terminal) == (found.model, found.usage, True)


def test_audio_and_other_protocols_are_not_read() -> None:
    found = read(write_message(CLIENT, False, b"\x00\xff", 1), *TEXT_TURN)
    assert found.unread == ()
    assert read(write_message(SERVER, True, b"hello", 1), *TEXT_TURN).unread == ("response",)
    raw = assemble("raw", "/v1/audio", True, b"", b"".join(TEXT_TURN), "", SWITCHED)
    assert (raw.conversation.answer, state_of(CLIENT_CLOSED, SWITCHED, raw)) == (None, CLIENT_CLOSED)


KINDS = st.sampled_from(
    [
        "session.update",
        "session.created",
        "conversation.item.create",
        "conversation.item.added",
        "conversation.item.deleted",
        "error",
        "conversation.item.input_audio_transcription.completed",
        "response.create",
        "response.created",
        "response.done",
        "response.output_item.added",
        "response.output_text.delta",
        "response.audio_transcript.done",
        "response.completed",
        "response.failed",
    ]
)
VALUES = st.recursive(
    st.one_of(st.none(), st.integers(-3, 3), st.text(max_size=3), st.sampled_from(["message", "user", "i1", "r1"])),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(["id", "type", "role", "content", "output", "usage", "input", "transcript", "error"]),
            inner,
            max_size=4,
        ),
    ),
    max_leaves=6,
)
BODIES = st.dictionaries(
    st.sampled_from(
        ["item", "response", "session", "item_id", "response_id", "content_index", "output_index", "delta", "input", "error"]
    ),
    VALUES,
    max_size=4,
)


@given(st.lists(st.tuples(st.booleans(), KINDS, BODIES), max_size=8))
def test_any_events_give_a_conversation(events: list[tuple[bool, str, dict[str, Any]]]) -> None:
    found = read(*[(client if is_client else server)(kind, **body) for is_client, kind, body in events])
    assert isinstance(searched_text(found), str)
    assert read(rebuild(found)).is_terminal


def test_a_session_is_stored_found_by_its_words_and_verified(database: Database, spool_root: Path) -> None:
    turn = [
        client("session.update", session={"instructions": "Be kind."}),
        client("conversation.item.create", item=user("where is my quokka")),
        client("response.create"),
        server("response.created", response={"id": "r1", "status": "in_progress", "output": []}),
        done("r1", message("o1", {"type": "output_text", "text": "With the zebra."}), usage=counts(20, 4)),
    ]
    raw = ids.new_raw_id()
    spool = SpoolWriter(spool_root, sync_interval_s=60)
    spool.begin(raw, Begin("GET", REALTIME, "model=gpt-realtime", "openai", model_asked="gpt-realtime", is_stream=True))
    spool.head(raw, Head(SWITCHED, {}, "openai"))
    for event in turn:
        spool.part(raw, event)
    spool.end(raw, End(SWITCHED, COMPLETE))
    spool.close()
    drain(database, spool_root)
    (found,) = feed.page(database, parse_filter("text:quokka"), limit=9)
    assert (found.status, found.state, found.output_text) == (SWITCHED, COMPLETE, "With the zebra.")
    assert (found.tokens_in, found.tokens_out, found.usage_source, found.finish_reason) == (20, 4, REPORTED, "completed")
    assert feed.content(database, found).response_body == b"".join(turn)
    assert verify(database).faults == []


@pytest.mark.parametrize("state", ["", CLIENT_CLOSED])
def test_a_session_whose_relay_died_is_interrupted_even_after_its_last_response(
    state: str, database: Database, spool_root: Path
) -> None:
    raw = ids.new_raw_id()
    spool = SpoolWriter(spool_root, sync_interval_s=60)
    spool.begin(raw, Begin("GET", REALTIME, "", "openai", is_stream=True))
    spool.head(raw, Head(SWITCHED, {}, "openai"))
    spool.part(raw, b"".join(TEXT_TURN))
    if state:
        spool.end(raw, End(SWITCHED, state))
    spool.close()
    drain(database, spool_root)
    (found,) = feed.page(database, parse_filter(""), limit=9)
    assert found.state == (COMPLETE if state else INTERRUPTED)


def test_a_secret_spread_over_the_events_of_a_session_is_stored_nowhere(database: Database, spool_root: Path) -> None:
    secret = "sk-" + "proj-" + "a1B2" * 8
    pieces = [secret[start : start + 4] for start in range(0, len(secret), 4)]
    raw = ids.new_raw_id()
    spool = SpoolWriter(spool_root, sync_interval_s=60)
    spool.begin(raw, Begin("GET", REALTIME, "", "openai", is_stream=True))
    spool.head(raw, Head(SWITCHED, {}, "openai"))
    spool.part(raw, b"".join(TEXT_TURN[:9]))
    for piece in pieces:
        spool.part(raw, server("response.output_text.delta", response_id="r1", item_id="o1", content_index=0, delta=piece))
    spool.part(raw, done("r1", usage=counts(20, 4)))
    spool.end(raw, End(SWITCHED, COMPLETE))
    spool.close()
    drain(database, spool_root)
    (found,) = feed.page(database, parse_filter(""), limit=9)
    assert (found.output_text, found.redactions, found.tokens_in) == ("[redacted:openai-key]", 1, 20)
    assert pieces[3] not in everything(database)
    assert verify(database).faults == []
