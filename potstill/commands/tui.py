"""`potstill tui`: the terminal interface."""

from __future__ import annotations

import argparse
from typing import Any

from capture.settings import Settings
from potstill.commands import add_command
from potstill.output import ExitCode, Output


def add_commands(commands: Any) -> None:
    """Adds `tui`."""
    tui = add_command(
        commands,
        "tui",
        _tui,
        help="the terminal interface: Traffic, Review, Rollout",
        examples="  potstill tui\n  potstill tui --read-only",
        json=False,
    )
    tui.add_argument("--read-only", action="store_true", help="look, change nothing")


def _tui(arguments: argparse.Namespace, settings: Settings, output: Output) -> int:
    from tui import app

    app.run(settings, read_only=arguments.read_only)
    return ExitCode.OK
