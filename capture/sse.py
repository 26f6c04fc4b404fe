"""Server-sent events, read as tolerantly as providers write them: any line ending, no final blank line, stray JSON."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

_FIELDS = (b"data", b"event", b"id", b"retry")
_BOM = b"\xef\xbb\xbf"
_STARTS = (b"data:", b"event:", b"id:", b"retry:", b":")
_SAYS_NOTHING = (b"", b"[DONE]")


class Event(msgspec.Struct, frozen=True, gc=False):
    """One event. `is_torn`: no blank line ended it. `is_stray`: lines outside the format, such as a bare JSON error."""

    name: str
    data: bytes
    is_torn: bool = False
    is_stray: bool = False


def looks_like_events(body: bytes) -> bool:
    """Whether `body` starts like an event stream rather than like JSON."""
    start = body[:64].removeprefix(_BOM).lstrip()
    return start.startswith(_STARTS)


def is_cut_early(body: bytes) -> bool:
    """Whether `body` is empty, or may be an event stream that was cut before its first field had a name."""
    start = body.removeprefix(_BOM).strip()
    return any(name.startswith(start) for name in _STARTS)


def is_garbage(event: Event) -> bool:
    """Whether an event that is not JSON was meant to be: it is no end mark, not empty, and was not cut."""
    return not event.is_torn and event.data.strip() not in _SAYS_NOTHING


def parse_events(body: bytes) -> Iterator[Event]:
    """The events of `body` in order; comments and empty events are left out. Never raises."""
    body = body.removeprefix(_BOM)
    if b"\r" in body:
        body = body.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    *blocks, last = body.split(b"\n\n")
    for block in blocks:
        yield from _read_block(block, is_torn=False)
    yield from _read_block(last, is_torn=True)


def _read_block(block: bytes, is_torn: bool) -> tuple[Event, ...]:
    """The events of what stands between two blank lines; nearly all are one line of data, behind a line with a name or not."""
    first, _, second = block.partition(b"\n")
    if not second and first.startswith(b"data: "):
        return (Event("", first[6:], is_torn),)
    if first.startswith(b"event: ") and second.startswith(b"data: ") and b"\n" not in second:
        return (Event(first[7:].decode("utf-8", "replace"), second[6:], is_torn),)
    name, data, stray = "", list[bytes](), list[bytes]()
    for line in block.split(b"\n"):
        name = _read_line(line, name, data, stray)
    return tuple(_events(name, data, stray, is_torn))


def _read_line(line: bytes, name: str, data: list[bytes], stray: list[bytes]) -> str:
    field, _, value = line.partition(b":")
    if field not in _FIELDS:
        if field:
            stray.append(line)
        return name
    value = value.removeprefix(b" ")
    if field == b"data":
        data.append(value)
    elif field == b"event":
        return value.decode("utf-8", "replace")
    return name


def _events(name: str, data: list[bytes], stray: list[bytes], is_torn: bool) -> Iterator[Event]:
    if data:
        yield Event(name, b"\n".join(data), is_torn)
    if stray:
        yield Event("", b"\n".join(stray), is_torn, is_stray=True)
