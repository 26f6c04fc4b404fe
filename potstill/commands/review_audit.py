"""`potstill review audit start|next|right|wrong|report`: what share of a dataset version is wrong, from a random sample."""

from __future__ import annotations

import argparse
import os
from typing import Any

from capture.capture_settings import CaptureSettings
from capture.database import Database, open_database
from capture.errors import NotFoundError
from capture.messages import Message
from capture.person import who_am_i
from capture.pseudonyms import read_policy
from capture.settings import Settings
from potstill.commands import add_command, whole_number, zero_or_more
from potstill.commands.review_cards import said_lines, show_prompt
from potstill.output import ExitCode, Output, counted, plain


def add_commands(verbs: Any) -> None:
    """Adds `audit` with its steps to the verbs of `review`."""
    help = "error rate of a whole version from a random sample: start, next, right, wrong, report"
    parser = verbs.add_parser("audit", help=help, description=help)
    steps = parser.add_subparsers(dest="step", metavar="STEP", required=True)
    for name, run, help in (
        ("start", _start, "draw a random sample from train, val and test; a larger one keeps what was found of a smaller one"),
        ("next", _next, "the next example of the sample that nobody judged"),
        ("right", _judge, "the target is what a person would want"),
        ("wrong", _judge, "the target is wrong"),
        ("report", _report, "the error rate with its interval, whole and by split and label"),
    ):
        more = {"start": " --size 100", "right": " ex_01m8...", "wrong": ' ex_01m8... --note "other queue"'}.get(name, "")
        step = add_command(steps, name, run, help=help, examples=f"  potstill review audit {name} triage{more}")
        step.add_argument("task")
        if name in ("right", "wrong"):
            step.add_argument("exchange", help="id of the exchange behind the example")
            step.add_argument("--note", default="", help="why, kept with the finding")
        newest = "the newest" if name == "start" else "the newest with an audit"
        step.add_argument("--version", type=whole_number, help=f"number of the version (default: {newest})")
        if name == "start":
            step.add_argument("--size", type=whole_number, default=100, help="examples to draw (default: 100)")
            step.add_argument("--seed", type=zero_or_more, default=1, help="another seed draws another sample (default: 1)")
        if name == "next":
            step.add_argument("--limit", type=whole_number, default=1, help="how many (default: 1)")
            step.add_argument("--again", action="store_true", help="with those that only others judged")


def _start(arguments: argparse.Namespace, settings: Settings, output: Output) -> int:
    from curate.reviewing import audit

    database = open_database(settings.database_url)
    try:
        version = _version(database, arguments)
        drawn = [example.exchange_id for example in _examples(version)]
        made = audit.start(
            database, version.task, version.number, drawn, version_hash=version.hash, size=arguments.size, seed=arguments.seed,
            who=who_am_i(),
        )  # fmt: skip
        found = audit.latest_audit(database, version.task, version.number)
    finally:
        database.close()
    if output.as_json:
        output.json(made)
    else:
        sample = counted(len(made.exchange_ids), "example")
        output.say(
            f"{version.task}/v{version.number}: {sample} drawn from {made.population:,}, {found.waiting if found else 0} wait."
        )
        output.say(f"Next: potstill review audit next {version.task}")
    return ExitCode.OK


def _next(arguments: argparse.Namespace, settings: Settings, output: Output) -> int:
    from curate.reviewing import audit

    database = open_database(settings.database_url)
    try:
        version = _version(database, arguments)
        chosen = audit.next_up(database, version.task, version.number, who_am_i(), arguments.limit, again=arguments.again)
    finally:
        database.close()
    by_id = {example.exchange_id: example for example in _examples(version)}
    examples = [by_id[exchange_id] for exchange_id in chosen if exchange_id in by_id]
    if output.as_json:
        output.json(examples)
        return ExitCode.OK
    for example in examples:
        output.heading(f"{example.exchange_id}   {example.split}")
        show_prompt(example.messages, example.tools, output)
        for line in said_lines("target", Message("assistant", example.target, example.calls)):
            output.say(line)
    if examples:
        output.say(f"Next: potstill review audit right {version.task} {examples[0].exchange_id}   or: wrong")
    else:
        output.say(f"The sample is judged. Next: potstill review audit report {version.task}")
    return ExitCode.OK


def _judge(arguments: argparse.Namespace, settings: Settings, output: Output) -> int:
    from curate.reviewing import audit

    personal = read_policy(settings.section("capture", CaptureSettings), os.environ)
    database = open_database(settings.database_url)
    try:
        version = _version(database, arguments)
        made = audit.judge(
            database, version.task, version.number, arguments.exchange, arguments.step, who_am_i(), arguments.note, personal
        )
        found = audit.latest_audit(database, version.task, version.number)
    finally:
        database.close()
    if output.as_json:
        output.json(made)
    else:
        output.say(f"{made.verdict} {made.exchange_id}: {found.waiting if found else 0} of the sample wait.")
    return ExitCode.OK


def _report(arguments: argparse.Namespace, settings: Settings, output: Output) -> int:
    from curate.reviewing import audit

    database = open_database(settings.database_url)
    try:
        version = _version(database, arguments)
        found = audit.report(database, version.task, version.number, _examples(version))
    finally:
        database.close()
    if output.as_json:
        output.json({**plain(found), "sentence": found.sentence})
        return ExitCode.OK
    output.heading(f"{version.task}/v{version.number}   audit by {', '.join(found.judges) or 'nobody yet'}")
    output.say(found.sentence)
    groups = (*found.by_split, *found.by_label)
    if groups:
        rows = [(rate.group, rate.population, rate.judged, rate.wrong, f"{rate.low:.1%} to {rate.high:.1%}") for rate in groups]
        output.table(("GROUP", "EXAMPLES", "JUDGED", "WRONG", "WRONG, 95 %"), rows, right=("EXAMPLES", "JUDGED", "WRONG"))
    if found.uneven:
        output.say(f"{counted(found.uneven, 'example')} split the judges evenly and count as wrong.")
    if found.waiting:
        output.say(f"{found.waiting:,} of the sample wait: potstill review audit next {version.task}")
    return ExitCode.OK


def _version(database: Database, arguments: argparse.Namespace) -> Any:
    """The version that was named; without a number the newest to start with, and to go on the newest that has an audit."""
    from curate import datasets
    from curate.reviewing import audit
    from curate.tasks.aliases import canonical

    if arguments.version is not None or arguments.step == "start":
        return datasets.get_version(database, arguments.task, arguments.version)
    begun = [
        version
        for version in datasets.versions(database, canonical(database, arguments.task))
        if audit.latest_audit(database, version.task, version.number)
    ]
    if begun:
        return begun[-1]
    version = datasets.get_version(database, arguments.task)
    what = f"{version.task}/v{version.number} has no audit."
    raise NotFoundError(what, f"Begin one: potstill review audit start {version.task}")


def _examples(version: Any) -> list[Any]:
    from curate.datasets import load_split
    from curate.splits import SPLITS

    return [example for split in SPLITS for example in load_split(version, split)]
