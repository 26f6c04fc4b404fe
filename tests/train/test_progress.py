from __future__ import annotations

import threading
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text

from capture.database import Database
from tests.train.conftest import House
from train import launch, runs
from train.progress import Heartbeat, StopRule, read_rule
from train.recipe import load_recipe


def after(patience: int, values: list[float]) -> StopRule:
    rule = StopRule(patience)
    for step, value in enumerate(values, 1):
        rule = rule.seen(step, value)
    return rule


def test_a_run_stops_when_the_best_was_not_beaten_often_enough() -> None:
    assert not after(3, [0.1, 0.5, 0.4, 0.4]).should_stop
    stopped = after(3, [0.1, 0.5, 0.4, 0.4, 0.3])
    assert stopped.should_stop
    assert (stopped.best_step, stopped.best_value) == (2, 0.5)


def test_a_run_at_its_ceiling_stops_with_the_latest_of_the_best() -> None:
    stopped = after(3, [1.0, 1.0, 1.0, 1.0])
    assert stopped.should_stop
    assert stopped.best_step == 4


def test_no_patience_means_that_a_run_never_stops_early() -> None:
    assert not after(0, [0.5] + [0.1] * 50).should_stop


@given(st.lists(st.integers(0, 8).map(lambda eighths: eighths / 8), min_size=1, max_size=40), st.integers(0, 5))
def test_the_best_step_always_has_the_best_value(values: list[float], patience: int) -> None:
    rule = after(patience, values)
    assert rule.best_value == max(values) == values[rule.best_step - 1]
    assert rule.best_step == len(values) - values[::-1].index(max(values))


def test_the_rule_of_an_interrupted_run_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "stop_rule.json"
    assert read_rule(path, 3) == StopRule(3)
    path.write_text('{"best_step": 80, "best_value": 0.75, "misses": 2}', "utf-8")
    assert read_rule(path, 3) == StopRule(3, 80, 0.75, 2)


def running(house: House) -> runs.Run:
    recipe = load_recipe("sft-lora", {"minimum_examples": 50})
    run = runs.create_run(house.database, house.version, recipe, "", house.settings.data_folder)
    return runs.claim_run(house.database, run.id, 1)


def backdate(database: Database, run: runs.Run) -> None:
    with database.write() as connection:
        connection.execute(text("UPDATE runs SET heartbeat_us = 1 WHERE id = :id"), {"id": run.id})


def test_a_heartbeat_keeps_the_run_alive_and_passes_on_the_wish_to_cancel(house: House) -> None:
    run = running(house)
    backdate(house.database, run)
    told = threading.Event()
    with Heartbeat(house.database, run.id, 0.01, told.set):
        assert not told.wait(0.2), "nobody wants it cancelled"
        assert runs.get_run(house.database, run.id).heartbeat_us > 1
        launch.cancel(house.database, runs.get_run(house.database, run.id))
        assert told.wait(10)


def test_a_run_that_was_given_up_for_dead_is_told_to_stop(house: House) -> None:
    run = running(house)
    told = threading.Event()
    with Heartbeat(house.database, run.id, 0.01, told.set):
        with house.database.write() as connection:
            runs.end_run(connection, run.id, runs.FAILED, "Its process gave no sign of life for a minute.")
        assert told.wait(10)
