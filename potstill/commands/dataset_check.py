"""`potstill dataset check TASK`: whether a frozen version already holds new inputs, or something like them, and on which side."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from capture.database import open_database
from capture.errors import NotFoundError
from capture.settings import Settings
from potstill.commands import add_command, whole_number
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
        'a line of the file is {"messages": [...], "tools": [...]} in OpenAI\'s form, with or without answer, or {"text": "..."}',
    )
    check.add_argument("task")
    source = check.add_mutually_exclusive_group(required=True)
    source.add_argument("file", nargs="?", type=Path, help="JSONL with an input on each line")
    source.add_argument("--filter", help="captured exchanges of the task that match this filter")
    check.add_argument("--version", type=whole_number, help="number of the version (default: the newest)")


def _check(arguments: argparse.Namespace, settings: Settings, output: Output) -> int:
    from curate import datasets, incremental

    database = open_database(settings.database_url)
    try:
        version = datasets.get_version(database, arguments.task, arguments.version)
        with output.stages() as show_progress:
            show_progress("read inputs", 0, 1)
            if arguments.file is None:
                names, inputs = incremental.captured(database, version.task, arguments.filter)
                bad: dict[int, str] = {}
            else:
                found, bad = incremental.read_lines(_lines(arguments.file))
                names, inputs = [f"line {number}" for number in found], list(found.values())
            show_progress("compare", 0, len(inputs))
            matches = incremental.check_rows(version, inputs)
            show_progress("compare", len(inputs), len(inputs))
    finally:
        database.close()
    held = {name: match for name, match in zip(names, matches, strict=True) if match}
    if output.as_json:
        output.json({
            "task": version.task, "version": version.number, "checked": len(inputs), "matches": held,
            "bad_lines": {str(number): reason for number, reason in bad.items()},
        })  # fmt: skip
        return ExitCode.OK
    for number, reason in list(bad.items())[:_SHOWN]:
        output.warn(f"Line {number} was left out: {reason}.", "")
    rows = [(name, match.kind, match.split, match.exchange_id, f"{match.similarity:.2f}") for name, match in held.items()]
    if rows:
        output.table(("INPUT", "MATCH", "SPLIT", "EXCHANGE", "SIMILARITY"), rows[:_SHOWN], right=("SIMILARITY",))
    of_sides = ", ".join(
        f"{sum(match.split == split for match in held.values())} in {split}" for split in ("train", "val", "test")
    )
    left_out = f"; {counted(len(bad), 'line')} left out" if bad else ""
    output.say(
        f"{len(held)} of {counted(len(inputs), 'input')} are in {version.task}/v{version.number} already ({of_sides}){left_out}"
    )
    return ExitCode.OK


def _lines(path: Path) -> Iterator[bytes]:
    try:
        file = path.open("rb")
    except OSError as error:
        raise NotFoundError(f"{path} cannot be read: {error.strerror}.", "Name a JSONL file.") from error
    with file:
        yield from file
