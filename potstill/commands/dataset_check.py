"""`potstill dataset check TASK`: whether a frozen version already holds new inputs, or something like them, and on which side."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from capture.database import open_database
from capture.errors import NotEnoughError
from capture.settings import Settings
from potstill.commands import add_command, whole_number
from potstill.commands.dataset_transfer import add_columns, add_prompt, columns_of, tools_of
from potstill.output import ExitCode, Output, counted

_SHOWN = 20


def add_commands(verbs: Any) -> None:
    """Adds `check` to the verbs of `dataset`."""
    check = add_command(
        verbs,
        "check",
        _check,
        help="whether a frozen version already holds new inputs, or something like them; builds nothing",
        examples="  potstill dataset check triage new.jsonl\n"
        '  potstill dataset check triage --filter "since:1d" --version 3 --json\n'
        "  potstill dataset check intents new.csv --column input=utterance\n"
        "the file is JSONL, JSON, CSV or Parquet, as `potstill dataset import` reads it, with or without answers",
    )
    check.add_argument("task")
    source = check.add_mutually_exclusive_group(required=True)
    source.add_argument("file", nargs="?", type=Path, help="data file with an input in each row")
    source.add_argument("--filter", help="captured exchanges of the task that match this filter")
    add_columns(check)
    add_prompt(check)
    check.add_argument("--version", type=whole_number, help="number of the version (default: the newest)")


def _check(arguments: argparse.Namespace, settings: Settings, output: Output) -> int:
    from curate import datasets, incremental
    from curate.inputs import Asking, captured, read_inputs

    database = open_database(settings.database_url)
    try:
        version = datasets.get_version(database, arguments.task, arguments.version)
        with output.stages() as show:
            if arguments.file is None:
                found = incremental.check_named(version, captured(database, version.task, arguments.filter, show))
            else:
                asking = Asking(columns_of(arguments.column), arguments.system, tools_of(arguments.tools))
                found = incremental.check_named(version, read_inputs(arguments.file, asking, show))
    finally:
        database.close()
    if arguments.file is not None and not found.checked:
        first = next((f" {line.capitalize()} {reason}." for line, reason in found.bad.items()), "")
        raise NotEnoughError(f"{arguments.file} has no row with an input.{first}", "See `potstill dataset check --help`.")
    if output.as_json:
        output.json({
            "task": version.task, "version": version.number, "checked": found.checked, "matches": found.matches,
            "bad_lines": {line.removeprefix("line "): reason for line, reason in found.bad.items()},
        })  # fmt: skip
        return ExitCode.OK
    for line, reason in list(found.bad.items())[:_SHOWN]:
        output.warn(f"{line} was left out: it {reason}.", "")
    rows = [
        (name, match.kind, match.split, match.exchange_id, f"{match.similarity:.2f}") for name, match in found.matches.items()
    ]
    if rows:
        output.table(("INPUT", "MATCH", "SPLIT", "EXCHANGE", "SIMILARITY"), rows[:_SHOWN], right=("SIMILARITY",))
    of_sides = ", ".join(
        f"{sum(match.split == split for match in found.matches.values())} in {split}" for split in ("train", "val", "test")
    )
    left_out = f"; {counted(len(found.bad), 'input')} left out" if found.bad else ""
    of_all = f"{len(found.matches)} of {counted(found.checked, 'input')}"
    output.say(f"{of_all} are in {version.task}/v{version.number} already ({of_sides}){left_out}")
    return ExitCode.OK
