from __future__ import annotations

import pytest

from capture.records import Begin, End, Gap, Head, decode, encode

BEGIN = Begin("POST", "/v1/chat/completions", "a=1", "openai", task="t", tags={"team": "search"}, body=b"\x00\xff")


@pytest.mark.parametrize(
    "payload", [BEGIN, Head(200, {"a": "b"}), End(200, "complete", latency_us=5), Gap(1, 2, 3, "full", [b"x" * 16])]
)
def test_every_payload_survives_the_spool(payload: Begin | Head | End | Gap) -> None:
    assert decode(encode(payload), type(payload)) == payload


def test_raw_bytes_in_a_header_are_kept_with_a_mark() -> None:
    begin = Begin("GET", "/v1/models", "", "openai", request_headers={"x-name": b"caf\xe9".decode("utf-8", "surrogateescape")})
    assert decode(encode(begin), Begin).request_headers["x-name"].startswith("caf")


def test_records_of_an_older_potstill_are_read() -> None:
    assert decode(b"\x92\xcc\xc8\xa8complete", End) == End(200, "complete")


def test_a_broken_payload_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="truncated"):
        decode(encode(BEGIN)[:-1], Begin)
