from __future__ import annotations

import gzip
import json
from hashlib import sha256

import msgspec
import pytest
import zstandard

from capture.derive import StoredExchange, dead_letter, derive
from capture.exchange import Conversation
from capture.messages import Message
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
    return zstandard.decompress(stored.bodies[number].zstd)


def test_bodies_without_secrets_stay_byte_for_byte() -> None:
    packed = gzip.compress(answer("hello"))
    stored = derive(spooled(packed, headers={"Content-Encoding": "gzip"}), PRICES)
    assert (body(stored, 0), body(stored, 1)) == (ASKED, packed)
    assert (stored.exchange.output_text, stored.exchange.redactions) == ("hello", 0)
    assert stored.exchange.response_sha256 == sha256(packed).hexdigest()
    assert stored.exchange.response_headers == {"content-encoding": "gzip"}


def test_secrets_are_out_before_the_store_and_hashes_stay_those_of_the_wire() -> None:
    asked, said = ASKED.replace(b"hi", SECRET.encode()), answer(f"Your key is {SECRET}.")
    stored = derive(spooled(said, body=asked), PRICES)
    assert SECRET.encode() not in body(stored, 0) + body(stored, 1)
    assert stored.exchange.output_text == "Your key is [redacted:aws-key]."
    assert stored.exchange.redactions == 2
    assert stored.exchange.response_sha256 == sha256(said).hexdigest()
    assert stored.exchange.request_sha256 == sha256(asked).hexdigest()


def test_a_secret_in_a_compressed_body_is_found_and_the_body_kept_decoded() -> None:
    stored = derive(spooled(gzip.compress(answer(SECRET)), headers={"content-encoding": "gzip"}), PRICES)
    assert SECRET.encode() not in body(stored, 1)
    assert json.loads(body(stored, 1))["model"] == "gpt-4o"
    assert "content-encoding" not in stored.exchange.response_headers


def test_a_secret_that_runs_across_stream_events_is_found_too() -> None:
    events = [{"choices": [{"index": 0, "delta": {"content": part}}]} for part in ("key: ", SECRET[:7], SECRET[7:], " ok")]
    stream = b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events)
    stream += b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
    stored = derive(spooled(stream, is_stream=True), PRICES)
    assert SECRET[7:].encode() not in body(stored, 1)
    assert stored.exchange.output_text == "key: [redacted:aws-key] ok"
    assert (stored.exchange.state, stored.exchange.redactions) == ("complete", 1)


def test_a_dead_letter_holds_the_records_without_secrets() -> None:
    begin, _, response, end = msgspec.msgpack.decode(zstandard.decompress(dead_letter(spooled(answer(SECRET)))))
    assert SECRET.encode() not in response
    assert (begin[0], end[1]) == ("POST", "complete")


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
