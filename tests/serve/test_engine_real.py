"""Real vLLM on the CPU, once around: start, load, answer like the trainer, die, come back with its releases, leave nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from capture.database import Database, open_database
from capture.errors import EngineError
from serve.engine import BASE, EngineClient
from serve.engine_state import READY, STOPPED
from serve.parity import check_parity, read_predictions
from serve.release_store import Release

HELLO = [{"role": "user", "content": "I would like a refund for the broken kettle"}]


@pytest.fixture(scope="module")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama in `base`, two LoRA adapters in `a` and `b`."""
    folder = tmp_path_factory.mktemp("tiny")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    subprocess.run(
        [sys.executable, str(Path(__file__).with_name("make_tiny_model.py")), str(folder)],
        env=environment, check=True, capture_output=True,
    )  # fmt: skip
    return folder


def test_vllm_serves_releases_like_the_trainer_and_survives_being_killed(
    tiny_model: Path, engine_room: Any, ready_adapter: Callable[..., Release], wait_until: Callable[..., float]
) -> None:
    settings = engine_room.write(tiny_model / "base", startup_timeout_s=300)
    database: Database = open_database(settings.database_url)
    ready_adapter(database, "triage", tiny_model / "a", tiny_model / "base")
    process = engine_room.start()
    first = engine_room.wait_until_ready(300.0)
    assert first.message == ""
    with EngineClient(first.url) as client:
        before = _asked(client, tiny_model)
        os.kill(first.pid, signal.SIGKILL)
        wait_until(lambda: (state := engine_room.state).state == READY and state.pid != first.pid, 300.0)
        assert client.chat("triage@r1", HELLO, max_tokens=12).text == before
    assert len([pid for pid in engine_room.processes() if _name(pid).startswith("VLLM::EngineCore")]) == 1
    process.terminate()
    assert process.wait(60) == 0
    assert engine_room.processes() == []
    assert engine_room.state.state == STOPPED
    database.close()


def _asked(client: EngineClient, tiny_model: Path) -> str:
    """Everything that the client can do with a running engine; gives the release's answer to HELLO."""
    assert {model.name for model in client.models()} == {BASE, "triage@r1"}
    answers = {name: client.chat(name, HELLO, max_tokens=12).text for name in (BASE, "triage@r1")}
    client.load("other@r1", tiny_model / "b", 64)
    client.warm_up("other@r1")
    answers["other@r1"] = client.chat("other@r1", HELLO, max_tokens=12).text
    assert len(set(answers.values())) == 3
    parity = check_parity(client, "triage@r1", read_predictions(tiny_model / "a" / "predictions.jsonl", 200), max_tokens=16)
    assert parity.share >= 0.99, parity.differences
    assert (
        check_parity(client, "other@r1", read_predictions(tiny_model / "a" / "predictions.jsonl", 200), max_tokens=16).share < 0.5
    )
    client.unload("other@r1")
    with pytest.raises(EngineError, match="does not exist"):
        client.chat("other@r1", HELLO)
    with pytest.raises(EngineError, match="status 404"):
        client.unload("other@r1")
    with pytest.raises(EngineError, match="cannot be a model's name"):
        client.load("../a", tiny_model / "a", 64)
    return answers["triage@r1"]


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except FileNotFoundError:
        return ""
