"""Numbers as people read them: times, durations, counts, money and shares, each in few cells and always with a unit."""

from __future__ import annotations

from datetime import datetime

UNKNOWN = "-"


def clock_time(us: int) -> str:
    """Local time of day of `us`, microseconds since 1970: `12:04:31`."""
    return datetime.fromtimestamp(us / 1_000_000).astimezone().strftime("%H:%M:%S")


def moment(us: int) -> str:
    """Local day and time of `us`: `1 Jan 2026 12:04:31`."""
    return datetime.fromtimestamp(us / 1_000_000).astimezone().strftime("%d %b %Y %H:%M:%S").lstrip("0")


def duration(us: float | None) -> str:
    """A duration of `us` microseconds in at most five cells: `412ms`, `1.2s`, `5m20`; unknown is `-`."""
    if us is None:
        return UNKNOWN
    ms = us / 1_000
    if ms < 999.5:
        return f"{ms:.0f}ms"
    seconds = ms / 1_000
    if seconds < 9.95:
        return f"{seconds:.1f}s"
    if seconds < 99.5:
        return f"{seconds:.0f}s"
    return f"{seconds // 60:.0f}m{seconds % 60:02.0f}"


def ago(then_us: int, now_us: int) -> str:
    """How long before `now_us` the moment `then_us` was, in the largest whole unit: `4 min ago`."""
    seconds = max((now_us - then_us) // 1_000_000, 0)
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size} {unit} ago"
    return f"{seconds} s ago"


def count(number: int | None) -> str:
    """`number` in at most five cells: `842`, `2.1k`, `18k`, `1.2M`; unknown is `-`."""
    if number is None:
        return UNKNOWN
    if number < 1_000:
        return str(number)
    if number < 9_950:
        return f"{number / 1_000:.1f}k"
    if number < 999_500:
        return f"{number / 1_000:.0f}k"
    return f"{number / 1_000_000:.1f}M"


def money(microusd: float | None) -> str:
    """Micro-dollars in at most seven cells: `$.00004`, `$.0011`, `$12.34`; unknown is `-`, never $0."""
    if microusd is None:
        return UNKNOWN
    usd = microusd / 1_000_000
    if usd < 0.99995:
        return "$0" if usd == 0 else f"${usd:.{5 if usd < 0.00095 else 4}f}".replace("$0.", "$.")
    return f"${usd:.2f}" if usd < 1_000 else f"${usd:,.0f}"


def share(basis_points: int) -> str:
    """A share of `basis_points` (1/100 of a percent): `25%`, `2.5%`."""
    return f"{basis_points / 100:g}%"


def characters(number: int) -> str:
    """`number` with its noun: `1 character`, `1,024 characters`."""
    return "1 character" if number == 1 else f"{number:,} characters"
