"""`potstill dataset export|import`: versions in the formats of others, and a team's own data set as exchanges of a task."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from capture.database import open_database
from capture.errors import NotFoundError, SettingsError
from capture.settings import Settings
from potstill.commands import add_command
from potstill.output import ExitCode, Output, counted

if TYPE_CHECKING:
    from curate.uploads import Upload, UploadReport

_WRITTEN = (
    "openai", "openai-preference", "trl", "trl-preference", "sharegpt", "alpaca", "parquet", "hf", "csv", "argilla",
)  # fmt: skip
_READ = ("auto", "openai", "openai-preference", "trl", "sharegpt", "alpaca", "csv", "parquet", "argilla", "trajectories", "bfcl")
_SHOWN = 20
_EXPORT_EXAMPLES = """\
  potstill dataset export triage --out ./triage-v1
  potstill dataset export triage --format hf --out ./triage-hf
  potstill dataset export triage --format trl-preference --out ./triage-dpo
  potstill dataset export triage --format alpaca --skip --out ./triage-alpaca --json

formats:
  openai             chat fine-tuning JSONL: messages, tools; earlier answers with weight 0
  openai-preference  the version's preferences: input, preferred_output, non_preferred_output
  trl                prompt and completion as messages, tools as JSON text
  trl-preference     the version's preferences: prompt, chosen, rejected
  sharegpt           conversations with from and value; function_call and observation for tools
  alpaca             instruction and output; several turns and tools are refused, or left out with --skip
  parquet            columns of JSON (Hugging Face Json features); --plain: JSON as text
  hf                 a folder for datasets.load_dataset: Parquet and README.md
  csv                input, answer, messages_json, tools_json; safe to open in a spreadsheet
  argilla            records for people to look at and correct"""
_IMPORT_EXAMPLES = """\
  potstill dataset import intents train.csv test.csv --system "Name the intent."
  potstill dataset import intents data.json --column input=utterance --column answer=intent --dry-run
  potstill dataset import support chats.jsonl --teacher gpt-4o --terms "allowed: contract 2026-03"
  potstill dataset import calls BFCL_v4_simple_python.json possible_answer/BFCL_v4_simple_python.json --json

Every answer to learn becomes an exchange of the task; importing a file again adds nothing. Bad rows are named by number and left
out; the exit code is 1 only when no row could be read. Next: potstill dataset build TASK

formats (found out by looking; JSON lines, a JSON array, CSV or Parquet, text gzipped or not; a folder stands for its files):
  openai, openai-preference, trl, sharegpt, alpaca, argilla   as `potstill dataset export` writes them
  csv            flat rows with a question and an answer or a label; --column names other columns
  parquet        rows in any of the other formats
  trajectories   tau-bench: traj and reward
  bfcl           Berkeley's function calling leaderboard: the file of questions and that of possible_answer together"""


def add_commands(verbs: Any) -> None:
    """Adds `export` and `import` to the verbs of `dataset`."""
    export = add_command(
        verbs, "export", _export, help="a version in the format of another tool, a file for each split", examples=_EXPORT_EXAMPLES
    )
    export.add_argument("task")
    export.add_argument("--version", type=int, help="number of the version (default: the newest)")
    export.add_argument("--format", default="openai", choices=_WRITTEN, help="default: openai")
    export.add_argument("--out", type=Path, required=True, help="folder to write into")
    export.add_argument("--plain", action="store_true", help="parquet with JSON as text, for readers without Arrow's JSON type")
    export.add_argument("--skip", action="store_true", help="leave out what the format cannot carry, and count it")
    export.add_argument("--force", action="store_true", help="replace files that no export wrote")
    upload = add_command(
        verbs,
        "import",
        _import,
        help="a team's own data set as exchanges; twice adds nothing",
        examples=_IMPORT_EXAMPLES,
    )
    upload.add_argument("task", help="task of every row")
    upload.add_argument("files", nargs="+", type=Path, metavar="FILE", help="data files, or folders of them")
    upload.add_argument("--format", default="auto", choices=_READ, help="default: auto")
    add_columns(upload)
    add_prompt(upload)
    upload.add_argument(
        "--teacher", default="", metavar="NAME", help="who answered; the model is import:NAME (default: the task)"
    )
    upload.add_argument("--terms", default="", metavar="TEXT", help="under which terms the answers came, where rows do not say")
    upload.add_argument("--dry-run", action="store_true", help="read and count, store nothing")


def _export(arguments: argparse.Namespace, settings: Settings, output: Output) -> int:
    from curate import datasets
    from curate.formats import exporting

    format = arguments.format
    if arguments.plain and format != exporting.PARQUET:
        raise SettingsError(f"--plain goes with --format parquet, not {format}.", "Leave it out.")
    database = open_database(settings.database_url)
    try:
        version = datasets.get_version(database, arguments.task, arguments.version)
        with output.stages() as show:
            report = exporting.export(
                database,
                version,
                arguments.out,
                exporting.PARQUET_PLAIN if arguments.plain else format,
                skip=arguments.skip,
                force=arguments.force,
                on_progress=show,
            )
    finally:
        database.close()
    if output.as_json:
        output.json({
            "task": version.task, "version": version.number, "format": report.format, "examples": report.rows,
            "folder": report.folder, "files": report.files, "left_out": report.left_out,
        })  # fmt: skip
        return ExitCode.OK
    output.table(("FILE", "ROWS"), list(report.files.items()), right=("ROWS",))
    for reason, count in sorted(report.left_out.items()):
        output.say(f"left out: {count} {reason}")
    output.say(f"{counted(report.rows, 'row')} of {version.task}/v{version.number} written to {report.folder}")
    return ExitCode.OK


def _import(arguments: argparse.Namespace, settings: Settings, output: Output) -> int:
    from capture.capture_settings import CaptureSettings
    from capture.pricing import PriceSettings, load_price_table
    from capture.pseudonyms import read_policy
    from curate.uploads import import_dataset

    capture = settings.section("capture", CaptureSettings)
    upload = _upload(arguments)
    prices = load_price_table(settings.section("prices", PriceSettings))
    database = None if arguments.dry_run else open_database(settings.database_url)
    try:
        with output.stages() as show:
            report = import_dataset(
                database,
                prices,
                arguments.files,
                upload,
                personal=read_policy(capture, os.environ),
                omit_tasks=capture.omit_content_tasks,
                on_progress=lambda path, done, total: show(f"bytes of {path.name}", done, total),
            )
    finally:
        if database is not None:
            database.close()
    if output.as_json:
        output.json(report)
    else:
        _tell(report, upload, output)
    return ExitCode.OK


def add_columns(parser: argparse.ArgumentParser) -> None:
    """Adds --column, which `columns_of` reads."""
    parser.add_argument(
        "--column",
        action="append",
        default=[],
        metavar="NAME=COLUMN",
        help="read COLUMN as NAME: input, answer, split, id ...",
    )


def add_prompt(parser: argparse.ArgumentParser) -> None:
    """Adds --system and --tools; `tools_of` reads the latter."""
    parser.add_argument("--system", default="", metavar="PROMPT", help="system prompt of rows that have none")
    parser.add_argument("--tools", type=Path, metavar="FILE", help="JSON list of tools that rows offer which name none")


def columns_of(given: Sequence[str]) -> dict[str, str]:
    """What --column says; SettingsError for what is not NAME=COLUMN."""
    columns = {}
    for one in given:
        name, _, column = one.partition("=")
        if not name or not column:
            raise SettingsError(f"--column {one!r} is not NAME=COLUMN.", "Write it like --column input=utterance.")
        columns[name] = column
    return columns


def _upload(arguments: argparse.Namespace) -> Upload:
    from curate.uploads import Upload

    columns = columns_of(arguments.column)
    return Upload(
        arguments.task, arguments.format, columns, arguments.system, tools_of(arguments.tools), arguments.teacher, arguments.terms
    )


def tools_of(path: Path | None) -> tuple[dict[str, Any], ...]:
    """The tools of the file that --tools names; NotFoundError or SettingsError when it holds none."""
    from capture.imports.imported import LineError
    from curate.formats.row import tools_in

    if path is None:
        return ()
    try:
        return tools_in(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise NotFoundError(f"{path} cannot be read: {error}.", "Name a file with a JSON list of tools.") from error
    except LineError as error:
        raise SettingsError(f"{path}: {error.reason}.", "Write a JSON list of tools in OpenAI's form.") from error


def _tell(report: UploadReport, upload: Upload, output: Output) -> None:
    done = report.exchanges
    output.table(("FILE", "FORMAT"), list(done.formats.items()))
    for problem in done.problems[:_SHOWN]:
        output.say(f"{problem.file}, line {problem.line}: {problem.reason}")
    if done.bad > _SHOWN:
        output.say(f"... and {done.bad - _SHOWN} more bad rows; --json shows up to 100.")
    for reason, count in sorted(done.skipped.items(), key=lambda item: -item[1]):
        output.say(f"{count} skipped: {reason}")
    also = f", {counted(report.pairs, 'preference')}" if report.pairs else ""
    also += f", {counted(report.scores, 'score')}" if report.scores else ""
    if done.is_dry_run:
        output.say(f"{counted(done.read, 'answer')} can be imported{also}; {counted(done.bad, 'bad row')}. Nothing was stored.")
        return
    output.say(f"{counted(done.stored, 'answer')} imported, {done.known} known already{also}; {counted(done.bad, 'bad row')}.")
    for model, count in report.other_terms.items():
        output.say(f"{counted(count, 'answer')} of {model} keep the terms with which they were imported before. To have others:")
        output.say(f'  [curate.teacher_terms] in potstill.toml: "{model}" = "allowed: why"')
    output.say(f"Next: potstill dataset build {upload.task}")
