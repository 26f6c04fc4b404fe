"""Whole runs: the worker as a real process on a tiny toy base, watched, killed, resumed and cancelled."""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from capture.errors import TrainingError
from capture.ids import content_hash
from curate import datasets
from tests.train.conftest import ROOT, House, open_house
from train import adapters, launch, runs
from train.methods.sft import last_checkpoint
from train.recipe import load_recipe

LITTLE = {
    "minimum_examples": 50, "max_steps": 12, "eval_every": 4, "eval_examples": 4, "batch_size": 4, "max_new_tokens": 8,
    "teacher_examples": 10, "patience": 0,
}  # fmt: skip
DEADLINE_S = 120
PEFT_ANSWERS = """
import json, sys
from peft import PeftModel
from capture.messages import Message
from train.generate import generate
from train.worker import load_base
tokenizer, base = load_base(sys.argv[1], "cpu")
model = PeftModel.from_pretrained(base, sys.argv[2])
lines = [json.loads(line) for line in open(sys.argv[3], encoding="utf-8")]
questions = [[Message(turn["role"], turn["content"]) for turn in line["prompt"]] for line in lines]
print(json.dumps(generate(model, tokenizer, questions, max_new_tokens=8)))
"""


AT_A_TERMINAL = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # a suite in the background has it ignored, and children inherit that
from potstill.__main__ import main
main()
"""


@dataclass(frozen=True)
class Done:
    """A finished run, every state of it that its watcher saw, and what the teacher was asked."""

    house: House
    run: runs.Run
    seen: list[runs.Run]
    asked: list[dict[str, Any]]


class Teacher(ThreadingHTTPServer):
    """Answers each ticket in both protocols with its target, and remembers the requests."""

    def __init__(self, targets: dict[str, str]) -> None:
        super().__init__(("127.0.0.1", 0), TeacherHandler)
        self.targets = targets
        self.asked: list[dict[str, Any]] = []


class TeacherHandler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        assert isinstance(self.server, Teacher)
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.asked.append({"path": self.path, "purpose": self.headers["x-potstill-purpose"]})
        target = self.server.targets[body["messages"][-1]["content"]]
        if self.path == "/v1/messages":
            content = [{"type": "text", "text": target}]
            answer: dict[str, Any] = {"type": "message", "role": "assistant", "content": content, "stop_reason": "end_turn"}
        else:
            answer = {"choices": [{"index": 0, "message": {"role": "assistant", "content": target}, "finish_reason": "stop"}]}
        document = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(document)))
        self.end_headers()
        self.wfile.write(document)

    def log_message(self, format: str, *arguments: object) -> None:
        pass


def queue_run(
    house: House, base: Path | str, overrides: dict[str, object] | None = None, options: runs.RunOptions | None = None
) -> runs.Run:
    recipe = load_recipe("sft-lora-toy", LITTLE | (overrides or {}))
    chosen = options or runs.RunOptions(ask_teacher=False)
    return runs.create_run(house.database, house.version, recipe, str(base), house.settings.data_folder, chosen)


def wait_until(process: subprocess.Popen[bytes], is_so: Callable[[], bool]) -> None:
    """Looks often while the worker lives; AssertionError when it ends or takes too long before `is_so`."""
    deadline, tick = time.monotonic() + DEADLINE_S, threading.Event()
    while not is_so():
        assert process.poll() is None, "the worker ended too early"
        assert time.monotonic() < deadline
        tick.wait(0.01)


def ending(house: House, run: runs.Run, process: subprocess.Popen[bytes]) -> str:
    """The reason that whoever watches a run is given when it does not get done."""
    with pytest.raises(TrainingError) as caught:
        for _ in launch.watch(house.database, run.id, process):
            pass
    process.wait(DEADLINE_S)
    return str(caught.value)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, frozen_house: Path, toy_base: Path) -> Iterator[Done]:
    """One run that got done, with the teacher asked."""
    with open_house(tmp_path_factory.mktemp("done"), frozen_house) as house:
        test = datasets.load_split(house.version, "test")
        teacher = Teacher({example.messages[-1].text: example.target for example in test})
        thread = threading.Thread(target=teacher.serve_forever)
        thread.start()
        try:
            url = f"http://127.0.0.1:{teacher.server_address[1]}"
            run = queue_run(house, toy_base, options=runs.RunOptions(relay_url=url))
            seen = list(launch.watch(house.database, run.id, launch.launch(house.settings, run)))
        finally:
            teacher.shutdown()
            teacher.server_close()
            thread.join()
        yield Done(house, runs.get_run(house.database, run.id), seen, teacher.asked)


def test_a_run_goes_from_queued_to_done_before_the_eyes_of_its_watcher(done: Done) -> None:
    assert done.seen[-1].state == runs.DONE
    assert (done.run.state, done.run.stage, done.run.step, done.run.total_steps) == (runs.DONE, "done", 12, 12)
    assert done.run.pid > 0
    assert done.run.created_us < done.run.ended_us
    assert done.run.error_message == ""
    assert len(done.seen) >= 3
    assert [run.step for run in done.seen] == sorted(run.step for run in done.seen)


def test_a_run_leaves_its_curves_with_an_evaluation_every_few_steps_and_at_the_end(done: Done) -> None:
    metrics = runs.metrics(done.house.database, done.run.id)
    assert [point.step for point in metrics if point.metric == "exact_match"] == [4, 8, 12]
    losses = [point.value for point in metrics if point.metric == "loss"]
    assert len(losses) == 12
    assert losses[-1] < losses[0], "it learnt something"
    assert all(0 <= point.value <= 1 for point in metrics if point.metric == "exact_match")
    assert {"learning_rate", "seconds_left"} <= {point.metric for point in metrics}


def test_all_four_variants_are_evaluated_on_the_test_split(done: Done) -> None:
    found = runs.evaluations(done.house.database, done.run.id)
    assert [evaluation.variant for evaluation in found] == list(runs.VARIANTS)
    asked = min(10, done.house.version.test)
    assert [evaluation.n for evaluation in found] == [
        done.house.version.test, done.house.version.test, asked, done.house.version.test,
    ]  # fmt: skip
    for evaluation in found:
        assert evaluation.value is not None
        assert evaluation.low is not None
        assert evaluation.high is not None
        assert evaluation.low <= evaluation.value <= evaluation.high
    teacher, cheap = found[2], found[3]
    assert teacher.value == 1.0
    assert cheap.value is not None
    assert cheap.value > 0.3
    assert {request["purpose"] for request in done.asked} == {"eval"}
    assert {request["path"] for request in done.asked} == {"/v1/messages", "/v1/chat/completions"}
    assert len(done.asked) == asked


def test_the_predictions_are_those_that_were_scored(done: Done) -> None:
    lines = [json.loads(line) for line in (done.run.folder / "predictions.jsonl").read_text("utf-8").splitlines()]
    test = datasets.load_split(done.house.version, "test")
    assert [line["id"] for line in lines] == [example.id for example in test]
    assert [line["target"] for line in lines] == [example.target for example in test]
    assert all([turn["role"] for turn in line["prompt"]] == ["system", "user"] for line in lines)
    scored = {evaluation.variant: evaluation.value for evaluation in runs.evaluations(done.house.database, done.run.id)}
    for variant in (runs.BASE, runs.STUDENT):
        assert scored[variant] == sum(line[variant].strip() == line["target"].strip() for line in lines) / len(lines)


def test_the_adapter_holds_exactly_its_four_files_with_the_hash_of_the_weights(done: Done) -> None:
    adapter = adapters.latest_adapter(done.house.database, "triage")
    assert adapter is not None
    assert adapter.run_id == done.run.id
    assert sorted(file.name for file in adapter.folder.iterdir()) == [
        "adapter_config.json", "adapter_model.safetensors", "card.md", "manifest.json",
    ]  # fmt: skip
    manifest = json.loads((adapter.folder / "manifest.json").read_text("utf-8"))
    assert manifest["hash"] == adapter.hash
    for name, expected in manifest["files"].items():
        assert content_hash((adapter.folder / name).read_bytes()) == expected
    assert (manifest["dataset_hash"], manifest["recipe_hash"]) == (done.house.version.hash, done.run.recipe_hash)
    card = (adapter.folder / "card.md").read_text("utf-8")
    assert card == adapter.card
    assert "toy made on the spot" in card
    assert "| cheap baseline |" in card
    assert "lora_r = 16 (recipe)" in card
    assert "max_steps = 12 (override)" in card


def test_peft_reads_the_adapter_and_gives_the_same_answers(done: Done, toy_base: Path) -> None:
    adapter = adapters.latest_adapter(done.house.database, "triage")
    assert adapter is not None
    predictions = done.run.folder / "predictions.jsonl"
    child = subprocess.run(
        [sys.executable, "-c", PEFT_ANSWERS, str(toy_base), str(adapter.folder), str(predictions)],
        cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True,
    )  # fmt: skip
    assert child.returncode == 0, child.stderr
    students = [json.loads(line)["student"] for line in predictions.read_text("utf-8").splitlines()]
    assert json.loads(child.stdout.splitlines()[-1]) == students


def test_what_a_run_prints_is_kept_and_nobody_else_may_read_it(done: Done) -> None:
    output = done.run.folder / launch.OUTPUT
    assert f"recipe {done.run.recipe_hash}" in output.read_text("utf-8")
    assert stat.S_IMODE(output.stat().st_mode) == 0o600
    assert stat.S_IMODE(done.run.folder.stat().st_mode) == 0o700


def test_a_killed_worker_is_noticed_and_its_run_goes_on_from_the_checkpoint(house: House, toy_base: Path) -> None:
    run = queue_run(house, toy_base, {"max_steps": 40, "eval_every": 5})
    process = launch.launch(house.settings, run)
    wait_until(process, lambda: last_checkpoint(run.folder / "checkpoints") is not None)
    process.kill()
    reason = ending(house, run, process)
    assert "ended with code -9" in reason
    assert f"--resume {run.number}" in reason
    assert str(run.folder / launch.OUTPUT) in reason
    assert runs.get_run(house.database, run.id).state == runs.FAILED
    kept = last_checkpoint(run.folder / "checkpoints")
    assert kept is not None
    reached = int(kept.name.rpartition("-")[2])
    before = [point for point in runs.metrics(house.database, run.id) if point.step <= reached]

    again = launch.resume(house.settings, house.database, runs.get_run(house.database, run.id))
    last = list(launch.watch(house.database, run.id, again))[-1]
    assert last.state == runs.DONE
    assert last.step == 40
    metrics = runs.metrics(house.database, run.id)
    assert [point for point in metrics if point.step <= reached] == before, "no step before the checkpoint was done again"
    assert [point.step for point in metrics if point.metric == "exact_match"] == list(range(5, 41, 5))
    assert [adapter.run_id for adapter in adapters.list_adapters(house.database)] == [run.id]
    with pytest.raises(TrainingError, match="is done: only a failed or cancelled run can be resumed"):
        launch.resume(house.settings, house.database, last)


def test_a_wish_to_cancel_ends_a_run_that_trains(house: House, toy_base: Path) -> None:
    run = queue_run(house, toy_base, {"max_steps": 100_000, "eval_every": 50_000})
    process = launch.launch(house.settings, run)
    wait_until(process, lambda: runs.get_run(house.database, run.id).step > 0)
    assert launch.cancel(house.database, runs.get_run(house.database, run.id)).stage == runs.CANCELLING
    assert f"Run {run.number} cancelled" in ending(house, run, process)
    assert process.returncode == 2
    ended = runs.get_run(house.database, run.id)
    assert ended.state == runs.CANCELLED
    assert ended.ended_us > 0
    assert adapters.latest_adapter(house.database, "triage") is None
    assert runs.evaluations(house.database, run.id) == []


def test_ctrl_c_cancels_the_run_and_says_how_to_go_on(house: House, toy_base: Path) -> None:
    settings = ["--set", "minimum_examples=50", "--set", "max_steps=100000", "--set", "eval_every=50000"]
    command = ["train", "triage", "--recipe", "sft-lora-toy", "--base-model", str(toy_base), *settings]
    config = str(house.settings.path)
    with subprocess.Popen(
        [sys.executable, "-c", AT_A_TERMINAL, "--config", config, *command],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as person:
        try:
            wait_until(person, lambda: any(run.step > 0 for run in runs.list_runs(house.database)))
            person.send_signal(signal.SIGINT)
            told, problems = person.communicate(timeout=DEADLINE_S)
        finally:
            person.kill()
    assert person.returncode == 130, problems
    assert "potstill train triage --resume 1" in told.decode()
    assert runs.get_run(house.database, 1).state == runs.CANCELLED


def test_a_base_model_that_is_not_there_is_named_with_the_next_step(house: House, tmp_path: Path) -> None:
    run = queue_run(house, tmp_path / "gone")
    reason = ending(house, run, launch.launch(house.settings, run))
    assert f"Base model '{tmp_path / 'gone'}' cannot be loaded" in reason
    assert "--base-model" in reason
    ended = runs.get_run(house.database, run.id)
    assert (ended.state, ended.stage) == (runs.FAILED, runs.LOADING)
    assert "cannot be loaded" in (run.folder / launch.OUTPUT).read_text("utf-8")


def test_weights_that_are_torn_fail_the_run_and_leave_the_traceback(house: House, toy_base: Path, tmp_path: Path) -> None:
    torn = shutil.copytree(toy_base, tmp_path / "torn")
    weights = torn / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5_000])
    run = queue_run(house, torn)
    reason = ending(house, run, launch.launch(house.settings, run))
    assert "Safetensor" in reason
    assert str(run.folder / launch.OUTPUT) in reason
    assert "Traceback" in (run.folder / launch.OUTPUT).read_text("utf-8")


def test_a_dataset_that_was_changed_after_the_run_was_queued_is_not_trained_on(house: House, toy_base: Path) -> None:
    run = queue_run(house, toy_base)
    path = house.version.folder / "train.jsonl"
    path.write_text(path.read_text("utf-8").replace("queue", "row"), "utf-8")
    reason = ending(house, run, launch.launch(house.settings, run))
    assert f"{path} is not the file that dataset version triage/v1 froze" in reason
    assert "build the dataset again" in reason


def test_a_worker_leaves_a_run_that_another_process_has_alone(house: House, toy_base: Path) -> None:
    run = queue_run(house, toy_base)
    runs.claim_run(house.database, run.id, 1)
    process = launch.launch(house.settings, run)
    assert process.wait(DEADLINE_S) == 1
    assert next(launch.watch(house.database, run.id, process)).state == runs.RUNNING
    assert "is running, not queued" in (run.folder / launch.OUTPUT).read_text("utf-8")
