from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.train.conftest import ROOT

ASK = """
import json, sys
from capture.messages import Message
from proxy.tickets import make_tickets
from train.generate import generate
from train.worker import load_base

tokenizer, model = load_base(sys.argv[1], "cpu")
questions = [(Message("system", t.system_prompt), Message("user", t.user_prompt)) for t in make_tickets(11, 12)]
side, done = tokenizer.padding_side, []
model.train()
together = generate(model, tokenizer, questions, max_new_tokens=12, batch_size=5, on_batch=done.append)
is_training = model.training
model.eval()
alone = [generate(model, tokenizer, [question], max_new_tokens=12)[0] for question in questions]
short = generate(model, tokenizer, questions[:3], max_new_tokens=1)
print(json.dumps({
    "together": together, "alone": alone, "is_training": is_training, "is_eval_kept": not model.training, "done": done,
    "side_kept": tokenizer.padding_side == side, "short": [len(tokenizer(text)["input_ids"]) for text in short],
}))
"""


@pytest.fixture(scope="module")
def answered(toy_base: Path) -> dict[str, Any]:
    """What a child with torch in it found out about batched answers."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    child = subprocess.run(
        [sys.executable, "-c", ASK, str(toy_base)], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300
    )
    assert child.returncode == 0, child.stderr
    return dict(json.loads(child.stdout.splitlines()[-1]))


def test_an_answer_does_not_depend_on_what_else_is_in_the_batch(answered: dict[str, Any]) -> None:
    assert answered["together"] == answered["alone"]
    assert any(answered["alone"]), "an untrained base says something, at least"


def test_answers_hold_no_special_tokens_and_end_at_the_limit(answered: dict[str, Any]) -> None:
    assert not any("<|" in text for text in answered["together"])
    assert max(answered["short"]) <= 1


def test_the_model_and_the_tokenizer_are_left_as_they_were(answered: dict[str, Any]) -> None:
    assert answered["is_training"]
    assert answered["is_eval_kept"]
    assert answered["side_kept"]


def test_progress_is_told_after_each_batch(answered: dict[str, Any]) -> None:
    assert answered["done"] == [5, 10, 12]
