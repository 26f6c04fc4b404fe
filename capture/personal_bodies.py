"""Takes personal data out of bodies: strings of JSON, streams whatever event a datum is split over, and plain text.

Everything else of a body stays byte for byte. Tolerant: cut, invalid and deeply nested JSON is read as far as it goes.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterator
from typing import Any

import msgspec

from capture import encoding, sse
from capture.cleaned import Cleaned, without_encoding
from capture.pseudonyms import Hiding

_LITERAL = re.compile(r'"(?:[^"\\]++|\\.)*+("?)', re.DOTALL)
_NUMBER = re.compile(r"[\s\d.,eE+\-\[\]{}:truefalsn]*")
_ENCODED = re.compile(r"(?:data:[^,]{0,200},)?[A-Za-z0-9+/_=-]{1000,}")
_DATA_LINE = re.compile(rb"(data:[ ]?)([^\r\n]*)([\r\n]*)")
_PLACES = ("index", "output_index", "content_index", "summary_index", "item_id")
_NOT_SPOKEN = frozenset(
    ("id", "object", "model", "type", "role", "finish_reason", "stop_reason", "system_fingerprint", "service_tier", "item_id")
)
"""Strings of an event that say what it is, each whole in itself; every other string may go on in the next event."""
_LOGPROBS = "logprobs"
_DEEPEST = 3


def hide(cleaned: Cleaned, hiding: Hiding) -> Cleaned:
    """`cleaned` without personal data in bodies, query and error text; a compressed body that held some is kept decoded."""
    begin, head, end = cleaned.begin, cleaned.head, cleaned.end
    request, headers = hide_in_encoded(cleaned.request, begin.request_headers, hiding)
    begin = msgspec.structs.replace(begin, request_headers=headers, query=hiding.text(begin.query))
    response, headers = hide_in_encoded(cleaned.response, head.response_headers if head is not None else {}, hiding)
    if head is not None:
        head = msgspec.structs.replace(head, response_headers=headers)
    if end is not None:
        end = msgspec.structs.replace(end, error_message=hiding.text(end.error_message))
    return dataclasses.replace(cleaned, begin=begin, head=head, request=request, response=response, end=end)


def hide_in_encoded(body: bytes, headers: dict[str, str], hiding: Hiding) -> tuple[bytes, dict[str, str]]:
    """The body that came with `headers` (lower case) without personal data, and the headers that fit it."""
    label = headers.get("content-encoding", "")
    plain = encoding.decode(body, label) if label else encoding.Decoded(body)
    if not plain.is_known:
        return body, headers  # never was compressed, else the cleaning had not kept it
    hidden = hide_in_body(plain.data, hiding)
    return (body, headers) if hidden == plain.data else (hidden, without_encoding(headers))


def hide_in_body(data: bytes, hiding: Hiding) -> bytes:
    """`data` without personal data; the very same bytes when there was none. An answer with some loses its `logprobs`."""
    before = hiding.count
    if sse.looks_like_events(data):
        hidden = _hide_in_events(data, hiding)
    else:
        text, charset = _text(data)
        hidden_text = _hide_in_json(text, hiding) if text.lstrip("\ufeff \t\r\n")[:1] in ("{", "[", '"') else hiding.text(text)
        hidden = data if hidden_text == text else hidden_text.encode(charset)
        if hiding.count > before and b'"logprobs"' in hidden:
            hidden = _without_logprobs(hidden)
    return hidden


def _text(data: bytes) -> tuple[str, str]:
    try:
        return data.decode(), "utf-8"
    except UnicodeDecodeError:
        return data.decode("latin-1"), "latin-1"


def _hide_in_json(text: str, hiding: Hiding, depth: int = 0) -> str:
    """JSON text with its strings cleaned one by one; what stands between them is numbers and signs, or no JSON at all."""
    pieces, position = [], 0
    for match in _LITERAL.finditer(text):
        pieces += [_between(text[position : match.start()], hiding), _hide_in_literal(match[0], bool(match[1]), hiding, depth)]
        position = match.end()
    return "".join([*pieces, _between(text[position:], hiding)])


def _between(text: str, hiding: Hiding) -> str:
    return text if _NUMBER.fullmatch(text) else hiding.text(text)


def _hide_in_literal(literal: str, is_whole: bool, hiding: Hiding, depth: int) -> str:
    if "\\" not in literal:
        said = literal[1:-1] if is_whole else literal[1:]
    else:
        try:
            said = json.loads(literal if is_whole else literal + '"', strict=False)
        except ValueError:  # an escape that is none
            return hiding.text(literal)
    hidden = _hide_in_string(said, hiding, depth)
    if hidden == said:
        return literal
    written = json.dumps(hidden, ensure_ascii=literal.isascii() or not _is_encodable(hidden))
    return written if is_whole else written[:-1]


def _hide_in_string(said: str, hiding: Hiding, depth: int = 0) -> str:
    if _ENCODED.fullmatch(said):
        return said  # a file
    if depth < _DEEPEST and '"' in said and said.lstrip()[:1] in ("{", "["):
        return _hide_in_json(said, hiding, depth + 1)  # such as the arguments of a tool call
    return hiding.text(said)


def _is_encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


@dataclasses.dataclass(slots=True)
class _Line:
    """A line of a stream; `value` is its event, None when it has none that can be read."""

    raw: bytes
    prefix: bytes = b""
    suffix: bytes = b""
    value: Any = None
    is_changed: bool = False


def _hide_in_events(data: bytes, hiding: Hiding) -> bytes:
    """What the events of a stream say is joined as a client joins it; where a datum is in it, the first event says it all."""
    before = hiding.count
    lines = [_line(raw) for raw in data.splitlines(keepends=True)]
    spoken: dict[tuple[Any, ...], list[tuple[_Line, Any, Any]]] = {}
    for line in lines:
        for path, holder, key in _strings(line.value):
            name = (*path, len(spoken)) if path and path[-1] in _NOT_SPOKEN else path
            spoken.setdefault(name, []).append((line, holder, key))
    for places in spoken.values():
        whole = "".join(holder[key] for _, holder, key in places)
        hidden = _hide_in_string(whole, hiding)
        if hidden == whole:
            continue
        for number, (line, holder, key) in enumerate(places):
            holder[key] = hidden if number == 0 else ""
            line.is_changed = True
    for line in lines:
        if line.value is None and (clean := _hide_in_line(line.raw, hiding)) != line.raw:
            line.raw = clean
    if hiding.count > before:
        for line in lines:
            line.is_changed = _drop_logprobs(line.value) or line.is_changed
    return b"".join(_written(line) if line.is_changed else line.raw for line in lines)


def _line(raw: bytes) -> _Line:
    match = _DATA_LINE.fullmatch(raw)
    if match is None or match[2][:1] not in (b"{", b"["):
        return _Line(raw)
    try:
        return _Line(raw, match[1], match[3], json.loads(match[2]))
    except (ValueError, RecursionError):
        return _Line(raw)


def _hide_in_line(raw: bytes, hiding: Hiding) -> bytes:
    text, charset = _text(raw)
    return _hide_in_json(text, hiding).encode(charset)


def _written(line: _Line) -> bytes:
    return line.prefix + json.dumps(line.value, separators=(",", ":")).encode() + line.suffix


def _strings(value: Any) -> Iterator[tuple[tuple[Any, ...], Any, Any]]:
    """Every string of an event as (path, what holds it, its key there); list elements count by their own index."""
    waiting: list[tuple[tuple[Any, ...], Any]] = [((), value)]
    while waiting:
        path, holder = waiting.pop()
        if isinstance(holder, dict):
            here = (*path, *((name, holder[name]) for name in _PLACES if isinstance(holder.get(name), int | str)))
            items: Any = holder.items()
        elif isinstance(holder, list):
            here, items = path, enumerate(holder)
        else:
            continue
        for key, item in items:
            if key == _LOGPROBS:
                continue
            place = "" if isinstance(holder, list) and isinstance(item, dict) and "index" in item else key
            if isinstance(item, str):
                yield (*here, place), holder, key
            elif isinstance(item, dict | list):
                waiting.append(((*here, place), item))


def _drop_logprobs(value: Any) -> bool:
    """Empties every `logprobs`, which spells the answer out token by token; whether there was one."""
    is_found, waiting = False, [value]
    while waiting:
        holder = waiting.pop()
        if isinstance(holder, dict):
            if holder.get(_LOGPROBS):
                holder[_LOGPROBS] = None
                is_found = True
            waiting += holder.values()
        elif isinstance(holder, list):
            waiting += holder
    return is_found


def _without_logprobs(data: bytes) -> bytes:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return data
    return json.dumps(value, separators=(",", ":")).encode() if _drop_logprobs(value) else data
