"""Where a request carries a key, and whether that is a virtual key of ours: `ps-<id>-<43 characters>`. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import unquote

CARRIERS = ("authorization", "x-api-key", "api-key", "x-goog-api-key")
"""Request headers in which a client may send a key, first come first served."""
START, ID_LETTERS = "ps-", 12
_KEY = rf"{START}([0-9a-z]{{{ID_LETTERS}}})-[A-Za-z0-9_-]{{43}}"
_SHAPE = re.compile(rf"(?:[Bb]earer +)?({_KEY})\Z")
_ANYWHERE = re.compile(_KEY)
_MOST_DECODED = 3


def find_key(headers: Mapping[str, str]) -> tuple[str, str]:
    """The virtual key that a request carries and its id; ('', '') when it carries none."""
    for name in CARRIERS:
        value = headers.get(name)
        if value is not None and START in value and (found := _SHAPE.match(value.strip())) is not None:
            return found[1], found[2]
    return "", ""


def is_virtual(credential: str) -> bool:
    """Whether the value of a header is a virtual key, known to us or not. Such a one goes nowhere."""
    return START in credential and _SHAPE.match(credential.strip()) is not None


def has_virtual(target: str) -> bool:
    """Whether a virtual key stands anywhere in the target of a request, however it is encoded."""
    for _ in range(_MOST_DECODED):
        if START in target and _ANYWHERE.search(target) is not None:
            return True
        if "%" not in target:
            return False
        target = unquote(target)
    return _ANYWHERE.search(target) is not None
