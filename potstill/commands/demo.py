"""`potstill demo`: the whole loop once around."""

from __future__ import annotations

import argparse
import importlib.util
import os
import signal
from pathlib import Path
from typing import Any

from capture.errors import SettingsError
from capture.settings import Settings
from potstill.commands import add_command
from potstill.output import Output


def add_commands(commands: Any) -> None:
    """Adds `demo`."""
    demo = add_command(
        commands,
        "demo",
        _demo,
        help="the whole loop once around on real parts, without a key or a GPU",
        examples=(
            "  potstill demo\n"
            "  potstill demo --json | tail -n 1 | jq .em_student\n"
            "  potstill demo --base-model Qwen/Qwen3-0.6B\n"
            "  OPENAI_API_KEY=sk-... potstill demo --teacher-model gpt-4.1-mini --requests 400"
        ),
    )
    demo.add_argument(
        "--folder", type=Path, default=Path(".potstill-demo"), help="where everything goes (default: .potstill-demo)"
    )
    demo.add_argument("--requests", type=int, default=2000, help="requests before curation (default: 2000)")
    demo.add_argument("--base-model", default="", help="real base model, name or folder (default: a toy made on the spot)")
    demo.add_argument("--teacher-model", default="", help="real teacher behind --teacher-url, paid with $OPENAI_API_KEY")
    demo.add_argument(
        "--teacher-url", default="https://api.openai.com", help="address of the real teacher (default: https://api.openai.com)"
    )


def _demo(arguments: argparse.Namespace, settings: Settings, output: Output) -> int:
    for package in ("openai", "anthropic", "trl"):
        if importlib.util.find_spec(package) is None:
            raise SettingsError(f"The demo needs the package {package}.", "Run `make install`, or `pip install -e '.[demo]'`.")
    key = os.environ.get("OPENAI_API_KEY", "")
    if arguments.teacher_model and not key:
        raise SettingsError("--teacher-model needs a key and OPENAI_API_KEY is not set.", "Set it, or leave --teacher-model out.")
    looks_local = arguments.base_model.startswith((".", "/", "~"))
    if looks_local and not (Path(arguments.base_model).expanduser() / "config.json").is_file():
        raise SettingsError(
            f"--base-model {arguments.base_model} is not a model's folder.", "Give a folder with config.json, or a name."
        )
    if arguments.requests < 200:
        raise SettingsError(f"--requests {arguments.requests} is too few to learn from.", "Take 200 or more.")
    from potstill.demo import DemoOptions, run_demo

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that what the demo started is stopped, as with Ctrl-C

    options = DemoOptions(
        folder=arguments.folder,
        requests=arguments.requests,
        base_model=arguments.base_model,
        teacher_model=arguments.teacher_model,
        teacher_url=arguments.teacher_url.rstrip("/"),
        api_key=key if arguments.teacher_model else "sk-demo",
    )
    return run_demo(options, output)
