"""What the tests of this package share: releases, adapters, supervised engines, and a deadline instead of sleeps."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from sqlalchemy import text

from capture.database import Database
from capture.ids import new_id
from capture.settings import Settings, load_settings
from serve.engine import EngineClient
from serve.engine_state import READY as ENGINE_READY
from serve.engine_state import EngineState, read_state
from serve.release_store import READY, Release, add_release, settle_release


def make_release(database: Database, task: str = "triage", state: str = READY, adapter_id: str = "ad_none") -> Release:
    """A release of `task` with the next number."""
    return settle_release(database, add_release(database, task, adapter_id, {}), state, {}, 200, 200)


def make_adapter_row(database: Database, task: str, folder: Path, base: Path | str, run_id: str = "run_none") -> str:
    """The id of an adapter of `task` whose files are in `folder`."""
    adapter_id = new_id("ad")
    with database.write() as connection:
        connection.execute(
            text(
                "INSERT INTO adapters (id, run_id, task, dataset_version_id, recipe_hash, base_model, folder, hash, card,"
                " created_us) VALUES (:id, :run, :task, 'dsv_1', 'b2:1', :base, :folder, 'b2:2', '', 1)"
            ),
            {"id": adapter_id, "run": run_id, "task": task, "base": str(base), "folder": str(folder)},
        )
    return adapter_id


def until(is_true: Callable[[], bool], within_s: float = 5.0) -> float:
    """Seconds until `is_true`; fails after `within_s`."""
    began = time.monotonic()
    while not is_true():
        assert time.monotonic() - began < within_s, f"not within {within_s} s"
        time.sleep(min(0.05, within_s / 1000))
    return time.monotonic() - began


@pytest.fixture
def ready_release() -> Callable[..., Release]:
    """Makes a release that may get a share."""
    return make_release


@pytest.fixture
def adapter_row() -> Callable[..., str]:
    """Puts an adapter into the store and gives its id."""
    return make_adapter_row


@pytest.fixture
def ready_adapter() -> Callable[..., Release]:
    """Makes an adapter of a task and a ready release of it."""

    def make(database: Database, task: str, folder: Path, base: Path | str) -> Release:
        return make_release(database, task, adapter_id=make_adapter_row(database, task, folder, base))

    return make


@pytest.fixture
def wait_until() -> Callable[..., float]:
    """Polls a condition with a deadline."""
    return until


HERE = Path(__file__).parent


def free_port() -> int:
    """A TCP port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def processes_in(folder: Path) -> list[int]:
    """Processes, whoever their parent is, that work in `folder`; zombies have no folder. Titles may be rewritten, this not."""
    found = []
    for one in Path("/proc").iterdir():
        if one.name.isdigit() and int(one.name) != os.getpid():
            try:
                if (one / "cwd").readlink() == folder:
                    found.append(int(one.name))
            except (FileNotFoundError, ProcessLookupError, PermissionError):
                continue
    return found


@dataclass
class EngineRoom:
    """A folder with potstill.toml, and supervisors started in it."""

    folder: Path
    port: int = field(default_factory=free_port)
    supervisors: list[subprocess.Popen[str]] = field(default_factory=list)

    def write(self, base_model: Path | str, command: str = "", **more: int | float) -> Settings:
        """Writes potstill.toml and gives it as it is read."""
        lines = [
            "[store]",
            'data_folder = "data"',
            "[engine]",
            f"port = {self.port}",
            f"base_model = {json.dumps(str(base_model))}",
        ]
        lines += [f"command = {json.dumps(command)}", *(f"{key} = {value}" for key, value in more.items())]
        (self.folder / "potstill.toml").write_text("\n".join(lines) + "\n", "utf-8")
        return self.settings

    @property
    def settings(self) -> Settings:
        """Settings of this room, without the environment."""
        return load_settings(self.folder / "potstill.toml", environ={})

    @property
    def state(self) -> EngineState | None:
        """What engine.json says."""
        return read_state(self.settings.data_folder)

    @property
    def output(self) -> str:
        """What the engine said."""
        return (self.settings.data_folder / "engine" / "output.txt").read_text("utf-8", "replace")

    def start(self, mode: str = "serve") -> subprocess.Popen[str]:
        """`python -m serve.engine_process` as a real process."""
        environment = {**os.environ, "SCRIPTED_ENGINE": mode, "PYTHONPATH": str(HERE.parents[1])}
        process = subprocess.Popen(
            [sys.executable, "-m", "serve.engine_process", "--config", str(self.folder / "potstill.toml")],
            cwd=self.folder,
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.supervisors.append(process)
        return process

    def wait_until_ready(self, within_s: float = 20.0) -> EngineState:
        """The state of the engine once it serves."""
        until(lambda: (state := self.state) is not None and state.state == ENGINE_READY, within_s)
        state = self.state
        assert state is not None
        return state

    def processes(self) -> list[int]:
        """Process ids of everything started here that is still alive."""
        return processes_in(self.folder.resolve())

    def close(self) -> None:
        """Ends the supervisors; whatever outlived them is killed and named."""
        for process in self.supervisors:
            if process.poll() is None:
                process.terminate()
            process.communicate()
        left = self.processes()
        for pid in left:
            os.kill(pid, 9)
        assert not left, f"orphans: {left}"


@pytest.fixture
def engine_room(tmp_path: Path) -> Iterator[EngineRoom]:
    """A place for one engine; no process of it outlives the test."""
    room = EngineRoom(tmp_path)
    yield room
    room.close()


@pytest.fixture
def scripted_engine() -> str:
    """[engine] command for the scripted stand-in of vLLM."""
    return f"{sys.executable} {HERE / 'scripted_engine.py'}"


@pytest.fixture
def make_base(tmp_path: Path) -> Callable[..., Path]:
    """Makes a folder that passes for a base model."""

    def make(name: str = "base", **config: int) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps(config), "utf-8")
        return folder

    return make


@pytest.fixture
def make_adapter_folder(tmp_path: Path) -> Callable[..., Path]:
    """Makes a folder that passes for a LoRA adapter; `answers` are what the scripted engine then says."""

    def make(name: str = "adapter", answers: dict[str, str] | None = None, **config: object) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 8, **config}), "utf-8")
        (folder / "adapter_model.safetensors").write_bytes(b"weights")
        (folder / "answers.json").write_text(json.dumps(answers or {}), "utf-8")
        return folder

    return make


@pytest.fixture
def scripted_client(tmp_path: Path) -> Iterator[EngineClient]:
    """A client of a scripted engine that runs without a supervisor; its base model is /base."""
    port = free_port()
    with (tmp_path / "engine.txt").open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, str(HERE / "scripted_engine.py"), "serve", "/base", "--host", "127.0.0.1", "--port", str(port)],
            env={**os.environ, "SCRIPTED_ENGINE": "alone"},
            stdout=output,
            stderr=output,
        )
    with EngineClient(f"http://127.0.0.1:{port}") as client:
        until(client.health, 10.0)
        yield client
    process.terminate()
    process.wait()
