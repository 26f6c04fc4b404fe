"""Supervised fine-tuning of a LoRA adapter with TRL and PEFT, from top to bottom."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from capture.errors import TrainingError
from train import hardware
from train.formatting import FormattedSplit
from train.generate import generate
from train.progress import Report, make_callback, read_rule
from train.recipe import Recipe, eval_every
from train.scores import exact_match

if TYPE_CHECKING:
    from curate.datasets import Example


@dataclass(frozen=True, slots=True)
class Trained:
    """What training left behind: `adapter_folder` holds the best adapter in the form that PEFT and the engine read."""

    adapter_folder: Path
    best_step: int
    best_value: float
    steps: int
    is_stopped_early: bool


def train_sft(
    recipe: Recipe,
    model: Any,
    tokenizer: Any,
    train: FormattedSplit,
    val: Sequence[Example],
    folder: Path,
    *,
    device: str,
    report: Report,
) -> Trained:
    """Trains `model` (the base model) and writes the best adapter to `folder`/adapter.

    Every evaluation leaves a checkpoint in `folder`/checkpoints; when one is there already, training goes on from it.
    """
    import torch
    from datasets import Dataset
    from peft import LoraConfig, get_peft_model_state_dict, set_peft_model_state_dict
    from safetensors.torch import load_file, save_file
    from trl import SFTConfig, SFTTrainer

    total = total_steps(recipe, len(train.rows))
    every = min(eval_every(recipe, total), total)
    checkpoints, best_path, rule_path = folder / "checkpoints", folder / "best.safetensors", folder / "stop_rule.json"
    is_cpu = device == "cpu"

    arguments = SFTConfig(
        output_dir=str(checkpoints),
        max_steps=total,
        per_device_train_batch_size=recipe.batch_size,
        gradient_accumulation_steps=recipe.gradient_accumulation,
        learning_rate=recipe.learning_rate,
        lr_scheduler_type=recipe.schedule,
        warmup_steps=recipe.warmup_share,  # a number below 1 is a share
        weight_decay=recipe.weight_decay,
        max_grad_norm=recipe.max_grad_norm,
        seed=recipe.seed,
        bf16=hardware.is_bf16(recipe.precision, device),
        use_cpu=is_cpu,
        gradient_checkpointing=recipe.gradient_checkpointing,
        max_length=None,  # examples that are too long were left out: nothing is ever cut
        packing=False,
        dataset_kwargs={"skip_prepare_dataset": True},  # rows come with their labels, see train.formatting
        dataloader_pin_memory=not is_cpu,
        logging_steps=max(1, min(10, total // 20)),
        save_strategy="steps",
        save_steps=every,
        save_total_limit=1,
        report_to="none",
        disable_tqdm=True,
    )
    lora = LoraConfig(
        r=recipe.lora_r,
        lora_alpha=recipe.lora_alpha,
        lora_dropout=recipe.lora_dropout,
        target_modules="all-linear" if recipe.target_modules == ("all-linear",) else list(recipe.target_modules),
        bias="none",
        task_type="CAUSAL_LM",
    )
    questions = [example.messages for example in val[: recipe.eval_examples]]
    targets = [example.target for example in val[: recipe.eval_examples]]
    best: dict[str, Any] = load_file(best_path) if best_path.is_file() else {}

    def evaluate(current: Any) -> float:
        answers = generate(current, tokenizer, questions, max_new_tokens=recipe.max_new_tokens, batch_size=recipe.eval_batch_size)
        return sum(map(exact_match, answers, targets)) / len(targets)

    def snapshot(current: Any, step: int, value: float) -> None:
        state = get_peft_model_state_dict(current, save_embedding_layers=False)
        best.update({name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in state.items()})
        part = best_path.with_suffix(".part")
        save_file(best, part, metadata={"format": "pt", "step": str(step), "exact_match": str(value)})
        part.replace(best_path)

    callback = make_callback(
        report, evaluate=evaluate, snapshot=snapshot, every=every, rule=read_rule(rule_path, recipe.patience), rule_path=rule_path
    )
    torch.manual_seed(recipe.seed)
    rows = [{"input_ids": list(row.input_ids), "labels": list(row.labels)} for row in train.rows]
    trainer = SFTTrainer(
        model=model,
        args=arguments,
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
        peft_config=lora,
        callbacks=[callback],
    )
    resumed = last_checkpoint(checkpoints)
    outcome = trainer.train(resume_from_checkpoint=str(resumed) if resumed else None)
    if not best:
        raise TrainingError("No evaluation took place, so there is no best adapter.", "Lower eval_every in the recipe.")
    set_peft_model_state_dict(trainer.model, best)
    adapter_folder = write_adapter(trainer.model, folder / "adapter")
    return Trained(
        adapter_folder, callback.rule.best_step, callback.rule.best_value, outcome.global_step, outcome.global_step < total
    )


def total_steps(recipe: Recipe, rows: int) -> int:
    """Optimiser steps of a whole run over `rows` training rows."""
    if recipe.max_steps:
        return recipe.max_steps
    per_step = recipe.batch_size * recipe.gradient_accumulation
    return max(1, round(recipe.epochs * -(-rows // per_step)))


def last_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint that was written whole; the trainer writes trainer_state.json last but one."""
    found = [path for path in folder.glob("checkpoint-*") if (path / "trainer_state.json").is_file()]
    return max(found, key=lambda path: int(path.name.rpartition("-")[2]), default=None)


def write_adapter(model: Any, folder: Path) -> Path:
    """The adapter of a PEFT model as adapter_config.json and adapter_model.safetensors, readable by others, and nothing else."""
    from peft import get_peft_model_state_dict
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    state = get_peft_model_state_dict(model, save_embedding_layers=False)
    save_file(
        {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()},
        folder / "adapter_model.safetensors",
        metadata={"format": "pt"},
    )
    settings = model.peft_config["default"]
    was_inference = settings.inference_mode
    settings.inference_mode = True
    settings.save_pretrained(folder)
    settings.inference_mode = was_inference
    for file in folder.iterdir():
        file.chmod(0o644)  # safetensors writes 0600, and the engine may run as another user
    return folder
