"""Our own errors, as the official SDKs' families shape them."""

from __future__ import annotations

import json

import pytest

from proxy.failures import BUDGET_SPENT, RATE_LIMITED, Failure, body, frame, headers, is_event_boundary

GONE = Failure(502, "upstream_aborted", "Upstream x broke off its answer.", "Try again.")


def test_an_openai_error_has_message_type_and_code() -> None:
    error = json.loads(body("openai", GONE, "ex_1"))["error"]
    assert error == {"message": "Upstream x broke off its answer. Try again.", "type": "upstream_error", "param": None, "code": "upstream_aborted"}  # fmt: skip  # noqa: E501


def test_an_anthropic_error_names_its_type_and_the_exchange() -> None:
    shown = json.loads(body("anthropic", Failure(401, "missing_key", "No key."), "ex_1"))
    assert shown == {"type": "error", "error": {"type": "authentication_error", "message": "No key."}, "request_id": "ex_1"}


def test_frames_are_whole_events_of_their_family() -> None:
    chat = frame("openai", False, GONE, b"")
    assert chat.startswith(b'data: {"error":')
    assert json.loads(chat.removeprefix(b"data: "))["error"]["code"] == "upstream_aborted"
    assert frame("anthropic", False, GONE, b"").startswith(b'event: error\ndata: {"type":"error"')
    for each in (chat, frame("anthropic", False, GONE, b""), frame("openai", True, GONE, b"")):
        assert each.endswith(b"\n\n")
        assert b"[DONE]" not in each


def test_a_failed_response_has_the_next_sequence_number() -> None:
    last = b'data: {"type":"x","sequence_number": 7}\n\ndata: {"type":"y","sequence_number":8}\n\n'
    assert b'"sequence_number":9' in frame("openai", True, GONE, last)


@pytest.mark.parametrize(
    ("tail", "is_boundary"),
    [(b"", True), (b"x\n\n", True), (b"\r\n\r\n", True), (b"x\r\r", True), (b"x\n\r\n", True), (b"x\n", False), (b"abcd", False)],
)
def test_an_event_that_is_half_open_is_noticed(tail: bytes, is_boundary: bool) -> None:
    assert is_event_boundary(tail) is is_boundary


@pytest.mark.parametrize(
    ("family", "failure", "kind", "is_final"),
    [
        ("openai", Failure(429, RATE_LIMITED, "Too many.", "", 7), "rate_limit_error", False),
        ("openai", Failure(429, BUDGET_SPENT, "Spent.", "", 7), "insufficient_quota", True),
        ("anthropic", Failure(429, RATE_LIMITED, "Too many.", "", 7), "rate_limit_error", False),
        ("anthropic", Failure(402, BUDGET_SPENT, "Spent.", "", 7), "billing_error", True),
    ],
)
def test_limits_and_budgets_have_the_type_that_sdks_know_and_say_how_long_to_wait(
    family: str, failure: Failure, kind: str, is_final: bool
) -> None:
    assert json.loads(body(family, failure, "ex_1"))["error"]["type"] == kind
    assert headers(failure).get("x-should-retry") == ("false" if is_final else None)
    assert headers(failure)["Retry-After"] == "7"
