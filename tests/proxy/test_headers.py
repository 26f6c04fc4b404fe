"""Which headers leave, which stay, and which are kept."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict, CIMultiDictProxy

from proxy.headers import for_client, for_student, for_upstream, pass_on
from proxy.kept_headers import for_store
from proxy.upstream_settings import Upstream


def upstream(key: str = "client", key_header: str = "authorization") -> Upstream:
    return Upstream("up", "openai", key, "", "http://up", "http://up/v1", key_header=key_header)


def headers(*pairs: tuple[str, str]) -> CIMultiDictProxy[str]:
    return CIMultiDictProxy(CIMultiDict(pairs))


def test_our_headers_aliases_and_hop_by_hop_headers_stay_with_us() -> None:
    given = headers(
        ("Authorization", "Bearer k"),
        ("x-potstill-task", "t"),
        ("Helicone-Auth", "Bearer h"),
        ("Helicone-User-Id", "u"),
        ("x-litellm-api-key", "k"),
        ("x-portkey-api-key", "k"),
        ("x-inference-task-id", "t"),
        ("Connection", "keep-alive, X-Foo"),
        ("X-Foo", "1"),
        ("Proxy-Authorization", "Basic x"),
        ("X-Forwarded-For", "10.0.0.1"),
        ("Transfer-Encoding", "chunked"),
        ("Expect", "100-continue"),
        ("Host", "relay"),
        ("anthropic-beta", "a,b"),
        ("x-request-id", "r"),
    )
    sent = for_upstream(given, upstream(), "")
    assert sent is not None
    assert dict(sent) == {"Authorization": "Bearer k", "anthropic-beta": "a,b", "x-request-id": "r"}


@pytest.mark.parametrize(
    ("asked", "sent"),
    [
        ("gzip, deflate, br, zstd", "gzip, deflate, br, zstd"),
        ("gzip, compress, br", "gzip, br"),
        ("compress", "identity"),
        ("gzip;q=0.5, dcb;q=1.0, *;q=0.1", "gzip;q=0.5"),
        ("identity", "identity"),
    ],
)
def test_only_encodings_that_can_be_read_later_are_asked_for(asked: str, sent: str) -> None:
    found = for_upstream(headers(("api-key", "k"), ("accept-encoding", asked)), upstream(), "")
    assert found is not None
    assert found["accept-encoding"] == sent


def test_no_encoding_is_asked_for_when_the_client_asks_for_none() -> None:
    found = for_upstream(headers(("api-key", "k")), upstream(), "")
    assert found is not None
    assert "accept-encoding" not in found


@pytest.mark.parametrize("name", ["Authorization", "x-api-key", "api-key", "x-goog-api-key"])
def test_a_clients_key_is_passed_on(name: str) -> None:
    assert for_upstream(headers((name, "k")), upstream(), "") == CIMultiDict({name: "k"})


def test_a_missing_key_is_noticed() -> None:
    assert for_upstream(headers(), upstream(), "") is None
    assert for_upstream(headers(("Authorization", "Bearer ")), upstream(), "") is None
    assert for_upstream(headers(("x-api-key", "")), upstream(), "") is None


def test_our_key_replaces_the_clients() -> None:
    given = headers(("Authorization", "Bearer client"), ("x-api-key", "client"), ("OpenAI-Organization", "o"), ("Cookie", "c"))
    assert for_upstream(given, upstream("env:KEY"), "ours") == CIMultiDict({"Authorization": "Bearer ours"})
    assert for_upstream(given, upstream("env:KEY", "x-api-key"), "ours") == CIMultiDict({"x-api-key": "ours"})
    assert for_upstream(given, upstream("file:KEY", "api-key"), "ours") == CIMultiDict({"api-key": "ours"})
    assert for_upstream(given, upstream("none"), "") == CIMultiDict()


def test_a_clients_account_goes_where_its_key_goes() -> None:
    given = headers(("Authorization", "Bearer client"), ("OpenAI-Organization", "o"))
    assert for_upstream(given, upstream(), "") == CIMultiDict({"Authorization": "Bearer client", "OpenAI-Organization": "o"})


def test_the_student_gets_nothing_of_the_clients_account() -> None:
    given = headers(
        ("Authorization", "Bearer k"), ("x-api-key", "k"), ("openai-organization", "o"), ("Cookie", "c"), ("Content-Type", "a/b")
    )
    assert dict(for_student(given)) == {"Content-Type": "a/b"}


def test_the_client_gets_everything_but_the_hop_and_repeated_headers_stay_repeated() -> None:
    given = headers(
        ("Set-Cookie", "a=1"), ("Set-Cookie", "b=2"), ("x-ratelimit-limit-requests", "5"), ("Connection", "close"),
        ("Keep-Alive", "timeout=5"), ("Content-Encoding", "gzip"), ("retry-after", "3"), ("x-potstill-exchange-id", "forged"),
    )  # fmt: skip
    sent = for_client(given)
    assert sent.getall("set-cookie") == ["a=1", "b=2"]
    assert set(sent) == {"Set-Cookie", "x-ratelimit-limit-requests", "Content-Encoding", "retry-after"}


def test_a_length_beside_chunks_is_dropped() -> None:
    assert dict(for_client(headers(("Content-Length", "5"), ("Transfer-Encoding", "chunked")))) == {}


def test_no_credential_is_kept() -> None:
    secrets = (
        "Authorization",
        "x-api-key",
        "api-key",
        "Cookie",
        "Set-Cookie",
        "Helicone-Auth",
        "Proxy-Authorization",
        "X-Custom",
    )
    given = [*((name, "secret") for name in secrets), ("Content-Type", "a/b"), ("User-Agent", "x" * 2_000)]
    kept = for_store(given)
    assert "secret" not in kept.values()
    assert kept == {"content-type": "a/b", "user-agent": "x" * 1_000}


NAMES = st.sampled_from(
    ["Content-Type", "content-length", "Transfer-Encoding", "Connection", "Keep-Alive", "X-Foo", "Set-Cookie", "x-ratelimit-a",
     "x-potstill-exchange-id", "Content-Encoding", "cache-control", "X-Accel-Buffering", "retry-after", "trailer"]
)  # fmt: skip
VALUES = st.sampled_from(
    ["close", "keep-alive, X-Foo", "content-length", "5", "chunked", "text/event-stream; charset=utf-8", "é", ""]
)


@given(st.lists(st.tuples(NAMES, VALUES), max_size=12))
def test_the_fast_way_for_an_answers_headers_says_what_the_plain_one_says(pairs: list[tuple[str, str]]) -> None:
    passed = pass_on([(name.encode(), value.encode()) for name, value in pairs])
    given_headers = headers(*pairs)
    plain = for_client(given_headers)
    is_stream = pairs_last(pairs, "content-type").startswith("text/event-stream")
    if is_stream:
        plain.setdefault("X-Accel-Buffering", "no")
        plain.setdefault("Cache-Control", "no-cache")
    assert passed.lines.decode() == "".join(f"{name}: {value}\r\n" for name, value in plain.items())
    assert passed.stored == for_store(given_headers.items())
    assert passed.has_length == ("content-length" in plain)
    assert passed.is_encoded == ("content-encoding" in plain)
    assert passed.is_stream == is_stream


def pairs_last(pairs: list[tuple[str, str]], wanted: str) -> str:
    """The last value of a header."""
    return next((value for name, value in reversed(pairs) if name.lower() == wanted), "")
