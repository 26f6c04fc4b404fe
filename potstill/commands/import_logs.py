"""`potstill import`: months of logs from elsewhere, as exchanges."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from capture.settings import Settings
from potstill.commands import add_command
from potstill.output import ExitCode, Output, counted

if TYPE_CHECKING:
    from capture.imports.importing import ImportReport

_SHOWN = 20
_EXAMPLES = """\
  potstill import calls.jsonl --task triage
  potstill import observations.json --dry-run
  potstill import batch_input.jsonl batch_output.jsonl
  potstill import spend_logs.csv --format litellm --json

Bad lines are named and left out; the exit code is 1 only when no line could be read.

formats (found out by looking; JSON, JSONL and CSV, gzipped or not):
  openai-jsonl   {"request", "response"} pairs; fine-tuning lines {"messages"}; a batch's input with its output
  langfuse       observations from the UI's, the API's or the blob storage export
  helicone       rows of npx @helicone/export --include-body, or of the request query API
  litellm        rows of LiteLLM_SpendLogs (with store_prompts_in_spend_logs for prompts and answers)"""


def add_commands(commands: Any) -> None:
    """Adds `import`."""
    command = add_command(
        commands,
        "import",
        _import,
        help="logs from elsewhere as exchanges: OpenAI-style JSONL, Langfuse, Helicone, LiteLLM; twice adds nothing",
        examples=_EXAMPLES,
    )
    command.add_argument("files", nargs="+", type=Path, metavar="FILE", help="log files")
    command.add_argument(
        "--format", default="auto", choices=("auto", "openai-jsonl", "langfuse", "helicone", "litellm"), help="default: auto"
    )
    command.add_argument("--task", default="", help="task of every exchange (default: what the logs say)")
    command.add_argument("--dry-run", action="store_true", help="read and count, store nothing")


def _import(arguments: argparse.Namespace, settings: Settings, output: Output) -> int:
    from capture.capture_settings import CaptureSettings
    from capture.database import open_database
    from capture.imports.importing import import_files
    from capture.pricing import PriceSettings, load_price_table
    from capture.pseudonyms import read_policy

    capture = settings.section("capture", CaptureSettings)
    prices = load_price_table(settings.section("prices", PriceSettings))
    database = None if arguments.dry_run else open_database(settings.database_url)
    try:
        with output.stages() as show:
            report = import_files(
                database,
                prices,
                arguments.files,
                format=arguments.format,
                task=arguments.task,
                personal=read_policy(capture, os.environ),
                omit_tasks=capture.omit_content_tasks,
                on_progress=lambda path, done, total: show(path.name, done, total),
            )
    finally:
        if database is not None:
            database.close()
    if output.as_json:
        output.json(report)
    else:
        _tell(report, output)
    return ExitCode.OK


def _tell(report: ImportReport, output: Output) -> None:
    counts = ("EXCHANGES",) if report.is_dry_run else ("NEW", "KNOWN")
    rows = [
        (
            group.task or "(no task)",
            group.model or "(no model)",
            *((group.exchanges,) if report.is_dry_run else (group.new, group.exchanges - group.new)),
        )
        for group in report.groups[:_SHOWN]
    ]
    if rows:
        output.table(("TASK", "MODEL", *counts), rows, right=counts)
    if len(report.groups) > _SHOWN:
        output.say(f"... and {len(report.groups) - _SHOWN} more groups; --json shows all.")
    for problem in report.problems[:_SHOWN]:
        output.say(f"{problem.file}, line {problem.line}: {problem.reason}")
    if report.bad > _SHOWN:
        output.say(f"... and {report.bad - _SHOWN} more bad lines; --json shows up to 100.")
    for reason, count in sorted(report.skipped.items(), key=lambda item: -item[1])[:_SHOWN]:
        output.say(f"{count} skipped: {reason}")
    if report.is_dry_run:
        output.say(f"{counted(report.read, 'exchange')} can be imported; {counted(report.bad, 'bad line')}. Nothing was stored.")
        return
    output.say(f"{counted(report.stored, 'exchange')} imported, {report.known} known already, {counted(report.bad, 'bad line')}.")
    if report.stored:
        output.say("Look at them: potstill exchanges list 'tag.imported_from:*'")
