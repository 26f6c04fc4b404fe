"""`potstill forget`: somebody's exchanges go everywhere, and the receipt says what was touched."""

from __future__ import annotations

import argparse
import sys
from contextlib import closing
from typing import Any

from capture import clock
from capture.errors import PotstillError
from capture.person import who_am_i
from capture.settings import Settings
from potstill.commands import add_command
from potstill.output import ExitCode, Output

_HELP = "erase what was captured of a user, a session or one exchange, everywhere, with a receipt"


def add_commands(commands: Any) -> None:
    """Adds `forget`."""
    forget = add_command(
        commands,
        "forget",
        _forget,
        help=_HELP,
        examples=(
            "  potstill forget --user ann@example.com --dry-run\n"
            "  potstill forget --user ann@example.com --yes\n"
            "  potstill forget --user ann --session s42 --yes --json\n"
            "  potstill forget --exchange ex_01m8177c0mewbv7e --yes\n"
            "  potstill forget --receipts\n\n"
            "It erases what is there at this moment: what the same user sends later is captured again. Adapters and releases\n"
            "cannot unlearn; the receipt names them."
        ),
    )
    subject = forget.add_mutually_exclusive_group()
    subject.add_argument("--user", default="", help="the user's name, as it was captured")
    subject.add_argument("--exchange", default="", help="id of one exchange, or enough of its beginning")
    forget.add_argument("--session", default="", help="one session, of the user when one is named")
    forget.add_argument("--dry-run", action="store_true", help="only say what would go, and what was made of it")
    forget.add_argument("--yes", action="store_true", help="do not ask first; required with --json, and without a terminal")
    forget.add_argument("--receipts", action="store_true", help="the receipts of what was erased so far")


def _forget(arguments: argparse.Namespace, settings: Settings, output: Output) -> int:
    from capture import forget
    from capture.database import open_database
    from capture.subject import Subject
    from serve import erasure

    if not (arguments.receipts or arguments.dry_run or arguments.yes) and (output.as_json or not sys.stdin.isatty()):
        output.error(PotstillError("Nobody can be asked whether to erase for good.", "Give --yes, or see first: --dry-run."))
        return ExitCode.USAGE
    with closing(open_database(settings.database_url)) as database:
        if arguments.receipts:
            _show_receipts(erasure.receipts(database), output)
            return ExitCode.OK
        exchange_id = forget.find_exchange_id(database, arguments.exchange) if arguments.exchange else ""
        subject = Subject(arguments.user, arguments.session, exchange_id)
        is_dry_run = arguments.dry_run or not (arguments.yes or _is_sure())
        with output.stages() as show:
            receipt = erasure.erase(database, settings, subject, who=who_am_i(), is_dry_run=is_dry_run, on_progress=show)
    if output.as_json:
        output.json(receipt)
    else:
        _show(receipt, output)
    return ExitCode.OK


def _is_sure() -> bool:
    return input("Erase for good? Type yes (anything else only shows what would go): ").strip() == "yes"


def _show(receipt: Any, output: Output) -> None:
    would = "would go" if receipt.is_dry_run else "gone"
    rows = [(place.replace("_", " "), count) for place, count in receipt.places.items() if count]
    if rows:
        output.table(("PLACE", would.upper()), rows, right=(would.upper(),))
    else:
        output.say("Nothing of that is stored." if receipt.is_dry_run else "Nothing of that was stored.")
    for version in receipt.versions:
        output.say(f"dataset {version.task}/v{version.number}: {version.examples} examples {would}")
    for run in receipt.runs:
        output.say(f"run {run.number} learnt from it ({run.task}); {run.predictions} predictions {would}")
    for name, touched in (("adapter", receipt.adapters), ("release", receipt.releases)):
        for each in touched:
            output.say(f"{name} {each} learnt from it")
    for each in receipt.left:
        output.say(f"! {each}")
    if not receipt.is_dry_run:
        output.say(f"Receipt {receipt.id}. It names nobody: the subject stands on it as {receipt.subject[:23]}…")


def _show_receipts(receipts: list[dict[str, Any]], output: Output) -> None:
    if output.as_json:
        output.json(receipts)
    elif not receipts:
        output.say("Nothing was erased yet.")
    else:
        rows = [
            (each["id"], clock.iso(each["created_us"]), each["who"], each["places"].get("exchanges", 0), each["subject"])
            for each in receipts
        ]
        output.table(("RECEIPT", "TIME", "WHO", "EXCHANGES", "SUBJECT"), rows, right=("EXCHANGES",))
