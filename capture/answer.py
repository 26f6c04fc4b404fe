"""What a response body says, before it is joined with its request."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from capture.loose_json import as_count, as_object, as_text, compact, whole
from capture.messages import MISSING, REPORTED, Message, Usage

NO_USAGE = Usage(None, None, MISSING)


@dataclass(frozen=True, slots=True)
class Answer:
    """A response read by one of the formats; fields as in `capture.assemble.Assembled`.

    `is_readable` is False when some of it was lost because it is not what the format writes.
    """

    message: Message | None = None
    model: str = ""
    finish_reason: str = ""
    usage: Usage = NO_USAGE
    is_terminal: bool = False
    error: str = ""
    is_readable: bool = True


def error_text(error: object) -> str:
    """The message of a provider's error object, '' when there is none."""
    if not error:
        return ""
    details = as_object(error)
    text = as_text(error) or as_text(details.get("message")) or as_text(details.get("type")) or compact(error)
    return whole(text)


def openai_usage(usage: Mapping[str, Any]) -> Usage:
    """The usage object of OpenAI and its imitators, who name the same counts differently."""
    asked = as_object(usage.get("prompt_tokens_details")) or as_object(usage.get("input_tokens_details"))
    answered = as_object(usage.get("completion_tokens_details")) or as_object(usage.get("output_tokens_details"))
    tokens_in = _first(usage, "prompt_tokens", "input_tokens")
    tokens_out = _first(usage, "completion_tokens", "output_tokens")
    cached = _first(asked, "cached_tokens")
    if cached is None:
        cached = _first(usage, "prompt_cache_hit_tokens", "cached_tokens", "num_cached_tokens")
    written = _first(asked, "cache_write_tokens", "cache_creation_tokens")
    if written is None:
        written = _first(usage, "cache_creation_input_tokens")
    reasoning = _first(answered, "reasoning_tokens")
    if reasoning is None:
        reasoning = _first(usage, "reasoning_tokens") or 0
    if reasoning and tokens_out and usage.get("total_tokens") == (tokens_in or 0) + tokens_out + reasoning:
        tokens_out += reasoning  # xAI counts reasoning beside the completion; only the total tells
    return usage_of(tokens_in, tokens_out, cached or 0, written or 0, reasoning)


def usage_of(tokens_in: int | None, tokens_out: int | None, cached: int = 0, written: int = 0, reasoning: int = 0) -> Usage:
    """Counts of a provider, missing unless both sides are there. A part that is said to exceed its whole is cut to it."""
    source = MISSING if tokens_in is None or tokens_out is None else REPORTED
    cached = min(cached, tokens_in or 0)
    written = min(written, (tokens_in or 0) - cached)
    return Usage(tokens_in, tokens_out, source, cached, written, min(reasoning, tokens_out or 0))


def _first(counts: Mapping[str, Any], *names: str) -> int | None:
    """The first of `names` that is a count."""
    for name in names:
        count = as_count(counts.get(name))
        if count is not None:
            return count
    return None
