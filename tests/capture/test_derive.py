from __future__ import annotations

import gzip
import json
from hashlib import sha256
from typing import Any

import msgspec
import pytest
import zstandard

from capture.derive import StoredExchange, dead_letter, derive
from capture.exchange import Conversation
from capture.messages import Message
from capture.pieces import put_together
from capture.pricing import PriceTable
from capture.records import Begin, End, Head
from capture.spool_reader import SpooledExchange

SECRET = "AKIA" + "IOSFODNN7EXAMPLE"
PRICES = PriceTable({"gpt-4o": {"input_cost_per_token": 1e-6, "output_cost_per_token": 1e-6}}, student_usd_per_hour=3.6)
ASKED = b'{"messages":[{"role":"user","content":"hi"}]}'


def answer(text: str) -> bytes:
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    return json.dumps({"model": "gpt-4o", "choices": [choice], "usage": {"prompt_tokens": 10, "completion_tokens": 5}}).encode()


def spooled(
    response: bytes, *, body: bytes = ASKED, headers: dict[str, str] | None = None, end: End | None = None, **begin: object
) -> SpooledExchange:
    started = Begin("POST", "/v1/chat/completions", "", "openai", body=body)
    started = msgspec.structs.replace(started, **begin)
    over = end or End(200, "complete", latency_us=1_000_000, response_sha256=sha256(response).hexdigest())
    return SpooledExchange("ex_1", started, (1, 0), 1_000, 5_000, 9_000, Head(over.status, headers or {}), [response], over)


def body(stored: StoredExchange, number: int) -> bytes:
    parts = (stored.request, stored.response)[number]
    return put_together(parts.skeleton, [(piece.gap, piece.data) for piece in parts.pieces])


def test_bodies_without_secrets_stay_byte_for_byte() -> None:
    packed = gzip.compress(answer("hello"))
    stored = derive(spooled(packed, headers={"Content-Encoding": "gzip"}), PRICES)
    assert (body(stored, 0), body(stored, 1)) == (ASKED, packed)
    assert (stored.exchange.output_text, stored.exchange.redactions) == ("hello", 0)
    assert stored.response_sha256.hex() == sha256(packed).hexdigest()
    assert stored.response_headers == {"content-encoding": "gzip"}


def test_secrets_are_out_before_the_store_and_hashes_stay_those_of_the_wire() -> None:
    asked, said = ASKED.replace(b"hi", SECRET.encode()), answer(f"Your key is {SECRET}.")
    stored = derive(spooled(said, body=asked), PRICES)
    assert SECRET.encode() not in body(stored, 0) + body(stored, 1)
    assert stored.exchange.output_text == "Your key is [redacted:aws-key]."
    assert stored.exchange.redactions == 2
    assert stored.response_sha256.hex() == sha256(said).hexdigest()
    assert stored.request_sha256.hex() == sha256(asked).hexdigest()


def test_a_secret_in_a_compressed_body_is_found_and_the_body_kept_decoded() -> None:
    stored = derive(spooled(gzip.compress(answer(SECRET)), headers={"content-encoding": "gzip"}), PRICES)
    assert SECRET.encode() not in body(stored, 1)
    assert json.loads(body(stored, 1))["model"] == "gpt-4o"
    assert "content-encoding" not in stored.response_headers


def test_a_secret_that_runs_across_stream_events_is_found_too() -> None:
    events = [{"choices": [{"index": 0, "delta": {"content": part}}]} for part in ("key: ", SECRET[:7], SECRET[7:], " ok")]
    stream = b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events)
    stream += b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
    stored = derive(spooled(stream, is_stream=True), PRICES)
    assert SECRET[7:].encode() not in body(stored, 1)
    assert stored.exchange.output_text == "key: [redacted:aws-key] ok"
    assert (stored.exchange.state, stored.exchange.redactions) == ("complete", 1)


def events_of(*parts: str) -> bytes:
    events = [{"choices": [{"index": 0, "delta": {"content": part}}]} for part in parts]
    stream = b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events)
    return stream + b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'


def test_a_split_secret_after_a_line_break_is_found() -> None:
    stored = derive(spooled(events_of("keys:\n", SECRET[:7], SECRET[7:], "\n"), is_stream=True), PRICES)
    assert SECRET.encode() not in body(stored, 1)
    assert stored.exchange.output_text == "keys:\n[redacted:aws-key]\n"


def test_the_rest_of_a_secret_whose_start_was_enough_to_be_found_goes_too() -> None:
    key = "sk-" + "proj-" + "a1b2c3d4" * 6
    stored = derive(spooled(events_of("key ", key[:32], key[32:], " ok"), is_stream=True), PRICES)
    assert key[32:].encode() not in body(stored, 1)
    assert stored.exchange.output_text == "key [redacted:openai-key] ok"
    assert stored.exchange.redactions >= 1


def test_secrets_in_what_names_an_exchange_are_out_and_people_stay_apart() -> None:
    fields = ("user_name", "unit", "session_name", "environment", "model_asked", "path")
    names: dict[str, Any] = dict.fromkeys(fields, f"a {SECRET}")
    headers = {"X-Note": SECRET}
    exchanges = [
        derive(spooled(answer("x"), headers=headers, tags={"k": SECRET}, **names), PRICES).exchange,
        derive(spooled(answer("x"), unit=f"a {SECRET[:-1]}X"), PRICES).exchange,
    ]
    assert SECRET not in str(exchanges[0])
    assert exchanges[0].redactions == 8
    assert exchanges[0].unit.startswith("a [redacted:aws-key]#")
    assert exchanges[0].unit == exchanges[0].user_name != exchanges[1].unit


def test_a_cut_compressed_body_is_kept_decoded_as_far_as_it_goes() -> None:
    said = answer("hello")
    packed = gzip.compress(said)[:-6]
    stored = derive(spooled(packed, headers={"content-encoding": "gzip"}), PRICES)
    assert body(stored, 1) == said
    assert stored.exchange.state == "truncated"
    assert stored.exchange.error_message == "Of the response body only what could be decoded (gzip) is kept."
    assert stored.response_headers == {}
    assert stored.exchange.redactions == 0


def test_what_hides_behind_an_unreadable_encoding_is_not_kept() -> None:
    packed = gzip.compress(answer(SECRET))
    damaged = gzip.compress(b"hello ") + b"\xff" * 8 + packed
    for encoding, response, kept in (("br2", packed, b""), ("gzip", damaged, b"hello ")):
        stored = derive(spooled(response, headers={"content-encoding": encoding}), PRICES)
        assert body(stored, 1) == kept
        assert f"({encoding})" in stored.exchange.error_message


@pytest.mark.parametrize("encoding", ["utf-8", "gzip"])
def test_a_body_that_was_never_compressed_is_read_as_it_is(encoding: str) -> None:
    stored = derive(spooled(answer(SECRET), headers={"content-encoding": encoding}), PRICES)
    assert body(stored, 1) == answer("[redacted:aws-key]")
    assert (stored.exchange.redactions, stored.exchange.error_message) == (1, "")


@pytest.mark.parametrize("packed", [False, True])
def test_a_dead_letter_holds_the_records_without_secrets(packed: bool) -> None:
    said = gzip.compress(answer(SECRET)) if packed else answer(SECRET)
    headers = {"content-encoding": "gzip"} if packed else {}
    letter = dead_letter(spooled(said, headers=headers, user_name=SECRET))
    begin, head, response, end = msgspec.msgpack.decode(zstandard.decompress(letter))
    assert response == answer("[redacted:aws-key]")
    assert SECRET not in str(begin)
    assert (begin[0], head[1], end[1]) == ("POST", {}, "complete")


def test_the_teacher_is_priced_by_tokens_and_the_student_by_time() -> None:
    assert derive(spooled(answer("x")), PRICES).exchange.cost_microusd == 15
    student = spooled(answer("x"), variant="candidate")
    assert derive(student, PRICES).exchange.cost_microusd == 1000
    fell_back = spooled(
        answer("x"), variant="candidate", end=End(200, "complete", latency_us=1_000_000, fallback_reason="http_500")
    )
    assert derive(fell_back, PRICES).exchange.cost_microusd == 15
    assert derive(spooled(answer("x").replace(b"gpt-4o", b"nobody")), PRICES).exchange.cost_microusd is None


@pytest.mark.parametrize(
    ("end", "response", "state", "kind"),
    [
        (End(200, "complete"), answer("x"), "complete", ""),
        (End(429, "complete"), b'{"error":{"message":"slow"}}', "complete", "http_429"),
        (End(200, "complete"), b'{"error":{"message":"slow"}}', "error_in_band", "in_band"),
        (End(200, "complete"), b'{"choices":[', "truncated", ""),
        (End(200, "client_closed", "client", "gone"), b'{"choices":[', "client_closed", "client"),
        (End(502, "upstream_aborted", "connect", "refused"), b"", "upstream_aborted", "connect"),
        (End(200, "complete", response_sha256="0"), answer("x"), "interrupted", "capture_gap"),
        (End(200, "complete", request_sha256="0", response_sha256=sha256(b"").hexdigest()), b"", "interrupted", "capture_gap"),
    ],
)  # fmt: skip
def test_the_state_is_what_the_wire_and_the_bytes_say(end: End, response: bytes, state: str, kind: str) -> None:
    got = derive(spooled(response, end=end), PRICES).exchange
    assert (got.state, got.error_kind) == (state, kind)


def test_the_model_that_answered_and_who_sent_it_are_kept() -> None:
    end = End(200, "complete", upstream="engine", model_served="triage@r1")
    got = derive(spooled(b'{"choices":[]}', end=end, model_asked="gpt-4o", upstream="openai"), PRICES).exchange
    assert (got.model_asked, got.model_served, got.upstream) == ("gpt-4o", "triage@r1", "engine")
    assert derive(spooled(answer("x"), end=end), PRICES).exchange.model_served == "gpt-4o"


def test_a_turned_clock_gives_no_negative_duration() -> None:
    exchange = spooled(answer("x"))
    exchange.last_ns = exchange.begin_ns - 10
    assert derive(exchange, PRICES).exchange.ended_us == 1_000


def test_an_unreadable_exchange_still_has_a_conversation() -> None:
    from capture.assemble import assemble

    assert assemble("raw", "/x", False, b"\xff", b"\xff", "", 200).conversation == Conversation((), None)
    assert assemble("openai", "/v1/chat/completions", False, ASKED, b"\xff", "br2", 200).conversation.asked == (
        Message("user", "hi"),
    )


def test_a_request_whose_rest_its_relay_did_not_live_to_keep_is_marked_as_cut() -> None:
    died = spooled(b"", body=ASKED, body_size=len(ASKED) + 1)
    died.end = died.head = None
    stored = derive(died, PRICES)
    assert (stored.exchange.content, stored.exchange.state) == ("cut", "interrupted")
    assert derive(spooled(answer("hello"), body_size=len(ASKED)), PRICES).exchange.content == "kept"
