"""Which variant a request gets: a pure function of a snapshot of the flags and the request's units.

A unit (a conversation, a user, a session) keeps its variant: its keyed BLAKE2b-64 is a fixed point in [0, 1) and it is
on the candidate when that point lies below the share. The key is the salt of the experiment, so a growing share only
moves units to the candidate, and two experiments divide the same units independently.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from hashlib import blake2b

from capture.exchange import BASELINE, CANDIDATE

WHOLE_BP = 10_000
"""A share of everything, in basis points."""
AUTO = "auto"
UNITS = ("conversation", "user", "session")
"""Units that a flag may stick to; `auto` takes the first of them that a request has."""


@dataclass(frozen=True, slots=True)
class Flag:
    """The routing rule of one task: `share_bp` basis points of its units go to `release_id`.

    `revision` is the flag change that put it in force; `salt` names the experiment.
    """

    task: str
    release_id: str
    engine_model: str
    share_bp: int
    unit: str
    salt: str
    revision: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All flags as of `revision`, by task."""

    revision: int = 0
    flags: Mapping[str, Flag] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Assignment:
    """The variant that one request got, and the unit that decided it.

    `variant` is '' for a task without a flag. `release_id` and `engine_model` are set for the candidate only.
    """

    variant: str = ""
    release_id: str = ""
    engine_model: str = ""
    flag_revision: int = 0
    unit: str = ""
    unit_source: str = ""


_UNFLAGGED = Assignment()


def assign(snapshot: Snapshot, task: str, units: Mapping[str, str]) -> Assignment:
    """The variant for a request of `task` with `units` (such as {"user": "u7"}; empty values count as absent).

    A request without the unit that the flag sticks to gets the baseline.
    """
    flag = snapshot.flags.get(task)
    if flag is None:
        return _UNFLAGGED
    unit, source = _pick(flag.unit, units)
    if not unit or not is_candidate(unit, flag.salt, flag.share_bp):
        return Assignment(BASELINE, "", "", flag.revision, unit, source)
    return Assignment(CANDIDATE, flag.release_id, flag.engine_model, flag.revision, unit, source)


def is_candidate(unit: str, salt: str, share_bp: int) -> bool:
    """True when the point of `unit` under `salt` lies below the share; exact in integers, so 10,000 is everyone."""
    return point(unit, salt) * WHOLE_BP < share_bp << 64


def point(unit: str, salt: str) -> int:
    """Where `unit` falls under `salt`: uniform in [0, 2**64). `salt` has at most 64 bytes.

    A unit comes from a request, so it may hold anything, even half a surrogate pair.
    """
    return int.from_bytes(blake2b(unit.encode("utf-8", "surrogatepass"), digest_size=8, key=salt.encode()).digest(), "big")


def withdrawn(snapshot: Snapshot) -> Snapshot:
    """`snapshot` with every share at 0, for when the flags cannot be trusted any more.

    Revisions become 0, so that what happens meanwhile counts towards no experiment.
    """
    flags = {task: replace(flag, share_bp=0, revision=0) for task, flag in snapshot.flags.items()}
    return Snapshot(snapshot.revision, flags)


def _pick(unit: str, units: Mapping[str, str]) -> tuple[str, str]:
    for source in UNITS if unit == AUTO else (unit,):
        if value := units.get(source, ""):
            return value, source
    return "", ""
