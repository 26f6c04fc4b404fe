"""What waits in the spool, for `potstill doctor` and the admin listener."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import text

from capture.database import Database
from capture.spool import SEGMENT_SUFFIX


@dataclass(frozen=True, slots=True)
class SpoolStatus:
    """Bytes and segments on disk, and in how many spools; the segment that a relay is writing counts too."""

    bytes: int
    segments: int
    spools: int


def spool_status(spool_root: Path) -> SpoolStatus:
    """What lies under `spool_root` right now; nothing when there is no such folder."""
    size = segments = 0
    folders = [path for path in spool_root.glob("sp_*") if path.is_dir()]
    for path in spool_root.glob(f"sp_*/*{SEGMENT_SUFFIX}"):
        try:
            size += path.stat().st_size
        except FileNotFoundError:
            continue  # the store writer has just taken it away
        segments += 1
    return SpoolStatus(size, segments, len(folders))


def lost_exchanges(database: Database) -> int:
    """How many exchanges could not be kept whole since the store was made, over all gaps."""
    with database.read() as connection:
        return int(connection.execute(text("SELECT COALESCE(SUM(lost), 0) FROM gaps")).scalar_one())
