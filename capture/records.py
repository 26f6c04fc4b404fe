"""What the relay writes down about an exchange: the payloads of spool records, as msgpack arrays.

Fields are only ever appended, with a default, so that an older spool stays readable.
"""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

BEGIN, HEAD, PART, END, GAP, NOTE, BODY, ERASED = 1, 2, 3, 4, 5, 6, 7, 8
"""Types of spool records. The payload of a PART is response bytes as they are, that of a BODY the next bytes of a large
request body, after BEGIN and before HEAD. An ERASED stands in the place of a forgotten record and says nothing. The others
are the structs below."""

CUT = "cut"
"""`End.captured` when the captured copy of a body stops at the cap, while the relay passed on all of it."""
OMIT = "omit"
"""`Begin.content` when neither bodies nor texts nor hashes of them may be stored."""


class Begin(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """The request, written before the upstream is asked.

    `body` is byte for byte what the client sent, or the beginning of it when BODY records carry the rest; `body_size` is
    the size of what the client sent, 0 when `body` is all of it. `content` is "" or `OMIT`. `key_id` names the virtual key
    that the client used, `trace_id` the W3C trace (32 hex) that it said the request belongs to.
    """

    method: str
    path: str
    query: str
    protocol: str
    task: str = ""
    unit: str = ""
    unit_source: str = ""
    user_name: str = ""
    session_name: str = ""
    environment: str = ""
    tags: dict[str, str] = {}
    purpose: str = "app"
    model_asked: str = ""
    is_stream: bool = False
    variant: str = ""
    release_id: str = ""
    flag_revision: int = 0
    upstream: str = ""
    request_headers: dict[str, str] = {}
    body: bytes = b""
    content: str = ""
    body_size: int = 0
    key_id: str = ""
    trace_id: str = ""


class Head(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """The response's status and headers; `first_byte_us` counts from the start of the exchange."""

    status: int
    response_headers: dict[str, str] = {}
    upstream: str = ""
    model_served: str = ""
    fallback_reason: str = ""
    first_byte_us: int | None = None


class End(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """How it ended, as the relay saw it on the wire, written before the last byte goes to the client.

    `state` is complete, client_closed, upstream_aborted or timeout. The hashes are hex SHA-256 of the bytes as relayed;
    an empty one is not checked. `captured` is "" when the spool holds all that was relayed, else `CUT`.
    """

    status: int
    state: str
    error_kind: str = ""
    error_message: str = ""
    latency_us: int | None = None
    first_byte_us: int | None = None
    overhead_us: int | None = None
    request_sha256: str = ""
    response_sha256: str = ""
    upstream: str = ""
    model_served: str = ""
    fallback_reason: str = ""
    captured: str = ""


class Gap(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A stretch (UTC microseconds) in which `lost` exchanges could not be kept whole.

    `broken` names those whose BEGIN is in the spool: what arrived of them is kept as interrupted.
    """

    from_us: int
    to_us: int
    lost: int
    reason: str
    broken: list[bytes] = []


class Note(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Feedback on an exchange or a session, which may come before what it is about.

    `kind` says how `value` and `text` are meant; `id` is the sender's own, else one of the relay's; `created_us` is UTC.
    """

    kind: str
    name: str
    value: float | None = None
    text: str = ""
    exchange_id: str = ""
    session_name: str = ""
    id: str = ""
    who: str = ""
    created_us: int = 0
    source: str = ""
    tags: dict[str, str] = {}


Payload = Begin | Head | End | Gap | Note
T = TypeVar("T", Begin, Head, End, Gap, Note)
_encoder = msgspec.msgpack.Encoder()
_decoders: dict[type, msgspec.msgpack.Decoder[Any]] = {cls: msgspec.msgpack.Decoder(cls) for cls in (Begin, Head, End, Gap, Note)}


def encode(payload: Payload) -> bytes:
    """`payload` as msgpack. Text that is not valid Unicode (raw bytes in a header) is kept with replacement marks."""
    try:
        return _encoder.encode(payload)
    except UnicodeEncodeError:
        return _encoder.encode([_clean(getattr(payload, name)) for name in payload.__struct_fields__])


def decode(data: bytes, cls: type[T]) -> T:
    """The struct that `encode` made; ValueError when `data` is not one."""
    return _decoders[cls].decode(data)  # type: ignore[no-any-return]


def _clean(value: object) -> object:
    if isinstance(value, str):
        return value.encode("utf-8", "surrogatepass").decode("utf-8", "replace")
    if isinstance(value, dict):
        return {_clean(key): _clean(item) for key, item in value.items()}
    return value
