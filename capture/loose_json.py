"""JSON from strangers: any damage is one kind of error, and a wrong shape reads as nothing."""

from __future__ import annotations

import json
from typing import Any

import msgspec

_MOST_DIGITS = 4_000
_BOM = b"\xef\xbb\xbf"
_decode = msgspec.json.Decoder().decode


def parse(data: bytes) -> Any:
    """The value of `data`; ValueError for everything that is not JSON, and for nesting too deep to read."""
    try:
        return _decode(data)
    except (ValueError, RecursionError):
        pass
    try:
        # Slower, but it takes what others write: a byte order mark, half surrogate pairs, NaN, huge numbers.
        return json.loads(data.removeprefix(_BOM).decode("utf-8", "replace"), parse_int=_number)
    except RecursionError as error:
        raise ValueError("nested too deep") from error


def is_cut(data: bytes) -> bool:
    """Whether `data` is JSON as far as it goes, but ends too early. Nothing at all is cut, too."""
    try:
        _decode(data)
    except msgspec.DecodeError as error:
        return "truncated" in str(error)  # msgspec tells it in words only
    except (ValueError, RecursionError):
        pass
    return False


def _number(digits: str) -> float:
    """Python refuses to make integers of thousands of digits."""
    return int(digits) if len(digits) < _MOST_DIGITS else float(digits)


def compact(value: object) -> str:
    """`value` as JSON without blanks; what is nested too deep to be written says so instead."""
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    except RecursionError:
        return '"nested too deep"'


def is_valid(text: str) -> bool:
    """Whether `text` is one whole JSON value."""
    try:
        parse(text.encode("utf-8", "replace"))
    except ValueError:
        return False
    return True


def as_object(value: object) -> dict[str, Any]:
    """`value` when it is an object, else an empty one."""
    return value if isinstance(value, dict) else {}


def as_list(value: object) -> list[Any]:
    """`value` when it is an array, else an empty one."""
    return value if isinstance(value, list) else []


def as_text(value: object) -> str:
    """`value` when it is a string, else ''."""
    return value if isinstance(value, str) else ""


def as_count(value: object) -> int | None:
    """`value` when it is a whole number that fits a store column, else None."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return int(value) if 0 <= value < 2**63 and value == int(value) else None


def whole(text: str) -> str:
    """`text` as valid Unicode: halves of a surrogate pair that came in two events are joined, lone ones replaced."""
    if text.isascii():
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def clean_text(text: str) -> str:
    """`text` as both stores accept it."""
    return whole(text).replace("\0", "\ufffd")
