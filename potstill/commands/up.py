"""`potstill up` and `potstill provider`: the processes that stay."""

from __future__ import annotations

import argparse
from typing import Any

from capture.settings import Settings
from potstill.commands import add_command
from potstill.output import ExitCode, Output


def add_commands(commands: Any) -> None:
    """Adds `up` and `provider`."""
    up = add_command(
        commands,
        "up",
        _up,
        help="start relay, capture and store (Ctrl-C drains and stops, SIGHUP reads the configuration again)",
        examples=(
            "  potstill up\n"
            "  OPENAI_BASE_URL=http://127.0.0.1:8484/v1 python app.py\n"
            "  ANTHROPIC_BASE_URL=http://127.0.0.1:8484 python app.py\n"
            "  potstill up --engine             with vLLM beside it"
        ),
        json=False,
    )
    up.add_argument("--engine", action="store_true", help="also supervise the engine (vLLM) of section [engine]")
    provider = add_command(
        commands,
        "provider",
        _provider,
        help="start the scripted provider: OpenAI and Anthropic shapes without a key, for demos and tests",
        examples="  potstill provider --port 8487",
        json=False,
    )
    provider.add_argument("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1)")
    provider.add_argument("--port", type=int, default=8487, help="port to listen on (default: 8487)")
    provider.add_argument("--latency-ms", type=float, default=5.0, help="time before the first byte (default: 5)")


def _up(arguments: argparse.Namespace, settings: Settings, output: Output) -> int:
    from capture.logs import JSON, LogSettings, json_line
    from potstill import configuration
    from proxy import supervise

    for error in configuration.problems(settings):
        raise error
    is_json = settings.section("logs", LogSettings).format == JSON

    def notice(said: str, level: str = "info") -> None:
        output.say(json_line(level, "potstill", said) if is_json else said)

    def say_ready(relay: str, admin: str) -> None:
        notice(f"potstill is up. Relay {relay}, admin {admin}, data {settings.data_folder}")
        if not is_json:
            output.say(f"  OPENAI_BASE_URL={relay}/v1")
            output.say(f"  ANTHROPIC_BASE_URL={relay}")
            output.say("  Tag a task with the header x-potstill-task, or put /task/NAME before /v1 in the address.")

    for warning in configuration.warnings(settings):
        notice(f"Warning: {warning}", "warning")
    supervise.run(
        settings,
        with_engine=arguments.engine,
        reread=lambda: configuration.read_checked(arguments.config),
        on_ready=say_ready,
        on_notice=notice,
    )
    return ExitCode.OK


def _provider(arguments: argparse.Namespace, settings: Settings, output: Output) -> int:
    from proxy import provider

    output.say(f"scripted provider on http://{arguments.host}:{arguments.port} (any key is good)")
    provider.run(host=arguments.host, port=arguments.port, latency_ms=arguments.latency_ms)
    return ExitCode.OK
