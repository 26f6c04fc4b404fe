"""The whole loop once around, on real parts, without a key or a GPU: the same commands that a person would type.

Everything happens in a folder of its own. The teacher is the scripted provider unless a real one is named; the base model is
a toy made on the spot unless a real one is named.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from capture import feed
from capture.database import Database, open_database
from capture.errors import PotstillError, SettingsError
from capture.exchange import Exchange
from capture.filters import parse_filter
from capture.settings import load_settings
from potstill.demo_figures import Figures, check_ledger, shortfalls, student_after
from potstill.demo_traffic import CLOSED_TASK, Apps, Ledger, PlannedRequest, ids_of, plan_experiment, plan_mixed, send_all
from potstill.output import ExitCode, Output
from potstill.processes import Child, answers, free_ports

_MARKER = "made-by-potstill-demo"
_SHARE_BP = 3_000
_SCRIPTED_MODEL = "gpt-4.1-mini"


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """What the command line chose. Empty `base_model`: the toy. Empty `teacher_model`: the scripted provider."""

    folder: Path
    requests: int
    base_model: str
    teacher_model: str
    teacher_url: str
    api_key: str

    @property
    def is_real_teacher(self) -> bool:
        """True when a named model answers, and not the script."""
        return bool(self.teacher_model)


@dataclass(frozen=True, slots=True)
class Stage:
    """Where the demo's processes are: made once, read by every step."""

    folder: Path
    config: Path
    relay_url: str
    admin_url: str
    provider_url: str
    provider_port: int
    base_model: str
    recipe: str


def run_demo(options: DemoOptions, output: Output) -> int:
    """Runs the loop and prints the figures; FALLS_SHORT when one misses its bound."""
    began = time.monotonic()
    stage = _prepare(options)
    output.heading("Potstill demo: relay -> capture -> curate -> train -> release -> roll out -> roll back")
    _say_what_is_real(options, output)
    with ExitStack() as children:
        provider = _start(children, stage, "provider", ["provider", "--port", str(stage.provider_port), "--latency-ms", "20"])
        provider.wait_until(lambda: answers(f"{stage.provider_url}/v1/models"), within_s=60)
        up = _start(children, stage, "up", ["up"])
        up.wait_until(lambda: answers(f"{stage.admin_url}/health/ready"), within_s=60)
        output.say(f"relay {stage.relay_url}   store and everything else {stage.folder}")
        base = None if options.base_model else _start(children, stage, "toy-base", ["toy-base", stage.base_model])

        output.heading(f"1  {options.requests} requests through the relay, with the official OpenAI and Anthropic SDKs")
        first = _send(stage, options, plan_mixed(7, options.requests, names_labels=options.is_real_teacher), output)
        _command(stage, output, "tasks")
        _command(stage, output, "exchanges", "list", f"task:{CLOSED_TASK}", "--limit", "6")

        output.heading("2  Curate: select, clean, deduplicate, split, freeze")
        _command(stage, output, "dataset", "build", CLOSED_TASK)

        output.heading("3  Train a LoRA adapter; the engine starts meanwhile")
        if base is not None:
            _wait_for_base(base, output)
        engine = _start(children, stage, "engine", ["engine", "--base-model", stage.base_model])
        _command(stage, output, "train", CLOSED_TASK, "--recipe", stage.recipe, "--base-model", stage.base_model)

        output.heading("4  Release: gate, load into vLLM, parity check")
        _wait_for_engine(engine, stage, output)
        _command(stage, output, "release", CLOSED_TASK)

        output.heading("5  Roll out to 30 % of the users")
        _command(stage, output, "flag", "set", CLOSED_TASK, "--share", "30%", "--unit", "user", "--why", "demo")
        time.sleep(0.5)  # A flag is promised to be in force on every relay within 500 ms.
        count = max(options.requests * 3 // 10, 60)
        second = _send(
            stage,
            options,
            plan_experiment(11, count, first.sent, max(count * 2 // 3, 40), names_labels=options.is_real_teacher),
            output,
        )
        with _store(stage) as database:
            _wait_until_stored(database, first.sent + second.sent)
        _command(stage, output, "ab", CLOSED_TASK)

        output.heading("6  Roll back while traffic goes on")
        third, rollback_us = _roll_back_under_traffic(stage, options, first.sent + second.sent, output)
    output.say("everything is stopped; the relay drained and the store writer emptied the spool")
    with _store(stage) as database:
        figures = _measure(
            database, [first, second, third], rollback_us, is_toy=not options.base_model, seconds=time.monotonic() - began
        )
    return _finish(stage, figures, output)


def _prepare(options: DemoOptions) -> Stage:
    folder = options.folder.resolve()
    marker = folder / _MARKER
    if folder.exists() and any(folder.iterdir()) and not marker.exists():
        raise SettingsError(f"{folder} holds something that is not a demo of ours.", "Name another folder with --folder.")
    folder.mkdir(parents=True, exist_ok=True)
    marker.touch()
    for name in ("data", "output"):
        shutil.rmtree(folder / name, ignore_errors=True)
    provider_port, relay_port, admin_port, engine_port = free_ports(4)
    provider_url = f"http://127.0.0.1:{provider_port}"
    base_model = options.base_model or str(folder / "bases" / "toy")
    if options.base_model and Path(options.base_model).exists():
        base_model = str(Path(options.base_model).resolve())
    config = folder / "potstill.toml"
    config.write_text(
        f"""# Written by `potstill demo`.
[store]
data_folder = "data"

[relay]
port = {relay_port}
admin_port = {admin_port}

[upstreams.openai]
url = "{options.teacher_url if options.teacher_model else provider_url}"
protocol = "openai"

[upstreams.anthropic]
url = "{provider_url}"
protocol = "anthropic"

[engine]
port = {engine_port}
base_model = "{base_model}"
{"" if options.base_model else 'dtype = "float32"'}

[prices]
student_usd_per_hour = 0.10
""",
        "utf-8",
    )
    return Stage(
        folder,
        config,
        f"http://127.0.0.1:{relay_port}",
        f"http://127.0.0.1:{admin_port}",
        provider_url,
        provider_port,
        base_model,
        "sft-lora" if options.base_model else "sft-lora-toy",
    )


def _say_what_is_real(options: DemoOptions, output: Output) -> None:
    if options.teacher_model:
        output.say(f"teacher: {options.teacher_model} at {options.teacher_url}, paid with your key")
    else:
        output.say(
            "teacher: the scripted provider, which answers support tickets; no key is needed and nothing leaves this machine"
        )
    if options.base_model:
        output.say(f"base model: {options.base_model}")
    else:
        output.say(
            "base model: a TOY of 1.1 million parameters, made on the spot from other tasks and from tickets without answers."
        )
        output.say(
            "It is not a pretrained LLM; the cheap baseline (TF-IDF, logistic regression) may beat it and stands in the table."
        )
        output.say("What is real is the loop: relay, store, curation, TRL and PEFT, vLLM, flag, statistics.")


def _environment(options_key: str = "") -> dict[str, str]:
    return {"OPENAI_API_KEY": options_key or "sk-demo", "ANTHROPIC_API_KEY": "sk-ant-demo", "POTSTILL_CONFIG": ""}


def _start(children: ExitStack, stage: Stage, name: str, arguments: list[str]) -> Child:
    child = Child(name, ["--config", str(stage.config), *arguments], stage.folder / "output" / f"{name}.txt", _environment())
    children.callback(child.stop)
    return child


def _command(stage: Stage, output: Output, *arguments: str) -> None:
    """Runs and shows one command of ours; PotstillError when it fails."""
    output.say(f"$ potstill {' '.join(arguments)}", style="dim")
    finished = subprocess.run(
        [sys.executable, "-m", "potstill", "--config", str(stage.config), *arguments],
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr if output.as_json else None,
        env=_command_environment(),
        check=False,
    )
    if finished.returncode != ExitCode.OK:
        raise PotstillError(
            f"`potstill {' '.join(arguments)}` ended with code {finished.returncode}.",
            f"Output of every part: {stage.folder}/output",
        )


def _command_environment() -> dict[str, str]:
    return {**os.environ, **_environment(os.environ.get("OPENAI_API_KEY", ""))}


def _send(stage: Stage, options: DemoOptions, requests: list[PlannedRequest], output: Output) -> Ledger:
    ledger = Ledger()

    async def send() -> None:
        apps = Apps(stage.relay_url, options.api_key, options.teacher_model or _SCRIPTED_MODEL)
        try:
            await send_all(apps, requests, ledger, on_sent=lambda done: progress.update(bar, completed=done))
        finally:
            await apps.close()

    with output.progress() as progress:
        bar = progress.add_task("requests", total=len(requests), note="")
        asyncio.run(send())
    streamed = sum(request.is_stream for request in requests)
    output.say(f"{ledger.sent} sent ({streamed} streamed), {len(ledger.errors)} errors seen by the apps")
    for error in ledger.errors[:3]:
        output.say(f"  {error}")
    return ledger


def _roll_back_under_traffic(stage: Stage, options: DemoOptions, first_number: int, output: Output) -> tuple[Ledger, int]:
    """Rolls back while traffic goes on, and sends more once the promise must hold; gives ledger and moment of the change."""
    ledger = Ledger()
    requests = plan_experiment(13, 180, first_number, 90, names_labels=options.is_real_teacher)
    meanwhile, afterwards = requests[:120], requests[120:]

    async def send() -> None:
        apps = Apps(stage.relay_url, options.api_key, options.teacher_model or _SCRIPTED_MODEL)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(send_all(apps, meanwhile, ledger, per_second=30, on_sent=show))
                await asyncio.sleep(1.5)
                await asyncio.to_thread(_command, stage, output, "flag", "rollback", CLOSED_TASK, "--why", "demo")
            await asyncio.sleep(max(0.0, _rolled_back_us(stage) / 1e6 + 2.1 - time.time()))
            await send_all(apps, afterwards, ledger, per_second=30, on_sent=lambda done: show(len(meanwhile) + done))
        finally:
            await apps.close()

    with output.progress() as progress:
        bar = progress.add_task("requests", total=len(requests), note="")

        def show(done: int) -> None:
            progress.update(bar, completed=done)

        asyncio.run(send())
    return ledger, _rolled_back_us(stage)


def _rolled_back_us(stage: Stage) -> int:
    from serve import flag_store

    with _store(stage) as database:
        return flag_store.history(database, CLOSED_TASK)[-1].created_us


def _wait_for_base(base: Child, output: Output) -> None:
    with output.progress() as progress:
        bar = progress.add_task("toy base model", total=None, note="training from nothing")
        base.wait_until(
            lambda: not base.is_running, within_s=900, on_wait=lambda _: progress.update(bar, note=_last_note(base.output))
        )
        base.wait()


def _last_note(path: Path) -> str:
    lines = path.read_text("utf-8", "replace").replace("\r", "\n").split("\n") if path.exists() else []
    return next((line.strip()[:60] for line in reversed(lines) if line.strip()), "")


def _wait_for_engine(engine: Child, stage: Stage, output: Output) -> None:
    from serve.engine_state import READY, read_state

    data_folder = load_settings(stage.config).data_folder

    def state() -> str:
        read = read_state(data_folder)
        return "never started" if read is None else read.state

    with output.progress() as progress:
        bar = progress.add_task("engine (vLLM)", total=None, note="starting")
        engine.wait_until(
            lambda: state() == READY,
            within_s=700,
            on_wait=lambda waited: progress.update(bar, note=f"{state()} {waited:.0f} s"),
        )


@contextmanager
def _store(stage: Stage) -> Iterator[Database]:
    database = open_database(load_settings(stage.config).database_url)
    try:
        yield database
    finally:
        database.close()


def _all_exchanges(database: Database) -> Iterator[Exchange]:
    everything, last = parse_filter("purpose:app"), 0
    while found := feed.after(database, everything, after=last, limit=500):
        yield from found
        last = found[-1].number


def _wait_until_stored(database: Database, count: int) -> None:
    deadline = time.monotonic() + 30
    while feed.count(database, parse_filter("purpose:app"), cap=count + 1) < count and time.monotonic() < deadline:
        time.sleep(0.1)


def _measure(database: Database, ledgers: list[Ledger], rollback_us: int, *, is_toy: bool, seconds: float) -> Figures:
    from curate import datasets
    from serve import experiments, releases
    from train import runs

    stored = list(_all_exchanges(database))
    sent = sum(ledger.sent for ledger in ledgers)
    ledger_check = check_ledger(range(sent), ids_of(ledgers), stored)
    version = datasets.get_version(database, CLOSED_TASK)
    bill: Any = version.manifest["bill"]
    run = runs.list_runs(database, CLOSED_TASK)[0]
    scores = {e.variant: e for e in runs.evaluations(database, run.id) if e.split == "test"}
    release = releases.get_release(database, CLOSED_TASK, None)
    comparison = experiments.compare(database, CLOSED_TASK)
    late, after, last_ms = student_after((e for e in stored if e.task == CLOSED_TASK), rollback_us)

    def value(variant: str) -> float | None:
        return scores[variant].value if variant in scores else None

    return Figures(
        sent=sent,
        captured=ledger_check.captured,
        lost=ledger_check.lost,
        duplicate=ledger_check.duplicate,
        bill_balanced=bill["selected"] == bill["kept"] + sum(bill["dropped"].values())
        and bill["kept"] == version.train + version.val + version.test,
        overlap=sum(count for count in version.manifest["certificate"].values() if isinstance(count, int)),
        em_student=value("student"),
        em_base=value("base"),
        em_cheap_baseline=value("cheap_baseline"),
        em_teacher=value("teacher"),
        test_examples=version.test,
        parity=release.parity_same / release.parity_n if release.parity_n else None,
        share_set_bp=_SHARE_BP,
        share_seen_bp=comparison.share_seen_bp,
        share_units=comparison.units,
        sticky_violations=comparison.sticky_violations,
        fallbacks=sum(1 for e in stored if e.fallback_reason),
        requests_after_rollback=late,
        student_after_rollback=after,
        last_student_ms_after_rollback=last_ms,
        client_errors=sum(len(ledger.errors) for ledger in ledgers),
        seconds=round(seconds, 1),
        is_toy_base=is_toy,
    )


def _program() -> str:
    """How this shell would call potstill: by name when PATH leads to this environment's, else by path."""
    own = Path(sys.executable).parent / "potstill"
    found = shutil.which("potstill")
    if found is not None and Path(found).resolve() == own.resolve():
        return "potstill"
    return os.path.relpath(own) if own.is_relative_to(Path.cwd()) else str(own)


def _number(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.3f}"


def _finish(stage: Stage, figures: Figures, output: Output) -> int:
    missed = shortfalls(figures)
    output.heading("Figures")
    rows = [
        (
            "requests sent / captured / lost / duplicate",
            f"{figures.sent} / {figures.captured} / {figures.lost} / {figures.duplicate}",
        ),
        ("bill adds up; train-eval overlap", f"{'yes' if figures.bill_balanced else 'NO'}; {figures.overlap}"),
        (f"exact match on {figures.test_examples} held-out examples: student", _number(figures.em_student)),
        (
            "  base model / cheap baseline / teacher asked again",
            " / ".join(map(_number, (figures.em_base, figures.em_cheap_baseline, figures.em_teacher))),
        ),
        ("engine and trainer give the same answer", _number(figures.parity)),
        (
            f"share set / seen, by {figures.share_units} users",
            f"{figures.share_set_bp / 100:.1f} % / {figures.share_seen_bp / 100:.1f} %",
        ),
        ("users that saw both variants", figures.sticky_violations),
        (
            "requests later than 2 s after the rollback / of them on the student",
            f"{figures.requests_after_rollback} / {figures.student_after_rollback}",
        ),
        ("errors that an app saw", figures.client_errors),
        ("seconds", figures.seconds),
    ]
    output.table(("FIGURE", "VALUE"), rows, right=("VALUE",))
    for sentence in missed:
        output.say(f"falls short: {sentence}", style="bold red")
    output.heading("Next")
    program = _program()
    output.say(f"look around      {program} --config {stage.config} tui")
    output.say(f"your own apps    {program} up, then OPENAI_BASE_URL=http://127.0.0.1:8484/v1 (Anthropic: http://127.0.0.1:8484)")
    output.say(f"a real base      {program} demo --base-model Qwen/Qwen3-0.6B            (downloads it; slow without a GPU)")
    output.say(
        f"a real teacher   OPENAI_API_KEY=sk-... {program} demo --teacher-model gpt-4.1-mini --requests 400   (costs money)"
    )
    if output.as_json:
        from potstill.output import plain

        output.json({**plain(figures), "falls_short": missed})
    return ExitCode.FALLS_SHORT if missed else ExitCode.OK
