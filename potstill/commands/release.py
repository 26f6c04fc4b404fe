"""`potstill release` and `potstill releases`: from an adapter to something the engine serves."""

from __future__ import annotations

import argparse
from typing import Any

from capture import clock
from capture.database import open_database
from capture.settings import Settings
from potstill.commands import add_command
from potstill.output import ExitCode, Output


def add_commands(commands: Any) -> None:
    """Adds `release` and `releases`."""
    release = add_command(
        commands,
        "release",
        _release,
        help="put an adapter through its gate, load it into the engine, warm it up and check that engine and trainer agree",
        examples="  potstill release triage\n  potstill release triage --adapter ad_01m8... --minimum-exact-match 0.9",
    )
    release.add_argument("task")
    release.add_argument("--adapter", help="id of the adapter (default: the task's newest)")
    release.add_argument(
        "--minimum-exact-match",
        type=float,
        default=0.8,
        help="gate: least exact match of the student on the test split (default: %(default)s)",
    )
    listing = add_command(
        commands, "releases", _releases, help="releases and their states", examples="  potstill releases triage --json"
    )
    listing.add_argument("task", nargs="?", default="", help="only this task")


def _release(arguments: argparse.Namespace, settings: Settings, output: Output) -> int:
    from serve import releases

    gate = releases.Gate(minimum_exact_match=arguments.minimum_exact_match)
    database = open_database(settings.database_url)
    try:
        with output.stages() as show_progress:
            made = releases.create_release(
                database, settings, arguments.task, adapter=arguments.adapter, gate=gate, on_progress=show_progress
            )
    finally:
        database.close()
    if output.as_json:
        output.json(made)
    else:
        output.say(f"release {made.engine_model}   {made.state}   parity {made.parity_same} of {made.parity_n} answers identical")
        output.say(f"Next: potstill flag set {made.task} --share 5%")
    return ExitCode.OK


def _releases(arguments: argparse.Namespace, settings: Settings, output: Output) -> int:
    from serve import releases

    database = open_database(settings.database_url)
    try:
        found = releases.list_releases(database, arguments.task)
    finally:
        database.close()
    if output.as_json:
        output.json(found)
    elif not found:
        output.say("No release yet. Next: potstill release TASK")
    else:
        rows = [
            (r.engine_model, r.task, r.number, r.state, f"{r.parity_same}/{r.parity_n}", clock.iso(r.created_us)) for r in found
        ]
        output.table(("RELEASE", "TASK", "NUMBER", "STATE", "PARITY", "MADE"), rows, right=("NUMBER", "PARITY"))
    return ExitCode.OK
