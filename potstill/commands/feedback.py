"""`potstill feedback add|list|stats|import`: what people thought of the answers."""

from __future__ import annotations

import argparse
import os
import sys
from contextlib import closing
from pathlib import Path
from typing import Any, BinaryIO

from capture import clock
from capture.database import open_database
from capture.errors import NotFoundError, SettingsError
from capture.person import who_am_i
from capture.settings import Settings
from potstill.commands import add_command, add_noun, whole_number, zero_or_more
from potstill.output import ExitCode, Output, counted, one_line

_NO_WORDS = "Where the content of an exchange is not stored, words on it are not kept"
_FILTER_HELP = "about which exchanges, as in `potstill exchanges list` (default: all feedback)"


def add_commands(commands: Any) -> None:
    """Adds `feedback` with its verbs."""
    verbs = add_noun(commands, "feedback", help="what people thought of the answers: add, list, stats, import")
    adding = add_command(
        verbs,
        "add",
        _add,
        help="say what you think of an exchange, or of a whole session",
        examples=(
            "  potstill feedback add ex_01m8177c0mewbv7e --good\n"
            "  potstill feedback add ex_01m8177c0mewbv7e --name tone --category rude --comment 'scolds the customer'\n"
            "  potstill feedback add --session s17 --value 0.8\n"
            '  echo \'{"queue": "billing"}\' | potstill feedback add ex_01m8177c0mewbv7e --bad --demonstration -'
        ),
    )
    adding.add_argument("exchange", nargs="?", default="", help="id of the exchange, or enough of its beginning")
    adding.add_argument("--session", default="", help="a session, in place of an exchange")
    said = adding.add_mutually_exclusive_group()
    said.add_argument("--good", action="store_const", const=True, dest="value", help="the answer was good")
    said.add_argument("--bad", action="store_const", const=False, dest="value", help="the answer was bad")
    said.add_argument("--value", type=float, dest="value", help="a number")
    said.add_argument("--category", dest="value", help="the name of a category")
    adding.add_argument("--comment", help="why, in words")
    adding.add_argument("--demonstration", metavar="FILE", help="the answer as it should have been, from a file; - for stdin")
    adding.add_argument("--name", default="feedback", help="what is judged, such as helpful or tone (default: feedback)")
    adding.add_argument("--who", default=who_am_i(), help="who says it (default: you)")
    adding.add_argument("--id", help="an id of your own: the same one again changes nothing")
    listing = add_command(
        verbs,
        "list",
        _list,
        help="newest feedback first",
        examples="  potstill feedback list 'task:triage since:7d'\n  potstill feedback list --limit 1000 --json",
    )
    listing.add_argument("filter", nargs="*", help=_FILTER_HELP)
    listing.add_argument("--limit", type=whole_number, default=20, help="how many at most (default: 20)")
    listing.add_argument(
        "--before", type=zero_or_more, default=0, metavar="NUMBER", help="only what was stored before this number"
    )
    stats = add_command(
        verbs,
        "stats",
        _stats,
        help="what counts, by name and variant: the newest word of each person on each exchange",
        examples="  potstill feedback stats 'task:triage since:7d' --json",
    )
    stats.add_argument("filter", nargs="*", help=_FILTER_HELP)
    importing = add_command(
        verbs,
        "import",
        _import,
        help="store feedback from a file with one JSON object a line; bad lines are named and left out; fails if none is good",
        examples="  potstill feedback import scores.jsonl\n  zcat scores.jsonl.gz | potstill feedback import -",
    )
    importing.add_argument("file", help="the file; - for stdin")


def _add(arguments: argparse.Namespace, settings: Settings, output: Output) -> int:
    from capture import feed, feedback
    from capture.feedback_forms import make_feedback

    if not (arguments.exchange or arguments.session):
        raise SettingsError("The feedback names neither an exchange nor a session.", "Give an exchange's id, or --session NAME.")
    if arguments.value is None and arguments.comment is None and arguments.demonstration is None:
        step = "Add --good, --bad, --value N, --category NAME, --comment TEXT or --demonstration FILE."
        raise SettingsError("The feedback says nothing.", step)
    fields = {name: getattr(arguments, name) for name in ("session", "value", "comment", "name", "who", "id")}
    if arguments.demonstration is not None:
        fields["demonstration"] = _read_demonstration(arguments.demonstration)
    with closing(open_database(settings.database_url)) as database:
        exchange_id = feed.get(database, arguments.exchange).id if arguments.exchange else ""
        given = make_feedback(fields, source=feedback.BY_COMMAND, exchange_id=exchange_id)
        added = feedback.add(database, given.notes, _personal(settings))
    if output.as_json:
        output.json({"id": given.id, "is_new": added.new > 0, "left_out": added.left_out})
        return ExitCode.OK
    if added.left_out:
        output.say(f"{_NO_WORDS}: comment and demonstration were left out.")
    if added.new:
        output.say(f"kept as {given.id}. Next: potstill feedback stats")
    elif len(given.notes) > added.left_out:
        output.say(f"{given.id} was kept before; nothing has changed.")
    return ExitCode.OK


def _personal(settings: Settings) -> Any:
    from capture.capture_settings import CaptureSettings
    from capture.pseudonyms import read_policy

    return read_policy(settings.section("capture", CaptureSettings), os.environ)


def _read_demonstration(name: str) -> object:
    """A message with content or tool_calls when the file holds one as JSON, else the file's text."""
    from capture.loose_json import parse

    with _open(name) as file:
        data = file.read()
    try:
        found = parse(data)
    except ValueError:
        found = None
    if isinstance(found, dict) and found.keys() & {"content", "tool_calls"}:
        return found
    return data.decode("utf-8", "replace").rstrip("\n")


def _open(name: str) -> BinaryIO:
    if name == "-":
        return sys.stdin.buffer
    try:
        return Path(name).open("rb")
    except OSError as error:
        raise NotFoundError(f"{name} cannot be read: {error.strerror}.", "Give a file, or - for stdin.") from error


def _list(arguments: argparse.Namespace, settings: Settings, output: Output) -> int:
    from capture import feedback
    from capture.filters import parse_filter

    chosen = parse_filter(" ".join(arguments.filter))
    with closing(open_database(settings.database_url)) as database:
        found = feedback.page(database, chosen, before=arguments.before, limit=arguments.limit + 1)
    shown, is_cut = found[: arguments.limit], len(found) > arguments.limit
    if output.as_json:
        output.json(shown)
        return ExitCode.OK
    if not shown:
        output.say("No feedback matches. Apps send it by POST to /feedback; see also: potstill feedback add --help")
        return ExitCode.OK
    rows = [
        (
            clock.iso(each.created_us)[:19].replace("T", " "),
            each.exchange_id or f"session {one_line(each.session_name, 24)}",
            one_line(each.name, 20),
            each.kind,
            one_line(each.who, 16) or "-",
            each.source,
            one_line(feedback.words(each), 60),
        )
        for each in shown
    ]
    output.table(("TIME", "ABOUT", "NAME", "KIND", "WHO", "BY", "SAID"), rows)
    if is_cut:
        output.say(f"There are more: --before {shown[-1].number} goes on.")
    return ExitCode.OK


def _stats(arguments: argparse.Namespace, settings: Settings, output: Output) -> int:
    from capture import feedback
    from capture.filters import parse_filter

    chosen = parse_filter(" ".join(arguments.filter))
    with closing(open_database(settings.database_url)) as database:
        found = feedback.summary(database, chosen)
        unmatched = feedback.unmatched(database)
    if output.as_json:
        output.json({"feedback": found, "unmatched": unmatched})
        return ExitCode.OK
    if found:
        rows = [
            (each.name, each.kind, each.total.n, *map(_figures, (each.total, each.baseline, each.candidate))) for each in found
        ]
        output.table(("NAME", "KIND", "N", "ALL", "BASELINE", "CANDIDATE"), rows, right=("N",))
    else:
        output.say("No feedback is about these exchanges.")
    if unmatched:
        output.say(f"{unmatched} more are about exchanges or sessions that the store does not have, or not yet.")
    return ExitCode.OK


def _figures(figures: Any) -> str:
    if figures.mean is not None:
        return f"{figures.mean:.3g} of {figures.n}"
    most = sorted(figures.categories.items(), key=lambda item: -item[1])
    return ", ".join(f"{one_line(name, 20)} {n}" for name, n in most[:4]) or (str(figures.n) if figures.n else "-")


def _import(arguments: argparse.Namespace, settings: Settings, output: Output) -> int:
    from capture.feedback_file import import_feedback

    personal = _personal(settings)
    size = Path(arguments.file).stat().st_size if Path(arguments.file).is_file() else 0
    with closing(open_database(settings.database_url)) as database, _open(arguments.file) as file, output.stages() as show:
        made = import_feedback(database, file, personal, lambda done: show("bytes read", done, max(size, done)))
    if output.as_json:
        output.json(made)
    else:
        for bad in made.bad_lines:
            output.say(f"line {bad.line}: {bad.reason}")
        if made.left_out:
            output.say(f"{_NO_WORDS}: {made.left_out} were left out.")
        if made.bad > len(made.bad_lines):
            output.say(f"... and {made.bad - len(made.bad_lines)} bad lines more")
        lines, left = counted(made.lines, "line"), counted(made.bad, "bad line")
        output.say(f"{lines}: {made.stored} stored, {made.known} known before, {left} left out")
    has_good = made.stored or made.known or made.left_out
    return ExitCode.FAILED if made.bad and not has_good else ExitCode.OK
