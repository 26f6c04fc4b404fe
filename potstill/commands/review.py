"""`potstill review next|accept|reject|edit|skip|undo|progress`: verdicts on examples, as in the terminal interface."""

from __future__ import annotations

import argparse
from typing import Any

from capture.database import open_database
from capture.person import who_am_i
from capture.settings import Settings
from potstill.commands import add_command, add_noun, whole_number
from potstill.output import ExitCode, Output


def add_commands(commands: Any) -> None:
    """Adds `review` with its verbs."""
    verbs = add_noun(commands, "review", help="verdicts on examples: next, accept, reject, edit, skip, undo, progress")
    following = add_command(
        verbs, "next", _next, help="examples that wait, most urgent first", examples="  potstill review next triage --limit 3"
    )
    following.add_argument("task")
    following.add_argument("--limit", type=whole_number, default=1, help="how many (default: 1)")
    for verdict, help in (
        ("accept", "the target is right"),
        ("reject", "leave this example out of the next version"),
        ("edit", "teach another target"),
        ("skip", "no verdict, not now"),
    ):
        example = f"  potstill review {verdict} triage ex_01m8..." + (
            ' --target \'{"queue": "login_access"}\'' if verdict == "edit" else ""
        )
        parser = add_command(verbs, verdict, _record, help=help, examples=example)
        parser.add_argument("task")
        parser.add_argument("exchange", help="id of the exchange behind the example")
        parser.add_argument("--note", default="", help="why, kept with the verdict")
        if verdict == "edit":
            parser.add_argument("--target", required=True, help="the answer to teach instead")
    for name, run, help in (
        ("undo", _undo, "take back your last verdict"),
        ("progress", _progress, "how many wait, how many have which verdict"),
    ):
        add_command(verbs, name, run, help=help, examples=f"  potstill review {name} triage").add_argument("task")


def _next(arguments: argparse.Namespace, settings: Settings, output: Output) -> int:
    from curate import review

    database = open_database(settings.database_url)
    try:
        cards = review.queue(database, arguments.task, limit=arguments.limit)
    finally:
        database.close()
    if output.as_json:
        output.json(cards)
    elif not cards:
        output.say(f"No example of {arguments.task} waits. Next: potstill dataset build {arguments.task}")
    for card in [] if output.as_json else cards:
        output.heading(f"{card.exchange_id}   {card.split}   {card.note or card.reason}")
        for message in card.messages:
            output.say(f"{message.role}: {message.text}")
        output.say(f"target: {card.target}")
    return ExitCode.OK


def _record(arguments: argparse.Namespace, settings: Settings, output: Output) -> int:
    from curate import review

    target = arguments.target if arguments.verb == review.EDIT else ""
    database = open_database(settings.database_url)
    try:
        made = review.record(database, arguments.task, arguments.exchange, arguments.verb, target, who_am_i(), arguments.note)
    finally:
        database.close()
    if output.as_json:
        output.json(made)
    else:
        output.say(
            f"{made.verdict} {made.exchange_id}: counts from the next dataset version on. Back: potstill review undo {made.task}"
        )
    return ExitCode.OK


def _undo(arguments: argparse.Namespace, settings: Settings, output: Output) -> int:
    from curate import review

    database = open_database(settings.database_url)
    try:
        made = review.undo(database, arguments.task, who_am_i())
    finally:
        database.close()
    if output.as_json:
        output.json(made)
    else:
        output.say("You have no verdict to take back." if made is None else f"taken back: {made.exchange_id}")
    return ExitCode.OK


def _progress(arguments: argparse.Namespace, settings: Settings, output: Output) -> int:
    from curate import review

    database = open_database(settings.database_url)
    try:
        found = review.progress(database, arguments.task)
    finally:
        database.close()
    if output.as_json:
        output.json(found)
    else:
        output.table(
            ("WAITING", "ACCEPTED", "REJECTED", "EDITED", "SKIPPED"),
            [(found.waiting, found.accepted, found.rejected, found.edited, found.skipped)],
        )
    return ExitCode.OK
