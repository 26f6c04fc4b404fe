"""Supervision with a scripted program in vLLM's place: failures with their cause, restarts, no orphan ever."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from capture.database import Database, open_database
from serve.engine import EngineClient
from serve.engine_state import FAILED, READY, STOPPED, last_lines, read_state

Wait = Callable[..., float]
Make = Callable[..., Any]


def test_an_engine_that_ends_at_once_is_an_error_with_its_own_words(
    engine_room: Any, make_base: Make, scripted_engine: str
) -> None:
    engine_room.write(make_base(), scripted_engine)
    process = engine_room.start("fail")
    _, error = process.communicate(timeout=20)
    assert process.returncode == 1
    assert "ended with status 3" in error
    assert "the base model speaks in riddles: 42" in error
    assert "output.txt" in error
    assert engine_room.state.state == FAILED
    assert "riddles" in engine_room.state.message


def test_an_engine_that_never_gets_healthy_is_ended_after_the_timeout(
    engine_room: Any, make_base: Make, scripted_engine: str
) -> None:
    engine_room.write(make_base(), scripted_engine, startup_timeout_s=1.5)
    process = engine_room.start("hang")
    _, error = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "not ready after 2 s" in error
    assert engine_room.processes() == []


def test_a_missing_base_model_makes_no_process(engine_room: Any, scripted_engine: str) -> None:
    engine_room.write("/no/such/base", scripted_engine)
    process = engine_room.start()
    _, error = process.communicate(timeout=20)
    assert (process.returncode, engine_room.state.state, engine_room.state.pid) == (1, FAILED, 0)
    assert "/no/such/base does not exist" in error
    assert "[engine] base_model" in error


def test_a_ready_engine_says_so_and_a_stop_leaves_nothing(engine_room: Any, make_base: Make, scripted_engine: str) -> None:
    base = make_base()
    settings = engine_room.write(base, scripted_engine)
    process = engine_room.start()
    state = engine_room.wait_until_ready()
    assert (state.state, state.url, state.base_model) == (READY, f"http://127.0.0.1:{engine_room.port}", str(base))
    body = json.loads((settings.data_folder / "engine" / "engine.json").read_text("utf-8"))
    assert {"state", "pid", "url", "base_model", "since", "message"} <= body.keys()
    assert body["pid"] in engine_room.processes()
    assert "lora updating True" in engine_room.output
    process.terminate()
    assert process.wait(20) == 0
    assert engine_room.processes() == []
    assert engine_room.state.state == STOPPED


def test_a_second_supervisor_is_refused(engine_room: Any, make_base: Make, scripted_engine: str) -> None:
    engine_room.write(make_base(), scripted_engine)
    first = engine_room.start()
    engine_room.wait_until_ready()
    second = engine_room.start()
    _, error = second.communicate(timeout=20)
    assert second.returncode == 1
    assert f"already supervised by process {first.pid}" in error
    assert engine_room.state.state == READY


def test_a_supervisor_that_is_killed_takes_the_engine_with_it(
    engine_room: Any, make_base: Make, scripted_engine: str, wait_until: Wait
) -> None:
    settings = engine_room.write(make_base(), scripted_engine)
    process = engine_room.start()
    engine_room.wait_until_ready()
    assert len(engine_room.processes()) >= 4  # supervisor, guard, engine, the engine's helper
    process.kill()
    process.wait()
    wait_until(lambda: engine_room.processes() == [], 15.0)
    state = read_state(settings.data_folder)
    assert state is not None
    assert (state.state, state.pid) == (STOPPED, 0)


@pytest.mark.parametrize("victim", ["engine", "guard"])
def test_an_engine_that_is_killed_is_started_again_without_its_old_helpers(
    engine_room: Any, make_base: Make, scripted_engine: str, wait_until: Wait, victim: str
) -> None:
    engine_room.write(make_base(), scripted_engine)
    engine_room.start()
    first = engine_room.wait_until_ready()
    old = engine_room.processes()
    pid = first.pid if victim == "engine" else _parent(first.pid)
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: (state := engine_room.state) is not None and state.state == READY and state.pid != first.pid, 20.0)
    assert "died with status" in engine_room.state.message or engine_room.state.message == ""
    assert {first.pid} & set(engine_room.processes()) == set()
    assert len(set(old) & set(engine_room.processes())) == 1  # the supervisor


def test_ready_releases_are_loaded_after_every_start_and_a_broken_one_is_named(
    engine_room: Any, make_base: Make, make_adapter_folder: Make, scripted_engine: str, ready_adapter: Make, wait_until: Wait
) -> None:
    base = make_base()
    settings = engine_room.write(base, scripted_engine)
    database: Database = open_database(settings.database_url)
    ready_adapter(database, "triage", make_adapter_folder("good", {"Hello": "Hi"}), base)
    ready_adapter(database, "triage", make_adapter_folder("broken"), base)
    ready_adapter(database, "other", make_adapter_folder("alien"), "/another/base")
    engine_room.start()
    first = engine_room.wait_until_ready()
    for part in ("triage@r2: ", "unsupported LoRA weight", "other@r1: ", "/another/base"):
        assert part in first.message
    with EngineClient(first.url) as client:
        assert {model.name for model in client.models()} == {"base", "triage@r1"}
        os.kill(first.pid, signal.SIGKILL)
        wait_until(lambda: (state := engine_room.state).state == READY and state.pid != first.pid, 20.0)
        assert client.chat("triage@r1", [{"role": "user", "content": "Hello"}]).text == "Hi"
    database.close()


def test_the_telling_line_of_a_long_output_comes_first(tmp_path: Path) -> None:
    path = tmp_path / "output.txt"
    path.write_text(
        "\x1b[31mOSError: no such tensor: x\x1b[0m\n" + "frame\n" * 40 + "RuntimeError: failed. See root cause above.\n"
    )
    lines = last_lines(path, 3).splitlines()
    assert lines == ["OSError: no such tensor: x", "frame", "frame", "RuntimeError: failed. See root cause above."]
    assert last_lines(tmp_path / "missing") == ""


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
