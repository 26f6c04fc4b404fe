"""Doctor's look at the disk, the store, the spool and what capture lost."""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
from pathlib import Path
from urllib.parse import urlsplit

from sqlalchemy import text

from capture import clock
from capture.capture_settings import CaptureSettings
from capture.database import Database, open_database
from capture.health import read_health
from capture.losses import Losses, read_losses
from capture.pseudonyms import read_policy
from capture.retention import read_refusal
from capture.settings import Settings
from potstill.doctor_clock import judge_skew
from potstill.findings import BAD, NOTE, OK, Finding
from potstill.output import counted

_LEAST_FREE_GIB = 2
_LONG_WAL_MIB = 512
_RECENT_US = 7 * 86_400_000_000
_NETWORK = re.compile(
    r"nfs\d?|cifs|smb\d?|smbfs|afs|ceph|lustre|glusterfs|beegfs|gpfs|fuse\.(sshfs|s3fs|rclone|glusterfs|gcsfuse|davfs2?)"
)
_SHARED = re.compile(r"9p|virtiofs|vboxsf|vmhgfs|fuse(\..*)?|drvfs")
_FLEETING = re.compile(r"tmpfs|ramfs")
_MIB, _GIB = 2**20, 2**30


def check_disk(settings: Settings) -> list[Finding]:
    """Free space, and the kind of file system under the data folder."""
    folder = settings.data_folder
    free_gib = shutil.disk_usage(folder).free / _GIB
    what = f"{free_gib:.1f} GiB free at {folder}"
    is_low = free_gib < _LEAST_FREE_GIB
    space = (
        Finding("disk", BAD, what, "Make room: the spool needs it when the store is away.")
        if is_low
        else Finding("disk", OK, what)
    )
    return [space, judge_filesystem(filesystem_of(folder, Path("/proc/mounts").read_text("utf-8", "replace")), str(folder))]


def filesystem_of(folder: Path, mounts: str) -> str:
    """The kind of file system that holds `folder` (absolute), by the text of /proc/mounts; '' when it is not there."""
    best, kind = "", ""
    for line in mounts.splitlines():
        fields = line.split(" ")
        if len(fields) < 3:
            continue
        place = re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), fields[1])
        # The last of several mounts on one place is the one that is seen.
        if len(place) >= len(best) and (place == "/" or folder == Path(place) or Path(place) in folder.parents):
            best, kind = place, fields[2]
    return kind


def judge_filesystem(kind: str, folder: str) -> Finding:
    """Whether locks and syncs can be trusted on file system `kind`."""
    if _NETWORK.fullmatch(kind):
        what = f"{folder} is on a network file system ({kind}), where SQLite's locks and syncs cannot be trusted."
        return Finding("filesystem", BAD, what, "Set [store] data_folder to a local disk; several hosts share a PostgreSQL.")
    if _SHARED.fullmatch(kind):
        what = f"{folder} is on {kind}, which another machine may serve; locks and syncs may not hold."
        return Finding("filesystem", NOTE, what, "Set [store] data_folder to a local disk.")
    if _FLEETING.fullmatch(kind):
        what = f"{folder} is in memory ({kind}): everything is gone after a restart of the machine."
        return Finding("filesystem", NOTE, what, "Set [store] data_folder to a disk, unless this is a trial.")
    return Finding("filesystem", OK, f"{kind or 'unknown'} under {folder}")


def check_sqlite(settings: Settings) -> list[Finding]:
    """What this Python's SQLite can do; nothing with PostgreSQL."""
    if not settings.database_url.startswith("sqlite"):
        return []
    with sqlite3.connect(":memory:") as connection:
        options = {row[0] for row in connection.execute("PRAGMA compile_options")}
    connection.close()
    return [judge_sqlite(sqlite3.sqlite_version_info, "ENABLE_FTS5" in options)]


def judge_sqlite(version: tuple[int, ...], has_fts5: bool) -> Finding:
    """The hazards of SQLite `version`: the WAL-reset race of 3.7.0 to 3.51.2 (mended in 3.44.6 and 3.50.7 too)."""
    name = "SQLite " + ".".join(map(str, version))
    if not has_fts5:
        what = f"{name} comes without FTS5, which searching needs."
        return Finding("sqlite", BAD, what, "Use a Python whose SQLite has it, or PostgreSQL ([store] database_url).")
    is_mended = version >= (3, 51, 3) or (3, 44, 6) <= version < (3, 45) or (3, 50, 7) <= version < (3, 51)
    if version >= (3, 7, 0) and not is_mended:
        what = (
            f"{name}: before 3.51.3, two connections that reset the WAL at once can corrupt it. "
            "Of ours only the store writer does."
        )
        step = "Let no other program checkpoint potstill.db; for many writers use PostgreSQL ([store] database_url)."
        return Finding("sqlite", NOTE, what, step)
    return Finding("sqlite", OK, f"{name} with FTS5")


def check_store(settings: Settings) -> list[Finding]:
    """Kind, size and schema; for PostgreSQL its clock; what was lost."""
    database = open_database(settings.database_url)
    try:
        findings = [Finding("store", OK, _describe(database))]
        if database.is_sqlite:
            findings += _judge_wal(Path(f"{database.engine.url.database}-wal"))
        else:
            findings.append(_judge_clock(database))
        health = read_health(database, settings.data_folder / "spool", now_us=clock.now_us())
        losses = read_losses(database, settings.data_folder, limit=0)
        findings += _judge_retention(database, settings)
    finally:
        database.close()
    if health.behind_us:
        what = f"The store is {health.behind_us / 1e6:.0f} s behind the spool."
        findings.append(Finding("writer", BAD, what, "Start the store writer: potstill up"))
    else:
        findings.append(Finding("writer", OK, "nothing waits in the spool"))
    return [*findings, judge_losses(losses, clock.now_us())]


def judge_losses(losses: Losses, now_us: int) -> Finding:
    """What was lost: bad for a week, then worth knowing."""
    if not (losses.gap_count or losses.dead_letter_count or losses.quarantine):
        return Finding("losses", OK, "nothing was ever dropped")
    is_old = losses.newest_us < now_us - _RECENT_US
    what = (
        f"{losses.lost} exchanges were dropped, {losses.dead_letter_count} could not be stored, and "
        f"{len(losses.quarantine)} damaged segments are kept aside, since the store was made; "
        f"the last at {clock.iso(losses.newest_us)}{', more than a week ago' if is_old else ''}."
    )
    return Finding(
        "losses", NOTE if is_old else BAD, what, "See when and why: potstill losses; store again: potstill losses --retry"
    )


def _describe(database: Database) -> str:
    with database.read() as connection:
        if database.is_sqlite:
            pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
            size = int(pages) * int(connection.exec_driver_sql("PRAGMA page_size").scalar_one())
            kind = "SQLite"
        else:
            size = int(connection.execute(text("SELECT pg_database_size(current_database())")).scalar_one())
            kind = f"PostgreSQL {connection.execute(text('SHOW server_version')).scalar_one()}"
        schema = connection.execute(text("SELECT name FROM migrations ORDER BY name DESC LIMIT 1")).scalar_one()
        newest = connection.execute(text("SELECT max(number) FROM exchanges")).scalar() or 0
    address = database.engine.url.render_as_string(hide_password=True)
    return f"{kind}, {size / _MIB:.1f} MiB, schema {schema}, newest exchange number {newest}: {address}"


def _judge_retention(database: Database, settings: Settings) -> list[Finding]:
    limits = settings.section("capture", CaptureSettings)
    refusal = read_refusal(database)
    if refusal is None or not (limits.retention_days or limits.retention_gib or limits.retention_exchanges):
        return []
    what = f"Retention removes nothing, as of {clock.iso(refusal.at_us)}: {refusal.what}"
    return [Finding("retention", BAD, what, refusal.next_step)]


def _judge_wal(path: Path) -> list[Finding]:
    size = path.stat().st_size if path.exists() else 0
    if size < _LONG_WAL_MIB * _MIB:
        return []
    what = f"{path.name} has grown to {size / _MIB:.0f} MiB: the store writer is not running, or somebody reads for very long."
    return [Finding("wal", NOTE, what, "Keep `potstill up` running; close programs that hold potstill.db open.")]


def _judge_clock(database: Database) -> Finding:
    before_us = clock.now_us()
    with database.read() as connection:
        theirs = connection.execute(text("SELECT extract(epoch FROM clock_timestamp())")).scalar_one()
    host = urlsplit(str(database.engine.url)).hostname or "this machine"
    return judge_skew(f"PostgreSQL on {host}", float(theirs) - (before_us + clock.now_us()) / 2e6, "store clock")


def check_spool(settings: Settings) -> list[Finding]:
    """How much waits, and against which limit."""
    capture = settings.section("capture", CaptureSettings)
    root = settings.data_folder / "spool"
    spools = [path for path in root.glob("sp_*") if path.is_dir()] if root.is_dir() else []
    sizes = {path.name: sum(_size(file) for file in path.iterdir()) for path in spools}
    return [judge_spool(sizes, min(capture.spool_max_mib * _MIB, shutil.disk_usage(settings.data_folder).free // 10))]


def judge_spool(sizes: dict[str, int], limit: int) -> Finding:
    """Whether any of the spools (bytes by name) comes near its limit."""
    fullest = max(sizes.values(), default=0)
    what = f"{sum(sizes.values()) / _MIB:.1f} MiB in {counted(len(sizes), 'spool')}; each may grow to {limit / _MIB:.0f} MiB"
    if fullest >= limit:
        return Finding("spool", BAD, f"full: {what}. New exchanges are lost or refused.", "Bring the store back: potstill up")
    if fullest > limit / 2:
        return Finding("spool", NOTE, f"more than half full: {what}", "See that the store can be written: potstill up")
    return Finding("spool", OK, what)


def check_privacy(settings: Settings) -> list[Finding]:
    """Whether what is wanted of personal data can be done: pseudonyms need their key."""
    capture = settings.section("capture", CaptureSettings)
    read_policy(capture, os.environ)
    omitted = f", without content: {', '.join(capture.omit_content_tasks)}" if capture.omit_content_tasks else ""
    return [Finding("privacy", OK, f"secrets are taken out; personal data: {capture.personal_data}{omitted}")]


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0  # the store writer has just taken it away
