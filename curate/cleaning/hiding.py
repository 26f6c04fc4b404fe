"""Stands tokens in for the personal data of an example, and leaves JSON in it valid.

In JSON a datum may touch an escape (`\\nann@example.org`), be written in escapes, or be a bare number. So where it matters the
strings and numbers are looked at one by one, decoded, and written back.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

from capture.loose_json import is_valid
from curate.cleaning.json_strings import is_json, literals, with_literals
from curate.cleaning.presidio import personal
from curate.settings import CurateSettings


def hide(texts: Sequence[str], settings: CurateSettings) -> tuple[list[str], dict[str, int]]:
    """`texts` of one example with `<EMAIL_1>` and the like, the same datum with the same token, and the data by kind.

    With Presidio where `settings` want it; SettingsError where it is not installed.
    """
    hidden, counts = personal(texts, settings)
    if not any(map(_is_at_risk, texts, hidden)):
        return hidden, counts
    pieces = [literals(text) if is_json(text) else None for text in texts]
    flat = [piece for text, found in zip(texts, pieces, strict=True) for piece in ([text] if found is None else found)]
    hidden, counts = personal(flat, settings)
    rest = iter(hidden)
    whole = [
        next(rest) if found is None else with_literals(text, list(islice(rest, len(found))))
        for text, found in zip(texts, pieces, strict=True)
    ]
    return whole, counts


def _is_at_risk(text: str, hidden: str) -> bool:
    if not text.lstrip().startswith(("{", "[")):
        return False
    if text == hidden:
        return "\\u" in text and is_valid(text)
    return is_valid(text) and ("\\" in text or not is_valid(hidden))
