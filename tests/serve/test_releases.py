"""A release is made through gate, load and parity, or not at all; a failed one is kept and never gets a share."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from capture.database import Database, open_database
from capture.errors import EngineError, GateError, NotFoundError, UpstreamError
from capture.ids import new_id
from capture.settings import Settings
from serve.engine import EngineClient
from serve.flag_store import set_share
from serve.release_store import engine_model_name
from serve.releases import FAILED, READY, Gate, create_release, get_release, list_releases
from train.recipe import load_recipe, values

Make = Callable[..., Path]
GATE = Gate(minimum_exact_match=0.8)
ANSWERS = {f"question {number}": f"label {number % 3}" for number in range(120)}


@dataclass
class Workshop:
    """A store with one finished run, its adapter, and an engine that serves /base."""

    database: Database
    settings: Settings
    client: EngineClient
    folder: Path
    adapter_row: Callable[..., str]
    adapter_folder: Make

    def train(self, name: str, answers: dict[str, str], *, student: float = 0.9, base: str = "/base", **config: object) -> str:
        """The id of an adapter whose trainer said ANSWERS and whose engine will say `answers`."""
        run_id, run_folder = new_id("run"), self.folder / f"run-{name}"
        run_folder.mkdir()
        lines = [
            {"id": f"eg_{n}", "prompt": [{"role": "user", "content": asked}], "target": said, "student": said, "base": ""}
            for n, (asked, said) in enumerate(ANSWERS.items())
        ]
        (run_folder / "predictions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
        recipe = load_recipe("sft-lora", {})
        document = json.dumps({"settings": values(recipe), "sources": {}, "options": {}})
        with self.database.write() as connection:
            connection.execute(
                text(
                    "INSERT INTO runs (id, number, task, dataset_version_id, recipe_name, recipe_hash, recipe, base_model, state,"
                    " stage, step, total_steps, error_message, pid, folder, heartbeat_us, created_us, ended_us)"
                    " VALUES (:id, 1, 'triage', 'dsv_1', 'sft-lora', 'b2:1', :recipe, '/base', 'done', 'done', 1, 1, '', 0,"
                    " :folder, 0, 1, 1)"
                ),
                {"id": run_id, "recipe": document, "folder": str(run_folder)},
            )
            for variant, value in (("base", 0.01), ("student", student)):
                connection.execute(
                    text(
                        "INSERT INTO evaluations VALUES (:id, :run, :variant, 'test', 'exact_match', 120, :value, :low, 1, '', 1)"
                    ),
                    {"id": new_id("ev"), "run": run_id, "variant": variant, "value": value, "low": value - 0.01},
                )
        return self.adapter_row(self.database, "triage", self.adapter_folder(name, answers, **config), base, run_id)

    def release(self, **more: Any) -> Any:
        return create_release(self.database, self.settings, "triage", gate=GATE, **more)


@pytest.fixture
def workshop(
    tmp_path: Path, engine_room: Any, scripted_client: EngineClient, make_adapter_folder: Make, adapter_row: Callable[..., str]
) -> Iterator[Workshop]:
    engine_room.port = int(scripted_client.url.rpartition(":")[2])
    settings = engine_room.write("/base")
    database = open_database(settings.database_url)
    yield Workshop(database, settings, scripted_client, tmp_path, adapter_row, make_adapter_folder)
    database.close()


def test_a_good_adapter_becomes_a_ready_release_under_a_name_of_its_own(workshop: Workshop) -> None:
    adapter_id = workshop.train("good", ANSWERS)
    told: list[tuple[str, int, int]] = []
    release = workshop.release(on_progress=lambda *step: told.append(step))
    assert (release.number, release.name, release.engine_model, release.state) == (1, "triage#1", "triage@r1", READY)
    assert (release.parity_n, release.parity_same, release.adapter_id) == (120, 120, adapter_id)
    assert [one["is_passed"] for one in release.gate["criteria"]] == [True, True, True]
    assert ("gate", 1, 1) in told and ("load", 1, 1) in told and told[-1] == ("parity", 120, 120)
    assert "triage@r1" in {model.name for model in workshop.client.models()}
    assert workshop.release(adapter=adapter_id).engine_model == "triage@r2"
    assert get_release(workshop.database, "triage").number == 2


def test_an_adapter_below_the_gate_makes_no_release(workshop: Workshop) -> None:
    workshop.train("weak", ANSWERS, student=0.5)
    with pytest.raises(GateError, match=r"exact match 0.500 \(wanted at least 0.800: failed\)"):
        workshop.release()
    assert list_releases(workshop.database) == []


def test_answers_that_differ_from_the_trainers_fail_the_release_and_it_gets_no_share(workshop: Workshop) -> None:
    workshop.train("odd", ANSWERS | {"question 7": "something else", "question 8": "something else"})
    with pytest.raises(GateError, match=r"118 of 120 answers.*eg_7: trainer 'label 1', engine 'something else'"):
        workshop.release()
    release = get_release(workshop.database, "triage", 1)
    assert (release.state, release.parity_n, release.parity_same) == (FAILED, 120, 118)
    assert [one["id"] for one in release.gate["differences"]] == ["eg_7", "eg_8"]
    assert "triage@r1" not in {model.name for model in workshop.client.models()}
    with pytest.raises(GateError, match="failed, not ready"):
        set_share(workshop.database, "triage", 100, release=1, who="ada", why="")


def test_one_answer_in_a_hundred_may_differ(workshop: Workshop) -> None:
    workshop.train("nearly", ANSWERS | {"question 7": "something else"})
    assert workshop.release().state == READY


def test_what_the_engine_refuses_is_a_failed_release_with_its_reason(workshop: Workshop) -> None:
    workshop.train("broken", ANSWERS)
    with pytest.raises(EngineError, match="unsupported LoRA weight"):
        workshop.release()
    release = get_release(workshop.database, "triage", 1)
    assert release.state == FAILED
    assert "unsupported LoRA weight" in release.gate["failure"]


def test_an_adapter_of_another_base_model_is_refused(workshop: Workshop) -> None:
    workshop.train("alien", ANSWERS, base="/elsewhere")
    with pytest.raises(GateError, match=r"trained on /elsewhere, but the engine serves /base.*\[engine\] base_model"):
        workshop.release()


def test_an_adapter_that_cannot_be_served_makes_no_release(workshop: Workshop) -> None:
    workshop.train("dora", ANSWERS, use_dora=True)
    with pytest.raises(GateError, match="DoRA"):
        workshop.release()
    assert list_releases(workshop.database) == []


def test_an_engine_that_is_down_makes_no_release(workshop: Workshop, engine_room: Any) -> None:
    workshop.train("good", ANSWERS)
    engine_room.port = 1
    workshop.settings = engine_room.write("/base")
    with pytest.raises(UpstreamError, match="does not answer"):
        workshop.release()
    assert list_releases(workshop.database) == []


def test_a_task_without_an_adapter_and_an_adapter_of_another_task_are_named(workshop: Workshop) -> None:
    with pytest.raises(NotFoundError):
        workshop.release()
    other = workshop.adapter_row(workshop.database, "invoice", workshop.folder, "/base")
    with pytest.raises(NotFoundError, match="belongs to task 'invoice'"):
        workshop.release(adapter=other)


def test_engine_names_are_safe_whatever_a_task_is_called() -> None:
    assert engine_model_name("triage-email", 3) == "triage-email@r3"
    odd = {engine_model_name(task, 1) for task in ("../x", "a/b", "a b", "é", "a" * 300, "-a", "a@r1")}
    assert len(odd) == 7
    assert all(set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-@r") and len(name) < 100 for name in odd)
