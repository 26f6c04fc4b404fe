"""The records of an exchange without secrets: what the store, and the dead letters beside it, are made from."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256

import msgspec

from capture import encoding
from capture.records import Begin, End, Head
from capture.redact import redact, redact_text
from capture.spool_reader import SpooledExchange

_NAMED = ("unit", "user_name", "session_name")
_WORDED = ("path", "query", "environment", "model_asked")


@dataclass(frozen=True, slots=True)
class Cleaned:
    """`request` and `response` are the bodies; `count` secrets were taken out, `in_response` of them out of the response body.

    Header names are in lower case; `content-encoding` is gone where the body is kept decoded. `notes` says what of a body
    was not kept because its content encoding hides it; `is_response_whole` is False when only a start of it was readable.
    """

    begin: Begin
    head: Head | None
    request: bytes
    response: bytes
    end: End | None
    count: int
    in_response: int
    is_response_whole: bool
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Body:
    data: bytes
    count: int
    is_plain: bool = False
    is_whole: bool = True
    is_kept: bool = True


class _Counter:
    """Takes secrets out of texts and counts them."""

    def __init__(self, texts: Iterable[str]) -> None:
        self.count = 0
        self.is_needed = redact_text("\n".join(texts))[1] > 0  # one look at all of them, because hardly any holds a secret

    def text(self, text: str) -> str:
        if not self.is_needed:
            return text
        clean, found = redact_text(text)
        self.count += found
        return clean

    def name(self, name: str) -> str:
        """Different secrets stay different names, so that people who sent one are still told apart."""
        clean = self.text(name)
        return clean if clean == name else f"{clean}#{sha256(name.encode('utf-8', 'replace')).hexdigest()[:8]}"

    def texts(self, texts: dict[str, str]) -> dict[str, str]:
        return {key: self.text(value) for key, value in texts.items()} if self.is_needed else texts


def clean(spooled: SpooledExchange) -> Cleaned:
    """Bodies are byte for byte as relayed unless a secret was in them, or their content encoding may hide one."""
    begin, head, end = spooled.begin, spooled.head, spooled.end
    counter = _Counter(_texts(begin, head, end))
    asked_headers = counter.texts(lower(begin.request_headers))
    told_headers = counter.texts(lower(head.response_headers)) if head is not None else {}
    request, request_note = _clean_body("request", spooled.request_body(), asked_headers)
    response, response_note = _clean_body("response", spooled.response_body(), told_headers)
    if counter.is_needed:
        changes = {name: counter.name(getattr(begin, name)) for name in _NAMED}
        changes |= {name: counter.text(getattr(begin, name)) for name in _WORDED}
        begin = msgspec.structs.replace(begin, tags=counter.texts(begin.tags), **changes)
        if head is not None:
            head = msgspec.structs.replace(head, model_served=counter.text(head.model_served))
        if end is not None:
            words = {"error_message": counter.text(end.error_message), "model_served": counter.text(end.model_served)}
            end = msgspec.structs.replace(end, **words)
    begin = msgspec.structs.replace(begin, body=b"", request_headers=asked_headers)
    if head is not None:
        head = msgspec.structs.replace(head, response_headers=told_headers)
    notes = tuple(note for note in (request_note, response_note) if note)
    count = counter.count + request.count + response.count
    return Cleaned(begin, head, request.data, response.data, end, count, response.count, response.is_whole, notes)


def lower(headers: dict[str, str]) -> dict[str, str]:
    """`headers` with their names in lower case."""
    return {name.lower(): value for name, value in headers.items()}


def without_encoding(headers: dict[str, str]) -> dict[str, str]:
    """`headers` (lower case) for a body that is kept decoded."""
    return {name: value for name, value in headers.items() if name != "content-encoding"}


def _texts(begin: Begin, head: Head | None, end: End | None) -> list[str]:
    texts = [begin.unit, begin.user_name, begin.session_name, begin.path, begin.query, begin.environment, begin.model_asked]
    texts += begin.tags.values()
    texts += begin.request_headers.values()
    if head is not None:
        texts += head.response_headers.values()
        texts.append(head.model_served)
    if end is not None:
        texts += (end.error_message, end.model_served)
    return texts


def _clean_body(name: str, body: bytes, headers: dict[str, str]) -> tuple[_Body, str]:
    """The body, with `headers` changed to fit it, and what was not kept of it."""
    label = headers.get("content-encoding", "")
    found = _redact_body(body, label)
    if found.is_plain:
        del headers["content-encoding"]
    if not found.is_kept:
        return found, f"The {name} body is not kept: its content encoding ({label[:50]}) cannot be read."
    return found, "" if found.is_whole else f"Of the {name} body only what could be decoded ({label[:50]}) is kept."


def _redact_body(body: bytes, label: str) -> _Body:
    """A compressed body with a secret in it is kept decoded; so is the readable start of one that cannot be read whole."""
    plain = encoding.decode(body, label) if label else encoding.Decoded(body)
    is_readable = plain.is_known and plain.is_whole
    if not label or (not is_readable and _is_text(body)):  # the latter was never compressed, whatever its header says
        found = redact(body)
        return _Body(found.data, found.count)
    if not plain.is_known:
        return _Body(b"", 0, is_kept=False)
    found = redact(plain.data)
    if found.count or not is_readable:
        return _Body(found.data, found.count, is_plain=True, is_whole=is_readable)
    return _Body(body, 0)


def _is_text(body: bytes) -> bool:
    try:
        body.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
