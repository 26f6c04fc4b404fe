from __future__ import annotations

import threading
from pathlib import Path

import pytest

from capture.database import Database
from capture.errors import NotEnoughError, NotFoundError, TrainingError
from curate.datasets import DatasetVersion
from tests.train.conftest import House
from train import runs
from train.recipe import load_recipe, settings_of
from train.runs import Evaluation, RunOptions

RECIPE = load_recipe("sft-lora", {"minimum_examples": 50, "lora_r": 8})


@pytest.fixture
def version(house: House) -> DatasetVersion:
    return house.version


def new_run(database: Database, version: DatasetVersion, tmp_path: Path, base: str = "") -> runs.Run:
    return runs.create_run(database, version, RECIPE, base, tmp_path / "runs_of_test", RunOptions("http://r:1", False))


def test_a_run_comes_back_from_the_store_as_it_was_made(database: Database, version: DatasetVersion, tmp_path: Path) -> None:
    run = new_run(database, version, tmp_path)
    assert run == runs.get_run(database, run.id) == runs.get_run(database, run.number) == runs.get_run(database, f"#{run.number}")
    assert (run.state, run.task, run.base_model) == ("queued", "triage", "Qwen/Qwen3-0.6B")
    assert run.dataset_version_id == version.id
    assert run.recipe == RECIPE
    assert run.recipe_hash == RECIPE.hash
    assert settings_of(run.recipe) == settings_of(RECIPE), "also where each value came from"
    assert run.options == RunOptions("http://r:1", False)
    assert run.folder.is_dir()


def test_runs_are_numbered_in_their_order_and_listed_newest_first(
    database: Database, version: DatasetVersion, tmp_path: Path
) -> None:
    made = [new_run(database, version, tmp_path) for _ in range(3)]
    assert [run.number for run in made] == [1, 2, 3]
    assert [run.number for run in runs.list_runs(database)] == [3, 2, 1]
    assert [run.number for run in runs.list_runs(database, "triage")] == [3, 2, 1]
    assert runs.list_runs(database, "other") == []


def test_an_unknown_or_ambiguous_run_is_said_to_be_so(database: Database, version: DatasetVersion, tmp_path: Path) -> None:
    new_run(database, version, tmp_path)
    new_run(database, version, tmp_path)
    for wanted in ("7", "run_nothing", ""):
        with pytest.raises(NotFoundError, match=f"Run '{wanted}' does not exist"):
            runs.get_run(database, wanted)
    with pytest.raises(NotFoundError, match="is ambiguous"):
        runs.get_run(database, "run_")


def test_a_local_base_model_is_kept_as_an_absolute_path(
    database: Database, version: DatasetVersion, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path)
    assert new_run(database, version, tmp_path, "mine").base_model == str(tmp_path / "mine")


def test_nothing_is_made_when_the_run_is_refused(house: House) -> None:
    with pytest.raises(NotEnoughError, match="needs 5000"):
        runs.create_run(
            house.database, house.version, load_recipe("sft-lora", {"minimum_examples": 5000}), "", house.settings.data_folder
        )
    with pytest.raises(TrainingError, match=r"names no base model.*--base-model"):
        runs.create_run(house.database, house.version, load_recipe("sft-lora-toy"), "", house.settings.data_folder)
    assert runs.list_runs(house.database) == []
    assert not (house.settings.data_folder / "runs").exists()


def test_only_one_of_many_processes_wins_a_run(database: Database, version: DatasetVersion, tmp_path: Path) -> None:
    run = new_run(database, version, tmp_path)
    won, lost = [], []
    start = threading.Barrier(4)

    def claim(pid: int) -> None:
        start.wait()
        try:
            won.append(runs.claim_run(database, run.id, pid))
        except TrainingError as error:
            lost.append(error)

    threads = [threading.Thread(target=claim, args=(pid,)) for pid in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert len(lost) == 3
    assert "is running, not queued" in str(lost[0])
    assert runs.get_run(database, run.id).pid == won[0].pid


def test_curves_are_replaced_where_a_step_is_done_again(database: Database, version: DatasetVersion, tmp_path: Path) -> None:
    run = new_run(database, version, tmp_path)
    runs.record_progress(database, run.id, 10, 40, {"loss": 2.0, "learning_rate": 1e-3})
    runs.record_progress(database, run.id, 20, 40, {"loss": 1.0})
    runs.record_progress(database, run.id, 10, 40, {"loss": 1.5})
    found = [(point.step, point.metric, point.value) for point in runs.metrics(database, run.id)]
    assert found == [(10, "learning_rate", 1e-3), (10, "loss", 1.5), (20, "loss", 1.0)]
    assert (runs.get_run(database, run.id).step, runs.get_run(database, run.id).total_steps) == (10, 40)


def test_evaluations_come_back_in_one_order_and_an_unknown_value_stays_unknown(
    database: Database, version: DatasetVersion, tmp_path: Path
) -> None:
    run = new_run(database, version, tmp_path)
    cheap = Evaluation(run.id, "cheap_baseline", "test", "exact_match", 20, 0.9, 0.7, 0.97, "words")
    teacher = Evaluation(run.id, "teacher", "test", "exact_match", 0, None, None, None, "nobody there")
    base = Evaluation(run.id, "base", "test", "exact_match", 20, 0.0, 0.0, 0.16)
    with database.write() as connection:
        runs.record_evaluations(connection, [cheap, teacher, base])
    assert runs.evaluations(database, run.id) == [base, teacher, cheap]
    assert runs.evaluations(database, "run_other") == []


def test_an_ended_run_stays_ended_and_only_a_failed_or_cancelled_one_is_queued_again(
    database: Database, version: DatasetVersion, tmp_path: Path
) -> None:
    done, failed = new_run(database, version, tmp_path), new_run(database, version, tmp_path)
    for run in (done, failed):
        runs.claim_run(database, run.id, 1)
    with database.write() as connection:
        assert runs.end_run(connection, done.id, runs.DONE)
        assert runs.end_run(connection, failed.id, runs.FAILED, "because")
        assert not runs.end_run(connection, done.id, runs.CANCELLED), "it has ended"
    assert (runs.get_run(database, done.id).state, runs.get_run(database, done.id).stage) == ("done", "done")
    assert (runs.get_run(database, failed.id).error_message, runs.get_run(database, failed.id).stage) == ("because", "loading")
    runs.requeue(database, failed.id)
    assert runs.claim_run(database, failed.id, 2).error_message == ""
    for run_id, state in ((done.id, "done"), (failed.id, "running")):
        with pytest.raises(TrainingError, match=f"is {state}: only a failed or cancelled run"):
            runs.requeue(database, run_id)


def test_a_wish_to_cancel_is_never_overwritten_by_progress(house: House) -> None:
    from train import launch

    run = runs.claim_run(house.database, new_run(house.database, house.version, house.settings.folder).id, 1)
    assert not runs.beat(house.database, run.id)
    assert launch.cancel(house.database, run).stage == runs.CANCELLING
    runs.set_stage(house.database, run.id, runs.EVALUATING)
    assert runs.get_run(house.database, run.id).stage == runs.CANCELLING
    assert runs.beat(house.database, run.id)


def test_a_queued_run_is_cancelled_at_once(house: House) -> None:
    from train import launch

    run = new_run(house.database, house.version, house.settings.folder)
    assert launch.cancel(house.database, run).state == "cancelled"
    with pytest.raises(TrainingError, match="is cancelled, not queued"):
        runs.claim_run(house.database, run.id, 1)
