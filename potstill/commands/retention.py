"""`potstill retention plan|run`: what is too old or too much, and taking it away."""

from __future__ import annotations

import argparse
from contextlib import closing
from typing import Any

from capture import clock
from capture.errors import SettingsError
from capture.settings import Settings
from potstill.commands import add_command, add_noun
from potstill.output import ExitCode, Output

_MIB = 2**20


def add_commands(commands: Any) -> None:
    """Adds `retention` with its verbs."""
    verbs = add_noun(commands, "retention", help="what is too old or too much for section [capture]: plan, run")
    plan = add_command(
        verbs,
        "plan",
        _plan,
        help="what would go now, by task and age; removes nothing",
        examples="  potstill retention plan\n  potstill retention plan --json | jq .due.count",
    )
    run = add_command(
        verbs,
        "run",
        _run,
        help="remove what is due now; `potstill up` does it once an hour by itself",
        examples=(
            "  potstill retention run --dry-run\n"
            "  potstill retention run --force            after a refusal; `potstill up` goes on with these limits then\n"
            "  POTSTILL_CAPTURE__RETENTION_DAYS=30 potstill retention run"
        ),
    )
    run.add_argument("--dry-run", action="store_true", help="as `plan`, refusals included")
    run.add_argument("--force", action="store_true", help="even when more than a fifth would go or the clock looks wrong")
    for parser in (plan, run):
        parser.add_argument("--include-datasets", action="store_true", help="also what a dataset holds or a person is to review")


def _plan(arguments: argparse.Namespace, settings: Settings, output: Output) -> int:
    from capture import retention
    from capture.database import open_database

    with closing(open_database(settings.database_url)) as database:
        due = retention.measure(database, _limits(settings), with_datasets=arguments.include_datasets)
        tasks = retention.by_task(database, due)
    if output.as_json:
        output.json({"due": due, "tasks": tasks})
        return ExitCode.OK
    _show(due, tasks, output)
    return ExitCode.OK


def _run(arguments: argparse.Namespace, settings: Settings, output: Output) -> int:
    from capture import retention
    from capture.database import open_database

    with closing(open_database(settings.database_url)) as database:
        due = retention.measure(database, _limits(settings), with_datasets=arguments.include_datasets)
        if not arguments.force:
            retention.check(database, due)
        if arguments.dry_run:
            tasks = retention.by_task(database, due)
            output.json({"due": due, "tasks": tasks}) if output.as_json else _show(due, tasks, output)
            return ExitCode.OK
        retention.accept(database, due)
        removed, after = 0, 0
        with output.stages() as show:
            while True:
                count, after = retention.remove_some(database, due, after)
                if not count:
                    break
                removed += count
                show("remove exchanges", removed, due.count)
        free = retention.free_bytes(database)
    if output.as_json:
        output.json({"removed": removed, "kept_in_datasets": due.kept, "free_bytes": free})
        return ExitCode.OK
    output.say(f"{removed} exchanges are removed; {due.kept} as old are kept, because a dataset or a review holds them.")
    if free > _MIB:
        output.say(f"{free / _MIB:.0f} MiB of the file are free and will be used again; the SQL command VACUUM gives them back.")
    return ExitCode.OK


def _limits(settings: Settings) -> Any:
    from capture.capture_settings import CaptureSettings

    limits = settings.section("capture", CaptureSettings)
    if not (limits.retention_days or limits.retention_gib or limits.retention_exchanges):
        raise SettingsError(
            "No limit is set: everything is kept for ever.",
            "Set retention_days, retention_gib or retention_exchanges in section [capture] of potstill.toml.",
        )
    return limits


def _show(due: Any, tasks: Any, output: Output) -> None:
    if tasks:
        rows = [
            (each.task or "(no task)", each.exchanges, clock.iso(each.oldest_us), clock.iso(each.newest_us)) for each in tasks
        ]
        output.table(("TASK", "EXCHANGES", "OLDEST", "NEWEST"), rows, right=("EXCHANGES",))
    output.say(f"{due.count} of {due.stored} exchanges would go; {due.kept} as old are kept by datasets and reviews.")
