"""What is done when an upstream fails before its answer began."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.attempts import (
    ABORTED,
    BUSY,
    CIRCUIT_OPEN,
    MISSING_KEY,
    TIMEOUT,
    UNREACHABLE,
    Again,
    Failed,
    Next,
    Stop,
    decide,
    failure_of_status,
    is_portable,
    only_reads,
    retry_after_s,
)
from proxy.upstream_settings import Upstream

UP = Upstream(
    "up", "openai", "none", "", "http://up", "http://up/v1", retries=2, retry_on=frozenset((429, 503)),
    fallback_on=frozenset((429, 500, 503)),
)  # fmt: skip
NOW = 1_700_000_000.0


def decided(failed: Failed, tries: int = 1, *, reads: bool = False, has_next: bool = True, upstream: Upstream = UP) -> object:
    return decide(upstream, failed, tries, 1.0, only_reads=reads, has_next=has_next)


@pytest.mark.parametrize(
    ("failed", "reads", "expected"),
    [
        (Failed(UNREACHABLE), False, Again(0.25)),
        (Failed(UNREACHABLE, is_sent=True), False, Next()),
        (Failed(ABORTED, is_sent=True), False, Next()),
        (Failed(ABORTED, is_sent=True), True, Again(0.25)),
        (Failed(TIMEOUT, is_sent=True), True, Next()),
        (Failed(BUSY), True, Next()),
        (Failed(CIRCUIT_OPEN), True, Next()),
        (Failed(MISSING_KEY), True, Next()),
        (Failed("http_503", 503, True), False, Again(0.25)),
        (Failed("http_503", 503, True, 1.5), False, Again(1.5)),
        (Failed("http_429", 429, True, 0.0), False, Again(0.0)),
        (Failed("http_429", 429, True, 60.0), False, Next()),
        (Failed("http_503", 503, True, is_final=True), False, Next()),
        (Failed("http_500", 500, True), True, Next()),
        (Failed("http_502", 502, True), True, Stop()),
    ],
)
def test_a_request_is_sent_again_only_where_no_work_can_be_done_twice(failed: Failed, reads: bool, expected: object) -> None:
    assert decided(failed, reads=reads) == expected


def test_pauses_grow_and_end_with_the_retries() -> None:
    assert [decided(Failed(UNREACHABLE), tries) for tries in (1, 2, 3)] == [Again(0.25), Again(0.5), Next()]
    assert decided(Failed(UNREACHABLE), 3, has_next=False) == Stop()
    assert decided(Failed(UNREACHABLE), upstream=replace(UP, retries=0)) == Next()


@given(
    st.builds(
        Failed,
        st.sampled_from([UNREACHABLE, TIMEOUT, ABORTED, BUSY, "http_x"]),
        st.sampled_from([0, 400, 429, 500, 503]),
        st.booleans(),
        st.none() | st.floats(0, 1e6),
        st.booleans(),
    ),
    st.integers(1, 50),
    st.floats(0, 1),
    st.booleans(),
    st.integers(0, 40),
    st.floats(0, 60),
)
def test_whatever_fails_tries_and_pauses_stay_within_the_settings(
    failed: Failed, tries: int, jitter: float, has_next: bool, retries: int, longest: float
) -> None:
    upstream = replace(UP, retries=retries, retry_longest_s=longest)
    step = decide(upstream, failed, tries, jitter, only_reads=False, has_next=has_next)
    if isinstance(step, Again):
        assert tries <= retries
        assert 0 <= step.pause_s <= longest
        assert failed.retry_after_s is None or step.pause_s == failed.retry_after_s
        assert not failed.is_final
        assert failed.status in upstream.retry_on or not failed.is_sent
    elif isinstance(step, Next):
        assert has_next
        assert failed.status in (0, *upstream.fallback_on)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, None),
        ({"retry-after": "3"}, 3.0),
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after-ms": "250", "retry-after": "1"}, 0.25),
        ({"retry-after": "Tue, 14 Nov 2023 22:13:30 GMT"}, 10.0),
        ({"retry-after": "Tue, 14 Nov 2023 22:13:10 GMT"}, 0.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-5"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after-ms": "x", "retry-after": "2"}, 2.0),
    ],
)
def test_what_an_upstream_asks_for_is_understood_in_every_form(headers: dict[str, str], expected: float | None) -> None:
    assert retry_after_s(headers, NOW) == expected


@given(st.text(max_size=40))
def test_no_header_breaks_the_relay(value: str) -> None:
    found = retry_after_s({"retry-after": value, "retry-after-ms": value[::-1]}, NOW)
    assert found is None or 0 <= found < float("inf")


def test_a_head_is_a_failure_only_for_the_statuses_of_the_settings() -> None:
    assert failure_of_status(UP, 200, {}, NOW) is None
    assert failure_of_status(UP, 400, {}, NOW) is None
    assert failure_of_status(UP, 503, {"retry-after": "2", "x-should-retry": "false"}, NOW) == Failed(
        "http_503", 503, True, 2.0, True
    )


@pytest.mark.parametrize(
    ("method", "path", "body", "expected"),
    [
        ("POST", "/v1/chat/completions", b'{"messages": []}', True),
        ("POST", "/v1/messages", b"{}", True),
        ("POST", "/v1/responses", b'{"input": "say \\"background\\""}', True),
        ("POST", "/v1/responses", b'{"previous_response_id": "resp_1"}', False),
        ("POST", "/v1/responses", b'{"background": true}', False),
        ("POST", "/v1/chat/completions", b'{"messages": [{"content": [{"file": {"file_id": "file-1"}}]}]}', False),
        ("POST", "/v1/files", b"x", False),
        ("POST", "/v1/batches", b"{}", False),
        ("GET", "/v1/models", b"", False),
        ("GET", "/v1/chat/completions", b"", False),
    ],
)
def test_only_what_no_upstream_must_remember_goes_to_another(method: str, path: str, body: bytes, expected: bool) -> None:
    assert is_portable(method, path, body, is_encoded=False) is expected
    assert not is_portable(method, path, body, is_encoded=True)


def test_what_only_reads_changes_nothing() -> None:
    assert only_reads("GET")
    assert not only_reads("POST")
    assert not only_reads("DELETE")
