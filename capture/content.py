"""How the store keeps what an exchange carried: one compressed record beside its row, and pieces shared with others.

A record holds headers, hashes and the skeletons of both bodies with the numbers of their pieces. It is one byte that says which
hashes follow, the hashes as they are (they cannot be compressed, and would spoil the statistics of what can), then a packed
value: one byte for its dictionary and a zstd frame over msgpack.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from hashlib import sha256
from typing import Annotated

import msgspec
import zstandard
from sqlalchemy import Connection, TextClause

from capture.content_dictionary import DICTIONARIES, LATEST
from capture.errors import StoreError
from capture.exchange import Content
from capture.pieces import put_together
from capture.statements import among, few

_LEVEL = 3
_HASH_BYTES = 32
_MOST_BYTES = 1 << 30
_RECORDS = among("SELECT number, zstd FROM contents WHERE number IN :numbers")
_PIECES = among("SELECT number, zstd FROM pieces WHERE number IN :numbers")


_Number = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


class StoredParts(msgspec.Struct, array_like=True, frozen=True):
    """A body's skeleton, and its pieces as gap, number, gap, number, ..."""

    skeleton: bytes
    pieces: list[_Number]


class StoredContent(msgspec.Struct, array_like=True, frozen=True):
    """The record of an exchange.

    `seals` are the SHA-256 of both bodies as they are stored, empty where that is the hash as relayed. `introduced` are
    the pieces whose words the full-text index holds under this exchange although the request does not newly say them, and
    `words_check` is the CRC-32 of the words that were indexed.
    """

    request_headers: dict[str, str]
    response_headers: dict[str, str]
    request_sha256: bytes
    response_sha256: bytes
    request: StoredParts
    response: StoredParts
    seals: tuple[bytes, bytes] = (b"", b"")
    introduced: list[_Number] = []
    words_check: int = 0

    @property
    def piece_numbers(self) -> set[int]:
        """Every piece that its bodies hold."""
        return {*self.request.pieces[1::2], *self.response.pieces[1::2]}


_decoder = msgspec.msgpack.Decoder(StoredContent)
_encoder = msgspec.msgpack.Encoder()
_written_with = zstandard.ZstdCompressionDict(DICTIONARIES[LATEST], dict_type=zstandard.DICT_TYPE_FULLDICT)
_written_with.precompute_compress(level=_LEVEL)
_compressor = zstandard.ZstdCompressor(level=_LEVEL, dict_data=_written_with, write_checksum=False, write_dict_id=False)
_decompressors = {
    number: zstandard.ZstdDecompressor(dict_data=zstandard.ZstdCompressionDict(data, dict_type=zstandard.DICT_TYPE_FULLDICT))
    for number, data in DICTIONARIES.items()
}


def pack(data: bytes) -> bytes:
    """`data` compressed, with the number of the dictionary in front."""
    return bytes((LATEST,)) + _compressor.compress(data)


def unpack(packed: bytes) -> bytes:
    """What `pack` was given; StoreError when `packed` is damaged or of a newer Potstill."""
    try:
        return _decompressors[packed[0]].decompress(packed[1:], max_output_size=_MOST_BYTES)
    except (zstandard.ZstdError, KeyError, IndexError, MemoryError) as error:
        raise StoreError(f"A compressed value in the store cannot be read: {error!r}.", "Run `potstill verify`.") from error


def encode(content: StoredContent) -> bytes:
    """The record as the store keeps it."""
    hashes = (content.request_sha256, content.response_sha256)
    bare = msgspec.structs.replace(content, request_sha256=b"", response_sha256=b"")
    present = sum(1 << position for position, hash in enumerate(hashes) if hash)
    return bytes((present,)) + b"".join(hashes) + pack(_encoder.encode(bare))


def decode(record: bytes) -> StoredContent:
    """The record that `encode` made; StoreError when it is damaged."""
    hashes, position = [b"", b""], 1
    for which in range(len(hashes)):
        if record[:1] and record[0] >> which & 1:
            hashes[which] = record[position : position + _HASH_BYTES]
            position += _HASH_BYTES
    try:
        bare = _decoder.decode(unpack(record[position:]))
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise StoreError(f"A content record in the store cannot be read: {error}.", "Run `potstill verify`.") from error
    return msgspec.structs.replace(bare, request_sha256=hashes[0], response_sha256=hashes[1])


def assemble_content(stored: StoredContent, pieces: Mapping[int, bytes]) -> Content:
    """The content as people see it; StoreError when one of its pieces is missing."""
    return Content(
        stored.request_headers,
        stored.response_headers,
        _body(stored.request, pieces),
        _body(stored.response, pieces),
        stored.request_sha256.hex(),
        stored.response_sha256.hex(),
    )


def is_sealed(stored: StoredContent, content: Content) -> bool:
    """Whether both bodies are what was stored: by the hash as relayed, or by the seal of what was changed before storing."""
    bodies = (content.request_body, content.response_body)
    hashes = (stored.seals[0] or stored.request_sha256, stored.seals[1] or stored.response_sha256)
    return all(not wanted or sha256(body).digest() == wanted for body, wanted in zip(bodies, hashes, strict=True))


def read_stored(connection: Connection, numbers: Sequence[int]) -> dict[int, StoredContent]:
    """The records of these exchanges; one that has none is left out. StoreError when one is damaged."""
    return {number: decode(record) for number, record in _read(connection, _RECORDS, numbers)}


def read_pieces(connection: Connection, numbers: Iterable[int]) -> dict[int, bytes]:
    """The bytes of these pieces; one that is not there is left out. StoreError when one is damaged."""
    return {number: unpack(data) for number, data in _read(connection, _PIECES, sorted(set(numbers)))}


def read_content(connection: Connection, numbers: Sequence[int]) -> dict[int, Content]:
    """Headers and bodies of these exchanges by number; one without content is left out. StoreError when one is damaged."""
    stored = read_stored(connection, numbers)
    pieces = read_pieces(connection, (piece for each in stored.values() for piece in each.piece_numbers))
    return {number: assemble_content(each, pieces) for number, each in stored.items()}


def read_or_damaged(connection: Connection, numbers: Sequence[int]) -> dict[int, Content | None]:
    """As `read_content`, with None for one that is damaged."""
    try:
        return dict(read_content(connection, numbers))
    except StoreError:
        _, _, contents = read_undamaged(connection, numbers)
        return {number: contents.get(number) for number, _ in _read(connection, _RECORDS, numbers)}


def read_undamaged(
    connection: Connection, numbers: Sequence[int]
) -> tuple[dict[int, StoredContent], dict[int, bytes], dict[int, Content]]:
    """Records, their pieces and contents of these exchanges, as far as they can be read, for those who take them out."""
    stored, pieces, contents = dict[int, StoredContent](), dict[int, bytes](), dict[int, Content]()
    for number, record in _read(connection, _RECORDS, numbers):
        with suppress(StoreError):
            stored[number] = decode(record)
    wanted = {piece for each in stored.values() for piece in each.piece_numbers}
    for number, data in _read(connection, _PIECES, sorted(wanted)):
        with suppress(StoreError):
            pieces[number] = unpack(data)
    for number, each in stored.items():
        with suppress(StoreError):
            contents[number] = assemble_content(each, pieces)
    return stored, pieces, contents


def _read(connection: Connection, query: TextClause, numbers: Sequence[int]) -> Iterator[tuple[int, bytes]]:
    for some in few(numbers):
        for number, data in connection.execute(query, {"numbers": some}):
            yield int(number), bytes(data)


def _body(parts: StoredParts, pieces: Mapping[int, bytes]) -> bytes:
    numbers = parts.pieces[1::2]
    missing = [number for number in numbers if number not in pieces]
    if missing:
        raise StoreError(f"Piece {missing[0]} of a body is not in the store.", "Run `potstill verify`.")
    return put_together(parts.skeleton, [(gap, pieces[number]) for gap, number in zip(parts.pieces[::2], numbers, strict=True)])
