"""Takes the content encoding off a body, bounded, so that a small body cannot blow up into a large one."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import brotli
import zstandard

DECODABLE = frozenset({"identity", "gzip", "deflate", "zstd", "br"})
"""Encodings that can be read later; the relay asks upstreams for no others."""
LIMIT = 64 * 1024 * 1024
_STEP = 64
_PIECE = 64 * 1024


@dataclass(frozen=True, slots=True)
class Decoded:
    """`data` is what could be read; `is_whole` is False for a cut or overlong body, `is_known` for an unknown encoding."""

    data: bytes
    is_whole: bool = True
    is_known: bool = True


def decode(body: bytes, encoding: str, limit: int = LIMIT) -> Decoded:
    """`body` without its content encoding, of at most `limit` bytes. Never raises: a damaged body gives what came before."""
    if not encoding:
        return Decoded(body)
    names = [name.strip().lower().removeprefix("x-") for name in encoding.split(",")]
    result = Decoded(body)
    for name in reversed([name for name in names if name not in ("", "identity")]):
        if name not in DECODABLE:
            return Decoded(b"", is_whole=False, is_known=False)
        data, is_whole = _READERS[name](result.data, limit)
        result = Decoded(data, is_whole and result.is_whole)
    return result


def _inflate(body: bytes, limit: int) -> tuple[bytes, bool]:
    """gzip with any number of members, zlib, or the bare deflate that some servers mean by it."""
    modes = (47, -15) if body[:2] != b"\x1f\x8b" else (47,)
    data = b""
    for mode in modes:
        parts: list[bytes] = []
        rest, size, is_ended = body, 0, False
        try:
            while rest and size < limit:
                reader = zlib.decompressobj(mode)
                parts.append(reader.decompress(rest, limit - size))
                size += len(parts[-1])
                rest, is_ended = reader.unused_data, reader.eof
                if not is_ended:
                    break
            return b"".join(parts), (is_ended and not rest) or not body
        except zlib.error:
            data = data or b"".join(parts)
    return data, False


def _unzstd(body: bytes, limit: int) -> tuple[bytes, bool]:
    """Any number of frames. Fed in small steps, because three bytes of zstd may stand for 128 KiB."""
    parts: list[bytes] = []
    size = start = 0
    reader = zstandard.ZstdDecompressor().decompressobj()
    while start < len(body):
        if reader.eof:
            reader = zstandard.ZstdDecompressor().decompressobj()
        step = body[start : start + _STEP]
        try:
            parts.append(reader.decompress(step))
        except zstandard.ZstdError:
            return b"".join(parts), False
        size += len(parts[-1])
        start += len(step) - len(reader.unused_data if reader.eof else b"")
        if size >= limit:
            return b"".join(parts)[:limit], False
    return b"".join(parts), reader.eof or not body


def _unbrotli(body: bytes, limit: int) -> tuple[bytes, bool]:
    """One stream. Fed in small steps, so that damage costs little of what came before it; output comes in bounded pieces."""
    reader, parts, size = brotli.Decompressor(), list[bytes](), 0
    for start in range(0, len(body), _STEP):
        step = body[start : start + _STEP]
        while step or not reader.can_accept_more_data():
            try:
                parts.append(reader.process(step, output_buffer_limit=_PIECE))
            except brotli.error:
                return b"".join(parts), False
            step = b""
            size += len(parts[-1])
            if size >= limit:
                return b"".join(parts)[:limit], False
    return b"".join(parts), reader.is_finished() or not body


_READERS = {"gzip": _inflate, "deflate": _inflate, "zstd": _unzstd, "br": _unbrotli}
