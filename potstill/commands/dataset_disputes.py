"""`potstill dataset contradictions TASK`: the same input with different answers, all sides together."""

from __future__ import annotations

import argparse
from typing import Any

from capture import clock
from capture.database import open_database
from capture.settings import Settings
from potstill.commands import add_command, whole_number
from potstill.output import ExitCode, Output, counted, one_line

_SIDES, _WIDTH = 8, 110


def add_commands(verbs: Any) -> None:
    """Adds `contradictions` to the verbs of `dataset`."""
    show = add_command(
        verbs,
        "contradictions",
        _show,
        help="inputs that were answered in more than one way, with who answered how",
        examples="  potstill dataset contradictions triage\n  potstill dataset contradictions triage --kind teachers --json",
    )
    show.add_argument("task")
    show.add_argument(
        "--kind",
        choices=("teachers", "wording", "variance"),
        help="only two models that disagree, only near-equal inputs, or only one model that answers now so, now so",
    )
    show.add_argument("--limit", type=whole_number, default=20, help="how many to show (default: 20; --json shows all)")


def _show(arguments: argparse.Namespace, settings: Settings, output: Output) -> int:
    from curate.disputes import disputes
    from curate.settings import CurateSettings
    from curate.tasks.aliases import canonical

    curate = settings.section("curate", CurateSettings)
    database = open_database(settings.database_url)
    try:
        with output.stages() as show_progress:
            task = canonical(database, arguments.task)
            found = disputes(database, task, curate, show_progress)
    finally:
        database.close()
    chosen = [one for one in found if arguments.kind in (None, one.kind)]
    if output.as_json:
        output.json(chosen)
        return ExitCode.OK
    if not chosen:
        output.say(f"No input of {task} has two answers.")
        return ExitCode.OK
    for one in chosen[: arguments.limit]:
        output.heading(one_line(one.asked, _WIDTH))
        inputs = f", {one.wordings} near-equal inputs" if one.wordings > 1 else ""
        output.say(f"  {one.kind}{inputs}; decided by: {one.decided_by}")
        rows = [
            (
                "keeps" if answer.stands else "",
                len(answer.exchange_ids),
                ", ".join(f"{teacher or 'unknown'} ({count})" for teacher, count in answer.teachers.items()),
                clock.iso(answer.newest_us),
                answer.newest_id,
                answer.text,
            )
            for answer in one.answers[:_SIDES]
        ]
        output.table(("", "N", "TEACHER", "NEWEST", "EXCHANGE", "ANSWER"), rows, right=("N",))
        if len(one.answers) > _SIDES:
            output.say(f"  and {len(one.answers) - _SIDES} more answers; --json shows all")
    output.say()
    kinds = ", ".join(f"{sum(one.kind == kind for one in found)} {kind}" for kind in sorted({one.kind for one in found}))
    output.say(f"{counted(len(found), 'contradiction')}: {kinds}. Policy: {curate.contradictions} ([curate] contradictions)")
    output.say(f"A verdict goes before the policy: potstill review accept {task} EXCHANGE")
    return ExitCode.OK
