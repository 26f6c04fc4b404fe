"""`potstill flag set|show|history|rollback` and `potstill ab`: who answers, and how the two compare."""

from __future__ import annotations

import argparse
from typing import Any

from capture import clock
from capture.database import open_database
from capture.errors import SettingsError
from capture.person import who_am_i
from capture.settings import Settings
from potstill.commands import add_command, add_noun
from potstill.comparison import print_comparison
from potstill.output import ExitCode, Output


def add_commands(commands: Any) -> None:
    """Adds `flag` with its verbs, and `ab`."""
    verbs = add_noun(commands, "flag", help="who answers a task: set, show, history, rollback")
    change = add_command(
        verbs,
        "set",
        _set,
        help="give the student a share of a task's traffic; every relay obeys within 500 ms",
        examples=(
            "  potstill flag set triage --share 5%\n"
            '  potstill flag set triage --share 30% --release 2 --unit user --why "second week"'
        ),
    )
    change.add_argument("task")
    change.add_argument("--share", required=True, help="share of the student, such as 30%% or 2.5%%")
    change.add_argument("--release", type=int, help="number of the release (default: the flag's, else the newest ready one)")
    change.add_argument(
        "--unit", choices=("auto", "conversation", "user", "session"), help="what sticks to a variant (default: auto)"
    )
    change.add_argument("--why", default="", help="reason, kept in the history")
    show = add_command(verbs, "show", _show, help="flags as they stand", examples="  potstill flag show --json")
    show.add_argument("task", nargs="?", default="")
    history = add_command(
        verbs, "history", _history, help="every change: who, when, why", examples="  potstill flag history triage"
    )
    history.add_argument("task")
    back = add_command(
        verbs, "rollback", _rollback, help="give the teacher everything, at once", examples="  potstill flag rollback triage"
    )
    back.add_argument("task")
    back.add_argument("--why", default="rollback by hand", help="reason, kept in the history")
    compare = add_command(
        commands,
        "ab",
        _ab,
        help="student against teacher in the flag's current or last experiment",
        examples="  potstill ab triage --json",
    )
    compare.add_argument("task")


def parse_share(text: str) -> int:
    """Basis points of `30%`, `2.5%` or `0.3`; SettingsError when it is none or outside 0 to 100 %."""
    number, is_percent = (text[:-1], True) if text.endswith("%") else (text, False)
    try:
        share_bp = round(float(number) * (100 if is_percent else 10_000))
    except ValueError:
        share_bp = -1
    if not 0 <= share_bp <= 10_000:
        raise SettingsError(f"Share {text!r} is not between 0% and 100%.", "Write --share 30%, or --share 0.3.")
    return share_bp


def _set(arguments: argparse.Namespace, settings: Settings, output: Output) -> int:
    from serve import flag_store

    share_bp = parse_share(arguments.share)
    database = open_database(settings.database_url)
    try:
        made = flag_store.set_share(
            database,
            arguments.task,
            share_bp,
            release=arguments.release,
            unit=arguments.unit,
            who=who_am_i(),
            why=arguments.why,
        )
    finally:
        database.close()
    if output.as_json:
        output.json(made)
    else:
        output.say(f"{made.task}: {made.share_bp / 100:g}% on {made.engine_model}, revision {made.revision}")
        output.say(f"Next: potstill ab {made.task}   Back at once: potstill flag rollback {made.task}")
    return ExitCode.OK


def _show(arguments: argparse.Namespace, settings: Settings, output: Output) -> int:
    from serve import flag_store

    database = open_database(settings.database_url)
    try:
        snapshot = flag_store.read_snapshot(database)
    finally:
        database.close()
    flags = [flag for flag in snapshot.flags.values() if arguments.task in ("", flag.task)]
    if output.as_json:
        output.json(flags)
    elif not flags:
        output.say("No flag: the teacher answers everything. Next: potstill flag set TASK --share 5%")
    else:
        rows = [(flag.task, flag.engine_model, f"{flag.share_bp / 100:g}%", flag.unit, flag.revision) for flag in flags]
        output.table(("TASK", "STUDENT", "SHARE", "UNIT", "REVISION"), rows, right=("SHARE", "REVISION"))
    return ExitCode.OK


def _history(arguments: argparse.Namespace, settings: Settings, output: Output) -> int:
    from serve import flag_store

    database = open_database(settings.database_url)
    try:
        changes = flag_store.history(database, arguments.task)
    finally:
        database.close()
    if output.as_json:
        output.json(changes)
    elif not changes:
        output.say(f"The flag of {arguments.task} was never changed.")
    else:
        rows = [(c.revision, clock.iso(c.created_us), f"{c.share_bp / 100:g}%", c.engine_model, c.who, c.why) for c in changes]
        output.table(("REVISION", "WHEN", "SHARE", "STUDENT", "WHO", "WHY"), rows, right=("REVISION", "SHARE"))
    return ExitCode.OK


def _rollback(arguments: argparse.Namespace, settings: Settings, output: Output) -> int:
    from serve import flag_store

    database = open_database(settings.database_url)
    try:
        made = flag_store.rollback(database, arguments.task, who=who_am_i(), why=arguments.why)
    finally:
        database.close()
    if output.as_json:
        output.json(made)
    else:
        output.say(f"{made.task}: rolled back, the teacher answers everything (revision {made.revision})")
    return ExitCode.OK


def _ab(arguments: argparse.Namespace, settings: Settings, output: Output) -> int:
    from serve import experiments

    database = open_database(settings.database_url)
    try:
        comparison = experiments.compare(database, arguments.task)
    finally:
        database.close()
    if output.as_json:
        output.json(comparison)
    else:
        print_comparison(comparison, output)
    return ExitCode.OK
