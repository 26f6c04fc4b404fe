"""What a WebSocket said, both ways, as one body: an event stream with one event for each message, in the order of keeping.

    event: client
    id: 0.001250
    data: {"type":"response.create"}

A text stands as it is, so that it can be read, searched and cleaned like any stream; what would not survive there (a carriage
return, bytes that are not UTF-8, a binary message) is written so that it comes back byte for byte. `id` is the seconds since
the handshake was asked for.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator
from dataclasses import dataclass

import msgspec

from capture import sse

CLIENT, SERVER, RELAY = "client", "server", "relay"
"""Who said it: the app, the upstream, or the relay between them, which only ever closes."""
TEXT, BINARY, CLOSE = "text", "binary", "close"
SWITCHED = 101
"""The status of an exchange whose response body is a transcript."""

_QUOTED, _BYTES = "quoted", "bytes"


@dataclass(frozen=True, slots=True)
class Said:
    """One message: `kind` is TEXT, BINARY or CLOSE; the data of a CLOSE is JSON with `code` and `reason`."""

    side: str
    kind: str
    data: bytes


def write_message(side: str, is_text: bool, data: bytes, at_us: int) -> bytes:
    """The event of a message that was relayed whole."""
    if not is_text:
        return _event(f"{side}.{BINARY}", base64.b64encode(data), at_us)
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return _event(f"{side}.{_BYTES}", base64.b64encode(data), at_us)
    if b"\r" in data:
        return _event(f"{side}.{_QUOTED}", msgspec.json.encode(text), at_us)
    return _event(side, data.replace(b"\n", b"\ndata: ") if b"\n" in data else data, at_us)


def write_close(side: str, code: int, reason: str, at_us: int) -> bytes:
    """The event of a close; `code` 1005 for a close that gives none."""
    return _event(f"{side}.{CLOSE}", msgspec.json.encode({"code": code, "reason": reason}), at_us)


def read_transcript(body: bytes) -> Iterator[Said]:
    """The messages of `body` in order; what was cut or damaged is left out. Never raises."""
    for event in sse.parse_events(body):
        side, _, form = event.name.partition(".")
        if side not in (CLIENT, SERVER, RELAY) or event.is_stray or event.is_torn:
            continue
        try:
            said = _said(side, form, event.data)
        except (ValueError, binascii.Error):
            continue
        if said is not None:
            yield said


def _said(side: str, form: str, data: bytes) -> Said | None:
    if not form:
        return Said(side, TEXT, data)
    if form == _QUOTED:
        return Said(side, TEXT, msgspec.json.decode(data, type=str).encode())
    if form == _BYTES:
        return Said(side, TEXT, base64.b64decode(data, validate=True))
    if form == BINARY:
        return Said(side, BINARY, base64.b64decode(data, validate=True))
    return Said(side, CLOSE, data) if form == CLOSE else None


def _event(name: str, data: bytes, at_us: int) -> bytes:
    return b"event: %b\nid: %d.%06d\ndata: %b\n\n" % (name.encode(), at_us // 1_000_000, at_us % 1_000_000, data)
