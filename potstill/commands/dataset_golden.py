"""`potstill dataset golden add|import|list|remove`: inputs pinned for evaluation, with an expert's answer; never trained on."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from capture import clock
from capture.database import open_database
from capture.person import who_am_i
from capture.settings import Settings
from potstill.commands import add_command, add_noun, whole_number
from potstill.commands.dataset_transfer import add_columns, add_prompt, columns_of, tools_of
from potstill.output import ExitCode, Output, counted, one_line

if TYPE_CHECKING:
    from curate.golden_pins import Pinned

_LISTED = 10


def add_commands(verbs: Any) -> None:
    """Adds `golden` with its verbs to the verbs of `dataset`."""
    nouns = add_noun(verbs, "golden", help="inputs pinned for evaluation, never trained on: add, import, list, remove")
    add = add_command(
        nouns,
        "add",
        _add,
        help="pin the input of an exchange with the answer that you stand for, or all that reviewers accepted",
        examples='  potstill dataset golden add triage ex_01m8... --answer \'{"queue": "legal"}\' --grade hard\n'
        "  potstill dataset golden add triage --accepted-by 2",
    )
    add.add_argument("task")
    what = add.add_mutually_exclusive_group(required=True)
    what.add_argument("exchange", nargs="?", help="id of the exchange, or the start of it")
    what.add_argument("--accepted-by", type=whole_number, metavar="N", help="all examples that N reviewers agree on")
    add.add_argument("--answer", help="the right answer (default: a reviewer's edit, else what was answered)")
    add.add_argument("--grade", default="", help="your grade, in your own words")
    add.add_argument("--note", default="", help="why, kept with the pin")
    bring = add_command(
        nouns,
        "import",
        _import,
        help="pin every row of a file: an input with the answer of an expert; columns `grade` and `note` are kept",
        examples="  potstill dataset golden import triage expert.jsonl\n"
        '  potstill dataset golden import intents expert.csv --system "Name the intent."\n'
        '  echo \'{"messages": [{"role": "user", "content": "Where is it?"}, '
        '{"role": "assistant", "content": "parcel"}], "grade": "easy"}\' > expert.jsonl',
    )
    bring.add_argument("task")
    bring.add_argument("file", type=Path, help="JSONL, JSON, CSV or Parquet, as `potstill dataset import` reads them")
    add_columns(bring)
    add_prompt(bring)
    listing = add_command(nouns, "list", _list, help="what is pinned", examples="  potstill dataset golden list triage --json")
    listing.add_argument("task")
    remove = add_command(
        nouns,
        "remove",
        _remove,
        help="take a pin back; the input is test from then on, never train",
        examples="  potstill dataset golden remove triage ex_01m8...",
    )
    remove.add_argument("task")
    remove.add_argument("id", help="id of the exchange or of the pin (see: list)")


def _add(arguments: argparse.Namespace, settings: Settings, output: Output) -> int:
    from curate import golden_pins
    from curate.datasets import alone
    from curate.reviewing import review
    from curate.settings import CurateSettings
    from curate.tasks.aliases import canonical

    curate = settings.section("curate", CurateSettings)
    database = open_database(settings.database_url)
    try:
        if arguments.accepted_by is not None and (arguments.answer or arguments.grade or arguments.note):
            raise golden_pins.GoldenError("--accepted-by pins what reviewers said.", "Leave --answer, --grade and --note out.")
        task = canonical(database, arguments.task)
        with alone(settings.data_folder, task):
            if arguments.accepted_by is not None:
                made = golden_pins.pin_accepted(database, task, max(1, arguments.accepted_by), curate, who=who_am_i())
            else:
                answer = review.as_message(arguments.answer) if arguments.answer else None
                one = golden_pins.pin_exchange(
                    database, task, arguments.exchange, curate, who=who_am_i(), answer=answer, grade=arguments.grade,
                    note=arguments.note,
                )  # fmt: skip
                made = golden_pins.AcceptedPins((one,), (), ())
    finally:
        database.close()
    if output.as_json:
        output.json(made)
        return ExitCode.OK
    _tell(made.pinned, task, output)
    if made.unlike:
        output.say(f"{counted(len(made.unlike), 'example')} not pinned: enough verdicts, but not the same one.")
    for exchange_id, problem in made.problems[:_LISTED]:
        output.say(f"{exchange_id} not pinned: {problem}")
    return ExitCode.OK


def _import(arguments: argparse.Namespace, settings: Settings, output: Output) -> int:
    from curate.datasets import alone
    from curate.golden import bare_pins
    from curate.golden_import import import_golden
    from curate.settings import CurateSettings
    from curate.tasks.aliases import canonical

    curate = settings.section("curate", CurateSettings)
    database = open_database(settings.database_url)
    try:
        task = canonical(database, arguments.task)
        with output.stages() as show_progress, alone(settings.data_folder, task):
            made = import_golden(
                database, task, arguments.file, curate, who=who_am_i(), on_progress=show_progress,
                columns=columns_of(arguments.column), system=arguments.system, tools=tools_of(arguments.tools),
            )  # fmt: skip
    finally:
        database.close()
    if output.as_json:
        output.json(made)
        return ExitCode.OK
    _tell(made.pinned, task, output)
    for number, problem in made.bad[:_LISTED]:
        output.say(f"line {number} {problem}")
    if len(made.bad) > _LISTED:
        output.say(f"and {len(made.bad) - _LISTED} more bad lines; --json shows all")
    if made.without_prompt:
        output.warn(bare_pins(task, made.without_prompt), "")
    return ExitCode.OK


def _list(arguments: argparse.Namespace, settings: Settings, output: Output) -> int:
    from curate.golden import pins
    from curate.golden_pins import trained_on
    from curate.selection import require_task
    from curate.tasks.aliases import canonical, expand

    database = open_database(settings.database_url)
    try:
        task = canonical(database, arguments.task)
        found = pins(database, task)
        if not found:
            require_task(database, task, expand(database, task))
        trained, unread = trained_on(database, task, {one.input_key for one in found})
    finally:
        database.close()
    if output.as_json:
        output.json([{"golden": one, "trained": trained.get(one.input_key, ())} for one in found])
        return ExitCode.OK
    if not found:
        output.say(f"Nothing of {task} is pinned. Next: potstill dataset golden add {task} EXCHANGE")
        return ExitCode.OK
    rows = [
        (one.id, clock.iso(one.created_us), one.who, one.grade, ", ".join(trained.get(one.input_key, ())), one.answer.said)
        for one in found
    ]
    output.table(("PIN", "SINCE", "WHO", "GRADE", "TRAINED IN", "ANSWER"), rows)
    _tell_unread(unread, output)
    return ExitCode.OK


def _remove(arguments: argparse.Namespace, settings: Settings, output: Output) -> int:
    from curate.datasets import alone
    from curate.golden_pins import unpin
    from curate.tasks.aliases import canonical

    database = open_database(settings.database_url)
    try:
        task = canonical(database, arguments.task)
        with alone(settings.data_folder, task):
            gone = unpin(database, task, arguments.id)
    finally:
        database.close()
    if output.as_json:
        output.json(gone)
    else:
        output.say(f"{gone.id} is no longer pinned. Its input is test from the next version on; it is never trained on.")
    return ExitCode.OK


def _tell(pinned: Sequence[Pinned], task: str, output: Output) -> None:
    output.say(f"{counted(len(pinned), 'input')} of {task} pinned: held out from the next version on, for ever.")
    for one in pinned:
        if one.replaced is not None:
            output.warn(
                f"{one.golden.id} replaces what {one.replaced.who or 'somebody'} pinned on {clock.iso(one.replaced.created_us)}: "
                f"{one_line(one.replaced.answer.said, 100)}",
                "",
            )
    known = [one for one in pinned if one.trained]
    if known:
        names = ", ".join(sorted({name for one in known for name in one.trained}))
        which = ", ".join(one.golden.id for one in known[:3]) + (", ..." if len(known) > 3 else "")
        output.warn(
            f"Trained on before: {counted(len(known), 'pinned input')} ({which}) in the train split of {names}.",
            "Students of these know the answers. Build again and train anew before this set judges them.",
        )
    _tell_unread(pinned[0].unread if pinned else (), output)


def _tell_unread(unread: Sequence[str], output: Output) -> None:
    if unread:
        output.warn(
            f"The train file of {', '.join(unread)} is gone, so nobody can tell what was trained on.",
            "Build again: the same exchanges give the same version.",
        )
