"""Erasure: takes what somebody's exchanges left behind out of everything Potstill keeps, and says on a receipt what it touched.

From the store outwards: exchanges with bodies and words, dead letters, feedback; the spool; exported files; examples, reviews
and dataset versions; predictions of runs. Adapters and releases cannot unlearn: they are named. An erasure that is cut short
is finished by the next one. Only what was there is erased: what the same user sends later is captured again.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from sqlalchemy import text

from capture import clock, exported, forget, forget_spool
from capture.capture_settings import CaptureSettings
from capture.database import Database
from capture.errors import SpoolError, StoreError, TrainingError
from capture.ids import new_id
from capture.pricing import PriceSettings, PriceTable, load_price_table
from capture.progress import Progress, tell_nobody
from capture.pseudonyms import read_policy
from capture.settings import Settings
from capture.subject import Subject, Target, find_targets
from capture.writer import StoreWriter
from curate import forget as forget_data
from curate.datasets import DatasetVersion
from curate.datasets import versions as all_versions
from curate.examples import Example, example_id
from curate.forget import ErasedVersion
from curate.formats import erasing
from curate.preferring.preferences import Preference, erased_preferences
from curate.tasks.aliases import canonical
from curate.tasks.kept_templates import forget_templates
from serve.release_store import list_releases
from train import forget as forget_training
from train.forget import ErasedRun

_DRAIN_WAIT_S = 30.0


@dataclass(frozen=True, slots=True)
class Receipt:
    """What an erasure did, or would do. It names no user, session or exchange, only their hashes.

    `places` counts what was removed by place. `adapters` and `releases` learnt from what was erased. `left` says, in words
    for people, what remains for somebody to do.
    """

    id: str
    created_us: int
    who: str
    subject: str
    exchange_ids: str
    is_dry_run: bool
    places: dict[str, int] = field(default_factory=dict)
    versions: tuple[ErasedVersion, ...] = ()
    runs: tuple[ErasedRun, ...] = ()
    adapters: tuple[str, ...] = ()
    releases: tuple[str, ...] = ()
    left: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Found:
    """What an erasure is about."""

    targets: list[Target]
    ids: list[str]
    sessions: list[str]
    letters: list[str]
    resumed: list[str]
    versions: list[DatasetVersion]
    examples: list[Example]
    preferences: list[Preference]
    begun: dict[str, tuple[str, dict[str, int]]]

    def noted(self) -> forget.Begun:
        """What has to be known to finish this erasure when it is cut short."""
        versions = {version.id: (version.hash, forget_data.lines_to_go(version, self.ids)) for version in self.versions}
        return forget.Begun(self.ids, self.sessions, versions | self.begun)


def erase(
    database: Database,
    settings: Settings,
    subject: Subject,
    *,
    who: str = "",
    is_dry_run: bool = False,
    on_progress: Progress = tell_nobody,
) -> Receipt:
    """Erases the exchanges of `subject` everywhere, with `who` on the receipt as the one who did it.

    TrainingError while a run learns from them, StoreError while a dataset is built of them. StoreError, SpoolError when a
    place cannot be written; running it again goes on.
    """
    spool_root = settings.data_folder / "spool"
    if is_dry_run:
        return _plan(database, spool_root, subject, who)
    with _place_of_writer(database, settings, spool_root) as writer:
        is_drained = _drain(database, writer, spool_root, subject)
        found = _find(database, subject)
        _require_ended_runs(database, found)
        receipt = _receipt(found, subject, who, is_dry_run=False)
        tags = {target.task for target in found.targets} | {version.task for version in found.versions}
        with forget_data.without_builds(settings.data_folder, tags | {canonical(database, tag) for tag in tags}):
            with database.write() as connection:
                forget.begin_erasure(connection, receipt.id, noted := found.noted())
            found = replace(found, begun=noted.versions)
            receipt = _erase_made(database, found, subject, receipt, on_progress)
            receipt = _erase_captured(database, spool_root, found, subject, receipt, on_progress)
        left = list(receipt.left)
        if not is_drained:
            left.append("The store writer is behind: what waits in the spool is not erased. Run potstill forget again.")
        on_progress("rewrite the index", 0, 1)
        if found.targets or found.resumed:
            forget.merge(database)
        receipt = replace(receipt, left=tuple(left))
        with database.write() as connection:
            forget.end_erasures(connection, found.resumed, receipt.id, json.dumps(asdict(receipt)))
        if not forget.wipe(database, is_alone=writer is not None):
            left.append(
                "The write-ahead log is not empty, because somebody reads the store: end it, or run potstill forget again."
            )
            receipt = replace(receipt, left=tuple(left))
            with database.write() as connection:
                forget.amend_receipt(connection, receipt.id, json.dumps(asdict(receipt)))
        on_progress("rewrite the index", 1, 1)
    return receipt


def receipts(database: Database) -> list[dict[str, Any]]:
    """The receipts of all erasures, newest first."""
    with database.read() as connection:
        rows = connection.execute(text("SELECT receipt FROM erasures ORDER BY created_us DESC, id DESC"))
        return [json.loads(row[0]) for row in rows]


def _find(database: Database, subject: Subject) -> _Found:
    with database.read() as connection:
        pending = forget.unfinished(connection)
        targets = {target.number: target for target in find_targets(connection, subject)}
        pending_ids = sorted({id for begun in pending.values() for id in begun.exchange_ids})
        for id in pending_ids:
            targets |= {target.number: target for target in find_targets(connection, Subject(exchange_id=id))}
    letters = forget.find_letters(database, subject, pending_ids)
    ids = sorted({*(target.id for target in targets.values()), *letters, *pending_ids})
    sessions = {target.session for target in targets.values()} | {subject.session}
    sessions = sessions.union(*(begun.sessions for begun in pending.values())) - {""}
    begun_versions = {id: version for begun in reversed(pending.values()) for id, version in begun.versions.items()}
    touched = {version.id for version in forget_data.touched_versions(database, ids)} | begun_versions.keys()
    versions = [version for version in all_versions(database) if version.id in touched]
    examples = [example for version in versions for example in forget_data.erased_examples(version, ids)]
    preferences = [pair for version in versions for pair in erased_preferences(version.folder, version.task, ids)]
    in_order = [targets[number] for number in sorted(targets)]
    return _Found(in_order, ids, sorted(sessions), letters, list(pending), versions, examples, preferences, begun_versions)


def _receipt(found: _Found, subject: Subject, who: str, *, is_dry_run: bool) -> Receipt:
    ids = "sha256:" + sha256("\n".join(found.ids).encode()).hexdigest()
    return Receipt(new_id("er"), clock.now_us(), who, subject.fingerprint, ids, is_dry_run)


def _plan(database: Database, spool_root: Path, subject: Subject, who: str) -> Receipt:
    """What `erase` would find at this moment, without touching anything."""
    found = _find(database, subject)
    spooled = forget_spool.find_spooled(spool_root, subject)
    version_ids = [version.id for version in found.versions]
    versions = []
    for version in found.versions:
        examples = len(forget_data.erased_examples(version, found.ids))
        versions.append(ErasedVersion(version.id, version.task, version.number, examples, 0, version.hash, version.hash))
    runs = [
        ErasedRun(run.id, run.number, run.task, run.dataset_version_id, 0, not run.is_ended)
        for run in forget_training.touched_runs(database, version_ids)
    ]
    places = {
        "exchanges": len(found.targets), "dead_letters": len(found.letters), "spool": len(spooled.over),
        "dataset_rows": len(found.examples), "exported_files_to_search": len(exported.exported(database)),
    }  # fmt: skip
    receipt = replace(_receipt(found, subject, who, is_dry_run=True), places=places, versions=tuple(versions), runs=tuple(runs))
    return _with_lineage(database, found, replace(receipt, left=tuple(_reminders(database, found, len(spooled.under_way)))))


def _require_ended_runs(database: Database, found: _Found) -> None:
    """TrainingError while a run has in memory, and will write down, what is to be erased."""
    for run in forget_training.touched_runs(database, [version.id for version in found.versions]):
        if not run.is_ended:
            raise TrainingError(
                f"Run {run.number} is {run.state} on a dataset that holds what is to be erased.",
                f"Wait for its end, or cancel it: potstill runs cancel {run.number}",
            )


def _erase_made(database: Database, found: _Found, subject: Subject, receipt: Receipt, tell: Progress) -> Receipt:
    """What was made of the exchanges: exported files, dataset versions, examples, predictions."""
    receipt = _with_lineage(database, found, receipt)
    left = list(receipt.left)
    files = exported.exported(database)
    in_exports = 0
    for done, file in enumerate(files):
        tell("search exported files", done, len(files))
        try:
            if erasing.is_ours(file):
                in_exports += erasing.erase_from(file, found.examples, found.preferences)
            else:
                in_exports += exported.erase_from(file, found.ids, ())
        except StoreError as error:
            left.append(str(error))
        exported.forget_name(database, file, subject.user)
    version_ids = [version.id for version in found.versions]
    runs = [
        forget_training.erase_from_run(run, map(example_id, found.ids))
        for run in forget_training.touched_runs(database, version_ids)
    ]
    forget_templates(database, found.ids, tell)
    # Before the versions, because these say which inputs it is about.
    rows = forget_data.erase_rows(database, found.ids, found.examples, found.versions)
    versions = []
    for done, version in enumerate(found.versions):
        tell("rewrite datasets", done, len(found.versions))
        begun = found.begun[version.id]
        versions.append(forget_data.erase_from_version(database, version, found.ids, subject.user, begun))
    places = {
        "exports": in_exports, "dataset_rows": sum(version.examples + version.listed for version in versions),
        "examples": rows.examples, "reviews": rows.reviews, "split_keys": rows.split_keys,
        "golden": rows.golden, "relabels": rows.relabels, "audited": rows.audited,
        "predictions": sum(run.predictions for run in runs),
    }  # fmt: skip
    return replace(receipt, places=places, versions=tuple(versions), runs=tuple(runs), left=tuple(left))


def _erase_captured(
    database: Database, spool_root: Path, found: _Found, subject: Subject, receipt: Receipt, tell: Progress
) -> Receipt:
    """What was captured: the rows of the store, then the spool, from which they must not come back."""
    under_way = len(forget_spool.find_spooled(spool_root, subject).under_way)
    left = [*receipt.left, *_reminders(database, found, under_way)]
    removed = forget.remove_rows(database, found.targets, lambda done, total: tell("remove exchanges", done, total))
    with database.write() as connection:
        letters = forget.remove_letters(connection, found.letters)
        empty = forget.sessions_left_empty(connection, found.sessions)
        feedback = forget.remove_feedback(connection, subject, found.ids, empty)
    places = {
        "exchanges": removed, "dead_letters": letters, "feedback": feedback,
        "spool": forget_spool.scrub(spool_root, subject, found.ids, empty),
        "quarantine": forget_spool.drop_quarantined(spool_root, subject, found.ids),
    }  # fmt: skip
    return replace(receipt, places=places | receipt.places, left=tuple(left))


def _with_lineage(database: Database, found: _Found, receipt: Receipt) -> Receipt:
    adapters = forget_training.touched_adapters(database, [version.id for version in found.versions])
    ids = {adapter.id for adapter in adapters}
    releases = [release for release in reversed(list_releases(database)) if release.adapter_id in ids]
    named = tuple(f"{release.name} ({release.state})" for release in releases)
    left = list(receipt.left)
    if adapters:
        left.append("Adapters that learnt from what was erased still hold what they learnt: build, train and release again.")
    return replace(receipt, adapters=tuple(adapter.id for adapter in adapters), releases=named, left=tuple(left))


def _reminders(database: Database, found: _Found, under_way: int) -> list[str]:
    left = []
    if under_way:
        left.append(f"{under_way} exchanges are under way and not erased: run potstill forget again when they are over.")
    repeats, unreadable = forget.find_repeats(database, found.targets)
    if repeats:
        left.append(f"{len(repeats)} other exchanges repeat what was said, as later turns do: forget their session or user too.")
    if unreadable:
        left.append(f"What {unreadable} exchanges said cannot be read, so nobody can tell whether later turns repeat it.")
    if found.ids and (addresses := exported.collectors(database)):
        left.append(f"What was sent to collectors is not reached: delete it there ({', '.join(addresses)}).")
    if found.ids and not database.is_sqlite:
        left.append(
            "PostgreSQL's write-ahead log, which keeps what it logged until its segments are recycled, its archives, backups and "
            "the spools of other relay hosts are not reached: let the first three expire, and run potstill forget on each host."
        )
    return left


@contextmanager
def _place_of_writer(database: Database, settings: Settings, spool_root: Path) -> Iterator[StoreWriter | None]:
    """A store writer of our own; None while another one is at work."""
    capture = settings.section("capture", CaptureSettings)
    has_spool = any(spool_root.glob("sp_*"))
    prices = load_price_table(settings.section("prices", PriceSettings)) if has_spool else PriceTable({}, 0.0)
    personal = read_policy(capture, os.environ) if has_spool else None
    try:
        writer = StoreWriter(database, spool_root, prices, personal=personal)
    except SpoolError:
        yield None
        return
    try:
        yield writer
    finally:
        writer.close()


def _drain(database: Database, writer: StoreWriter | None, spool_root: Path, subject: Subject) -> bool:
    """Has everything of `subject` that is over in the store; False when the store writer at work does not get there."""
    if writer is not None:
        writer.drain()
        return True
    deadline = time.monotonic() + _DRAIN_WAIT_S
    waiting = forget_spool.find_spooled(spool_root, subject).over
    while not forget_spool.is_stored(database, waiting):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True
