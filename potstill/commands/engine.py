"""`potstill engine`: vLLM under supervision, or a look at the one that runs."""

from __future__ import annotations

import argparse
import dataclasses
import signal
import threading
from pathlib import Path
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
    from serve.engine_state import read_state

    if arguments.verb == "run":
        return _run(_with_base_model(settings, arguments.base_model), output)
    state = read_state(settings.data_folder)
    if output.as_json:
        output.json(state)
    elif state is None:
        output.say("engine never started. Next: potstill engine --base-model NAME")
    else:
        output.say(f"engine {state.state}   {state.url}   base {state.base_model}   {state.message}")
    return ExitCode.OK


def _with_base_model(settings: Settings, base_model: str | None) -> Settings:
    if not base_model:
        return settings
    chosen = str(Path(base_model).resolve()) if Path(base_model).is_dir() else base_model
    return dataclasses.replace(
        settings, sections={**settings.sections, "engine": {**settings.sections.get("engine", {}), "base_model": chosen}}
    )


def _run(settings: Settings, output: Output) -> int:
    from serve.engine_process import supervise

    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: stop.set())
    teller = threading.Thread(target=_tell_states, args=(settings, stop, output), daemon=True)
    teller.start()
    supervise(settings, stop)
    output.say("engine stopped")
    return ExitCode.OK


def _tell_states(settings: Settings, stop: threading.Event, output: Output) -> None:
    from serve.engine_state import output_path, read_state

    told = None
    while not stop.wait(0.25):
        state = read_state(settings.data_folder)
        if state is None or state == told:
            continue
        told = state
        if output.as_json:
            output.json(state)
        else:
            output.say(f"engine {state.state}   {state.url}   base {state.base_model}   {state.message}")
            if state.state == "starting":
                output.say(f"  vLLM takes a minute or two; its output: {output_path(settings.data_folder)}")
