"""`potstill exchanges stats`, `untagged` and `export`: sums, what has no task, and files or spans for others."""

from __future__ import annotations

import argparse
import os
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from capture import clock
from capture.errors import SettingsError
from capture.filters import FIELDS, Filter, parse_filter
from capture.settings import Settings
from potstill.commands import add_command, whole_number, zero_or_more
from potstill.output import ExitCode, Output, counted, one_line

if TYPE_CHECKING:
    from capture.export import Export, Wanted
    from capture.stats import Sums

_FILTER_HELP = (
    "which ones, in quotes, such as: 'task:triage status>=400 since:2d', or after all options: -- -walrus (default: all)"
)
_COLUMNS = ("EXCHANGES", "OK", "P50", "P95", "TOKENS IN", "TOKENS OUT", "COST", "BODIES", "ERRORS")


def add_filter(parser: argparse.ArgumentParser) -> None:
    """The words of a filter as the command's arguments, with the fields that it knows in the help."""
    parser.add_argument("filter", nargs="*", help=_FILTER_HELP)
    fields = "\n".join(f"  {field.name:22}{field.example:27}{field.help}" for field in FIELDS)
    rules = (
        'words without a field are looked for in prompts and answers, "quotes" keep them together, pay* finds words that begin\n'
        "so; - negates, a comma means either, * stands for any text; = != < <= > >= compare numbers\n"
    )
    parser.epilog = f"{parser.epilog}\n\nfields of a filter:\n{fields}\n{rules}".replace("%", "%%")


def chosen_by(arguments: argparse.Namespace) -> Filter:
    """The filter that was typed."""
    return parse_filter(" ".join(arguments.filter))


def add_verbs(verbs: Any) -> None:
    """Adds `stats`, `untagged` and `export`."""
    stats = add_command(
        verbs,
        "stats",
        _stats,
        help="how many, how they ended, how long they took, what they used and cost",
        examples=(
            "  potstill exchanges stats since:1d\n  potstill exchanges stats 'task:triage since:7d' --by model\n"
            "  potstill exchanges stats --by day --json"
        ),
    )
    add_filter(stats)
    stats.add_argument("--by", default="", metavar="FIELD", help="in groups: task, model, variant, state, error, day, user, ...")
    stats.add_argument("--limit", type=whole_number, default=30, help="how many groups at most (default: 30)")
    untagged = add_command(
        verbs,
        "untagged",
        _untagged,
        help="what has no task, grouped by prompt template, with a name for each group",
        examples="  potstill exchanges untagged\n  potstill exchanges untagged --newest 20000 --least 100 --json",
    )
    untagged.add_argument("--newest", type=whole_number, default=5_000, help="how many to look at (default: 5000)")
    untagged.add_argument("--least", type=whole_number, default=5, help="smallest group that is shown (default: 5)")
    export = add_command(
        verbs,
        "export",
        _export,
        help="write JSON lines, or OpenTelemetry spans to a file or a collector",
        examples=(
            "  potstill exchanges export 'task:triage since:7d' --out triage.jsonl\n"
            "  potstill exchanges export --raw --out everything.jsonl\n"
            "  potstill exchanges export --format otlp --out spans.json\n"
            "  potstill exchanges export since:1d --format otlp --endpoint http://127.0.0.1:4318 --with-content"
        ),
    )
    add_filter(export)
    export.add_argument("--format", choices=("jsonl", "otlp"), default="jsonl", help="default: jsonl")
    export.add_argument("--out", default="", metavar="FILE", help="the file, - for stdout (default: stdout for jsonl)")
    export.add_argument(
        "--endpoint",
        default="",
        metavar="URL",
        help="collector for otlp (default: OTEL_EXPORTER_OTLP_ENDPOINT); headers as there",
    )
    content = export.add_mutually_exclusive_group()
    content.add_argument("--with-content", action="store_true", help="prompts and answers, too (default for jsonl)")
    content.add_argument("--no-content", action="store_true", help="figures only (default for otlp)")
    export.add_argument("--raw", action="store_true", help="also headers and both bodies, byte for byte (jsonl)")
    export.add_argument("--force", action="store_true", help="replace the file that is already there")
    export.add_argument("--after", type=zero_or_more, default=0, metavar="NUMBER", help="only what was stored after this number")


def _untagged(arguments: argparse.Namespace, settings: Settings, output: Output) -> int:
    from capture.database import open_database
    from curate.tasks.untagged import suggest_tasks

    with closing(open_database(settings.database_url)) as database:
        found = suggest_tasks(database, newest=arguments.newest, least=arguments.least)
    if output.as_json:
        output.json(found)
        return ExitCode.OK
    if not found.looked_at:
        output.say("No exchange of an app is without a task.")
        return ExitCode.OK
    rows = [(each.name, each.exchanges, ", ".join(each.models), one_line(each.opening, 60)) for each in found.suggestions]
    if rows:
        output.table(("NAME", "EXCHANGES", "MODELS", "OPENS WITH"), rows, right=("EXCHANGES",))
    output.say(f"{found.looked_at} exchanges without a task; {found.apart} of them in no group of at least {arguments.least}.")
    if rows:
        name = found.suggestions[0].name
        output.say(f"Tag them: send header x-potstill-task: {name}, or set the app's base URL to .../task/{name}/v1")
    return ExitCode.OK


def _stats(arguments: argparse.Namespace, settings: Settings, output: Output) -> int:
    from capture.database import open_database
    from capture.stats import read_stats

    chosen = chosen_by(arguments)
    with closing(open_database(settings.database_url)) as database:
        stats = read_stats(database, chosen, arguments.by)
    if output.as_json:
        output.json(stats)
        return ExitCode.OK
    shown = stats.groups[: arguments.limit]
    rows = [(one_line(sums.key, 40) or "-", *_figures(sums)) for sums in shown]
    first = arguments.by.upper() or "ALL"
    output.table((first, *_COLUMNS), [*rows, ("total" if rows else "", *_figures(stats.total))], right=_COLUMNS[:-1])
    if len(stats.groups) > len(shown):
        output.say(f"There are {len(stats.groups) - len(shown):,} more groups; --limit {len(stats.groups)} shows them.")
    if stats.is_cut:
        output.say(f"Older ones match, too; these are the newest {stats.total.exchanges:,}, since {clock.iso(stats.first_us)}.")
    output.say(f"The store takes {_bytes(stats.store_bytes)}.")
    return ExitCode.OK


def _figures(sums: Sums) -> tuple[str, ...]:
    share = f"{100 * sums.successes / sums.exchanges:.1f}%" if sums.exchanges else "-"
    cost = "-" if sums.unpriced == sums.exchanges else f"${sums.cost_microusd / 1_000_000:,.4f}"
    errors = ", ".join(f"{one_line(kind, 30)} {count:,}" for kind, count in list(sums.errors.items())[:3])
    return (
        f"{sums.exchanges:,}",
        share,
        _seconds(sums.p50_us),
        _seconds(sums.p95_us),
        f"{sums.tokens_in:,}",
        f"{sums.tokens_out:,}",
        cost + (f" ({sums.unpriced:,} unknown)" if 0 < sums.unpriced < sums.exchanges else ""),
        _bytes(sums.body_bytes),
        errors or "-",
    )


def _seconds(us: int | None) -> str:
    return "-" if us is None else f"{us / 1_000_000:.2f}s"


def _bytes(count: int) -> str:
    size, units = float(count), ["B", "KiB", "MiB", "GiB", "TiB"]
    while size >= 1024 and len(units) > 1:
        size /= 1024
        units.pop(0)
    return f"{size:.0f} {units[0]}" if units[0] == "B" else f"{size:.1f} {units[0]}"


def _export(arguments: argparse.Namespace, settings: Settings, output: Output) -> int:
    from capture.database import open_database
    from capture.export import OTLP, Wanted

    is_otlp = arguments.format == OTLP
    _check(arguments, is_otlp, output)
    with_content = arguments.with_content if is_otlp else not arguments.no_content
    wanted = Wanted(chosen_by(arguments), arguments.format, with_content, arguments.raw, arguments.after)
    with closing(open_database(settings.database_url)) as database:
        if is_otlp and not arguments.out:
            done, where = _send(database, wanted, arguments.endpoint, output)
        else:
            done, where = _write(database, wanted, arguments.out or "-", arguments.force, output)
    if output.as_json:
        output.json({"exchanges": done.exchanges, "bytes": done.bytes, "last_number": done.last_number, "to": where})
    elif where != "-":
        written = f"{counted(done.exchanges, 'exchange')}, {_bytes(done.bytes)}"
        output.say(f"{written}, to {where}. Later ones: --after {done.last_number}")
    return ExitCode.OK


def _check(arguments: argparse.Namespace, is_otlp: bool, output: Output) -> None:
    if arguments.endpoint and not is_otlp:
        raise SettingsError("--endpoint takes OpenTelemetry spans only.", "Add --format otlp.")
    if arguments.endpoint and arguments.out:
        raise SettingsError("--out and --endpoint are two places.", "Give one of them.")
    if arguments.raw and (is_otlp or arguments.no_content):
        raise SettingsError("--raw means content as JSON lines.", "Take --format jsonl without --no-content.")
    if output.as_json and not is_otlp and arguments.out in ("", "-"):
        raise SettingsError("--json prints a summary where the JSON lines would go.", "Give --out FILE, or leave out --json.")


def _write(database: Any, wanted: Wanted, out: str, is_forced: bool, output: Output) -> tuple[Export, str]:
    from capture import export

    with output.stages() as on_progress:
        if out == "-":
            done = export.to_stream(database, wanted, sys.stdout.buffer, on_progress)
            sys.stdout.buffer.flush()
            return done, out
        return export.to_file(database, wanted, Path(out), on_progress, is_forced=is_forced), out


def _send(database: Any, wanted: Wanted, endpoint: str, output: Output) -> tuple[Export, str]:
    from capture import export
    from capture.otel_send import Collector, address_of, headers_of

    address = address_of(endpoint, os.environ)
    with Collector(address, headers_of(os.environ), on_pause=output.say) as collector, output.stages() as on_progress:
        done = export.to_collector(database, wanted, collector, on_progress)
    if collector.rejected:
        output.say(f"The collector threw {collector.rejected:,} spans away; its log says why.")
    return done, address
