"""How capture is doing right now: traffic of the last minutes, what was lost, and how far the store is behind the spool."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import text

from capture import ids
from capture.database import Database
from capture.exchange import COMPLETE
from capture.spool import SEGMENT_SUFFIX, segment_name

WINDOW_US = 60_000_000
"""Traffic of how long ago counts."""
_MOST = 20_000
_SLACK_US = 2_000_000


@dataclass(frozen=True, slots=True)
class Health:
    """`rate` is in exchanges per second, latencies are nearest-rank percentiles in microseconds, None without exchanges.

    `errors` counts what did not reach the client whole with a 2xx status. `lost` and `dead_letters` count since the store
    was made. `behind_us` is how long ago the store last looked at a spool in which something has come since; of a spool that
    it never looked at, how old its oldest segment is. 0 when that is within two seconds or nothing waits.
    """

    exchanges: int
    rate: float
    p50_us: int | None
    p95_us: int | None
    errors: int
    lost: int
    dead_letters: int
    behind_us: int


def read_health(database: Database, spool_root: Path, *, now_us: int, window_us: int = WINDOW_US) -> Health:
    """The state of things at `now_us`, from at most the last 20,000 exchanges in the window."""
    since = ids.format_id("ex", max((now_us - window_us) // 1000, 0).to_bytes(6, "big") + bytes(10))
    with database.read() as connection:
        rows = connection.execute(
            text("SELECT id, status, state, latency_us FROM exchanges WHERE id >= :since ORDER BY id DESC LIMIT :most"),
            {"since": since, "most": _MOST},
        ).all()
        lost = connection.execute(text("SELECT coalesce(sum(lost), 0) FROM gaps")).scalar_one()
        dead_letters = connection.execute(text("SELECT count(*) FROM dead_letters")).scalar_one()
        spools = connection.execute(text("SELECT spool_id, segment, position, updated_us FROM spools")).all()
    if len(rows) == _MOST:
        window_us = max(now_us - int.from_bytes(ids.parse_id(rows[-1][0])[:6], "big") * 1000, 1)
    latencies = sorted(row[3] for row in rows if row[3] is not None)
    return Health(
        exchanges=len(rows),
        rate=len(rows) / (window_us / 1_000_000),
        p50_us=percentile(latencies, 0.50),
        p95_us=percentile(latencies, 0.95),
        errors=sum(not (row[2] == COMPLETE and 200 <= row[1] < 300) for row in rows),
        lost=int(lost),
        dead_letters=int(dead_letters),
        behind_us=_behind_us(spool_root, {row[0]: (row[1], row[2], row[3]) for row in spools}, now_us),
    )


def percentile(ordered: Sequence[int], share: float) -> int | None:
    """The nearest-rank percentile of ascending values; None when there are none."""
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)] if ordered else None


def _behind_us(spool_root: Path, read: dict[str, tuple[int, int, int]], now_us: int) -> int:
    behind = 0
    folders = [path for path in spool_root.iterdir() if path.name.startswith("sp_")] if spool_root.is_dir() else []
    for folder in folders:
        try:
            segments = [(path.name, path.stat()) for path in sorted(folder.glob(f"*{SEGMENT_SUFFIX}"))]
        except FileNotFoundError:
            continue  # the store writer has just taken it away
        number, position, looked_us = read.get(folder.name, (0, 0, 0))
        waiting = [seen for name, seen in segments if seen.st_size > (position if name == segment_name(number) else 0)]
        waiting = [seen for seen in waiting if seen.st_mtime_ns // 1000 > looked_us]  # else open exchanges, looked at already
        if waiting:
            behind = max(behind, now_us - (looked_us or min(seen.st_mtime_ns for seen in waiting) // 1000))
    return behind if behind > _SLACK_US else 0
