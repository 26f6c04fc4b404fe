"""The response cache: the very same request and nobody else's, whole answers alone, bounded in bytes and time."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from capture import clock
from capture.settings import load_settings
from proxy.headers import pass_on
from proxy.keys.settings import CacheSettings
from proxy.reading import Asked, read_request
from proxy.response_cache import Collector, KeptAnswer, ResponseCache
from proxy.settings import RelaySettings, read_upstreams
from proxy.wire.limits import Problem

UPSTREAMS = read_upstreams(load_settings(None, environ={}))
BODY = b'{"model":"gpt-4o","messages":[]}'
SSE = {"Content-Type": "text/event-stream"}


@dataclass
class Given:
    raw_path: str = "/v1/chat/completions"
    headers: CIMultiDict[str] = field(
        default_factory=lambda: CIMultiDict({"Authorization": "Bearer sk-a", "x-potstill-task": "faq"})
    )
    body: bytes = BODY
    method: str = "POST"
    problem: Problem | None = None


def asked(headers: dict[str, str] | None = None, **changes: object) -> Asked:
    given = Given(**changes)  # type: ignore[arg-type]
    given.headers.update(headers or {})
    return read_request(given, RelaySettings(), UPSTREAMS)


def cache(**settings: object) -> ResponseCache:
    return ResponseCache(CacheSettings(tasks=("faq*",), **settings))  # type: ignore[arg-type]


def answer(body: bytes = b'{"choices":[]}', headers: dict[str, str] | None = None) -> KeptAnswer:
    pairs = [(name.encode(), value.encode()) for name, value in (headers or {"Content-Type": "application/json"}).items()]
    return KeptAnswer(200, "OK", pass_on(pairs), "openai", "", body)


def keep(found: ResponseCache, place: bytes | None, kept: KeptAnswer) -> bool:
    assert place is not None
    found.keep(place, kept)
    return found.find(place) is kept


def test_the_very_same_request_gets_the_very_same_answer() -> None:
    found, kept = cache(), answer()
    assert keep(found, found.place_of(asked(), ""), kept)
    again = found.place_of(asked({"User-Agent": "another", "x-request-id": "7"}), "")
    assert again is not None
    assert found.find(again) is kept
    assert found.hits == 2


@pytest.mark.parametrize(
    "other",
    [
        {"headers": {"Authorization": "Bearer sk-b"}},
        {"headers": {"x-api-key": "sk-c"}},
        {"headers": {"Accept-Encoding": "gzip"}},
        {"headers": {"OpenAI-Organization": "org"}},
        {"headers": {"x-potstill-task": "faq2"}},
        {"body": BODY + b" "},
        {"raw_path": "/v1/completions"},
        {"raw_path": "/v1/chat/completions?a=1"},
    ],
)
def test_any_other_request_or_credential_does_not(other: dict[str, object]) -> None:
    found = cache()
    assert found.place_of(asked(), "") != found.place_of(asked(**other), "")  # type: ignore[arg-type]


def test_a_virtual_key_is_a_scope_of_its_own_wherever_it_is_sent() -> None:
    found = cache()
    first, second = asked({"Authorization": "Bearer ps-a"}), asked({"Authorization": "Bearer ps-b"})
    assert found.place_of(first, "a") == found.place_of(second, "a") != found.place_of(first, "b")


@pytest.mark.parametrize(
    "request_",
    [
        {"headers": {"Cache-Control": "no-cache"}},
        {"headers": {"Cache-Control": "max-age=0, no-store"}},
        {"headers": {"Helicone-Cache-Enabled": "false"}},
        {"headers": {"x-potstill-task": "triage"}},
        {"method": "GET"},
        {"raw_path": "/v1/files"},
        {"raw_path": "/nowhere"},
    ],
)
def test_what_did_not_ask_for_a_cache_or_asked_for_none_has_no_place(request_: dict[str, object]) -> None:
    assert cache().place_of(asked(**request_), "") is None  # type: ignore[arg-type]


def test_without_tasks_there_is_no_cache() -> None:
    assert ResponseCache(CacheSettings()).place_of(asked(), "") is None


@pytest.mark.parametrize(
    ("body", "is_whole"),
    [
        (b'data: {"a":1}\n\ndata: [DONE]\n\n', True),
        (b'data: {"a":1}\r\n\r\ndata:[DONE]\r\n\r\n', True),
        (b'data: {"a":1}\n\n', False),
        (b'data: {"a":"data: [DONE]"}\n\n', False),
        (b"event: message_start\ndata: {}\n\nevent: message_stop\ndata: {}\n\n", True),
        (b"event: message_start\ndata: {}\n\nevent: error\ndata: {}\n\n", False),
        (b'event: response.completed\ndata: {"long":1}\n\n', True),
        (b'event: response.completed\ndata: {"lo', False),
        (b"event: response.failed\ndata: {}\n\n", False),
    ],
)
def test_a_stream_is_kept_when_it_says_that_it_is_over(body: bytes, is_whole: bool) -> None:
    found = cache()
    assert keep(found, found.place_of(asked(), ""), answer(body, SSE)) is is_whole


def test_a_stream_that_cannot_be_read_is_not_kept() -> None:
    found = cache()
    assert not keep(found, found.place_of(asked(), ""), answer(b"data: [DONE]\n\n", {**SSE, "Content-Encoding": "gzip"}))


@pytest.mark.parametrize(("status", "size", "is_kept"), [(200, 3, True), (201, 3, True), (404, 3, False), (200, 1025, False)])
def test_a_collector_keeps_what_is_a_success_and_not_too_large(status: int, size: int, is_kept: bool) -> None:
    found = cache(max_entry_kib=1)
    collector = found.look(asked(), "")
    assert isinstance(collector, Collector)
    for _ in range(size):
        collector.add(b"x")
    collector.finish(status, "", pass_on([]), "openai", "m")
    kept = found.look(asked(), "")
    assert isinstance(kept, KeptAnswer) is is_kept
    assert not isinstance(kept, KeptAnswer) or kept.body == b"x" * size


def test_an_answer_goes_when_its_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    found = cache(ttl_s=60.0)
    place = found.place_of(asked(), "")
    assert keep(found, place, answer())
    later = clock.monotonic_ns() + 60_000_000_000
    monkeypatch.setattr(clock, "monotonic_ns", lambda: later)
    assert place is not None
    assert found.find(place) is None
    assert found.held == 0


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(1, 700_000)), max_size=30))
def test_the_cache_never_holds_more_than_it_may(entries: list[tuple[int, int]]) -> None:
    """And its account is that of what it really holds."""
    found = cache(max_mib=1)
    for place, size in entries:
        found.keep(bytes([place]), answer(b"x" * size))
        assert found.held <= 2**20
    left = [kept for place in range(10) if (kept := found.find(bytes([place]))) is not None]
    assert found.held == sum(len(kept.body) + 1_000 for kept in left)
