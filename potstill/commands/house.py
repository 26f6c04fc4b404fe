"""`potstill doctor` and `potstill config`: is everything in order, and what is set."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from capture.errors import SettingsError
from capture.settings import FILE_NAME, Settings
from potstill.commands import add_command
from potstill.output import ExitCode, Output


def add_commands(commands: Any) -> None:
    """Adds `doctor` and `config`."""
    add_command(
        commands,
        "doctor",
        _doctor,
        help="check store, spool, disk, ports, upstreams and engine; each finding has a next step",
        examples="  potstill doctor\n  potstill doctor --json | jq '.[] | select(.verdict != \"ok\")'",
    )
    config = add_command(
        commands,
        "config",
        _config,
        help="every setting with its value and meaning; --init writes a commented potstill.toml",
        examples="  potstill config --init",
    )
    config.add_argument("--init", action="store_true", help=f"write {FILE_NAME} into this folder")


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
    return ExitCode.FALLS_SHORT if any(finding.verdict == "bad" for finding in findings) else ExitCode.OK


def _config(arguments: argparse.Namespace, settings: Settings, output: Output) -> int:
    from potstill import configuration

    if arguments.init:
        path = Path(FILE_NAME)
        if path.exists():
            raise SettingsError(f"{path} is already there.", "Edit it, or move it away first.")
        path.write_text(configuration.commented_toml(), "utf-8")
        output.say(f"{path} is written: every setting stands in it, commented out at its default.")
        return ExitCode.OK
    explained = configuration.explain(settings)
    if output.as_json:
        output.json(explained)
    else:
        output.table(("SETTING", "VALUE", "FROM", "MEANING"), [(e.name, e.value, e.source, e.meaning) for e in explained])
    return ExitCode.OK
