"""Reads single values out of log records, where a number, a time or an object may stand as text (CSV, blob exports)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from capture import loose_json
from capture.loose_json import whole

MOST_TEXT, MOST_KEY, MOST_TAGS = 512, 64, 64
"""Longest name, user or tag; longest key of a tag; most tags of an exchange. The relay keeps as much."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST_US = 253_402_300_799_000_000  # the end of the year 9999
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_UNITS_US = ((1e17, 0.001), (1e14, 1.0), (1e11, 1_000.0), (0.0, 1_000_000.0))
"""From which number on a time counts nanoseconds, microseconds, milliseconds, seconds; and how many microseconds one is."""


def pick(record: Mapping[str, Any], *names: str) -> Any:
    """The first value under one of `names` that is not missing, null or ''."""
    for name in names:
        value = record.get(name)
        if value is not None and value != "":
            return value
    return None


def unpacked(value: Any) -> Any:
    """`value`, or what it holds when it is JSON of an object, a list or a string as text; doubled quotes are undone."""
    if not isinstance(value, str) or value.lstrip()[:1] not in ("{", "[", '"'):
        return value
    # Helicone's exporter doubles the quotes of a CSV field once more than CSV asks for.
    for text in (value, value.replace('""', '"')):
        try:
            return loose_json.parse(text.encode("utf-8", "replace"))
        except ValueError:
            continue
    return value


def as_object(value: Any) -> dict[str, Any]:
    """The object in `value`, packed as text or not; an empty one when it holds none."""
    return loose_json.as_object(unpacked(value))


def as_list(value: Any) -> list[Any]:
    """The list in `value`, packed as text or not; an empty one when it holds none."""
    return loose_json.as_list(unpacked(value))


def as_text(value: Any) -> str:
    """`value` as a short, printable text: strings and numbers as they are, objects and lists as JSON, null as ''."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    text = value if isinstance(value, str) else json_text(value)
    return _UNPRINTABLE.sub("\ufffd", whole(text[: MOST_TEXT * 2]))[:MOST_TEXT]


def as_count(value: Any) -> int | None:
    """A whole number that is not negative, as number or digits; None for anything else."""
    if isinstance(value, str):
        value = value.strip()
        if not (value.isascii() and value.replace(".", "", 1).isdigit() and len(value) < 20):
            return None
        value = float(value) if "." in value else int(value)
    return loose_json.as_count(value)


def as_number(value: Any) -> float | None:
    """A finite number that is not negative, as number or text; None for anything else."""
    if isinstance(value, str) and len(value) < 40:
        try:
            value = float(value)
        except ValueError:
            return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e15:
        return None
    return float(value)


def time_us(value: Any) -> int | None:
    """UTC microseconds of an ISO 8601 time (UTC when it names no zone) or of seconds to nanoseconds since 1970."""
    if (number := as_number(value) if not isinstance(value, int | float) else _number(value)) is not None:
        factor = next(factor for least, factor in _UNITS_US if number >= least)
        found = round(number * factor)
    elif isinstance(value, str) and len(value) < 60:
        try:
            moment = datetime.fromisoformat(value.strip().strip('"').replace(" UTC", "+00:00"))
            moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
            found = (moment - _EPOCH) // timedelta(microseconds=1)
        except (ValueError, OverflowError):
            return None
    else:
        return None
    return found if 0 < found <= _LATEST_US else None


def tags(*sources: Mapping[str, Any]) -> dict[str, str]:
    """Tags that the store takes from other people's metadata: the first source wins, what is beyond the limits is left out."""
    found: dict[str, str] = {}
    for source in sources:
        for key, value in source.items():
            name = re.sub(r"[^a-z0-9_.-]+", "-", str(key).lower())[:MOST_KEY].strip("-.")
            text = as_text(value)
            if name and text and len(found) < MOST_TAGS - 2:  # two are our own
                found.setdefault(name, text)
    return found


def labels(values: Iterable[Any]) -> dict[str, str]:
    """Tags that are mere labels, as tags with the value `true`; `key:value` and `key=value` are taken apart."""
    found = {}
    for value in values:
        key, _, text = re.sub("=", ":", as_text(value), count=1).partition(":")
        found[key.strip()] = text.strip() or "true"
    return tags(found)


def task_name(value: Any) -> str:
    """`value` as a task name: 1 to 100 of A-Z a-z 0-9 . _ - and no dot in front; '' when nothing is left."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", as_text(value)).strip("-.")[:100]


def body(value: Any) -> bytes:
    """`value` as JSON without blanks, in UTF-8; what UTF-8 cannot carry stands as escapes."""
    try:
        return msgspec.json.encode(value)
    except (UnicodeEncodeError, TypeError, ValueError, OverflowError):
        return json_text(value, only_ascii=True).encode()


def json_text(value: Any, *, only_ascii: bool = False) -> str:
    """`value` as JSON text without blanks."""
    import json

    return json.dumps(value, ensure_ascii=only_ascii, separators=(",", ":"), default=str)


def _number(value: float) -> float | None:
    return None if isinstance(value, bool) or not 0 < value < 1e20 else float(value)
