from __future__ import annotations

from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capture import content
from capture.content import StoredContent, StoredParts
from capture.content_dictionary import DICTIONARIES, LATEST
from capture.errors import StoreError


def record(request: bytes = b"ab", response: bytes = b"c", seals: tuple[bytes, bytes] = (b"", b"")) -> StoredContent:
    hashes = sha256(b"a123b").digest(), sha256(response).digest()
    return StoredContent({"x": "1"}, {}, *hashes, StoredParts(request, [1, 7]), StoredParts(response, []), seals, [7], 5)


def test_a_record_comes_back_as_it_was() -> None:
    assert content.decode(content.encode(record())) == record()


@pytest.mark.parametrize("hashes", [(b"", b""), (b"r" * 32, b""), (b"", b"s" * 32)])
def test_a_record_may_lack_hashes(hashes: tuple[bytes, bytes]) -> None:
    first, second = hashes
    bare = StoredContent({}, {}, first, second, StoredParts(b"", []), StoredParts(b"", []))
    assert content.decode(content.encode(bare)) == bare


def test_bodies_are_put_together_from_skeleton_and_pieces() -> None:
    found = content.assemble_content(record(), {7: b"123"})
    assert (found.request_body, found.response_body, found.request_headers) == (b"a123b", b"c", {"x": "1"})
    assert content.is_sealed(record(), found)


def test_a_changed_body_breaks_the_seal() -> None:
    assert not content.is_sealed(record(), content.assemble_content(record(), {7: b"124"}))


def test_a_body_that_was_changed_before_storing_is_sealed_by_its_own_hash() -> None:
    redacted = record(request=b"ax", seals=(sha256(b"a123x").digest(), b""))
    found = content.assemble_content(redacted, {7: b"123"})
    assert content.is_sealed(redacted, found)


def test_a_missing_piece_is_an_error_that_says_which() -> None:
    with pytest.raises(StoreError, match="Piece 7"):
        content.assemble_content(record(), {})


@pytest.mark.parametrize(
    "damaged", [b"", b"\x01", b"\xff" + b"x" * 40, content.encode(record())[:-3], b"\0" + content.pack(b"not msgpack")]
)
def test_damage_is_an_error_with_a_next_step(damaged: bytes) -> None:
    with pytest.raises(StoreError, match="potstill verify"):
        content.decode(damaged)


def test_the_dictionary_is_the_one_that_stores_were_written_with() -> None:
    assert {number: sha256(data).hexdigest()[:16] for number, data in DICTIONARIES.items()} == {1: "a7ef657abe0a7ccb"}
    assert max(DICTIONARIES) == LATEST


@given(st.binary(max_size=2_000))
def test_packing_loses_nothing(data: bytes) -> None:
    assert content.unpack(content.pack(data)) == data
