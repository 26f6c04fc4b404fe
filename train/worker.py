"""The process of one run: claims it, loads, trains, evaluates, saves the adapter, and records how it ended.

    python -m train.worker RUN_ID [--config potstill.toml]

SIGTERM cancels. Whatever it prints goes to output.txt of the run's folder, where `train.launch` sends it.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import shutil
import signal
import sys
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from capture import clock
from capture.database import Database, open_database
from capture.errors import NotFoundError, PotstillError, TrainingError
from capture.settings import Settings, load_settings
from curate import datasets
from train import adapters, evaluate, hardware, runs
from train.formatting import FormattedSplit, format_split
from train.progress import Heartbeat
from train.readiness import check_ready, learnable
from train.recipe import settings_of
from train.runs import Run
from train.settings import TrainSettings

if TYPE_CHECKING:
    from curate.datasets import DatasetVersion


class Cancelled(BaseException):
    """Somebody wants this run to end; no `except Exception` of a library may hold it up."""


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code: 0 done, 1 failed, 2 cancelled."""
    parser = argparse.ArgumentParser(prog="python -m train.worker", description="Executes one queued run.")
    parser.add_argument("run_id")
    parser.add_argument("--config", type=Path, default=None, help="potstill.toml")
    chosen = parser.parse_args(arguments)
    settings = load_settings(chosen.config)
    database = open_database(settings.database_url)
    try:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # between claiming and being ready to end a run in order
        run = runs.claim_run(database, chosen.run_id, os.getpid())
        return _execute(database, settings, run)
    except PotstillError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    finally:
        database.close()


def _cancel(_number: int, _frame: object) -> None:
    raise Cancelled


def _execute(database: Database, settings: Settings, run: Run) -> int:
    try:
        signal.signal(signal.SIGTERM, _cancel)
        section = settings.section("train", TrainSettings)
        with Heartbeat(database, run.id, section.heartbeat_s, lambda: os.kill(os.getpid(), signal.SIGTERM)):
            _work(database, settings, section, run)
        return 0
    except Cancelled:
        return _end(database, run, runs.CANCELLED, "Cancelled.", 2)
    except PotstillError as error:
        sys.stderr.write(f"{error}\n")
        return _end(database, run, runs.FAILED, str(error), 1)
    except Exception as error:
        traceback.print_exc()
        reason = f"{type(error).__name__}: {error} See {run.folder / 'output.txt'}."
        return _end(database, run, runs.FAILED, reason, 1)


def _end(database: Database, run: Run, state: str, message: str, code: int) -> int:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with database.write() as connection:
        runs.end_run(connection, run.id, state, message)
    return code


def _work(database: Database, settings: Settings, section: TrainSettings, run: Run) -> None:
    version = _version(database, run)
    check_ready(version, run.recipe)
    recipe_lines = [f"{item.name} = {item.value} ({item.source})" for item in settings_of(run.recipe)]
    sys.stdout.write("\n".join((f"recipe {run.recipe_hash}, base model {run.base_model}", *recipe_lines)) + "\n")
    sys.stdout.flush()
    frozen = [datasets.load_split(version, split) for split in ("train", "val", "test")]
    train, val, test = map(learnable, frozen)
    with_tools = sum(map(len, frozen)) - len(train) - len(val) - len(test)
    device = hardware.choose_device(section.device)
    if section.threads:
        import torch

        torch.set_num_threads(section.threads)
    tokenizer, model = load_base(run.base_model, device, run.recipe.precision)
    formatted = format_split(tokenizer, train, max_length=run.recipe.max_length, too_long_share=run.recipe.too_long_share)

    runs.set_stage(database, run.id, runs.TRAINING)

    def report(step: int, total_steps: int, points: Mapping[str, float]) -> None:
        runs.record_progress(database, run.id, step, total_steps, points)

    from train.methods.sft import train_sft

    trained = train_sft(run.recipe, model, tokenizer, formatted, val, run.folder, device=device, report=report)
    del model
    gc.collect()

    runs.set_stage(database, run.id, runs.EVALUATING)
    _, fresh = load_base(run.base_model, device, run.recipe.precision)
    answers = evaluate.generate_both(fresh, trained.adapter_folder, tokenizer, test, run)
    evaluate.write_predictions(run.folder, test, answers)
    found = evaluate.evaluate_all(database, section, run, train, test, answers)

    runs.set_stage(database, run.id, runs.SAVING)
    _save(database, settings, run, version, trained.adapter_folder, found, [*recipe_lines, *_left_out(formatted, with_tools)])


def _version(database: Database, run: Run) -> DatasetVersion:
    found = [version for version in datasets.versions(database, run.task) if version.id == run.dataset_version_id]
    if not found:
        raise NotFoundError(f"Dataset version {run.dataset_version_id} of run {run.number} is gone.", "Build the dataset again.")
    return found[0]


def load_base(base_model: str, device: str, precision: str = "auto") -> tuple[Any, Any]:
    """Tokenizer and base model: safetensors only, no code of others; fp32 on a CPU, on a GPU as the recipe's `precision` says.

    TrainingError when it cannot be loaded.
    """
    if Path(base_model).is_dir():
        os.environ["HF_HUB_OFFLINE"] = "1"
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    is_half = device.startswith("cuda") and hardware.is_bf16(precision, device)
    try:
        tokenizer = AutoTokenizer.from_pretrained(base_model, trust_remote_code=False)
        model = AutoModelForCausalLM.from_pretrained(
            base_model, dtype=torch.bfloat16 if is_half else torch.float32, use_safetensors=True, trust_remote_code=False
        ).to(device)
    except (OSError, ValueError, KeyError) as error:
        raise TrainingError(
            f"Base model {base_model!r} cannot be loaded: {error}",
            "Give a folder, or a name on the Hugging Face Hub, with --base-model.",
        ) from error
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer, model


def _save(
    database: Database,
    settings: Settings,
    run: Run,
    version: DatasetVersion,
    trained: Path,
    found: Sequence[runs.Evaluation],
    recipe_lines: Sequence[str],
) -> None:
    adapter_id = adapters.new_adapter_id()
    card = adapters.write_card(
        task=run.task,
        adapter_id=adapter_id,
        base_model=run.base_model,
        is_toy=_is_toy(run.base_model),
        version=version,
        recipe_lines=recipe_lines,
        results=[_result(evaluation) for evaluation in found],
    )
    facts = {
        "task": run.task,
        "run_id": run.id,
        "dataset_version": version.id,
        "dataset_hash": version.hash,
        "recipe_hash": run.recipe_hash,
        "base_model": run.base_model,
    }
    folder, whole = adapters.write_adapter_folder(settings.data_folder, run.task, adapter_id, trained, card, facts)
    adapter = adapters.Adapter(
        adapter_id, run.id, run.task, version.id, run.recipe_hash, run.base_model, folder, whole, card, clock.now_us()
    )
    try:
        with database.write() as connection:
            runs.record_evaluations(connection, found)
            adapters.add_adapter(connection, adapter)
            if not runs.end_run(connection, run.id, runs.DONE):
                raise Cancelled  # the run was ended by others meanwhile: nothing of this is kept
    except BaseException:
        shutil.rmtree(folder)
        raise


def _left_out(formatted: FormattedSplit, with_tools: int) -> list[str]:
    told = [f"{formatted.too_long} training examples were left out for their length"] if formatted.too_long else []
    return [*told, *([f"{with_tools} examples with tools were left out of all splits"] if with_tools else [])]


def _is_toy(base_model: str) -> bool:
    manifest = Path(base_model) / "manifest.json"
    return manifest.is_file() and "conversations" in json.loads(manifest.read_text("utf-8"))


def _result(evaluation: runs.Evaluation) -> tuple[str, ...]:
    value = "unknown" if evaluation.value is None else f"{evaluation.value:.3f}"
    interval = "" if evaluation.low is None or evaluation.high is None else f"{evaluation.low:.3f} to {evaluation.high:.3f}"
    return (
        evaluation.variant.replace("_", " "),
        evaluation.metric.replace("_", " "),
        str(evaluation.n),
        value,
        interval,
        evaluation.note,
    )


if __name__ == "__main__":
    sys.exit(main())
