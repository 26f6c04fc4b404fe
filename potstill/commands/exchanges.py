"""`potstill exchanges list|show|tail` and `potstill tasks`: reading what was captured."""

from __future__ import annotations

import argparse
import threading
from contextlib import closing
from typing import Any

from capture import clock, feed, feedback
from capture.database import open_database
from capture.errors import SettingsError
from capture.exchange import Exchange
from capture.filters import parse_filter
from capture.settings import Settings
from potstill.commands import add_command, add_noun
from potstill.output import ExitCode, Output, one_line, plain

_COLUMNS = ("TIME", "ID", "TASK", "MODEL", "VAR", "ST", "LAT", "TOK", "COST", "OUTPUT")
_LOOK_BACK = 2_000
_FILTER_HELP = "which ones, in quotes, such as: 'task:triage status>=400 since:2d' or ' -purpose:judge' (default: all)"


def add_commands(commands: Any) -> None:
    """Adds `exchanges` with its verbs, and `tasks`."""
    verbs = add_noun(commands, "exchanges", help="what passed through: list, show, tail")
    listing = add_command(
        verbs,
        "list",
        _list,
        help="newest exchanges first",
        examples="  potstill exchanges list 'task:triage status>=400'\n  potstill exchanges list since:1h --limit 1000 --json",
    )
    listing.add_argument("filter", nargs="*", help=_FILTER_HELP)
    listing.add_argument("--limit", type=int, default=20, help="how many at most (default: 20)")
    show = add_command(
        verbs,
        "show",
        _show,
        help="one exchange whole: timing, headers, conversation",
        examples="  potstill exchanges show ex_01m8",
    )
    show.add_argument("id", help="id of the exchange, or enough of its beginning")
    show.add_argument("--raw", choices=("request", "response"), help="print the stored body, byte for byte")
    tail = add_command(
        verbs,
        "tail",
        _tail,
        help="new exchanges as they are stored (Ctrl-C ends)",
        examples="  potstill exchanges tail task:triage\n  potstill exchanges tail --json | jq .status",
    )
    tail.add_argument("filter", nargs="*", help=_FILTER_HELP)
    tail.add_argument("--limit", type=int, default=0, help="end after so many (default: never)")
    add_command(commands, "tasks", _tasks, help="the tasks that traffic was tagged with", examples="  potstill tasks --json")


def _filter(arguments: argparse.Namespace) -> str:
    return " ".join(arguments.filter)


def _list(arguments: argparse.Namespace, settings: Settings, output: Output) -> int:
    chosen = parse_filter(_filter(arguments))
    if arguments.limit < 1:
        raise SettingsError(f"--limit {arguments.limit} shows nothing.", "Take 1 or more.")
    with closing(open_database(settings.database_url)) as database:
        found = feed.page(database, chosen, limit=arguments.limit + 1)
    shown, is_cut = found[: arguments.limit], len(found) > arguments.limit
    if output.as_json:
        output.json(shown)
        return ExitCode.OK
    if not shown:
        output.say("No exchange matches. Is an app pointed at the relay? See: potstill up --help")
        return ExitCode.OK
    output.table(_COLUMNS, [_row(exchange) for exchange in shown], right=("LAT", "TOK", "COST"))
    if is_cut:
        output.say(f"There are more; --limit {arguments.limit * 10} shows up to {arguments.limit * 10}.")
    return ExitCode.OK


def _show(arguments: argparse.Namespace, settings: Settings, output: Output) -> int:
    database = open_database(settings.database_url)
    try:
        exchange = feed.get(database, arguments.id)
        if arguments.raw:
            import sys

            sys.stdout.buffer.write(feed.body(database, getattr(exchange, f"{arguments.raw}_body")))
            return ExitCode.OK
        conversation = feed.conversation(database, exchange)
        told = feedback.of_exchange(database, exchange.id)
    finally:
        database.close()
    if output.as_json:
        shown = {"asked": plain(conversation.asked), "answer": plain(conversation.answer), "feedback": plain(told)}
        output.json({**plain(exchange), **shown})
        return ExitCode.OK
    for name, value in plain(exchange).items():
        if value not in ("", None, {}, []) and name != "output_text":
            output.say(f"{name:17} {clock.iso(value) if name in ('started_us', 'ended_us') else value}")
    for message in (*conversation.asked, *((conversation.answer,) if conversation.answer else ())):
        output.heading(message.role)
        output.say(message.text)
        for tool_call in message.tool_calls:
            output.say(f"-> {tool_call.name}({tool_call.arguments})")
    if told:
        output.heading("feedback")
        for each in told:
            output.say(f"{clock.iso(each.created_us)}  {each.name} {each.kind}: {feedback.words(each)}  {each.who}".rstrip())
    return ExitCode.OK


def _tail(arguments: argparse.Namespace, settings: Settings, output: Output) -> int:
    chosen = parse_filter(_filter(arguments))
    wait = threading.Event()
    shown, revision = 0, -1
    began_us = clock.now_us()
    with closing(open_database(settings.database_url)) as database:
        # An exchange is stored when it ends and sorts by its start, so a slow one appears behind those shown already.
        known = {exchange.id for exchange in feed.page(database, chosen, limit=_LOOK_BACK)}
        while not arguments.limit or shown < arguments.limit:
            if (seen := feed.revision(database)) == revision:
                wait.wait(0.2)
                continue
            revision = seen
            fresh = [e for e in feed.page(database, chosen, limit=_LOOK_BACK) if e.id not in known and e.ended_us >= began_us]
            for exchange in sorted(fresh, key=lambda e: e.ended_us)[: arguments.limit - shown if arguments.limit else None]:
                known.add(exchange.id)
                shown += 1
                _print_one(exchange, output)
    return ExitCode.OK


def _print_one(exchange: Exchange, output: Output) -> None:
    if output.as_json:
        output.json(exchange)
    else:
        output.say("  ".join(_row(exchange)))


def _tasks(arguments: argparse.Namespace, settings: Settings, output: Output) -> int:
    database = open_database(settings.database_url)
    try:
        found = feed.tasks(database)
    finally:
        database.close()
    if output.as_json:
        output.json(found)
    elif not found:
        output.say("No exchange is stored yet. Point an app at the relay: potstill up --help")
    else:
        rows = [(task.task or "(no task)", task.exchanges, clock.iso(task.first_us), clock.iso(task.last_us)) for task in found]
        output.table(("TASK", "EXCHANGES", "FIRST", "LAST"), rows, right=("EXCHANGES",))
    return ExitCode.OK


def _row(exchange: Exchange) -> tuple[str, ...]:
    tokens = (
        "-"
        if exchange.tokens_in is None and exchange.tokens_out is None
        else str((exchange.tokens_in or 0) + (exchange.tokens_out or 0))
    )
    cost = "-" if exchange.cost_microusd is None else f"${exchange.cost_microusd / 1_000_000:.5f}"
    latency = "-" if exchange.latency_us is None else f"{exchange.latency_us / 1_000_000:.2f}s"
    answer = (
        one_line(exchange.output_text, 40)
        if exchange.is_success
        else f"! {one_line(exchange.error_message or exchange.state, 38)}"
    )
    variant = {"baseline": "B", "candidate": "C"}.get(exchange.variant, "-")
    return (
        clock.iso(exchange.started_us)[11:19],
        exchange.id,
        one_line(exchange.task, 20) or "-",
        one_line(exchange.model_served or exchange.model_asked, 20) or "-",
        variant + ("!" if exchange.fallback_reason else ""),
        str(exchange.status or "-"),
        latency,
        tokens,
        cost,
        answer,
    )
