"""`potstill exchanges list|show|tail`: reading what was captured; sums and exports stand beside."""

from __future__ import annotations

import argparse
import dataclasses
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from typing import Any

from capture import clock, feed, feedback
from capture.database import open_database
from capture.exchange import OMITTED, Exchange
from capture.messages import Message
from capture.settings import Settings
from potstill.commands import add_command, add_noun, exchange_reports, tasks, whole_number, zero_or_more
from potstill.commands.exchange_reports import add_filter, chosen_by
from potstill.output import ExitCode, Output, one_line, plain

_COLUMNS = ("TIME", "ID", "TASK", "MODEL", "VAR", "ST", "LAT", "TOK", "COST", "OUTPUT")
_AT_ONCE = 500
_NOTHING = "No exchange is stored yet. Point an app at the relay: potstill up --help"
_NAMES = {"started_us": "started", "ended_us": "ended", "cost_microusd": "cost", "is_stream": "streamed"}


def add_commands(commands: Any) -> None:
    """Adds `exchanges` with its verbs, and `tasks`."""
    verbs = add_noun(commands, "exchanges", help="what passed through: list, show, tail, stats, export")
    listing = add_command(
        verbs,
        "list",
        _list,
        help="newest exchanges first",
        examples=(
            "  potstill exchanges list 'task:triage status>=400 cost>0.01'\n"
            "  potstill exchanges list 'refund -purpose:judge \"could not\"'     words in prompts and answers\n"
            "  potstill exchanges list --limit 50 -- '-purpose:judge task:triage'     after -- it may begin with -\n"
            "  potstill exchanges list 'tag.team:search feedback:bad since:2d' --limit 1000 --json"
        ),
    )
    add_filter(listing)
    listing.add_argument("--limit", type=whole_number, default=20, help="how many at most (default: 20)")
    listing.add_argument(
        "--before", type=zero_or_more, default=0, metavar="NUMBER", help="only what was stored before this number"
    )
    show = add_command(
        verbs,
        "show",
        _show,
        help="one exchange whole: facts, conversation with reasoning and tool calls, feedback",
        examples=(
            "  potstill exchanges show ex_01m8177c0mewbv7e\n  potstill exchanges show ex_01m8177c0mewbv7e --json | jq .feedback\n"
            "  potstill exchanges show ex_01m8177c0mewbv7e --raw response > answer.json"
        ),
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
    add_filter(tail)
    tail.add_argument("--limit", type=zero_or_more, default=0, help="end after so many (default: never)")
    exchange_reports.add_verbs(verbs)
    tasks.add_commands(commands)


def _list(arguments: argparse.Namespace, settings: Settings, output: Output) -> int:
    chosen = chosen_by(arguments)
    with closing(open_database(settings.database_url)) as database:
        found = feed.page(database, chosen, before=arguments.before, limit=arguments.limit + 1)
    shown, is_cut = found[: arguments.limit], len(found) > arguments.limit
    if output.as_json:
        output.json(shown)
        return ExitCode.OK
    if not shown:
        output.say("No exchange matches the filter." if chosen.text else _NOTHING)
        return ExitCode.OK
    output.table(_COLUMNS, [_row(exchange) for exchange in shown], right=("LAT", "TOK", "COST"))
    if is_cut:
        further = f"--before {shown[-1].number} goes on"
        output.say(f"There are more; --limit {arguments.limit * 10} shows up to {arguments.limit * 10}, {further}.")
    return ExitCode.OK


def _show(arguments: argparse.Namespace, settings: Settings, output: Output) -> int:
    with closing(open_database(settings.database_url)) as database:
        exchange = feed.get(database, arguments.id)
        content = feed.content(database, exchange)
        said = feedback.of_exchange(database, exchange.id)
    if arguments.raw:
        sys.stdout.buffer.write(content.request_body if arguments.raw == "request" else content.response_body)
        sys.stdout.buffer.flush()
        return ExitCode.OK
    conversation = feed.conversation_of(exchange, content)
    if output.as_json:
        hashes = {"request_sha256": content.request_sha256, "response_sha256": content.response_sha256}
        headers = {"request_headers": plain(content.request_headers), "response_headers": plain(content.response_headers)}
        talk = {"asked": plain(conversation.asked), "answer": plain(conversation.answer)}
        output.json({**plain(exchange), **headers, **hashes, **talk, "feedback": plain(said)})
        return ExitCode.OK
    for name, value in _facts(exchange):
        output.say(f"{name:17} {value}")
    for message in (*conversation.asked, *((conversation.answer,) if conversation.answer else ())):
        _show_message(message, output)
    if said:
        output.heading("feedback")
        for each in said:
            about = f"{each.name} {each.kind}" + (f" by {each.who}" if each.who else "")
            output.say(f"{clock.iso(each.created_us)}  {about}: {feedback.words(each)}")
    return ExitCode.OK


def _facts(exchange: Exchange) -> Iterator[tuple[str, object]]:
    """What is known of the exchange as people write it, without what stands in the conversation."""
    written = {
        "started_us": clock.iso(exchange.started_us),
        "ended_us": clock.iso(exchange.ended_us),
        "tags": ", ".join(f"{key}={value}" for key, value in sorted(exchange.tags.items())),
        "cost_microusd": "unknown" if exchange.cost_microusd is None else f"${exchange.cost_microusd / 1_000_000:.6f}",
        "is_stream": "yes" if exchange.is_stream else "",
    }
    for field in dataclasses.fields(exchange):
        value = written.get(field.name, getattr(exchange, field.name))
        is_count_of_nothing = value == 0 and field.name.startswith(("tokens_c", "tokens_r", "redactions", "flag_", "saved_"))
        if value not in ("", None) and not is_count_of_nothing and field.name != "output_text":
            yield _NAMES.get(field.name, field.name), value


def _show_message(message: Message, output: Output) -> None:
    output.heading(message.role)
    if message.reasoning:
        output.say(f"(thinks) {message.reasoning}", style="dim")
    if message.text:
        output.say(message.text)
    if message.refusal and message.refusal != message.text:
        output.say(f"(refuses) {message.refusal}")
    for media in message.media:
        output.say(f"[{media.kind}] {media.reference}")
    for call in message.tool_calls:
        output.say(f"-> {call.name}({call.arguments})" + ("" if call.is_complete else "  (breaks off)"))


def _tail(arguments: argparse.Namespace, settings: Settings, output: Output) -> int:
    chosen = chosen_by(arguments)
    wait = threading.Event()
    shown, revision = 0, -1
    with closing(open_database(settings.database_url)) as database:
        last = feed.newest(database)
        while not arguments.limit or shown < arguments.limit:
            if (seen := feed.revision(database)) == revision:
                wait.wait(0.2)
                continue
            revision = seen
            newest = feed.newest(database)
            while found := feed.after(database, chosen, after=last, limit=_AT_ONCE):
                for exchange in found[: arguments.limit - shown if arguments.limit else None]:
                    _print_one(exchange, output)
                    shown += 1
                last = found[-1].number
            last = max(last, newest)  # what does not match is not looked at again
    return ExitCode.OK


def _print_one(exchange: Exchange, output: Output) -> None:
    if output.as_json:
        output.json(exchange)
    else:
        output.say("  ".join(_row(exchange)))


def _moment(us: int) -> str:
    """The time of day, with the date when that is not today's (UTC)."""
    date, _, time = clock.iso(us)[:19].partition("T")
    return time if date == clock.iso(clock.now_us())[:10] else f"{date} {time}"


def _row(exchange: Exchange) -> tuple[str, ...]:
    tokens = (
        "-"
        if exchange.tokens_in is None and exchange.tokens_out is None
        else str((exchange.tokens_in or 0) + (exchange.tokens_out or 0))
    )
    cost = "-" if exchange.cost_microusd is None else f"${exchange.cost_microusd / 1_000_000:.5f}"
    latency = "-" if exchange.latency_us is None else f"{exchange.latency_us / 1_000_000:.2f}s"
    answer = (
        one_line("(not stored)" if exchange.content == OMITTED else exchange.output_text, 40)
        if exchange.is_success
        else f"! {one_line(exchange.error_message or exchange.state, 38)}"
    )
    variant = {"baseline": "B", "candidate": "C"}.get(exchange.variant, "-")
    return (
        _moment(exchange.started_us),
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
