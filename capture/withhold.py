"""Leaves the content of an exchange out: what is stored then are its figures, its names and its tags, nothing that was said."""

from __future__ import annotations

import dataclasses

import msgspec

from capture.cleaned import Cleaned
from capture.exchange import OMITTED, Exchange

_KEPT_HEADERS = frozenset(("content-type", "request-id", "x-request-id", "retry-after", "openai-processing-ms"))


def withhold(exchange: Exchange) -> Exchange:
    """`exchange` without query, error text, answer and hash of its input, marked as omitted."""
    return dataclasses.replace(exchange, query="", error_message="", input_hash="", output_text="", content=OMITTED)


def kept_headers(headers: dict[str, str]) -> dict[str, str]:
    """Of a response's headers (lower case) those that a provider writes by itself, to ask it about the request."""
    return {name: value for name, value in headers.items() if name in _KEPT_HEADERS}


def without_content(cleaned: Cleaned) -> Cleaned:
    """The records of an exchange without bodies, request headers, query and error text, for its dead letter."""
    begin = msgspec.structs.replace(cleaned.begin, body=b"", query="", request_headers={})
    head, end = cleaned.head, cleaned.end
    if head is not None:
        head = msgspec.structs.replace(head, response_headers=kept_headers(head.response_headers))
    if end is not None:
        end = msgspec.structs.replace(end, error_message="", request_sha256="", response_sha256="")
    return dataclasses.replace(cleaned, begin=begin, head=head, request=b"", response=b"", end=end)
