"""What the engine can load, told from an adapter's own configuration before the engine is asked."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from capture.errors import GateError

_INITS = (True, False, "gaussian", None)
"""Ways to initialise whose result is a plain difference to the base model; PiSSA, OLoRA and the like change the base."""


def refuse_unloadable(folder: Path, max_rank: int) -> None:
    """GateError when the engine could not serve the adapter in `folder` with LoRA ranks up to `max_rank`."""
    path = folder / "adapter_config.json"
    weights = folder / "adapter_model.safetensors"
    for needed in (path, weights):
        if not needed.is_file():
            raise GateError(f"{needed} does not exist.", "Give the folder of an adapter that Potstill trained.")
    try:
        config = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise GateError(f"{path} is not valid JSON: {error}.", "Train the adapter again.") from error
    reasons = reasons_against(config, max_rank) if isinstance(config, dict) else ["it is not a table of settings"]
    if reasons:
        raise GateError(
            f"The engine cannot serve the adapter in {folder}: {'; '.join(reasons)}.",
            "Train it with a plain LoRA recipe, or raise [engine] max_lora_rank.",
        )


def reasons_against(config: Mapping[str, Any], max_rank: int) -> list[str]:
    """Why an adapter with this `adapter_config.json` cannot be served; empty when it can."""
    reasons = []
    if config.get("peft_type") != "LORA":
        reasons.append(f"its method is {config.get('peft_type')!r}, not LORA")
    if config.get("use_dora"):
        reasons.append("it uses DoRA")
    if config.get("init_lora_weights") not in _INITS:
        reasons.append(f"it was initialised with {config['init_lora_weights']!r}, which changes the base model")
    if config.get("modules_to_save"):
        reasons.append(f"it replaces whole modules ({', '.join(config['modules_to_save'])})")
    if config.get("bias", "none") != "none":
        reasons.append(f"it trains biases ({config['bias']!r})")
    ranks = [config.get("r"), *(config.get("rank_pattern") or {}).values()]
    if not all(isinstance(rank, int) and 1 <= rank <= max_rank for rank in ranks):
        reasons.append(f"its rank {', '.join(map(str, ranks))} is not between 1 and {max_rank}")
    return reasons
