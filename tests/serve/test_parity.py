"""Parity compares the engine's greedy answers with the trainer's, and a difference is shown, not only counted."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from capture.errors import NotFoundError, UpstreamError
from serve.engine import EngineClient
from serve.parity import Difference, Prediction, check_parity, read_predictions

Make = Callable[..., Path]


def prediction(number: int, answer: str) -> Prediction:
    return Prediction(f"eg_{number}", ({"role": "user", "content": f"question {number}"},), answer)


def test_identical_answers_are_parity_and_outer_white_space_does_not_matter(
    scripted_client: EngineClient, make_adapter_folder: Make
) -> None:
    scripted_client.load("t@r1", make_adapter_folder(answers={f"question {n}": f"label {n}" for n in range(50)}), 64)
    told: list[tuple[int, int]] = []
    predictions = [prediction(n, f"label {n}\n") for n in range(50)]
    parity = check_parity(
        scripted_client, "t@r1", predictions, max_tokens=8, on_progress=lambda done, total: told.append((done, total))
    )
    assert (parity.n, parity.same, parity.share, parity.differences) == (50, 50, 1.0, ())
    assert told[-1] == (50, 50)


def test_a_different_answer_is_shown_with_both_sides(scripted_client: EngineClient, make_adapter_folder: Make) -> None:
    scripted_client.load("t@r1", make_adapter_folder(answers={"question 0": "a", "question 1": "B"}), 64)
    parity = check_parity(scripted_client, "t@r1", [prediction(0, "a"), prediction(1, "b")], max_tokens=8)
    assert (parity.share, parity.differences) == (0.5, (Difference("eg_1", "b", "B"),))


def test_an_answer_that_the_engine_refuses_is_a_difference(scripted_client: EngineClient) -> None:
    parity = check_parity(scripted_client, "nobody@r1", [prediction(0, "a")], max_tokens=8)
    assert parity.same == 0
    assert "does not exist" in parity.differences[0].engine


def test_an_engine_that_goes_away_is_no_parity_result() -> None:
    with EngineClient("http://127.0.0.1:1") as client, pytest.raises(UpstreamError):
        check_parity(client, "t@r1", [prediction(0, "a")], max_tokens=8)


def test_predictions_are_read_up_to_a_limit_and_missing_ones_are_named(tmp_path: Path) -> None:
    path = tmp_path / "predictions.jsonl"
    with pytest.raises(NotFoundError, match="does not exist"):
        read_predictions(path, 5)
    path.write_text("", "utf-8")
    with pytest.raises(NotFoundError, match="is empty"):
        read_predictions(path, 5)
    lines = [
        {"id": f"eg_{n}", "prompt": [{"role": "user", "content": f"question {n}"}], "target": "t", "student": "s", "base": "b"}
        for n in range(9)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    assert read_predictions(path, 5) == [prediction(n, "s") for n in range(5)]
