"""`potstill train`, `potstill runs` and `potstill toy-base`: from a dataset version to an adapter."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from capture import clock
from capture.database import Database, open_database
from capture.errors import SettingsError, TrainingError
from capture.settings import Settings
from potstill.commands import add_command, add_noun, whole_number
from potstill.output import ExitCode, Output

if TYPE_CHECKING:
    from train.runs import RunOptions
    from train.toy_training import ToyProgress


def add_commands(commands: Any) -> None:
    """Adds `train`, `runs` and `toy-base`."""
    train = add_command(
        commands,
        "train",
        _train,
        help="train a LoRA adapter on a dataset version, evaluating on the way and at the end",
        examples=(
            "  potstill train triage --base-model Qwen/Qwen3-0.6B\n"
            "  potstill train triage --recipe my-recipe.toml --set learning_rate=1e-4\n"
            "  potstill train triage --resume 12"
        ),
    )
    train.add_argument("task", help="task whose dataset version to train on")
    train.add_argument("--version", type=int, help="number of the dataset version (default: the newest)")
    train.add_argument(
        "--recipe", default="sft-lora", help="name of a shipped recipe or a path to a TOML file (default: sft-lora)"
    )
    train.add_argument("--base-model", help="model name or folder (default: the recipe's)")
    train.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="override one setting of the recipe (repeatable)"
    )
    train.add_argument("--resume", metavar="RUN", help="go on with a run that ended early, by number or id")
    train.add_argument("--detach", action="store_true", help="start the run and return at once")
    verbs = add_noun(commands, "runs", help="training runs: list, show, cancel")
    listing = add_command(verbs, "list", _list, help="runs, newest first", examples="  potstill runs list triage")
    listing.add_argument("task", nargs="?", default="", help="only this task")
    for name, run, help in (
        ("show", _show, "one run: settings, metrics, evaluations"),
        ("cancel", _cancel, "end a run that is going"),
    ):
        add_command(verbs, name, run, help=help, examples=f"  potstill runs {name} 3").add_argument(
            "run_id", metavar="RUN", help="number or id"
        )
    toy = add_command(
        commands,
        "toy-base",
        _toy_base,
        help="make a toy base model of 1.1 million parameters on the spot: for trying the loop without a GPU or a download",
        examples="  potstill toy-base .potstill/bases/toy",
    )
    toy.add_argument("folder", type=Path, help="folder to write the model to")
    toy.add_argument(
        "--steps", type=whole_number, default=0, help="steps of its training (default: 800); with fewer it knows less"
    )


def _train(arguments: argparse.Namespace, settings: Settings, output: Output) -> int:
    from curate import datasets
    from train import launch, runs
    from train.recipe import load_recipe, settings_of

    database = open_database(settings.database_url)
    try:
        if arguments.resume:
            run = runs.get_run(database, arguments.resume)
            process = launch.resume(settings, database, run)
        else:
            recipe = load_recipe(arguments.recipe, _overrides(arguments))
            version = datasets.get_version(database, arguments.task, arguments.version)
            run = runs.create_run(database, version, recipe, arguments.base_model or "", settings.data_folder, _options(settings))
            output.say(f"run {run.number}   {version.task}/v{version.number}, {version.train} examples   base {run.base_model}")
            for setting in settings_of(recipe):
                output.say(f"  {setting.name} = {setting.value}   ({setting.source})")
            process = launch.launch(settings, run)
        if arguments.detach:
            output.say(f"run {run.number} is on its way. See: potstill runs show {run.number}")
            if output.as_json:
                output.json(run)
            return ExitCode.OK
        run = watch_run(database, run.id, process, output)
        return print_run(database, run, output)
    finally:
        database.close()


def _options(settings: Settings) -> RunOptions:
    """The teacher is asked through the relay of these settings, unless [train] names another."""
    from proxy.settings import RelaySettings
    from train.runs import RunOptions

    if "relay_url" in settings.sections.get("train", {}):
        return RunOptions()
    relay = settings.section("relay", RelaySettings)
    return RunOptions(relay_url=f"http://{relay.host}:{relay.port}")


def _overrides(arguments: argparse.Namespace) -> dict[str, str]:
    overrides = {}
    for pair in arguments.set:
        key, equals, value = pair.partition("=")
        if not equals:
            raise SettingsError(f"--set {pair!r} has no '='.", "Write --set KEY=VALUE.")
        overrides[key] = value
    return overrides


def watch_run(database: Database, run_id: str, process: Any, output: Output) -> Any:
    """Follows a run with a progress bar until it ends; TrainingError with the worker's reason when it fails.

    Ctrl-C cancels the run and waits for its worker to end; a second one does not wait.
    """
    try:
        return _follow(database, run_id, process, output)
    except KeyboardInterrupt:
        return _interrupt(database, run_id, process, output)


def _interrupt(database: Database, run_id: str, process: Any, output: Output) -> Any:
    from train import launch, runs

    run = launch.cancel(database, runs.get_run(database, run_id))
    output.say(f"Cancelling run {run.number}; Ctrl-C again leaves it to itself.")
    try:
        for ending in launch.watch(database, run_id, process):
            run = ending
    except TrainingError:
        run = runs.get_run(database, run_id)
        output.say(f"Run {run.number} is {run.state}. Go on with it: potstill train {run.task} --resume {run.number}")
        raise KeyboardInterrupt from None
    return run  # it was done before it heard of the wish


def _follow(database: Database, run_id: str, process: Any, output: Output) -> Any:
    from train import launch, runs

    run = runs.get_run(database, run_id)
    with output.progress() as progress:
        bar = progress.add_task(f"run {run.number}", total=None, note="")
        for current in launch.watch(database, run_id, process):
            run = current
            scores = [metric for metric in runs.metrics(database, run_id) if metric.metric == "exact_match"]
            note = f"{current.stage}" + (f"   exact match on val {scores[-1].value:.3f}" if scores else "")
            progress.update(bar, completed=current.step, total=current.total_steps or None, note=note)
    return run


def print_run(database: Database, run: Any, output: Output) -> int:
    """A run's evaluations on the test split, for people or as JSON."""
    from train import adapters, runs

    evaluations = runs.evaluations(database, run.id)
    found = [adapter for adapter in adapters.list_adapters(database, run.task) if adapter.run_id == run.id]
    if output.as_json:
        output.json({"run": run, "evaluations": evaluations, "adapter": found[0] if found else None})
        return ExitCode.OK
    print_evaluations(evaluations, output)
    if found:
        output.say(f"adapter {found[0].id}   {found[0].folder}")
        output.say(f"Next: potstill release {run.task}")
    return ExitCode.OK


def print_evaluations(evaluations: Any, output: Output) -> None:
    """Exact match on the test split, one row a variant."""
    rows = []
    for e in evaluations:
        value = "unknown" if e.value is None else f"{e.value:.3f}"
        interval = "" if e.low is None or e.high is None else f"[{e.low:.3f}, {e.high:.3f}]"
        rows.append((e.variant.replace("_", " "), e.split, e.n, value, interval, e.note))
    output.table(("WHO", "SPLIT", "N", "EXACT MATCH", "95 %", "NOTE"), rows, right=("N", "EXACT MATCH"))


def _list(arguments: argparse.Namespace, settings: Settings, output: Output) -> int:
    from train import runs

    database = open_database(settings.database_url)
    try:
        found = runs.list_runs(database, arguments.task)
    finally:
        database.close()
    if output.as_json:
        output.json(found)
    elif not found:
        output.say("No run yet. Next: potstill train TASK")
    else:
        rows = [
            (r.number, r.task, r.recipe_name, r.state, f"{r.step}/{r.total_steps}", clock.iso(r.created_us), r.error_message)
            for r in found
        ]
        output.table(("RUN", "TASK", "RECIPE", "STATE", "STEP", "BEGAN", "ERROR"), rows, right=("RUN", "STEP"))
    return ExitCode.OK


def _show(arguments: argparse.Namespace, settings: Settings, output: Output) -> int:
    from train import runs

    database = open_database(settings.database_url)
    try:
        run = runs.get_run(database, arguments.run_id)
        metrics, evaluations = runs.metrics(database, run.id), runs.evaluations(database, run.id)
    finally:
        database.close()
    if output.as_json:
        output.json({"run": run, "metrics": metrics, "evaluations": evaluations})
        return ExitCode.OK
    output.heading(f"run {run.number}   {run.task}   {run.state}   step {run.step}/{run.total_steps}   {run.folder}")
    if run.error_message:
        output.say(run.error_message)
    for metric in metrics:
        if metric.metric == "exact_match":
            output.say(f"  step {metric.step:5}   exact match on val {metric.value:.3f}")
    print_evaluations(evaluations, output)
    return ExitCode.OK


def _cancel(arguments: argparse.Namespace, settings: Settings, output: Output) -> int:
    from train import launch, runs

    database = open_database(settings.database_url)
    try:
        run = runs.get_run(database, arguments.run_id)
        launch.cancel(database, run)
    finally:
        database.close()
    output.json({"run": run.number, "state": "cancelled"}) if output.as_json else output.say(f"run {run.number} is cancelled")
    return ExitCode.OK


def _toy_base(arguments: argparse.Namespace, settings: Settings, output: Output) -> int:
    from train.settings import TrainSettings

    # torch reads this when it is imported; two threads next to a busy relay are slower than one.
    os.environ.setdefault("OMP_NUM_THREADS", str(settings.section("train", TrainSettings).threads or os.cpu_count()))
    from potstill.toy import make_toy_base

    with output.progress() as progress:
        bar = progress.add_task("toy base", total=None, note="")

        def show(at: ToyProgress) -> None:
            progress.update(bar, completed=at.step, total=at.total_steps, note=f"loss {at.loss:.2f}")
            if not output.is_terminal and at.step % max(at.total_steps // 20, 1) == 0:
                output.say(f"step {at.step} of {at.total_steps}, loss {at.loss:.2f}, about {at.seconds_left:.0f} s left")

        folder = make_toy_base(arguments.folder, steps=arguments.steps, on_progress=show)
    if output.as_json:
        output.json({"folder": folder})
    else:
        output.say(f"{folder} holds a toy base model: 1.1 million parameters, made on the spot, not a pretrained LLM.")
        output.say(f"Next: potstill train TASK --recipe sft-lora-toy --base-model {folder}")
    return ExitCode.OK
