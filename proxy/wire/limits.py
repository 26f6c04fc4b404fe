"""What a client may take of us: sizes in bytes, patience in seconds."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one client connection."""

    body_bytes: int
    """Largest request body."""
    line_bytes: int = 8_190
    """Longest request target, and longest header with its name."""
    header_count: int = 128
    """Most headers of a request."""
    head_bytes: int = 65_536
    """Largest request head."""
    head_s: float = 30.0
    """Longest time that a request's head may take, from its first byte on."""
    body_idle_s: float = 30.0
    """Longest pause within a request's body."""
    body_total_s: float = 600.0
    """Longest time that a request's body may take."""
    keepalive_s: float = 75.0
    """How long a connection may rest between two requests."""
    stall_s: float = 300.0
    """How long a client may leave what was sent to it unread."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a request cannot be served as it stands: HTTP status, a kind to filter by, what is wrong, what to do."""

    status: int
    kind: str
    what: str
    next_step: str
    is_malformed: bool = False
    """True when not even the head could be read."""
