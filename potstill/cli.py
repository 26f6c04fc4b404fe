"""The tree of commands. Each imports its work inside its function, so that `potstill --help` answers at once."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from capture.errors import PotstillError
from capture.settings import Settings, load_settings
from potstill import __version__
from potstill.commands import (
    dataset,
    demo,
    engine,
    exchanges,
    feedback,
    flag,
    forget,
    house,
    import_logs,
    key,
    privacy,
    release,
    retention,
    review,
    torture,
    train,
    tui,
    up,
)
from potstill.output import ExitCode, Output

SECTIONS = (
    "store",
    "capture",
    "prices",
    "relay",
    "upstreams",
    "keys",
    "limits",
    "cache",
    "curate",
    "train",
    "engine",
    "logs",
    "otel",
)
"""Every section that potstill.toml may have; anything else is refused."""

_DESCRIPTION = """\
Potstill relays your LLM traffic untouched, keeps it, and distils narrow tasks into a small model you own.

the loop:
  potstill up                      relay, capture and store on http://127.0.0.1:8484
  potstill exchanges list          what passed through
  potstill dataset build TASK      curated, split, frozen
  potstill train TASK              a LoRA adapter, evaluated
  potstill release TASK            gate, load into the engine, parity check
  potstill flag set TASK --share 30%
  potstill ab TASK                 the comparison, with intervals
  potstill flag rollback TASK      back to the teacher, at once
"""


def make_parser() -> argparse.ArgumentParser:
    """The whole command line."""
    parser = argparse.ArgumentParser(
        prog="potstill",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="First time? Run: potstill demo",
    )
    parser.add_argument("--version", action="version", version=f"potstill {__version__}")
    parser.add_argument("--config", type=Path, help="potstill.toml to use (default: $POTSTILL_CONFIG, else ./potstill.toml)")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for module in (
        up,
        exchanges,
        feedback,
        import_logs,
        dataset,
        review,
        train,
        release,
        engine,
        flag,
        key,
        tui,
        forget,
        retention,
        privacy,
        house,
        torture,
        demo,
    ):
        module.add_commands(commands)
    return parser


def run_command(arguments: Sequence[str]) -> int:
    """Runs one command line and gives its exit code; a Potstill error is printed, never a stack."""
    parser = make_parser()
    parsed, unknown = parser.parse_known_args(arguments)
    if unknown:
        parser.error(f"unrecognized arguments: {' '.join(unknown)} (what begins with - and is no option goes last, after --)")
    output = Output(as_json=getattr(parsed, "json", False))
    try:
        settings = (load_settings if getattr(parsed, "reads_anything", False) else read_settings)(parsed.config)
        code: int = parsed.run(parsed, settings, output)
        return code
    except PotstillError as error:
        output.error(error)
        return ExitCode.FAILED
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED
    except BrokenPipeError:
        # The reader of our stdout went away (`| head`); keep the interpreter from flushing into it again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return ExitCode.OK


def read_settings(path: Path | None) -> Settings:
    """The settings for this command line, with unknown sections and keys refused, whichever command reads them."""
    settings = load_settings(path)
    settings.refuse_unknown(SECTIONS)
    if settings.sections:
        from potstill import configuration

        configuration.check(settings)
    return settings
