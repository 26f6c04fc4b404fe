"""(in work)"""

from __future__ import annotations

from dataclasses import dataclass

from capture.exchange import Conversation
from capture.messages import Usage


@dataclass(frozen=True, slots=True)
class Assembled:
    """What an exchange says."""

    conversation: Conversation
    model: str
    finish_reason: str
    usage: Usage
    is_terminal: bool
    error_in_band: str


def assemble(
    protocol: str,
    path: str,
    is_stream: bool,
    request: bytes,
    response: bytes,
    content_encoding: str,
    status: int,
    *,
    request_encoding: str = "",
) -> Assembled:
    """In work."""
    return Assembled(Conversation((), None), "", "", Usage(None, None, "missing"), True, "")
