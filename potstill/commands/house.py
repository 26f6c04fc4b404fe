"""`potstill doctor`, `verify`, `losses` and `config`: is everything in order, what was lost, and what is set."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from capture import clock
from capture.errors import PotstillError, SettingsError
from capture.settings import FILE_NAME, Settings
from potstill.commands import add_command, whole_number
from potstill.output import ExitCode, Output, counted, plain

if TYPE_CHECKING:
    from capture.database import Database
    from capture.losses import RetriedLetters
    from capture.verify import VerifyReport

_SHOWN = 50


_CONFIG = """\
show   every setting with its value, where the value comes from, and its meaning
check  reads potstill.toml and the environment as `potstill up` does, and starts nothing; tells every fault with what to
       do: unknown sections and keys, impossible values, files and upstreams that are named and not there. Then warns of
       keys of upstreams that are not there yet. Ends with status 0 when there is no fault, warnings or not, else with 1"""


def add_commands(commands: Any) -> None:
    """Adds `doctor`, `verify`, `losses` and `config`."""
    add_command(
        commands,
        "doctor",
        _doctor,
        help="check store, spool, disk, clock, ports, upstreams and engine; each finding has a next step",
        examples="  potstill doctor\n  potstill doctor --json | jq '.[] | select(.verdict != \"ok\")'",
    )
    check = add_command(
        commands,
        "verify",
        _verify,
        help="recompute the hashes of everything stored, and of dataset files; ends with status 1 when something is wrong",
        examples="  potstill verify\n  potstill verify --since 7d\n  potstill verify --limit 10000 --json | jq .faults",
    )
    check.add_argument("--since", default="", metavar="AGE", help="only exchanges of the last 30m, 12h or 7d (default: all)")
    check.add_argument("--limit", type=whole_number, help="only so many of the newest exchanges (default: all)")
    check.add_argument("--deep", action="store_true", help="let SQLite compare its indexes with its tables too; slow")
    losses = add_command(
        commands,
        "losses",
        _losses,
        help="what capture could not keep; ends with status 1 when the relay that is up has dropped exchanges",
        examples="  potstill losses\n  potstill losses --retry\n  potstill losses --json | jq .gaps",
    )
    losses.add_argument("--retry", action="store_true", help="try to store the refused exchanges once more")
    losses.add_argument("--limit", type=whole_number, default=20, help="how many of each to list (default: 20)")
    config = add_command(
        commands,
        "config",
        _config,
        help="every setting with its value and meaning; `check` says all that is wrong; --init writes a commented potstill.toml",
        examples="  potstill config --init\n  potstill config check",
    )
    config.description = _CONFIG
    config.add_argument("verb", nargs="?", choices=("show", "check"), default="show", help="show (default), or check")
    config.add_argument("--init", action="store_true", help=f"write {FILE_NAME} into this folder")
    config.set_defaults(reads_anything=True)


def _doctor(arguments: argparse.Namespace, settings: Settings, output: Output) -> int:
    from potstill import doctor

    findings = doctor.examine(settings)
    if output.as_json:
        output.json(findings)
    else:
        output.table(("CHECK", "VERDICT", "WHAT"), [(f.check, f.verdict, f.what) for f in findings])
        for finding in findings:
            if finding.next_step:
                output.say(f"{finding.check}: {finding.next_step}")
    return ExitCode.FAILED if any(finding.verdict == "bad" for finding in findings) else ExitCode.OK


def _verify(arguments: argparse.Namespace, settings: Settings, output: Output) -> int:
    from capture import verify as checking
    from capture.database import open_database
    from curate.damage import find_damage

    since_us = parse_since(arguments.since, clock.now_us())
    with closing(open_database(settings.database_url)) as database, output.stages() as show:
        report = checking.verify(database, since_us=since_us, limit=arguments.limit, is_deep=arguments.deep, on_progress=show)
        for damaged in find_damage(database, on_progress=lambda done, total: show("datasets", done, total)):
            report.add(checking.DATASET, damaged.version, damaged.what)
    if output.as_json:
        output.json(report)
    else:
        _tell_verified(report, output)
    return ExitCode.FAILED if report.fault_count else ExitCode.OK


def _tell_verified(report: VerifyReport, output: Output) -> None:
    from capture.verify import NEXT_STEPS

    output.say(
        f"{report.exchanges} exchanges: {report.as_relayed} byte for byte as relayed, {report.changed} as they were stored "
        f"without secrets or personal data, {report.omitted} without content. {report.pieces} pieces."
    )
    if not report.fault_count:
        output.say("Nothing is wrong.")
        return
    output.table(("KIND", "WHERE", "WHAT"), [(fault.kind, fault.where, fault.what) for fault in report.faults[:_SHOWN]])
    if report.fault_count > _SHOWN:
        output.say(f"... {report.fault_count} faults in all; --json shows up to 1,000.")
    for kind in dict.fromkeys(fault.kind for fault in report.faults):
        output.say(f"{kind}: {NEXT_STEPS[kind]}")


def _losses(arguments: argparse.Namespace, settings: Settings, output: Output) -> int:
    from capture.database import open_database
    from capture.losses import read_losses

    dropped = _dropped_by_relay(settings)
    with closing(open_database(settings.database_url)) as database:
        retried = _retry(database, settings, output) if arguments.retry else None
        losses = read_losses(database, settings.data_folder, limit=arguments.limit)
    code = ExitCode.FAILED if dropped else ExitCode.OK
    if output.as_json:
        output.json({**plain(losses), "dropped_by_relay": dropped, **({"retried": plain(retried)} if retried else {})})
        return code
    if retried:
        output.say(f"{retried.stored} stored, {retried.known} were there already, {len(retried.refused)} refused again.")
    if dropped:
        output.say(
            f"The relay that is up dropped {counted(dropped, 'exchange')} since it started; the store may not list all yet."
        )
    if not (losses.gap_count or losses.dead_letter_count or losses.quarantine):
        output.say("The store knows of no losses." if dropped else "Nothing was ever dropped, refused or damaged.")
        return code
    output.say(
        f"{losses.lost} exchanges dropped in {losses.gap_count} stretches, {losses.dead_letter_count} refused by the store, "
        f"{len(losses.quarantine)} damaged segments kept aside."
    )
    stretches = [(clock.iso(gap.from_us), clock.iso(gap.to_us), str(gap.lost), gap.reason) for gap in losses.gaps]
    if stretches:
        output.table(("FROM", "TO", "LOST", "WHY"), stretches, right=("LOST",))
    letters = [(clock.iso(letter.created_us), letter.exchange_id, letter.reason) for letter in losses.dead_letters]
    if letters:
        output.table(("REFUSED", "EXCHANGE", "WHY"), letters)
        output.say("After an upgrade, try them again: potstill losses --retry")
    for path, size in losses.quarantine[:_SHOWN]:
        output.say(f"{path} ({size / 2**20:.1f} MiB) holds bytes that could not be read; delete it when you need it no more.")
    return code


def _dropped_by_relay(settings: Settings) -> int | None:
    """How many exchanges the relay says that it dropped since it started; None when it does not say."""
    from potstill.doctor_network import ask_workers, dropped_by

    workers = ask_workers(settings)
    return None if workers is None else dropped_by(workers)


def _retry(database: Database, settings: Settings, output: Output) -> RetriedLetters:
    from capture.capture_settings import CaptureSettings
    from capture.losses import retry_dead_letters
    from capture.pricing import PriceSettings, load_price_table
    from capture.pseudonyms import read_policy

    prices = load_price_table(settings.section("prices", PriceSettings))
    personal = read_policy(settings.section("capture", CaptureSettings), os.environ)
    with output.stages() as show:
        return retry_dead_letters(database, prices, personal, on_progress=lambda done, total: show("dead letters", done, total))


def parse_since(text: str, now_us: int) -> int:
    """The moment that is `text` (30m, 12h, 7d) before `now_us`; 0 for ''."""
    if not text:
        return 0
    match = re.fullmatch(r"(\d{1,6})([smhd])", text)
    if match is None:
        raise SettingsError(f"--since {text!r} is no age.", "Write it as 30m, 12h or 7d.")
    return now_us - int(match[1]) * {"s": 1, "m": 60, "h": 3_600, "d": 86_400}[match[2]] * 1_000_000


def _config(arguments: argparse.Namespace, settings: Settings, output: Output) -> int:
    from potstill import configuration

    if arguments.init:
        path = Path(FILE_NAME)
        if path.exists():
            raise SettingsError(f"{path} is already there.", "Edit it, or move it away first.")
        path.write_text(configuration.commented_toml(), "utf-8")
        output.say(f"{path} is written: every setting stands in it, commented out at its default.")
        return ExitCode.OK
    problems = configuration.problems(settings)
    if arguments.verb == "check":
        return _tell_problems(problems, [] if problems else configuration.warnings(settings), settings, output)
    for error in problems:
        raise error
    explained = configuration.explain(settings)
    if output.as_json:
        output.json(explained)
    else:
        output.table(("SETTING", "VALUE", "FROM", "MEANING"), [(e.name, e.value, e.source, e.meaning) for e in explained])
    return ExitCode.OK


def _tell_problems(
    problems: Sequence[PotstillError], warnings: Sequence[PotstillError], settings: Settings, output: Output
) -> int:
    found = [("problem", error) for error in problems] + [("warning", error) for error in warnings]
    if output.as_json:
        output.json([{"kind": kind, "what": error.what, "next_step": error.next_step} for kind, error in found])
        return ExitCode.FAILED if problems else ExitCode.OK
    for kind, error in found:
        output.say(f"Warning: {error}" if kind == "warning" else str(error))
    if not problems:
        verdict = f"has no error, and {counted(len(warnings), 'warning')}" if warnings else "is in order"
        output.say(f"{settings.path or 'The configuration (no file, defaults and environment)'} {verdict}.")
    return ExitCode.FAILED if problems else ExitCode.OK
