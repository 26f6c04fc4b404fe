"""What `potstill doctor` says about one part of the installation."""

from __future__ import annotations

from dataclasses import dataclass

OK, NOTE, BAD = "ok", "note", "bad"


@dataclass(frozen=True, slots=True)
class Finding:
    """One part looked at. `verdict` is ok, note (works, worth knowing) or bad; `next_step` is empty when ok."""

    check: str
    verdict: str
    what: str
    next_step: str = ""
