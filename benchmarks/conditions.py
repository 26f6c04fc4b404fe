"""Under what conditions a run was made: machine, versions, load by others."""

from __future__ import annotations

import os
import platform
import re
import sqlite3
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

_LIBRARIES = ("aiohttp", "uvloop", "msgspec", "SQLAlchemy", "scikit-learn")


@dataclass(frozen=True, slots=True)
class Conditions:
    """`load_before` and `load_after` are 1-minute averages; `foreign_cores` is how many cores others kept busy."""

    date: str
    machine: str
    python: str
    versions: str
    disk: str
    load_before: float
    load_after: float
    foreign_cores: float
    seconds: float

    def as_lines(self) -> list[str]:
        """One Markdown list item for each condition."""
        return [
            f"- Date: {self.date}; the whole run took {self.seconds:.0f} s.",
            f"- Machine: {self.machine}; temporary files on {self.disk}.",
            f"- Versions: {self.python}; {self.versions}.",
            f"- Load average (1 minute) {self.load_before:.1f} before and {self.load_after:.1f} after; other processes kept "
            f"{self.foreign_cores:.1f} cores busy meanwhile.",
        ]


def describe(load_before: float, foreign_cores: float, seconds: float) -> Conditions:
    """The conditions of a run that has just ended."""
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    cores = len(os.sched_getaffinity(0))
    return Conditions(
        date=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        machine=f"{_processor()}, {cores} cores, {memory_gib:.0f} GiB, {platform.system()} {platform.release()}",
        python=f"Python {platform.python_version()}",
        versions=", ".join((*(f"{name} {version(name)}" for name in _LIBRARIES), f"SQLite {sqlite3.sqlite_version}")),
        disk=_file_system(Path(tempfile.gettempdir()).resolve()),
        load_before=load_before,
        load_after=os.getloadavg()[0],
        foreign_cores=foreign_cores,
        seconds=seconds,
    )


def _processor() -> str:
    found = re.search(r"^model name\s*:\s*(.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return found.group(1) if found else platform.machine()


def _file_system(folder: Path) -> str:
    """The kind of file system that holds `folder`."""
    mounts = [line.split()[1:3] for line in Path("/proc/mounts").read_text().splitlines()]
    holding = [(len(place), kind) for place, kind in mounts if folder.is_relative_to(place)]
    return max(holding)[1]
