"""One module per noun of the command line: `add_commands` adds it to the tree, the rest runs it."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from capture.settings import Settings
from potstill.output import Output

Run = Callable[[argparse.Namespace, Settings, Output], int]

_MOST_DIGITS = 15


def whole_number(text: str) -> int:
    """What was typed for a limit or a number, as argparse's `type`: 1 or more, and no larger than each store can compare."""
    return _number(text, 1)


def zero_or_more(text: str) -> int:
    """As `whole_number`, where 0 means something: no limit, or from the beginning."""
    return _number(text, 0)


def _number(text: str, least: int) -> int:
    try:
        number = int(text) if len(text) <= _MOST_DIGITS else -1
    except ValueError:
        number = -1
    if number < least:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is no whole number of at most {_MOST_DIGITS} digits, {least} or more")
    return number


def add_command(
    commands: Any, name: str, run: Run, *, help: str, examples: str = "", json: bool = True
) -> argparse.ArgumentParser:
    """A command called `name` with its one-line help and, below it, examples to copy."""
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=help,
        description=help,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=f"examples:\n{examples}" if examples else None,
    )
    if json:
        parser.add_argument("--json", action="store_true", help="print JSON on stdout")
    parser.set_defaults(run=run)
    return parser


def add_noun(commands: Any, name: str, *, help: str) -> Any:
    """A noun whose verbs follow."""
    parser = commands.add_parser(name, help=help, description=help)
    return parser.add_subparsers(dest="verb", metavar="VERB", required=True)
