from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.train.conftest import ROOT
from train.methods.sft import last_checkpoint, total_steps
from train.recipe import load_recipe

TRAIN_BOTH_WAYS = """
import sys
from pathlib import Path
from capture.messages import Message
from curate.datasets import Example
from proxy.tickets import make_tickets
from safetensors.torch import load_file
from train.formatting import format_split
from train.methods.sft import train_sft
from train.recipe import load_recipe
from train.worker import load_base

rows = [
    Example(
        t.id, t.id, "triage", (Message("system", t.system_prompt), Message("user", t.user_prompt)), t.gold,
        "train", "", "", "openai",
    )
    for t in make_tickets(5, 24)
]
few = {"max_steps": 3, "eval_every": 3, "eval_examples": 2, "batch_size": 8, "max_new_tokens": 4, "precision": "fp32"}
for name in ("false", "true"):
    recipe = load_recipe("sft-lora-toy", {**few, "gradient_checkpointing": name})
    tokenizer, model = load_base(sys.argv[1], "cpu")
    split = format_split(tokenizer, rows, max_length=256, too_long_share=0.5)
    folder = Path(sys.argv[2]) / name
    folder.mkdir()
    trained = train_sft(recipe, model, tokenizer, split, rows[:2], folder, device="cpu", report=lambda *_: None)
    weights = load_file(trained.adapter_folder / "adapter_model.safetensors")
    moved = [float(weight.abs().max()) for name, weight in weights.items() if "lora_B" in name]
    print("MOVED", min(moved), sum(moved))
"""


def test_steps_follow_from_epochs_unless_they_are_given() -> None:
    recipe = load_recipe("sft-lora", {"batch_size": 8, "gradient_accumulation": 2, "epochs": 3})
    assert [total_steps(recipe, rows) for rows in (1, 16, 17, 160)] == [3, 3, 6, 30]
    assert total_steps(load_recipe("sft-lora", {"epochs": 0.01}), 16) == 1
    assert total_steps(load_recipe("sft-lora", {"max_steps": 7}), 10_000) == 7


def test_the_newest_whole_checkpoint_is_found_and_a_torn_one_is_not(tmp_path: Path) -> None:
    assert last_checkpoint(tmp_path / "none") is None
    for step in (40, 80, 120):
        (tmp_path / f"checkpoint-{step}").mkdir()
    assert last_checkpoint(tmp_path) is None
    for step in (40, 80):
        (tmp_path / f"checkpoint-{step}" / "trainer_state.json").write_text("{}", "utf-8")
    assert last_checkpoint(tmp_path) == tmp_path / "checkpoint-80"


def test_every_layer_learns_the_same_with_and_without_gradient_checkpointing(toy_base: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    child = subprocess.run(
        [sys.executable, "-c", TRAIN_BOTH_WAYS, str(toy_base), str(tmp_path)],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert child.returncode == 0, child.stderr
    plain, saving = [line.split()[1:] for line in child.stdout.splitlines() if line.startswith("MOVED")]
    assert float(plain[0]) > 0, "no layer is left as it was"
    assert abs(float(plain[1]) - float(saving[1])) <= 1e-3 * float(plain[1])
