"""Clients that are commands: how each is told, with its own settings alone, where to ask and which headers to send.

Every command gets a folder of its own as its home. None may talk to anybody but the relay: updates and telemetry are off.
"""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.clients.house import AIDER_ENVIRONMENT, ENVIRONMENT, NODE_MODULES, PATIENCE_S, clean_environment, need, need_node

CHAT, TOOLS, ERROR, CANCEL, HEADERS = "chat", "tools", "error", "cancel", "headers"
SAID = "Grüße aus 東京 👩‍🚀"
SCRIPTS: Mapping[str, Mapping[str, object]] = {
    CHAT: {"text": SAID},
    HEADERS: {"text": SAID},
    TOOLS: {},
    ERROR: {"status": 400},
    CANCEL: {"chunk_delay_ms": 20, "body_bytes": 60_000},
}


@dataclass(frozen=True, slots=True)
class Command:
    """What to run; `env` comes on top of `clean_environment`."""

    arguments: Sequence[str]
    env: Mapping[str, str]
    cwd: Path

    def run(self) -> subprocess.CompletedProcess[str]:
        """From start to end."""
        env = {**clean_environment(self.cwd), **self.env}
        return subprocess.run(
            self.arguments,
            cwd=self.cwd,
            env=env,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            stdin=subprocess.DEVNULL,
        )

    @contextmanager
    def interrupted(self, is_time: Callable[[], object]) -> Iterator[None]:
        """Started, and interrupted as by Ctrl-C when `is_time`; the context lasts until the process has ended."""
        env = {**clean_environment(self.cwd), **self.env}
        with (self.cwd / "interrupted.log").open("wb") as log:
            process = subprocess.Popen(
                self.arguments, cwd=self.cwd, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                preexec_fn=_heed_interrupts,
            )  # fmt: skip
        try:
            deadline = time.monotonic() + PATIENCE_S
            while not is_time():
                assert process.poll() is None and time.monotonic() < deadline, (self.cwd / "interrupted.log").read_text()
                time.sleep(0.02)
            process.send_signal(signal.SIGINT)
            process.wait(PATIENCE_S)
            yield
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()


def _heed_interrupts() -> None:
    """A shell lets what it starts in the background ignore them, and all that these start."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def tags(client: str, scenario: str) -> dict[str, str]:
    """The headers that a user would set, one of the app's own, and what the scripted provider is to do."""
    found = {"x-potstill-task": client, "x-potstill-tag-scenario": scenario, "x-app": f"{client}/{scenario}"}
    if scenario == TOOLS and client == "aider":
        return found | {"x-script": json.dumps({"text": "hello.py\n```\nprint('Oslo')\n```\n"})}
    return found | ({"x-script": json.dumps(SCRIPTS[scenario])} if SCRIPTS[scenario] else {})


def llm(address: str, folder: Path, scenario: str) -> Command:
    """Simon Willison's `llm`; its tools are Python functions."""
    given = {"model_name": "gpt-4o-mini", "api_base": f"{address}/v1", "supports_tools": True, "headers": tags("llm", scenario)}
    (folder / "extra-openai-models.yaml").write_text(json.dumps([{"model_id": "relayed", **given}]))
    weather = 'def get_weather(city: str) -> str:\n    "Tells the weather in a city."\n    return "4 degrees"\n'
    with_tool = ["--functions", weather] if scenario == TOOLS else []
    ask = "Please use get weather for Oslo" if scenario == TOOLS else "Hello"
    command = [str(need(ENVIRONMENT / "bin" / "llm")), "-m", "relayed", "--key", "sk-test", *with_tool, ask]
    return Command(command, {"LLM_USER_PATH": str(folder)}, folder)


def claude_code(address: str, folder: Path, scenario: str) -> Command:
    """Claude Code without a terminal; its tool looks for files."""
    need_node()
    (folder / "Oslo").mkdir()
    (folder / "Oslo" / "Oslo").write_text("")
    ask = "Please use Glob in Oslo" if scenario == TOOLS else "Hello"
    options = ["--output-format", "json", "--model", "claude-haiku-4-5", "--tools", "Glob" if scenario == TOOLS else ""]
    return Command(
        ["node", str(need(NODE_MODULES / "@anthropic-ai" / "claude-code" / "cli.js")), "-p", ask, *options],
        {
            "ANTHROPIC_BASE_URL": address,
            "ANTHROPIC_API_KEY": "sk-ant-test",
            "ANTHROPIC_CUSTOM_HEADERS": "\n".join(f"{name}: {value}" for name, value in tags("claude-code", scenario).items()),
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
            "DISABLE_AUTOUPDATER": "1",
            "DISABLE_TELEMETRY": "1",
        },
        folder,
    )


def codex(address: str, folder: Path, scenario: str) -> Command:
    """OpenAI's Codex without a terminal, on a provider of its own settings."""
    need_node()
    config = [
        'model = "gpt-5-codex"',
        'model_provider = "relayed"',
        'approval_policy = "never"',
        'sandbox_mode = "read-only"',
        "[analytics]",
        "enabled = false",
        "[model_providers.relayed]",
        'name = "relayed"',
        f'base_url = "{address}/v1"',
        'env_key = "OPENAI_API_KEY"',
        'wire_api = "responses"',
        "request_max_retries = 0",
        "stream_max_retries = 0",
        "[model_providers.relayed.http_headers]",
        *(f"{name} = {json.dumps(value)}" for name, value in tags("codex", scenario).items()),
    ]
    (folder / ".codex").mkdir()
    (folder / ".codex" / "config.toml").write_text("\n".join(config))
    ask = "Please use get goal" if scenario == TOOLS else "Hello"
    launcher = need(NODE_MODULES / "@openai" / "codex" / "bin" / "codex.js")
    command = ["node", str(launcher), "exec", "--json", "--skip-git-repo-check", ask]
    return Command(command, {"OPENAI_API_KEY": "sk-test"}, folder)


def aider(address: str, folder: Path, scenario: str) -> Command:
    """Aider with one message; what takes the place of tools is that it edits a file."""
    model = {"name": "openai/gpt-4o-mini", "edit_format": "whole", "extra_params": {"extra_headers": tags("aider", scenario)}}
    (folder / "models.yml").write_text(json.dumps([model]))
    (folder / "hello.py").write_text("")
    prices = folder / ".aider" / "caches" / "model_prices_and_context_window.json"  # else it asks the network for them
    prices.parent.mkdir(parents=True)
    prices.write_text('{"gpt-4o-mini": {}}')
    off = ["git", "check-update", "show-model-warnings", "show-release-notes", "pretty", "gitignore", "detect-urls", "auto-lint"]
    return Command(
        [
            str(need(AIDER_ENVIRONMENT / "bin" / "aider")),
            *("--model", "openai/gpt-4o-mini", "--model-settings-file", "models.yml", "--message", "Hello"),
            *("--yes-always", "--analytics-disable", *(f"--no-{name}" for name in off), "hello.py"),
        ],
        {"OPENAI_API_KEY": "sk-test", "OPENAI_API_BASE": f"{address}/v1", "LITELLM_LOCAL_MODEL_COST_MAP": "True"},
        folder,
    )


COMMANDS: Mapping[str, Callable[[str, Path, str], Command]] = {
    "llm": llm,
    "claude-code": claude_code,
    "codex": codex,
    "aider": aider,
}
