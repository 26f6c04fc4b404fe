"""`potstill engine`: vLLM under supervision, or a look at the one that runs."""

from __future__ import annotations

import argparse
import dataclasses
from typing import Any

from capture.settings import Settings
from potstill.commands import add_command
from potstill.output import ExitCode, Output


def add_commands(commands: Any) -> None:
    """Adds `engine`."""
    engine = add_command(
        commands,
        "engine",
        _engine,
        help="run the engine (vLLM) under supervision in the foreground, or show its state",
        examples="  potstill engine --base-model Qwen/Qwen3-0.6B\n  potstill engine status --json",
    )
    engine.add_argument("verb", nargs="?", choices=("run", "status"), default="run")
    engine.add_argument("--base-model", help="model name or folder (default: base_model of section [engine])")


def _engine(arguments: argparse.Namespace, settings: Settings, output: Output) -> int:
    from serve import engine_process
    from serve.settings import EngineSettings

    section = settings.section("engine", EngineSettings)
    if arguments.base_model:
        section = dataclasses.replace(section, base_model=arguments.base_model)
    if arguments.verb == "status":
        state = engine_process.read_state(settings.data_folder)
        if output.as_json:
            output.json(state)
        else:
            output.say(f"engine {state.state}   {state.url or '-'}   base {state.base_model or '-'}   {state.message}")
        return ExitCode.OK

    def show(state: engine_process.EngineState) -> None:
        output.json(state) if output.as_json else output.say(f"engine {state.state}   {state.url}   {state.message}")

    engine_process.supervise(settings, section, on_state=show)
    return ExitCode.OK
