"""`potstill dataset build|list|show|diff`: from traffic to a frozen dataset version; the other verbs have files of their own."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from capture import clock
from capture.database import open_database
from capture.errors import NotFoundError
from capture.settings import Settings
from potstill.commands import (
    add_command,
    add_noun,
    dataset_check,
    dataset_disputes,
    dataset_golden,
    dataset_relabel,
    dataset_similar,
    dataset_transfer,
)
from potstill.output import ExitCode, Output, counted, one_line, plain

if TYPE_CHECKING:
    from curate.version_diff import VersionDiff

_SHOWN_AS = {"added": "added", "removed": "removed", "moved": "moved", "retargeted": "target changed"}


def add_commands(commands: Any) -> None:
    """Adds `dataset` with its verbs."""
    verbs = add_noun(commands, "dataset", help="curated, split, frozen: build, list, show, diff, export, import and more")
    build = add_command(
        verbs,
        "build",
        _build,
        help="select, clean, deduplicate, split and freeze a task's exchanges into the next dataset version",
        examples='  potstill dataset build triage\n  potstill dataset build triage --filter "since:30d model:gpt-4.1*"',
    )
    build.add_argument("task", help="task to build from (see: potstill tasks)")
    build.add_argument("--filter", default="", help="only exchanges that match this filter")
    build.add_argument(
        "--force-terms", default="", metavar="REASON", help="keep answers that their terms would leave out; kept with the version"
    )
    listing = add_command(verbs, "list", _list, help="frozen versions", examples="  potstill dataset list triage --json")
    listing.add_argument("task", nargs="?", default="", help="only this task")
    show = add_command(
        verbs, "show", _show, help="one version: counts, bill, certificate", examples="  potstill dataset show triage --version 3"
    )
    show.add_argument("task")
    show.add_argument("--version", type=int, help="number of the version (default: the newest)")
    diff = add_command(
        verbs,
        "diff",
        _diff,
        help="what changed between two versions: rows that came, went or changed, and why",
        examples="  potstill dataset diff triage\n  potstill dataset diff triage --from 1 --to 3 --json",
    )
    diff.add_argument("task")
    diff.add_argument("--from", dest="older", type=int, help="number of the older version (default: the one before)")
    diff.add_argument("--to", dest="newer", type=int, help="number of the newer version (default: the newest)")
    for module in (dataset_disputes, dataset_similar, dataset_check, dataset_golden, dataset_relabel, dataset_transfer):
        module.add_commands(verbs)


def _build(arguments: argparse.Namespace, settings: Settings, output: Output) -> int:
    from curate import datasets
    from curate.settings import CurateSettings

    curate = settings.section("curate", CurateSettings)
    database = open_database(settings.database_url)
    try:
        with output.stages() as show_progress:
            version = datasets.build(
                database,
                settings.data_folder,
                arguments.task,
                dataclasses.replace(curate, filter=f"{curate.filter} {arguments.filter}".strip()),
                forced=arguments.force_terms,
                on_progress=show_progress,
            )
    finally:
        database.close()
    if output.as_json:
        output.json(version)
        return ExitCode.OK
    if not version.is_new:
        output.say(f"unchanged: v{version.number}")
    print_version(version, output)
    output.say(f"Next: potstill train {version.task}   or review it first: potstill tui")
    return ExitCode.OK


def _list(arguments: argparse.Namespace, settings: Settings, output: Output) -> int:
    from curate import datasets
    from curate.tasks.aliases import canonical, expand

    database = open_database(settings.database_url)
    try:
        whole = canonical(database, arguments.task)
        names = expand(database, whole) if whole else ("",)
        versions = [version for name in names for version in datasets.versions(database, name)]
    finally:
        database.close()
    if output.as_json:
        output.json(versions)
    elif not versions:
        output.say("No dataset version is frozen yet. Next: potstill dataset build TASK")
    else:
        rows = [(v.task, f"v{v.number}", v.train, v.val, v.test, clock.iso(v.created_us), v.hash[:15]) for v in versions]
        output.table(("TASK", "VERSION", "TRAIN", "VAL", "TEST", "FROZEN", "HASH"), rows, right=("TRAIN", "VAL", "TEST"))
    return ExitCode.OK


def _show(arguments: argparse.Namespace, settings: Settings, output: Output) -> int:
    from curate import datasets
    from curate.new_prompts import new_prompts
    from curate.reviewing.audit import latest_audit

    database = open_database(settings.database_url)
    try:
        version = datasets.get_version(database, arguments.task, arguments.version)
        audited = latest_audit(database, version.task, version.number)
        news = new_prompts(database, version.task, version)
    finally:
        database.close()
    if output.as_json:
        output.json({**plain(version), "audit": audited, "new_prompts": news})
        return ExitCode.OK
    print_version(version, output)
    for new in news:
        output.say(
            f"! {counted(new.exchanges, 'newer exchange')} ({new.share:.0%}) come with a prompt that this version never saw, "
            f"as in {new.example_id}: see potstill tasks"
        )
    output.say(f"audit: {audited.sentence}" if audited else f"not audited. Next: potstill review audit start {version.task}")
    return ExitCode.OK


def _diff(arguments: argparse.Namespace, settings: Settings, output: Output) -> int:
    from curate import datasets
    from curate.version_diff import compare_versions

    database = open_database(settings.database_url)
    try:
        newer = datasets.get_version(database, arguments.task, arguments.newer)
        if arguments.older is None and newer.number == 1:
            what = f"v1 is the oldest version of {arguments.task!r}: there is none before it."
            raise NotFoundError(what, f"Build another one: potstill dataset build {arguments.task}")
        older = datasets.get_version(database, arguments.task, newer.number - 1 if arguments.older is None else arguments.older)
    finally:
        database.close()
    found = compare_versions(older, newer)
    if output.as_json:
        output.json(found)
    else:
        _print_diff(found, output)
    return ExitCode.OK


def _print_diff(found: VersionDiff, output: Output) -> None:
    output.heading(f"{found.task}: v{found.older} to v{found.newer}   {found.same} examples are the same")
    rows = [("added", split, count) for split, count in found.added.items()]
    rows += [("removed", reason.replace("_", " "), count) for reason, count in found.removed.items()]
    rows += [("moved", sides, count) for sides, count in found.moved.items()]
    rows += [(_SHOWN_AS["retargeted"], "", found.retargeted)] if found.retargeted else []
    output.table(("CHANGE", "WHERE OR WHY", "N"), rows or [("nothing", "", 0)], right=("N",))
    for name, (before, after) in found.settings.items():
        output.say(f"setting {name}: {before!r} -> {after!r}")
    if not found.is_template_same:
        output.say("The prompt template is another one: see potstill tasks template.")
    counts = {kind: sum(getattr(found, kind).values()) for kind in ("added", "removed", "moved")} | {
        "retargeted": found.retargeted
    }
    for kind, changes in found.first.items():
        for change in changes:
            targets = " -> ".join(filter(None, (change.target_before, change.target_after)))
            sides = " -> ".join(filter(None, (change.before, change.after)))
            reason = change.reason.replace("_", " ")
            output.say(f"  {_SHOWN_AS[kind]:<14} {change.exchange_id}   {sides}   {reason}   {one_line(targets, 100)}".rstrip())
        if counts[kind] > len(changes):
            output.say(f"  ... and {counts[kind] - len(changes):,} more {_SHOWN_AS[kind]}")


def print_version(version: Any, output: Output) -> None:
    """The bill and the certificate of a dataset version, for people."""
    from curate.freeze import CARD

    manifest: Mapping[str, Any] = plain(version.manifest)
    bill = manifest["bill"]
    output.heading(f"{version.task}/v{version.number}   train {version.train}   val {version.val}   test {version.test}")
    rows: list[tuple[str, object]] = [("selected exchanges", bill["selected"])]
    rows += [
        (f"  dropped: {reason.replace('_', ' ')}", -count)
        for reason, count in sorted(bill["dropped"].items(), key=lambda item: -item[1])
    ]
    rows.append(("kept examples", bill["kept"]))
    output.table(("BILL", "N"), rows, right=("N",))
    overlap = ", ".join(f"{kind} {count}" for kind, count in manifest["certificate"].items() if isinstance(count, int))
    output.say(f"train-eval overlap: {overlap}")
    for warning in manifest["warnings"]:
        output.say(f"! {warning}")
    output.say(f"hash {version.hash}   card {version.folder / CARD}")
