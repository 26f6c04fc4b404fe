"""Takes the strings and numbers out of JSON text and puts others in their place; all else stays byte for byte."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from capture.loose_json import is_valid

_LITERAL = re.compile(r'"(?:[^"\\]|\\.)*"|-?\d[\d.eE+-]*', re.DOTALL)


def is_json(text: str) -> bool:
    """Whether `text` is one whole JSON object or array."""
    return text.lstrip().startswith(("{", "[")) and is_valid(text)


def literals(text: str) -> list[str]:
    """The strings (decoded) and numbers (as written) of valid JSON `text`, names of members too, in order."""
    return [json.loads(found, strict=False) if found[0] == '"' else found for found in _LITERAL.findall(text)]


def with_literals(text: str, values: Sequence[str]) -> str:
    """JSON `text` with `values` where `literals` found others; one that did not change stays as it was written.

    A number that changed becomes a string.
    """
    rest = iter(zip(literals(text), values, strict=True))

    def written(match: re.Match[str]) -> str:
        before, after = next(rest)
        return match.group() if before == after else json.dumps(after, ensure_ascii=False)

    return _LITERAL.sub(written, text)
