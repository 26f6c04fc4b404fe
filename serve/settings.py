"""Section [engine]: which base model is served, where, and with how much memory and time."""

from __future__ import annotations

from dataclasses import dataclass

HIGHEST_PORT = 65_535
_DEVICES = ("auto", "cpu", "gpu")


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """How the engine is reached, or started and supervised when `url` is empty."""

    url: str = ""
    """Address of an engine that somebody else runs, such as http://gpu-box:8000; empty: Potstill starts `vllm serve`."""
    host: str = "127.0.0.1"
    """Address to bind; the engine loads adapters from any path it is told, so keep it on the loopback."""
    port: int = 8486
    """Port to bind."""
    base_model: str = ""
    """Folder, or name on the model hub, of the base model; relative folders count from potstill.toml."""
    command: str = ""
    """Program to start instead of the `vllm` beside this Python; split like a shell line, and given the same arguments."""
    device: str = "auto"
    """auto, cpu or gpu; auto looks for a GPU and for a CPU build of vLLM."""
    max_model_len: int = 2048
    """Longest prompt plus answer, in tokens."""
    max_lora_rank: int = 64
    """Largest rank of an adapter that can be loaded."""
    max_loras: int = 4
    """Releases that may take part in one batch."""
    max_cpu_loras: int = 16
    """Releases kept in memory; more are read again from disk when asked for."""
    dtype: str = "auto"
    """Number type of the weights, as vLLM names it; auto is float32 on a CPU and the model's own on a GPU."""
    kv_cache_gib: int = 1
    """Memory for the key-value cache on a CPU, in GiB; a GPU takes vLLM's own default."""
    threads: int = 1
    """Compute threads on a CPU."""
    startup_timeout_s: float = 600.0
    """Longest wait for the engine to serve."""
    extra_args: tuple[str, ...] = ()
    """Further arguments for `vllm serve`."""

    def __post_init__(self) -> None:
        if self.device not in _DEVICES:
            raise ValueError(f"device is {self.device!r}, not one of {', '.join(_DEVICES)}")
        if not 0 <= self.port <= HIGHEST_PORT:
            raise ValueError(f"port is {self.port}, not between 0 and {HIGHEST_PORT}")
        for name in ("max_model_len", "max_lora_rank", "max_loras", "max_cpu_loras", "kv_cache_gib", "threads"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, not at least 1")

    @property
    def address(self) -> str:
        """Where the engine answers, without a slash at the end."""
        return self.url.rstrip("/") if self.url else f"http://{self.host}:{self.port}"

    @property
    def is_external(self) -> bool:
        """True when somebody else starts and stops the engine."""
        return bool(self.url)
