"""What a response body says, before it is joined with its request."""

from __future__ import annotations

from dataclasses import dataclass

from capture.ids import content_hash
from capture.loose_json import as_object, as_text, compact, whole
from capture.messages import Message


@dataclass(frozen=True, slots=True)
class Answer:
    """A response read by one of the formats; fields as in `capture.assemble.Assembled`."""

    message: Message | None = None
    model: str = ""
    finish_reason: str = ""
    tokens_in: int | None = None
    tokens_out: int | None = None
    tokens_cached: int = 0
    tokens_cache_written: int = 0
    is_terminal: bool = False
    error: str = ""


def error_text(error: object) -> str:
    """The message of a provider's error object, '' when there is none."""
    if not error:
        return ""
    details = as_object(error)
    text = as_text(error) or as_text(details.get("message")) or as_text(details.get("type")) or compact(error)
    return whole(text)


def named_part(name: str, content: object) -> str:
    """The name of a part that is not text, with enough of its content hash to tell two of them apart."""
    return f"{name}:{content_hash(compact(content).encode('utf-8', 'replace'))[3:15]}"
