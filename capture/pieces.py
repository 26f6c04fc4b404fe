"""Takes a JSON body apart into pieces that other bodies share, and puts it together again, byte for byte.

An app sends the same system prompt, tool definitions and earlier turns thousands of times. Each of them is a piece: bytes of
the body exactly as they stood there, kept once under their hash. What is left of the body is its skeleton.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b

import msgspec

from capture import loose_json

LEAST_BYTES = 64
"""A shorter message that is said for the first time is cheaper inside the skeleton than as a piece of its own."""
_LEAST_VALUE_BYTES = 256
_HASH_BYTES = 20
_MOST_WORDS = 50_000
_LISTS = ("messages", "input", "system", "tools", "functions")
_TURN_LISTS = ("messages", "input")
_PROMPTS, _ASKED = ("system", "instructions"), ("prompt", "input")
_ECHO, _ECHOED = b'"instructions"', ("tools", "instructions")
_SYSTEM_ROLES = ("system", "developer")
_ANSWER_TYPES = ("function_call", "custom_tool_call", "reasoning")
_NOT_WORDS = frozenset(
    [
        "role",
        "type",
        "id",
        "call_id",
        "tool_call_id",
        "tool_use_id",
        "url",
        "image_url",
        "data",
        "file_data",
        "media_type",
        "format",
        "signature",
        "encrypted_content",
        "cache_control",
        "status",
        "detail",
    ]
)
_values = msgspec.json.Decoder(dict[str, msgspec.Raw])
_elements = msgspec.json.Decoder(list[msgspec.Raw])


class _Turn(msgspec.Struct):
    """As much of a message as says who speaks."""

    role: str | None = None
    type: str | None = None


class _PlainTurn(msgspec.Struct, forbid_unknown_fields=True):
    """What most messages are."""

    role: str
    content: str


_BRACKET = ord("[")
_turn = msgspec.json.Decoder(_Turn)
_plain_turn = msgspec.json.Decoder(_PlainTurn)


@dataclass(frozen=True, slots=True)
class Piece:
    """`data` stands behind `gap` more bytes of the skeleton; `is_fresh`: the request says it for the first time."""

    gap: int
    data: bytes
    is_fresh: bool


@dataclass(frozen=True, slots=True)
class Parts:
    """A body taken apart; `hashes` are the addresses of its pieces.

    `fresh_text` is what it newly says in messages too short to be pieces.
    """

    skeleton: bytes
    pieces: tuple[Piece, ...] = ()
    hashes: tuple[bytes, ...] = ()
    fresh_text: str = ""


def piece_hash(data: bytes) -> bytes:
    """The address of a piece: BLAKE2b-160."""
    return blake2b(data, digest_size=_HASH_BYTES).digest()


def take_apart(body: bytes) -> Parts:
    """The parts of a request body; one that is no JSON object is all skeleton."""
    try:
        values = _values.decode(body)
    except (ValueError, RecursionError):
        return Parts(body)
    found: list[tuple[bytes, bool]] = []
    short: list[str] = []
    for key, value in values.items():
        if key in _LISTS and memoryview(value)[0] == _BRACKET:
            elements = [bytes(raw) for raw in _elements.decode(value)]
            fresh = _fresh(elements) if key in _TURN_LISTS else frozenset()
            for position, element in enumerate(elements):
                if position in fresh and len(element) < LEAST_BYTES:
                    short.append(words_of(element))
                else:  # a short system prompt or earlier turn too: its words are found where it was new
                    found.append((element, position in fresh))
        elif len(value) >= _LEAST_VALUE_BYTES or key in _PROMPTS:
            found.append((bytes(value), key in _ASKED))
        elif key in _ASKED:
            short.append(words_of(bytes(value)))
    return _cut(body, found, "\n".join(short))


def take_apart_answer(body: bytes) -> Parts:
    """The parts of a response body: only what some providers echo of the request is worth keeping apart."""
    if _ECHO not in body:
        return Parts(body)
    try:
        values = _values.decode(body)
    except (ValueError, RecursionError):
        return Parts(body)
    found = [(bytes(values[key]), False) for key in values if key in _ECHOED and len(values[key]) >= _LEAST_VALUE_BYTES]
    return _cut(body, found, "")


def put_together(skeleton: bytes, pieces: Sequence[tuple[int, bytes]]) -> bytes:
    """The body: each piece, given as (gap, data), behind `gap` more bytes of the skeleton."""
    out: list[bytes] = []
    position = 0
    for gap, data in pieces:
        out += (skeleton[position : position + gap], data)
        position += gap
    return b"".join((*out, skeleton[position:]))


def words_of(data: bytes) -> str:
    """The text in a piece: every string of its JSON but names of kinds, ids, addresses and encoded files."""
    try:
        return _plain_turn.decode(data).content[:_MOST_WORDS]
    except (ValueError, RecursionError):
        pass
    try:
        value = loose_json.parse(data)
    except ValueError:
        return ""
    return "\n".join(_strings(value))[:_MOST_WORDS]


def _cut(body: bytes, found: list[tuple[bytes, bool]], fresh_text: str) -> Parts:
    """In the order of the body. Any place that holds the same bytes is as good as the one they were read from."""
    gaps: list[bytes] = []
    pieces: list[Piece] = []
    position = 0
    for data, is_fresh in found:
        start = body.find(data, position)
        if start < 0:  # a key that comes twice: its later value hides the earlier one, and order is lost
            continue
        gaps.append(body[position:start])
        pieces.append(Piece(start - position, data, is_fresh))
        position = start + len(data)
    gaps.append(body[position:])
    return Parts(b"".join(gaps), tuple(pieces), tuple([piece_hash(piece.data) for piece in pieces]), fresh_text)


def _fresh(elements: Sequence[bytes]) -> frozenset[int]:
    """Positions of what is said after the last turn of the assistant, system prompts left out."""
    found: set[int] = set()
    for position in range(len(elements) - 1, -1, -1):
        role, kind = _speaker(elements[position])
        if role == "assistant" or kind in _ANSWER_TYPES:
            if found:
                break
        elif role not in _SYSTEM_ROLES:
            found.add(position)
    return frozenset(found)


def _speaker(element: bytes) -> tuple[str, str]:
    try:
        turn = _turn.decode(element)
    except (ValueError, RecursionError):
        return "", ""
    return turn.role or "", turn.type or ""


def _strings(value: object, key: str = "") -> Iterator[str]:
    """Without recursion, because strangers nest as deep as they like."""
    waiting: list[tuple[object, str]] = [(value, key)]
    while waiting:
        value, key = waiting.pop()
        if isinstance(value, str):
            if key not in _NOT_WORDS and not _is_encoded(value):
                yield value
        elif isinstance(value, dict):
            waiting += [(item, name) for name, item in reversed(value.items())]
        elif isinstance(value, list):
            waiting += [(item, key) for item in reversed(value)]


def _is_encoded(text: str) -> bool:
    """A file in base64 and the like: long, and without a blank."""
    return text.startswith("data:") or (len(text) > 1_000 and " " not in text[:1_000] and text[:1_000].isascii())
