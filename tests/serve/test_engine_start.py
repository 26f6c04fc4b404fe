"""What is wrong with the engine's settings is found before a process is made, and says what to set."""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from capture.errors import EngineError, PortTakenError, SettingsError
from capture.settings import load_settings
from serve.engine_start import engine_environment, find_base_model, find_program, plan_start, refuse_taken_port, serve_arguments
from serve.settings import EngineSettings

MakeBase = Callable[..., Path]


def test_without_a_base_model_it_says_what_to_set(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"No base model is set.*\[engine\] base_model"):
        find_base_model("", tmp_path)


@pytest.mark.parametrize("name", ["./missing", "missing", "/no/such/folder", "a/b/c"])
def test_a_missing_folder_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(EngineError, match="does not exist"):
        find_base_model(name, tmp_path)


def test_a_folder_without_a_configuration_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(EngineError, match=r"no config.json"):
        find_base_model("empty", tmp_path)


def test_a_relative_folder_counts_from_the_settings_and_a_hub_name_stays(tmp_path: Path, make_base: MakeBase) -> None:
    base = make_base()
    assert find_base_model("base", tmp_path) == (str(base), True)
    assert find_base_model("Qwen/Qwen3-0.6B", tmp_path) == ("Qwen/Qwen3-0.6B", False)


def test_a_command_that_is_no_program_is_named() -> None:
    with pytest.raises(EngineError, match=r"no-such-program.*not a program"):
        find_program("no-such-program --flag")
    assert find_program(f"{sys.executable} -u") == (sys.executable, "-u", "serve")


def test_a_taken_port_is_found_before_anything_starts(tmp_path: Path, make_base: MakeBase) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        settings = EngineSettings(port=port, base_model=str(make_base()), command=sys.executable)
        with pytest.raises(PortTakenError, match=f"Port {port} on 127.0.0.1 is taken"):
            plan_start(settings, tmp_path, {})
    refuse_taken_port("127.0.0.1", port)


def test_an_address_of_another_machine_cannot_be_bound() -> None:
    with pytest.raises(EngineError, match="cannot bind"):
        refuse_taken_port("192.0.2.77", 9)


def test_somebody_elses_engine_is_not_started(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="run by somebody else"):
        plan_start(EngineSettings(url="http://gpu:8000"), tmp_path, {})


def test_the_program_gets_loopback_lora_and_a_length_that_the_model_knows(tmp_path: Path, make_base: MakeBase) -> None:
    base = make_base(max_position_embeddings=512)
    settings = EngineSettings(
        port=1, base_model=str(base), command=sys.executable, device="cpu", max_lora_rank=20, extra_args=("--seed", "1")
    )
    command = plan_start(settings, tmp_path, {"PATH": "/bin"}).command
    line = " ".join(command)
    assert command[:3] == (sys.executable, "serve", str(base))
    for part in (
        "--host 127.0.0.1 --port 1 --served-model-name base", "--max-model-len 512", "--enable-lora --max-lora-rank 32",
        "--dtype float32", "--generation-config vllm", "--seed 1",
    ):  # fmt: skip
        assert part in line
    assert "trust-remote-code" not in line


def test_on_a_gpu_the_dtype_is_left_to_vllm() -> None:
    arguments = serve_arguments(EngineSettings(device="gpu"), "base", False, None)
    assert arguments[arguments.index("--dtype") + 1] == "auto"


def test_the_environment_reports_to_nobody_and_keeps_provider_keys_away() -> None:
    given = {"OPENAI_API_KEY": "sk-x", "PATH": "/bin", "OMP_NUM_THREADS": "64"}
    local = engine_environment(EngineSettings(threads=2, kv_cache_gib=3), given, True, True)
    assert "OPENAI_API_KEY" not in local
    assert local["PATH"] == "/bin"
    expected = {
        "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True", "VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1",
        "TORCH_COMPILE_DISABLE": "1", "VLLM_CPU_KVCACHE_SPACE": "3", "OMP_NUM_THREADS": "2",
    }  # fmt: skip
    assert expected.items() <= local.items()
    remote = engine_environment(EngineSettings(), given, False, False)
    assert not {"HF_HUB_OFFLINE", "TORCH_COMPILE_DISABLE"} & set(remote)


@pytest.mark.parametrize(
    ("line", "message"), [("device = 'tpu'", "tpu"), ("threads = 0", "threads"), ("prot = 1", "Did you mean port")]
)
def test_impossible_settings_are_refused(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "potstill.toml"
    path.write_text(f"[engine]\n{line}\n", "utf-8")
    with pytest.raises(SettingsError, match=message):
        load_settings(path, environ={}).section("engine", EngineSettings)
