from __future__ import annotations

import json
from pathlib import Path

import pytest

from capture.messages import Message
from curate import datasets
from curate.datasets import Example
from tests.train.conftest import House
from train.evaluate import Answers, evaluate_all, score, write_predictions
from train.recipe import load_recipe
from train.runs import RunOptions, create_run
from train.scores import wilson
from train.settings import TrainSettings


def test_a_score_counts_exact_matches_with_a_wilson_interval() -> None:
    row = score("run_1", "student", ["a", " b ", "x", "d"], ["a", "b", "c", "d"], "note")
    assert (row.n, row.value, (row.low, row.high)) == (4, 0.75, wilson(3, 4))
    assert (row.variant, row.split, row.metric, row.note) == ("student", "test", "exact_match", "note")


def test_questions_without_an_answer_are_left_out_of_n() -> None:
    row = score("run_1", "teacher", ["a", None, "x"], ["a", "b", "c"])
    assert (row.n, row.value) == (2, 0.5)


def test_all_four_are_measured_on_the_whole_test_split(house: House) -> None:
    recipe = load_recipe("sft-lora", {"minimum_examples": 50})
    run = create_run(house.database, house.version, recipe, "", house.settings.data_folder, RunOptions(ask_teacher=False))
    train, test = (datasets.load_split(house.version, split) for split in ("train", "test"))
    right = tuple(example.target for example in test)
    rows = evaluate_all(house.database, TrainSettings(), run, train, test, Answers(("",) * len(test), right))
    found = {row.variant: row for row in rows}
    assert [row.variant for row in rows] == ["base", "student", "teacher", "cheap_baseline"]
    assert (found["base"].value, found["student"].value, found["teacher"].value) == (0.0, 1.0, None)
    assert {found[name].n for name in ("base", "student", "cheap_baseline")} == {len(test)}
    assert found["teacher"].note == "not asked"
    assert found["cheap_baseline"].value is not None
    assert "TF-IDF" in found["cheap_baseline"].note


def test_predictions_are_one_line_each_with_prompt_target_and_both_answers(tmp_path: Path) -> None:
    messages = (Message("system", "s"), Message("user", "ü\nx"))
    test = [Example("eg_1", "ex_1", "triage", messages, "t", "test", "b2:0", "m", "openai")]
    write_predictions(tmp_path, test, Answers(("b",), ("a\nc",)))
    (line,) = (tmp_path / "predictions.jsonl").read_text("utf-8").splitlines()
    prompt = [{"role": "system", "content": "s"}, {"role": "user", "content": "ü\nx"}]
    assert json.loads(line) == {"id": "eg_1", "prompt": prompt, "target": "t", "student": "a\nc", "base": "b"}


def test_a_score_of_nothing_is_an_error_and_not_a_number() -> None:
    with pytest.raises(ValueError, match="0 hits of 0"):
        score("run_1", "teacher", [None], ["a"])
