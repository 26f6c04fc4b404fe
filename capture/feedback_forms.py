"""The shapes in which feedback comes, ours and those that other products' apps already send, read into notes for the spool.

    {"exchange_id": "ex_01...", "name": "helpful", "value": true, "comment": "short and right"}

One feedback may carry a value (boolean, number or category), a comment and a demonstration (the corrected answer) together;
each becomes a note of its own, so that an id that comes again never counts twice. What cannot be taken is refused whole,
with the reason.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from capture import clock, ids
from capture.demonstrations import compact_json, make_demonstration, refuse, write_message
from capture.errors import FeedbackError
from capture.loose_json import parse, whole
from capture.records import Note

BOOLEAN, FLOAT, CATEGORY, COMMENT, DEMONSTRATION = "boolean", "float", "category", "comment", "demonstration"
KINDS = (BOOLEAN, FLOAT, CATEGORY, COMMENT, DEMONSTRATION)
"""What a feedback can be. A boolean's value is 0 or 1; a category's text is its name."""

DEFAULT_NAME = "feedback"
MAX_BYTES = 256 * 1024
"""Most bytes of one request, or of one line of a file."""
MOST_AT_ONCE = 500
"""Most feedbacks of one request."""

_EXCHANGE, _SESSION, _TRACE, _WHO = "exchange_id", "session_id", "trace_id", "user"
_FIELDS: Mapping[str, str] = {
    "exchange_id": _EXCHANGE,
    "exchangeId": _EXCHANGE,
    "inference_id": _EXCHANGE,
    "session": _SESSION,
    "session_id": _SESSION,
    "sessionId": _SESSION,
    "episode_id": _SESSION,
    "trace_id": _TRACE,
    "traceId": _TRACE,
    "name": "name",
    "metric_name": "name",
    "value": "value",
    "rating": "value",
    "dataType": "data_type",
    "data_type": "data_type",
    "comment": COMMENT,
    "demonstration": DEMONSTRATION,
    "id": "id",
    "user": _WHO,
    "user_id": _WHO,
    "userId": _WHO,
    "who": _WHO,
    "tags": "tags",
    "metadata": "tags",
    "timestamp": "timestamp",
    "created_at": "timestamp",
}
_AS_TAGS = ("environment", "observationId", "configId", "queueId", "weight")
"""Fields of other products that we have no use for; they are kept as tags."""
_DATA_TYPES = {"BOOLEAN": BOOLEAN, "NUMERIC": FLOAT, "CATEGORICAL": CATEGORY, "TEXT": COMMENT}
_MAX_ID, _MAX_NAME, _MAX_WORDS, _MAX_TAGS, _MAX_TAG_KEY = 200, 100, 512, 64, 64
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MISSING = object()


@dataclass(frozen=True, slots=True)
class Given:
    """One feedback as it was given: the id by which its sender may give it again, and its notes."""

    id: str
    notes: tuple[Note, ...]


def read_feedback(data: bytes, *, source: str, exchange_id: str = "", who: str = "", id: str = "") -> list[Given]:
    """The feedback in `data`, one JSON object or a list of them; FeedbackError, and then none of them counts.

    `exchange_id`, `who` and `id` stand in where an object names none.
    """
    if len(data) > MAX_BYTES:
        refuse(f"The feedback has {len(data)} bytes, more than {MAX_BYTES}.", "Send less at once.")
    try:
        body = parse(data)
    except ValueError as error:
        raise FeedbackError(f"The feedback is not JSON: {error}.", 'Send {"exchange_id": ..., "value": ...}.') from error
    try:
        if not isinstance(body, list):
            return [make_feedback(body, source=source, exchange_id=exchange_id, who=who, id=id)]
        return _read_list(body, source, exchange_id, who, id)
    except RecursionError as error:
        raise FeedbackError("The feedback is nested too deep.", "Flatten it.") from error


def _read_list(items: list[object], source: str, exchange_id: str, who: str, id: str) -> list[Given]:
    if not 1 <= len(items) <= MOST_AT_ONCE:
        refuse(f"The list has {len(items)} feedbacks.", f"Send 1 to {MOST_AT_ONCE} at once.")
    found = []
    for place, item in enumerate(items):
        try:
            own = f"{id}.{place}" if id else ""
            found.append(make_feedback(item, source=source, exchange_id=exchange_id, who=who, id=own))
        except FeedbackError as error:
            raise FeedbackError(f"Feedback {place + 1} of {len(items)}: {error.what}", error.next_step) from error
    return found


def make_feedback(item: object, *, source: str, exchange_id: str = "", who: str = "", id: str = "") -> Given:
    """One feedback from its fields; FeedbackError. `exchange_id`, `who` and `id` stand in where `item` names none."""
    if not isinstance(item, dict):
        refuse("A feedback is an object.", 'Send {"exchange_id": ..., "value": ...}.')
    fields, tags = _sort_out(item)
    exchange, session = _about(fields, exchange_id)
    name = _words(fields, "name", _MAX_NAME) or DEFAULT_NAME
    if name in (COMMENT, DEMONSTRATION) and "value" in fields:  # as TensorZero names them
        fields.setdefault(name, fields.pop("value"))
        name = DEFAULT_NAME
    id = _words(fields, "id", _MAX_ID) or id or ids.new_id("fb")
    if "#" in id:
        refuse(f"id {id!r} has a '#'.", "Leave it out of the id.")
    said = _said(fields)
    if not said:
        refuse("The feedback says nothing.", "Give a value, a comment or a demonstration.")
    author = _words(fields, _WHO, _MAX_WORDS) or who
    when = _when(fields.get("timestamp"))
    notes = [
        Note(kind, name, value, text, exchange, session, f"{id}{suffix}", author, when, source, tags)
        for suffix, kind, value, text in said
    ]
    return Given(id, tuple(notes))


def _sort_out(item: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """The fields by our names, and the tags. null counts as absent."""
    fields: dict[str, Any] = {}
    extra: dict[str, Any] = {}
    for given, value in item.items():
        if value is None:
            continue
        if given in _AS_TAGS:
            extra[given] = value
        elif name := _FIELDS.get(given, ""):
            if name in fields and fields[name] != value:
                refuse(f"Two fields disagree on {name}.", "Give one of them.")
            fields[name] = value
        else:
            close = difflib.get_close_matches(given, _FIELDS, n=1)
            known = f"Known are {', '.join(dict.fromkeys(_FIELDS.values()))}."
            refuse(f"Field {whole(given)[:100]!r} is unknown.", f"Did you mean {close[0]}?" if close else known)
    tags = fields.pop("tags", {})
    if not isinstance(tags, dict):
        refuse("tags is not an object.", 'Give {"name": "value"}.')
    return fields, _tags({**extra, **tags})


def _tags(given: Mapping[str, Any]) -> dict[str, str]:
    found = {}
    for key, value in given.items():
        text = whole(value if isinstance(value, str) else compact_json(value, "tags"))
        if not 0 < len(key) <= _MAX_TAG_KEY or _CONTROL.search(key):
            refuse(f"A tag's name must have 1 to {_MAX_TAG_KEY} characters and no control character.", "Mend it.")
        if len(text) > _MAX_WORDS:
            refuse(f"Tag {whole(key)!r} has {len(text)} characters; at most {_MAX_WORDS} are kept.", "Shorten it.")
        found[whole(key)] = text
    if len(found) > _MAX_TAGS:
        refuse(f"The feedback has {len(found)} tags; at most {_MAX_TAGS} are kept.", "Leave some out.")
    return found


def _about(fields: Mapping[str, Any], exchange_id: str) -> tuple[str, str]:
    """Exchange and session that the feedback is about; a trace that is no exchange of ours is a session."""
    exchange = _words(fields, _EXCHANGE, _MAX_ID) or exchange_id
    session = _words(fields, _SESSION, _MAX_WORDS)
    trace = _words(fields, _TRACE, _MAX_WORDS)
    if trace and _is_exchange_id(trace):
        exchange = exchange or trace
    else:
        session = session or trace
    if exchange_id and exchange != exchange_id:
        refuse(f"The path names exchange {exchange_id!r}, the body {exchange!r}.", "Name one.")
    if not exchange and not session:
        refuse(
            "The feedback names neither an exchange nor a session.",
            "Give exchange_id, the x-potstill-exchange-id of the answer, or session_id.",
        )
    return exchange, session


def _is_exchange_id(text: str) -> bool:
    try:
        return text.startswith("ex_") and bool(ids.parse_id(text))
    except ValueError:
        return False


def _words(fields: Mapping[str, Any], name: str, most: int) -> str:
    value = fields.get(name, "")
    if not isinstance(value, str):
        refuse(f"{name} is not a text.", "Put it in quotes.")
    text = whole(value).strip()
    if len(text) > most:
        refuse(f"{name} has {len(text)} characters; at most {most} are kept.", "Shorten it.")
    if _CONTROL.search(text):
        refuse(f"{name} has a control character or a line break.", "Leave it out.")
    return text


def _said(fields: Mapping[str, Any]) -> list[tuple[str, str, float | None, str]]:
    """What the feedback says: (suffix of the id, kind, value, text) of each of its parts."""
    said: list[tuple[str, str, float | None, str]] = []
    comment = fields.get(COMMENT, _MISSING)
    if "value" in fields:
        kind, value, text = _value(fields["value"], fields.get("data_type"))
        if kind == COMMENT and comment is _MISSING:
            comment = text
        else:
            said.append(("", kind, value, text))
    if comment is not _MISSING:
        if not isinstance(comment, str):
            refuse("comment is not a text.", "Put it in quotes.")
        if comment.strip():
            said.append((f"#{COMMENT}", COMMENT, None, whole(comment)))
    if DEMONSTRATION in fields:
        said.append((f"#{DEMONSTRATION}", DEMONSTRATION, None, write_message(make_demonstration(fields[DEMONSTRATION]))))
    return said


def _value(value: object, data_type: object) -> tuple[str, float | None, str]:
    """Kind, number and text of a value."""
    wanted = _DATA_TYPES.get(data_type) if isinstance(data_type, str) else None
    if data_type is not None and wanted is None:
        refuse(f"data_type {whole(str(data_type))[:100]!r} is unknown.", f"Known are {', '.join(_DATA_TYPES)}.")
    if isinstance(value, bool):
        found: tuple[str, float | None, str] = (BOOLEAN, float(value), "")
    elif isinstance(value, int | float):
        number = _number(value)
        found = (BOOLEAN if wanted == BOOLEAN and number in (0.0, 1.0) else FLOAT, number, "")
    elif isinstance(value, str) and wanted == COMMENT:
        found = (COMMENT, None, whole(value))
    elif isinstance(value, str) and whole(value).strip():
        found = (CATEGORY, None, _words({"value": value}, "value", _MAX_WORDS))
    else:
        refuse("value is neither true or false, nor a number, nor the name of a category.", "Give one of them.")
    if wanted and wanted != found[0]:
        refuse(f"value is a {found[0]}, not {data_type}.", "Make the two agree, or leave data_type out.")
    return found


def _number(value: int | float) -> float:
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        refuse("value is not a finite number.", "Give a number that a float can hold.")
    return number


def _when(timestamp: object) -> int:
    """UTC microseconds of an ISO 8601 time; now when there is none."""
    if timestamp is None:
        return clock.now_us()
    try:
        moment = datetime.fromisoformat(timestamp) if isinstance(timestamp, str) else None
    except ValueError:
        moment = None
    if moment is None:
        refuse("timestamp is not an ISO 8601 time.", "Write it like 2026-01-31T12:00:00Z.")
    return ((moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - _EPOCH) // timedelta(microseconds=1)
