"""The bill: where every selected exchange went."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from capture.errors import GateError


def make_bill(selected: int, kept: int, dropped: Counter[str]) -> dict[str, Any]:
    """Where every selected exchange went; GateError when the numbers do not add up."""
    if selected != kept + dropped.total():
        what = f"The bill does not add up: {selected} selected, {kept} kept, {dropped.total()} dropped."
        raise GateError(what, "Report this: every exchange must be kept or dropped with one reason.")
    return {"selected": selected, "kept": kept, "dropped": dict(sorted(dropped.items(), key=lambda item: (-item[1], item[0])))}


def bill_in_words(bill: Mapping[str, Any]) -> str:
    """The bill as half a sentence."""
    dropped = ", ".join(f"{count} {reason}" for reason, count in bill["dropped"].items()) or "none"
    return f"{bill['selected']} exchanges selected, {bill['kept']} kept, dropped: {dropped}"
