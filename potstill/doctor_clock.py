"""Doctor's look at this machine's clock, against the clocks of those that it talks to."""

from __future__ import annotations

from datetime import UTC
from email.utils import parsedate_to_datetime

from potstill.findings import NOTE, OK, Finding

MOST_SKEW_S = 30.0


def skew_of(date_header: str, now_s: float) -> float | None:
    """By how many seconds an HTTP `Date` is ahead of `now_s` (UTC seconds since 1970); None when it is no date."""
    try:
        moment = parsedate_to_datetime(date_header)
    except (ValueError, TypeError):
        return None
    return (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).timestamp() - now_s


def judge_skew(whose: str, ahead_s: float, check: str = "clock") -> Finding:
    """Whether the clock of `whose`, `ahead_s` seconds ahead of ours, agrees with it."""
    if abs(ahead_s) <= MOST_SKEW_S:
        return Finding(check, OK, f"agrees with {whose} (within {max(1, round(abs(ahead_s)))} s)")
    words = "behind" if ahead_s > 0 else "ahead of"
    what = f"this machine's clock is {abs(ahead_s):.0f} s {words} that of {whose}."
    return Finding(
        "clock", NOTE, what, "Set the clock by NTP (timedatectl set-ntp true): times of exchanges and retention go by it."
    )
