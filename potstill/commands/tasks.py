"""`potstill tasks`: the tasks of the traffic; names for what has none, other names, prompt templates and what is new in them."""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping
from contextlib import closing
from typing import TYPE_CHECKING, Any

from capture import clock, feed
from capture.database import Database, open_database
from capture.errors import NotFoundError, SettingsError
from capture.person import who_am_i
from capture.settings import Settings
from potstill.commands import add_command, whole_number
from potstill.output import ExitCode, Output, counted, one_line, plain

if TYPE_CHECKING:
    from curate.likeness.templates import Span
    from curate.new_prompts import NewPrompt
    from curate.tasks.kept_templates import Change
    from curate.tasks.untagged import Suggestion

_NOTHING = "No exchange is stored yet. Point an app at the relay: potstill up --help"
_STYLES = {"+": "green", "-": "red"}
_NEWEST_HELP = "how many untagged exchanges to look at (default: 5000)"


def add_commands(commands: Any) -> None:
    """Adds `tasks` with its verbs; without one it lists."""
    tasks = add_command(
        commands,
        "tasks",
        _list,
        help="the tasks that traffic was tagged with; names for the rest, other names, templates",
        examples=(
            "  potstill tasks\n  potstill tasks --json | jq '.[].task'\n  potstill tasks suggest\n"
            "  potstill tasks name 3f2a9c0b1d44 triage\n  potstill tasks template triage --diff 1..2"
        ),
    )
    verbs = tasks.add_subparsers(dest="verb", metavar="VERB", required=False)
    suggest = add_command(
        verbs,
        "suggest",
        _suggest,
        help="what untagged traffic may be, by prompt template, with a name for each",
        examples="  potstill tasks suggest\n  potstill tasks suggest --newest 20000 --least 100 --json",
    )
    suggest.add_argument("--newest", type=whole_number, default=5_000, help=_NEWEST_HELP)
    suggest.add_argument("--least", type=whole_number, default=5, help="smallest group that is shown (default: 5)")
    name = add_command(
        verbs,
        "name",
        _name,
        help="give untagged traffic of a template to a task, what is stored and what will come",
        examples="  potstill tasks name 3f2a9c0b1d44 triage\n  potstill tasks name --apply     names what came since",
    )
    name.add_argument("fingerprint", nargs="?", default="", help="the template (see: potstill tasks suggest)")
    name.add_argument("task", nargs="?", default="", help="the task, a new one or one that is there")
    name.add_argument("--apply", action="store_true", help="apply the names that were given to what came since")
    name.add_argument("--newest", type=whole_number, default=5_000, help=_NEWEST_HELP)
    unname = add_command(
        verbs,
        "unname",
        _unname,
        help="undo name: they have no task again",
        examples="  potstill tasks unname 3f2a9c0b1d44",
    )
    unname.add_argument("fingerprint")
    merge = add_command(
        verbs,
        "merge",
        _merge,
        help="count all that is tagged OLD as INTO; nothing stored is changed, unalias undoes it",
        examples="  potstill tasks merge mail-triage triage",
    )
    merge.add_argument("old")
    merge.add_argument("into")
    alias = add_command(
        verbs,
        "alias",
        _alias,
        help="give a task another name that need not be in use yet",
        examples="  potstill tasks alias triage triage-v2",
    )
    alias.add_argument("task")
    alias.add_argument("alias")
    unalias = add_command(
        verbs,
        "unalias",
        _unalias,
        help="let another name be a task of its own again",
        examples="  potstill tasks unalias triage-v2",
    )
    unalias.add_argument("alias")
    template = add_command(
        verbs,
        "template",
        _template,
        help="the prompt template of a task: what the app wrote, {variable} for what varies, or what changed",
        examples=(
            "  potstill tasks template triage\n  potstill tasks template triage --version 1 --json\n"
            "  potstill tasks template triage --diff          the newest against the one before\n"
            "  potstill tasks template triage --diff 1..3"
        ),
    )
    template.add_argument("task")
    template.add_argument("--version", type=whole_number, help="number of the template's version (default: the newest)")
    template.add_argument("--diff", nargs="?", const="", metavar="N..M", help="what changed between two versions")


def _list(arguments: argparse.Namespace, settings: Settings, output: Output) -> int:
    from curate.tasks.aliases import aliases
    from curate.tasks.counts import from_apps
    from curate.tasks.kept_templates import template_versions
    from curate.tasks.names import rules

    with closing(open_database(settings.database_url)) as database:
        sent, found = from_apps(database), feed.tasks(database)
        names, named = aliases(database), rules(database)
        rows = []
        for summary in found:
            versions = template_versions(database, summary.task)
            own = {
                "from_apps": sent.get(summary.task, 0),
                "aliases": names.get(summary.task, ()),
                "named_templates": [rule.fingerprint for rule in named if rule.task == summary.task],
                "template_version": versions[-1].number if versions else 0,
            }
            rows.append({**plain(summary), **own, "new_prompts": _news(database, summary.task, output)})
    if output.as_json:
        output.json(rows)
    elif not rows:
        output.say(_NOTHING)
    else:
        columns = ("TASK", "FROM APPS", "FIRST", "LAST", "TEMPLATE", "ALSO", "NEW PROMPTS")
        output.table(columns, [_row(row) for row in rows], right=("FROM APPS",))
        if others := sum(row["exchanges"] - row["from_apps"] for row in rows):
            more = counted(others, "exchange")
            output.say(f"{more} more that no app sent (relabel, judge and the like): no build selects them.")
        for row in rows:
            _show_news(row["task"], row["new_prompts"], output)
        if any(row["from_apps"] for row in rows if not row["task"]):
            output.say("What has no task may have a name: potstill tasks suggest")
    return ExitCode.OK


def _row(row: dict[str, Any]) -> tuple[object, ...]:
    also = ", ".join((*row["aliases"], *row["named_templates"]))
    template = f"v{row['template_version']}" if row["template_version"] else "-"
    first, last = (clock.iso(row[name])[:10] for name in ("first_us", "last_us"))
    return row["task"] or "(no task)", row["from_apps"], first, last, template, also, len(row["new_prompts"]) or ""


def _news(database: Database, task: str, output: Output) -> list[NewPrompt]:
    """The prompts that the newest frozen version of `task` never saw; none where there is no version that can be read."""
    from capture.errors import StoreError
    from curate.datasets import get_version
    from curate.new_prompts import new_prompts

    if not task:
        return []
    try:
        return new_prompts(database, task, get_version(database, task))
    except NotFoundError:
        return []
    except StoreError as error:
        output.warn(error.what, error.next_step)
        return []


def _show_news(task: str, found: list[NewPrompt], output: Output) -> None:
    for new in found:
        share = f"{100 * new.share:.0f} % of the newest exchanges, since {clock.iso(new.first_us)}"
        output.heading(f"{task}: a prompt that its dataset never saw ({share}; {new.example_id})")
        for line in new.diff:
            output.say(f"  {one_line(line, 150)}", style=_STYLES.get(line[:1], ""))
        output.say(f"A student of it was not trained on this. Next: potstill dataset build {task}")


def _suggest(arguments: argparse.Namespace, settings: Settings, output: Output) -> int:
    from curate.tasks.names import rules
    from curate.tasks.untagged import suggest_tasks

    with closing(open_database(settings.database_url)) as database, output.stages() as on_progress:
        named = {rule.fingerprint: rule.task for rule in rules(database)}
        found = suggest_tasks(database, newest=arguments.newest, least=arguments.least, on_progress=on_progress)
        is_empty = not feed.newest(database)
    if output.as_json:
        output.json(found)
        return ExitCode.OK
    if not found.looked_at:
        output.say(_NOTHING if is_empty else "Every exchange of an app has a task.")
        return ExitCode.OK
    rows = [
        (
            each.fingerprint,
            _name_of(each, named),
            each.exchanges,
            _money(each.cost_microusd),
            each.example_id,
            one_line(each.opening, 50),
        )
        for each in found.suggestions
    ]
    if rows:
        columns = ("TEMPLATE", "NAME", "EXCHANGES", "COST", "EXAMPLE", "OPENS WITH")
        output.table(columns, rows, right=("EXCHANGES", "COST"))
    looked_at = counted(found.looked_at, "exchange")
    output.say(f"{looked_at} without a task; {found.apart} of them in no group of at least {arguments.least}.")
    if any(each.fingerprint in named for each in found.suggestions):
        output.say("Some came after their template was named: potstill tasks name --apply")
    fresh = next((each for each in found.suggestions if each.fingerprint not in named), None)
    if fresh is not None:
        output.say(f"Next: potstill tasks name {fresh.fingerprint} {fresh.name}   or send header x-potstill-task: {fresh.name}")
    return ExitCode.OK


def _name_of(suggestion: Suggestion, named: Mapping[str, str]) -> str:
    task = named.get(suggestion.fingerprint)
    return suggestion.name if task is None else f"{task} (named)"


def _money(microusd: int) -> str:
    return f"${microusd / 1_000_000:,.4f}" if microusd else "-"


def _name(arguments: argparse.Namespace, settings: Settings, output: Output) -> int:
    from curate.tasks.names import apply_names, name_task

    if arguments.apply == bool(arguments.fingerprint) or bool(arguments.fingerprint) != bool(arguments.task):
        raise SettingsError("Which traffic, and which task?", "Give a template and a task (potstill tasks suggest), or --apply.")
    with closing(open_database(settings.database_url)) as database, output.stages() as on_progress:
        if arguments.apply:
            named = apply_names(database, on_progress=on_progress)
        else:
            named = name_task(
                database,
                arguments.fingerprint,
                arguments.task,
                who=who_am_i(),
                newest=arguments.newest,
                on_progress=on_progress,
            )
    if output.as_json:
        output.json(named)
        return ExitCode.OK
    for task, count in named.given.items():
        output.say(f"{counted(count, 'exchange')} now of task {task}.")
    if not named.given:
        output.say("Nothing new has a template with a name.")
    elif not arguments.apply:
        output.say("Later ones get it when a dataset is built, or with: potstill tasks name --apply")
    return ExitCode.OK


def _unname(arguments: argparse.Namespace, settings: Settings, output: Output) -> int:
    from curate.tasks.names import unname_task

    with closing(open_database(settings.database_url)) as database:
        task, count = unname_task(database, arguments.fingerprint)
    if output.as_json:
        output.json({"fingerprint": arguments.fingerprint, "task": task, "exchanges": count})
    else:
        output.say(f"{counted(count, 'exchange')} no longer of task {task}.")
    return ExitCode.OK


def _merge(arguments: argparse.Namespace, settings: Settings, output: Output) -> int:
    from curate.tasks.aliases import merge_tasks

    with closing(open_database(settings.database_url)) as database:
        count = merge_tasks(database, arguments.old, arguments.into, who=who_am_i())
    if output.as_json:
        output.json({"task": arguments.into, "alias": arguments.old, "exchanges": count})
    else:
        moved = counted(count, "exchange")
        output.say(f"What is tagged {arguments.old} ({moved} of apps) counts as {arguments.into} from the next build on.")
        output.say(f"The flag and the datasets of {arguments.old} stay as they are. Undo: potstill tasks unalias {arguments.old}")
    return ExitCode.OK


def _alias(arguments: argparse.Namespace, settings: Settings, output: Output) -> int:
    from curate.selection import require_task
    from curate.tasks.aliases import add_alias, canonical, expand
    from curate.tasks.names import check_task_name

    check_task_name(arguments.alias)
    with closing(open_database(settings.database_url)) as database:
        require_task(database, arguments.task, expand(database, canonical(database, arguments.task)))
        add_alias(database, arguments.task, arguments.alias, who=who_am_i())
    if output.as_json:
        output.json({"task": arguments.task, "alias": arguments.alias})
    else:
        output.say(f"What is tagged {arguments.alias} counts as {arguments.task} from the next build on.")
    return ExitCode.OK


def _unalias(arguments: argparse.Namespace, settings: Settings, output: Output) -> int:
    from curate.tasks.aliases import remove_alias

    with closing(open_database(settings.database_url)) as database:
        task = remove_alias(database, arguments.alias)
    if output.as_json:
        output.json({"task": task, "alias": arguments.alias})
    else:
        output.say(f"{arguments.alias} is a task of its own again, apart from {task}.")
    return ExitCode.OK


def _template(arguments: argparse.Namespace, settings: Settings, output: Output) -> int:
    from curate.tasks.kept_templates import get_template, show_template

    if arguments.diff is not None:
        return _template_diff(arguments, settings, output)
    with closing(open_database(settings.database_url)) as database:
        version = get_template(database, arguments.task, arguments.version)
        spans = show_template(database, version)
    if output.as_json:
        output.json({**plain(version), "prompt": plain(spans)})
        return ExitCode.OK
    output.say(
        f"{version.task}: template v{version.number} {version.fingerprint} of {clock.iso(version.created_us)}, "
        f"from {counted(version.distinct_inputs, 'distinct input')}"
    )
    _show_spans(spans, output)
    return ExitCode.OK


def _show_spans(spans: list[Span], output: Output) -> None:
    from rich.text import Text

    from potstill.output import safe

    role = None
    shown = Text()
    for span in spans:
        if span.role != role:
            _print(shown, output)
            output.heading(span.role)
            role, shown = span.role, Text()
        shown.append(safe(span.text), style="" if span.is_app else "bold yellow")
    _print(shown, output)
    if not spans:
        output.say("No exchange of the task is stored any more that could show it; --diff and --json tell its pieces.")


def _print(shown: Any, output: Output) -> None:
    if shown.plain.strip():
        output.console.print(shown)


def _template_diff(arguments: argparse.Namespace, settings: Settings, output: Output) -> int:
    from curate.tasks.kept_templates import compare, get_template

    with closing(open_database(settings.database_url)) as database:
        newest = get_template(database, arguments.task, arguments.version)
        match = re.fullmatch(r"(\d{1,9})\.\.(\d{1,9})", arguments.diff or f"{max(1, newest.number - 1)}..{newest.number}")
        if match is None:
            raise SettingsError(f"--diff {arguments.diff!r} names no two versions.", "Write it as --diff 1..2")
        before, after = (get_template(database, arguments.task, int(number)) for number in match.groups())
    change: Change = compare(before.template, after.template, before.number, after.number)
    if output.as_json:
        output.json(change)
        return ExitCode.OK
    output.say(f"{arguments.task}: template v{change.before} -> v{change.after}")
    for sign, lines in (("-", change.removed), ("+", change.added)):
        for line in lines:
            output.say(f"{sign} {one_line(line, 300)}", style=_STYLES[sign])
    if not change.added and not change.removed:
        output.say("Nothing changed.")
    return ExitCode.OK
