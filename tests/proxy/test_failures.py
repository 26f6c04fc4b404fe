"""Our own errors, as the official SDKs' families shape them."""

from __future__ import annotations

import json

import pytest

from proxy.failures import Failure, body, frame, is_event_boundary

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
