from __future__ import annotations

import gzip
import zlib

import brotli
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from capture.encoding import DECODABLE, decode

TEXT = b"Where is my parcel? " * 100


def raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("", TEXT),
        ("identity", TEXT),
        ("gzip", gzip.compress(TEXT, mtime=0)),
        ("x-gzip", gzip.compress(TEXT, mtime=0)),
        ("GZIP", gzip.compress(TEXT[:1000], mtime=0) + gzip.compress(TEXT[1000:], mtime=0)),
        ("deflate", zlib.compress(TEXT)),
        ("deflate", raw_deflate(TEXT)),
        ("zstd", zstandard.compress(TEXT)),
        ("zstd", zstandard.compress(TEXT[:1000]) + zstandard.compress(TEXT[1000:])),
        ("br", brotli.compress(TEXT)),
        ("BR", brotli.compress(TEXT, quality=1)),
        ("gzip, zstd", zstandard.compress(gzip.compress(TEXT, mtime=0))),
    ],
)
def test_every_encoding_is_taken_off(encoding: str, body: bytes) -> None:
    decoded = decode(body, encoding)
    assert (decoded.data, decoded.is_whole, decoded.is_known) == (TEXT, True, True)


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("gzip", gzip.compress(TEXT, mtime=0)),
        ("zstd", zstandard.compress(TEXT)),
        ("deflate", zlib.compress(TEXT)),
        ("br", brotli.compress(TEXT)),
    ],
)
def test_a_cut_body_gives_what_came_before_and_is_not_whole(encoding: str, body: bytes) -> None:
    for cut in range(len(body)):
        decoded = decode(body[:cut], encoding)
        assert TEXT.startswith(decoded.data)
        assert not decoded.is_whole or cut == 0


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("gzip", gzip.compress(bytes(10_000_000), mtime=0)),
        ("zstd", zstandard.compress(bytes(10_000_000))),
        ("br", brotli.compress(bytes(10_000_000))),
    ],
)
def test_a_bomb_is_cut_at_the_limit(encoding: str, body: bytes) -> None:
    decoded = decode(body, encoding, limit=100_000)
    assert len(decoded.data) == 100_000
    assert not decoded.is_whole


def test_an_unknown_encoding_is_named_as_such() -> None:
    assert not decode(b"x", "compress").is_known
    assert {"gzip", "deflate", "zstd", "br", "identity"} == DECODABLE


@given(st.binary(max_size=300), st.sampled_from(["gzip", "deflate", "zstd", "br"]))
def test_any_bytes_are_decoded_without_an_error(body: bytes, encoding: str) -> None:
    assert decode(body, encoding).is_known
