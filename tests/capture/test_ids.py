from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capture.ids import content_hash, format_id, new_id, new_raw_id, parse_id


@given(st.binary(min_size=16, max_size=16), st.binary(min_size=16, max_size=16))
def test_ids_carry_their_bytes_and_sort_like_them(first: bytes, second: bytes) -> None:
    assert parse_id(format_id("ex", first)) == first
    assert (format_id("ex", first) < format_id("ex", second)) == (first < second)


def test_ids_show_their_noun_and_are_unique() -> None:
    made = [new_id("run") for _ in range(1_000)]
    assert len(set(made)) == 1_000
    assert all(id.startswith("run_") and len(id) == 30 for id in made)
    assert new_raw_id()[6] >> 4 == 7


@pytest.mark.parametrize("text", ["", "ex_", "ex_123", "ex_" + "u" * 26])
def test_what_is_not_an_id_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not an id"):
        parse_id(text)


def test_a_content_hash_names_its_algorithm() -> None:
    assert content_hash(b"") == "b2:0e5751c026e543b2e8ab2eb06099daa1d1e5df47778f7787faab45cdf12fe3a8"
