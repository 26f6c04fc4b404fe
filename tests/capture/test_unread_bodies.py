"""Bodies that were relayed well and cannot be read whole are said to be so, and kept as they are."""

from __future__ import annotations

import gzip

import pytest

from capture.derive import derive
from capture.pieces import put_together
from capture.pricing import PriceTable
from capture.records import Begin, End, Head
from capture.spool_reader import SpooledExchange
from proxy.failures import Failure, frame
from tests.capture.answers import (
    ASKED,
    CHAT,
    COMPLETIONS,
    EMBEDDINGS,
    MESSAGES,
    PAIRS,
    RESPONSES,
    Said,
    answer_of,
    read,
    typed_stream,
)

KINDS = [CHAT, COMPLETIONS, MESSAGES, RESPONSES]
BOM = b"\xef\xbb\xbf"
PRICES = PriceTable({}, student_usd_per_hour=1.0)
DEEP = b"[" * 100_000 + b"]" * 100_000
COMPLETE = End(200, "complete")


def spooled(
    kind: tuple[str, str], response: bytes, *, request: bytes = ASKED, is_stream: bool = True, end: End = COMPLETE
) -> SpooledExchange:
    begin = Begin("POST", kind[1], "", kind[0], body=request, is_stream=is_stream)
    return SpooledExchange("ex_1", begin, (1, 0), 1_000, 5_000, 9_000, Head(end.status, {}), [response], end)


def stream_of(kind: tuple[str, str], text: str = "hello") -> bytes:
    return PAIRS[kind](Said(text), 2)[1]


def with_garbage(stream: bytes, garbage: bytes) -> bytes:
    """`stream` with `garbage` as an event after its first."""
    first, _, rest = stream.partition(b"\n\n")
    return first + b"\n\n" + garbage + b"\n\n" + rest


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("garbage", [b'data: {"choices":[{"del', b"data: <html>", b"data: " + DEEP, b"bad gateway"])
def test_a_garbage_event_among_good_ones_is_told_and_the_rest_is_read(kind: tuple[str, str], garbage: bytes) -> None:
    stream = with_garbage(stream_of(kind), garbage)
    stored = derive(spooled(kind, stream), PRICES)
    got = stored.exchange
    assert (got.state, got.error_kind, got.is_success) == ("complete", "parse_error", True)
    assert got.error_message == "The response could not be read whole."
    assert got.output_text == "hello"
    assert put_together(stored.response.skeleton, [(piece.gap, piece.data) for piece in stored.response.pieces]) == stream


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("is_stream", [True, False])
def test_text_that_is_no_utf_8_is_told(kind: tuple[str, str], is_stream: bool) -> None:
    body = PAIRS[kind](Said("hello"), 2)[is_stream].replace(b"llo", b"\xff\xfelo")
    got = derive(spooled(kind, body, is_stream=is_stream), PRICES).exchange
    assert (got.state, got.error_kind) == ("complete", "parse_error")
    assert "\ufffd" in got.output_text


@pytest.mark.parametrize("kind", [*KINDS, EMBEDDINGS])
@pytest.mark.parametrize(
    "request_body",
    [ASKED.replace(b"hi", b"h\0i"), ASKED.replace(b'"hi"', DEEP), ASKED.replace(b"hi", b"h\xffi"), ASKED[:-2], b"prompt=hi"],
    ids=["nul", "deep", "no utf-8", "cut", "form"],
)
def test_a_request_that_cannot_be_read_is_told(kind: tuple[str, str], request_body: bytes) -> None:
    said = b'{"data":[],"usage":{"prompt_tokens":1}}' if kind == EMBEDDINGS else stream_of(kind)
    got = derive(spooled(kind, said, request=request_body, is_stream=kind != EMBEDDINGS), PRICES).exchange
    assert (got.state, got.error_kind) == ("complete", "parse_error")
    assert got.error_message == "The request could not be read whole."


def test_both_sides_are_named() -> None:
    got = derive(spooled(CHAT, with_garbage(stream_of(CHAT), b"data: {"), request=b"{"), PRICES).exchange
    assert got.error_message == "The request and the response could not be read whole."


@pytest.mark.parametrize("kind", KINDS)
def test_a_byte_order_mark_is_no_harm(kind: tuple[str, str]) -> None:
    for is_stream, body in enumerate(PAIRS[kind](Said("hello"), 2)):
        got = read(kind, BOM + body, is_stream=bool(is_stream), request=BOM + ASKED)
        assert (got.unread, answer_of(got).text, got.is_terminal) == ((), "hello", True)
        assert got.conversation.asked[0].text == "hi"


@pytest.mark.parametrize("kind", KINDS)
def test_a_stream_cut_anywhere_is_cut_and_not_garbage(kind: tuple[str, str]) -> None:
    stream = stream_of(kind, "hällo").replace(b"\\u00e4", "ä".encode())
    for cut in range(len(stream)):
        assert read(kind, stream[:cut], is_stream=True).unread == (), stream[:cut]


@pytest.mark.parametrize("kind", KINDS)
def test_an_answer_cut_anywhere_is_cut_and_one_that_is_none_is_told(kind: tuple[str, str]) -> None:
    whole, _ = PAIRS[kind](Said("hällo"), 2)
    for cut in range(len(whole)):
        assert read(kind, whole[:cut]).unread == (), whole[:cut]
    assert read(kind, b"<html>bad gateway</html>").unread == ("response",)


@pytest.mark.parametrize("kind", KINDS)
def test_end_marks_comments_and_empty_events_are_no_garbage(kind: tuple[str, str]) -> None:
    for odd in (b"data: [DONE]", b"data:", b"data: ", b": keep-alive", b'data: {"x": NaN}', b'data: "\\ud83d"'):
        assert read(kind, with_garbage(stream_of(kind), odd), is_stream=True).unread == (), odd


def test_a_body_in_an_encoding_that_nobody_reads_is_told() -> None:
    packed = gzip.compress(stream_of(CHAT))
    assert read(CHAT, packed, is_stream=True, encoding="snappy").unread == ("response",)
    assert read(CHAT, packed, is_stream=True, encoding="gzip").unread == ()
    assert read(CHAT, stream_of(CHAT), is_stream=True, encoding="utf-8").unread == ()
    assert read(("openai", "/v1/audio/speech"), packed, encoding="snappy", request=b"\xff").unread == ()


def test_what_failed_for_another_reason_or_was_cut_by_the_copy_keeps_it() -> None:
    garbage = with_garbage(stream_of(CHAT), b"data: {")
    for end, kind in (
        (End(200, "upstream_aborted", "upstream_aborted", "gone"), "upstream_aborted"),
        (End(500, "complete"), "http_500"),
        (End(200, "complete", captured="cut"), ""),
    ):
        assert derive(spooled(CHAT, garbage, end=end), PRICES).exchange.error_kind == kind


def test_a_responses_stream_that_the_upstream_cut_has_no_finish_reason() -> None:
    events = stream_of(RESPONSES).split(b"\n\n")
    gone = Failure(502, "upstream_aborted", "Upstream x broke off its answer.")
    end = End(200, "upstream_aborted", "upstream_aborted", gone.what)
    for kept in range(1, len(events) - 2):
        start = b"\n\n".join(events[:kept]) + b"\n\n"
        got = derive(spooled(RESPONSES, start + frame("openai", True, gone, start), end=end), PRICES).exchange
        assert (got.state, got.finish_reason, got.model_served) == ("upstream_aborted", "", "gpt-5"), kept
    anthropic = b"\n\n".join(stream_of(MESSAGES).split(b"\n\n")[:4]) + b"\n\n" + frame("anthropic", False, gone, b"")
    assert derive(spooled(MESSAGES, anthropic, end=end), PRICES).exchange.finish_reason == ""


def test_a_failure_of_the_provider_keeps_its_finish_reason() -> None:
    events = stream_of(RESPONSES).split(b"\n\n")
    response = {"id": "resp_1", "object": "response", "model": "gpt-5", "status": "failed", "output": []}
    failed = typed_stream({"type": "response.failed", "response": {**response, "error": {"code": "x", "message": "overloaded"}}})
    got = derive(spooled(RESPONSES, b"\n\n".join(events[:3]) + b"\n\n" + failed), PRICES).exchange
    assert (got.state, got.finish_reason, got.error_message) == ("error_in_band", "failed", "overloaded")
