"""The one look into a body, and the one change of it."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.peek import Peek, peek, with_model

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


def test_model_stream_and_user_are_seen() -> None:
    assert peek(b' {"model":"m","stream":true,"user":"u","messages":[]}') == Peek("m", True, "u", "", {})


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{",
        b"\xff\xfe",
        b'{"model": 5, "stream": "yes", "user": {}, "metadata": [1]}',
        b'{"model": "\xff"}',
        b"--boundary\r\nContent-Disposition: form-data",
    ],
)
def test_a_body_that_says_nothing_is_no_error(body: bytes) -> None:
    assert peek(body) == Peek()


def test_only_the_model_changes() -> None:
    body = b'{"model": "gpt-5", "n": 1.0e0, "messages": [ {"content": "\\u00e9 \xc3\xa9"} ], "seed": 12345678901234567890}'
    changed = with_model(body, "triage@r1")
    assert json.loads(changed) == {**json.loads(body), "model": "triage@r1"}
    for piece in (b"1.0e0", b'[ {"content": "\\u00e9 \xc3\xa9"} ]', b"12345678901234567890"):
        assert piece in changed


@given(st.dictionaries(st.text(max_size=8), JSON, max_size=5))
def test_every_other_value_stays_equal(fields: dict[str, object]) -> None:
    changed = with_model(json.dumps(fields).encode(), "m")
    assert json.loads(changed) == {**fields, "model": "m"}


@given(st.binary(max_size=60))
def test_any_bytes_are_looked_at_without_an_error(body: bytes) -> None:
    assert isinstance(peek(body), Peek)
    assert isinstance(peek(b"{" + body), Peek)


def test_a_body_that_is_no_object_cannot_get_a_model() -> None:
    with pytest.raises(ValueError, match="not a JSON object"):
        with_model(b"[1]", "m")


def test_a_body_that_is_nested_too_deep_says_nothing_and_cannot_get_a_model() -> None:
    deep = b'{"model": "m", "messages": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    assert peek(deep) == Peek()
    with pytest.raises(ValueError, match="not a JSON object"):
        with_model(deep, "m")
