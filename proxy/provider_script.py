"""What a request may ask of the scripted provider by its header `x-script`: faults, delays and odd answers."""

from __future__ import annotations

import base64
import binascii
import difflib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

HEADER = "x-script"


class ScriptError(ValueError):
    """The header `x-script` cannot be read."""


@dataclass(frozen=True, slots=True)
class Script:
    """The faults of one answer; the defaults are an answer without any. Times are in milliseconds, sizes in bytes of the body."""

    delay_ms: float = 0.0
    """Silence before the response headers."""
    chunk_delay_ms: float = 0.0
    """Silence between two pieces of the body."""
    cut_after_bytes: int = -1
    """The connection is dropped when this much of the body (as sent, so after gzip) is out; -1 is never."""
    reset: bool = False
    """A cut is a TCP reset in place of a close."""
    status: int = 0
    """An error of the family with this status, such as 429, 500, 503, 529; 0 is none."""
    retry_after: float = -1.0
    """Seconds in the header `retry-after`; -1 sends 1 with 429, 503 and 529 and none with others."""
    split: bool = False
    """One byte per chunk, so that characters, lines and events are torn apart."""
    in_band_error: bool = False
    """The answer has status 200 and turns into an error in the middle."""
    no_done: bool = False
    """A stream ends without its last event (`[DONE]`, `message_stop`)."""
    usage: int = -1
    """0 leaves the usage out everywhere, 1 sends it in a stream that did not ask; -1 does as asked."""
    gzip: bool = False
    """The body is gzip, flushed at every piece, with the header `content-encoding`."""
    body_bytes: int = 0
    """The answer's text is filled up to this size."""
    stall: str = ""
    """`headers` never answers, `body` falls silent after the first piece; until the client goes away."""
    text: str | None = None
    """The answer's text, word for word."""
    finish: str = ""
    """`stop`, `length`, `refusal` in place of what would be true."""
    tools: bool = False
    """Calls the first tool even when the prompt does not ask for it."""
    nonce: str = ""
    """Decides the teacher's slips in place of the count of equal requests."""
    pings: int = 1
    """How many `ping` events a stream of the Anthropic family begins with."""
    raw: tuple[bytes, ...] = ()
    """Exactly these pieces (base64 in the header) in place of an answer, whatever was asked."""
    content_type: str = "text/event-stream; charset=utf-8"
    """The content type of `raw`."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """More response headers; they win over the provider's own."""


_DEFAULTS = Script()
_WORDS = {"stall": ("", "headers", "body"), "finish": ("", "stop", "length", "refusal")}


def parse_script(text: str) -> Script:
    """The script in a header's `text`: a JSON object, or `key=value` separated by commas, semicolons or blanks.

    ScriptError names what is not understood.
    """
    if not text.strip():
        return _DEFAULTS
    raw = _read_json(text) if text.lstrip().startswith("{") else _read_pairs(text)
    known = [each.name for each in fields(Script)]
    for key in raw:
        if key not in known:
            nearest = difflib.get_close_matches(key, known, 1)
            raise ScriptError(f"x-script does not know {key!r}" + (f"; did you mean {nearest[0]!r}?" if nearest else "."))
    script = Script(**{key: _value(key, value) for key, value in raw.items()})
    if script.status and not (200 if script.raw else 400) <= script.status <= 599:
        raise ScriptError(f"x-script has a bad value for 'status': {script.status} (400 to 599, with raw also less)")
    return script


def _read_json(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError as error:
        raise ScriptError(f"x-script is not JSON: {error}") from error
    assert isinstance(found, dict)  # it begins with a brace
    return found


def _read_pairs(text: str) -> dict[str, Any]:
    pairs = [pair.partition("=") for pair in text.replace(",", " ").replace(";", " ").split()]
    return {key: value if sign else "1" for key, sign, value in pairs}


def _value(key: str, value: Any) -> Any:
    default = getattr(_DEFAULTS, key)
    try:
        if key == "raw":
            return tuple(base64.b64decode(piece, validate=True) for piece in ([value] if isinstance(value, str) else value))
        if key == "headers":
            return {str(name): str(each) for name, each in value.items()}
        if isinstance(default, bool):
            return {"1": True, "true": True, "0": False, "false": False}[str(value).lower()]
        if key in _WORDS and value not in _WORDS[key]:
            raise ValueError(value)
        return str(value) if key == "text" else type(default)(value)
    except (ValueError, TypeError, KeyError, AttributeError, binascii.Error) as error:
        raise ScriptError(f"x-script has a bad value for {key!r}: {value!r}") from error
