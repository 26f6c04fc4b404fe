"""`potstill review next|accept|reject|edit|skip|bulk|undo|progress|agreement|audit`: verdicts on examples."""

from __future__ import annotations

import argparse
import os
from typing import Any

from capture.capture_settings import CaptureSettings
from capture.database import open_database
from capture.person import who_am_i
from capture.pseudonyms import PersonalPolicy, read_policy
from capture.settings import Settings
from potstill.commands import add_command, add_noun, review_audit, whole_number, zero_or_more
from potstill.commands.review_cards import one_line_of, show_card
from potstill.output import ExitCode, Output, counted, plain

_VERDICTS = {
    "accept": "the target is right",
    "reject": "leave this example out of the next version",
    "edit": "teach another target",
    "skip": "no verdict, not now",
}


def add_commands(commands: Any) -> None:
    """Adds `review` with its verbs."""
    verbs = add_noun(
        commands,
        "review",
        help="verdicts on examples: next, accept, reject, edit, skip, bulk, undo, progress, agreement, audit",
    )
    following = add_command(
        verbs,
        "next",
        _next,
        help="examples that wait for you, most urgent first",
        examples="  potstill review next triage --limit 3\n  potstill review next triage --second-opinion 5",
    )
    following.add_argument("task")
    following.add_argument("--limit", type=whole_number, default=1, help="how many (default: 1)")
    _add_second_opinion(following)
    for verdict, help in _VERDICTS.items():
        example = f"  potstill review {verdict} triage ex_01m8..." + (
            ' --target \'{"queue": "login_access"}\'' if verdict == "edit" else ""
        )
        parser = add_command(verbs, verdict, _record, help=help, examples=example)
        _add_example(parser)
        if verdict == "edit":
            parser.add_argument("--target", required=True, help="the answer to teach instead")
    bulk = add_command(
        verbs,
        "bulk",
        _bulk,
        help="one verdict on an example and all its look-alikes that wait; one undo takes all of it back",
        examples="  potstill review bulk accept triage ex_01m8... --show\n  potstill review bulk accept triage ex_01m8...",
    )
    bulk.add_argument("verdict", choices=tuple(_VERDICTS))
    _add_example(bulk)
    bulk.add_argument("--target", default="", help="for edit: the answer to teach instead")
    bulk.add_argument("--show", action="store_true", help="show which examples these are, and record nothing")
    for name, run, help in (
        ("undo", _undo, "take back your last verdict, a bulk as a whole"),
        ("progress", _progress, "how many wait for you, how many have which verdict"),
        ("agreement", _agreement, "how far reviewers agree beyond chance (kappa), with intervals"),
    ):
        parser = add_command(verbs, name, run, help=help, examples=f"  potstill review {name} triage")
        parser.add_argument("task")
        if name == "progress":
            _add_second_opinion(parser)
    review_audit.add_commands(verbs)


def _add_example(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("task")
    parser.add_argument("exchange", help="id of the exchange behind the example, or the start of it")
    parser.add_argument("--note", default="", help="why, kept with the verdict")


def _add_second_opinion(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--second-opinion", type=zero_or_more, default=0, metavar="N",
        help="with one in N of the examples that others judged, so that agreement can be measured (default: none)",
    )  # fmt: skip


def _next(arguments: argparse.Namespace, settings: Settings, output: Output) -> int:
    from curate.reviewing import review
    from curate.selection import require_task
    from curate.tasks.aliases import canonical, expand

    database = open_database(settings.database_url)
    try:
        task = canonical(database, arguments.task)
        cards = review.queue(database, task, arguments.limit, who_am_i(), arguments.second_opinion)
        if not cards:
            require_task(database, task, expand(database, task))
    finally:
        database.close()
    if output.as_json:
        output.json(cards)
        return ExitCode.OK
    for card in cards:
        show_card(card, output)
    if cards:
        output.say(f"Next: potstill review accept {task} {cards[0].exchange_id}   or: reject, edit, skip")
    else:
        output.say(f"No example of {task} waits. Next: potstill dataset build {task}")
    return ExitCode.OK


def _record(arguments: argparse.Namespace, settings: Settings, output: Output) -> int:
    from curate.reviewing import review
    from curate.tasks.aliases import canonical

    target = arguments.target if arguments.verb == review.EDIT else ""
    personal = personal_policy(settings)
    database = open_database(settings.database_url)
    try:
        task = canonical(database, arguments.task)
        made = review.record(database, task, arguments.exchange, arguments.verb, target, who_am_i(), arguments.note, personal)
    finally:
        database.close()
    if output.as_json:
        output.json(made)
    else:
        counts = "no verdict, it leaves your queue" if made.verdict == review.SKIP else "counts from the next dataset version on"
        output.say(f"{made.verdict} {made.exchange_id}: {counts}. Back: potstill review undo {made.task}")
    return ExitCode.OK


def _bulk(arguments: argparse.Namespace, settings: Settings, output: Output) -> int:
    from curate.reviewing import review
    from curate.tasks.aliases import canonical

    personal = personal_policy(settings)
    who, made = who_am_i(), []
    database = open_database(settings.database_url)
    try:
        task = canonical(database, arguments.task)
        found = review.look_alikes(database, task, arguments.exchange, who)
        if not arguments.show:
            chosen = found.exchange_ids
            made = review.record_many(database, task, chosen, arguments.verdict, arguments.target, who, arguments.note, personal)
    finally:
        database.close()
    if output.as_json:
        output.json(found if arguments.show else made)
    elif arguments.show:
        rows = [(card.exchange_id, one_line_of(card.target, card.calls), _asked(card)) for card in found.cards]
        output.table(("EXCHANGE", "TARGET", "ASKED"), rows)
        output.say(f"{counted(len(found.exchange_ids), 'example')} would get one verdict; nothing is recorded.")
    else:
        output.say(f"{arguments.verdict} {counted(len(made), 'example')}. All of it back: potstill review undo {task}")
    return ExitCode.OK


def _asked(card: Any) -> str:
    users = [message.text for message in card.messages if message.role == "user"]
    return one_line_of(users[-1] if users else "", ())


def _undo(arguments: argparse.Namespace, settings: Settings, output: Output) -> int:
    from curate.reviewing import review
    from curate.tasks.aliases import canonical

    database = open_database(settings.database_url)
    try:
        taken = review.undo(database, canonical(database, arguments.task), who_am_i())
    finally:
        database.close()
    if output.as_json:
        output.json({**plain(taken[-1]), "taken_back": [each.exchange_id for each in taken]} if taken else None)
    elif not taken:
        output.say("You have no verdict to take back.")
    elif len(taken) == 1:
        output.say(f"taken back: {taken[0].exchange_id}")
    else:
        output.say(f"taken back: {taken[0].verdict} of {counted(len(taken), 'example')}")
    return ExitCode.OK


def _progress(arguments: argparse.Namespace, settings: Settings, output: Output) -> int:
    from curate.reviewing import review
    from curate.selection import require_task
    from curate.tasks.aliases import canonical, expand

    database = open_database(settings.database_url)
    try:
        task = canonical(database, arguments.task)
        found = review.progress(database, task, who_am_i(), arguments.second_opinion)
        if not any(plain(found).values()):
            require_task(database, task, expand(database, task))
    finally:
        database.close()
    if output.as_json:
        output.json(found)
    else:
        columns = ("WAITING", "ACCEPTED", "REJECTED", "EDITED", "SKIPPED", "DISPUTED")
        output.table(
            columns,
            [(found.waiting, found.accepted, found.rejected, found.edited, found.skipped, found.disputed)],
            right=columns[:-1],
        )
    return ExitCode.OK


def _agreement(arguments: argparse.Namespace, settings: Settings, output: Output) -> int:
    from curate.reviewing.agreement import agreement
    from curate.selection import require_task
    from curate.tasks.aliases import canonical, expand

    database = open_database(settings.database_url)
    try:
        task = canonical(database, arguments.task)
        found = agreement(database, task)
        if not found.examples:
            require_task(database, task, expand(database, task))
    finally:
        database.close()
    if output.as_json:
        output.json(found)
        return ExitCode.OK
    who = ", ".join(found.reviewers) or "nobody yet"
    output.heading(f"{found.task}   {counted(found.examples, 'example')} judged by {who}   {found.examples_shared} by several")
    output.say(f"{found.overall.name}: {_coefficient(found.overall)}")
    if found.pairs:
        rows = [
            (f"{pair.first}, {pair.second}", pair.shared, pair.same, _percent(pair), _coefficient(pair.kappa))
            for pair in found.pairs
        ]
        output.table(("REVIEWERS", "SHARED", "SAME", "SAME %", "KAPPA (95 %)"), rows, right=("SHARED", "SAME", "SAME %"))
    if found.left_out:
        output.say(f"{counted(found.left_out, 'opinion')} only settled a dispute, and would say nothing about agreement.")
    if found.examples_shared == 0:
        output.say(f"Next: another reviewer runs potstill review next {found.task} --second-opinion 5")
    return ExitCode.OK


def _percent(pair: Any) -> str:
    return "-" if pair.percent is None else f"{pair.percent:.0%} ({pair.percent_low:.0%} to {pair.percent_high:.0%})"


def _coefficient(figure: Any) -> str:
    if figure.value is None:
        return f"undefined: {figure.reason}"
    interval = f" ({figure.low:.2f} to {figure.high:.2f})" if figure.low is not None else f" ({figure.reason})"
    return f"{figure.value:.2f}{interval}"


def personal_policy(settings: Settings) -> PersonalPolicy:
    """What happens to personal data in what a person writes."""
    return read_policy(settings.section("capture", CaptureSettings), os.environ)
