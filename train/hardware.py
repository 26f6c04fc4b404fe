"""What this machine can do for training: device and precision."""

from __future__ import annotations

from pathlib import Path

from capture.errors import TrainingError


def choose_device(wanted: str) -> str:
    """The torch device for setting `wanted`: auto takes a GPU when there is one. TrainingError when it is not there."""
    import torch

    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(wanted)
    except RuntimeError as error:
        raise TrainingError(f"[train] device is {wanted!r}, which torch does not know.", "Use auto, cpu or cuda.") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise TrainingError(
            f"[train] device is {wanted!r}, but torch sees no GPU.", "Use cpu, or install a torch build for your GPU."
        )
    return str(device)


def is_bf16(precision: str, device: str) -> bool:
    """Whether to compute in bf16: as the recipe says, or where the device gains from it."""
    import torch

    if precision != "auto":
        return precision == "bf16"
    return torch.cuda.is_bf16_supported() if device.startswith("cuda") else autocast_gains()


def autocast_gains() -> bool:
    """True on a CPU with instructions for bf16; elsewhere it is emulated and slower than fp32."""
    flags = Path("/proc/cpuinfo")
    if not flags.is_file():
        return False
    words = flags.read_text("ascii", errors="replace").split()
    return "avx512_bf16" in words or "amx_bf16" in words
