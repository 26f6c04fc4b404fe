from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from capture.errors import NotEnoughError, TrainingError
from proxy.tickets import make_tickets
from train.toy_base import build_toy_base, toy_base_key
from train.toy_training import Row, mix, name_groups

STEPS = 30


def known_conversations() -> list[tuple[str, str, str]]:
    """What the fixture's toy base was made of."""
    found = [ticket for task in ("it_desk", "urgency") for ticket in make_tickets(7, 80, task)]
    return [(ticket.system_prompt, ticket.user_prompt, ticket.gold) for ticket in found]


def unlabelled_prompts() -> list[tuple[str, str]]:
    """The prompts without answers that it was made of."""
    return sorted({(ticket.system_prompt, ticket.user_prompt) for ticket in make_tickets(8, 120, "triage")})


def test_a_toy_base_says_in_its_card_that_it_is_not_a_pretrained_model(toy_base: Path) -> None:
    assert "not a pretrained language model" in (toy_base / "card.md").read_text("utf-8")
    manifest = json.loads((toy_base / "manifest.json").read_text("utf-8"))
    assert 1_000_000 < manifest["parameters"] < 1_200_000
    assert manifest["steps"] == STEPS


def test_its_weights_are_safetensors_and_it_brings_tokenizer_and_chat_template(toy_base: Path) -> None:
    names = {path.name for path in toy_base.iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json", "card.md", "manifest.json"} <= names
    assert not [name for name in names if name.endswith((".bin", ".pt", ".pkl", ".py"))]
    assert json.loads((toy_base / "config.json").read_text("utf-8"))["vocab_size"] == 2048
    templates = [path.read_text("utf-8") for path in toy_base.iterdir() if path.suffix in (".jinja", ".json")]
    assert any("{% generation %}" in text for text in templates)


def test_a_complete_toy_base_is_returned_at_once(toy_base: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in toy_base.iterdir()}
    told: list[object] = []
    found = build_toy_base(toy_base, known_conversations(), unlabelled=unlabelled_prompts(), steps=STEPS, on_progress=told.append)
    assert found == toy_base
    assert told == []
    assert {path: path.stat().st_mtime_ns for path in toy_base.iterdir()} == before


def test_a_toy_base_of_other_conversations_is_not_passed_off_as_this_one(toy_base: Path) -> None:
    with pytest.raises(TrainingError, match="other conversations"):
        build_toy_base(toy_base, known_conversations()[1:], unlabelled=unlabelled_prompts(), steps=STEPS)


def test_a_folder_with_something_else_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work", "utf-8")
    with pytest.raises(TrainingError):
        build_toy_base(tmp_path / "mine", known_conversations(), steps=1)
    assert (tmp_path / "mine" / "thesis.txt").read_text("utf-8") == "years of work"


def test_too_few_conversations_are_refused_before_anything_is_made(tmp_path: Path) -> None:
    with pytest.raises(NotEnoughError, match="needs 100 conversations, not 99"):
        build_toy_base(tmp_path / "base", known_conversations()[:99])
    assert list(tmp_path.iterdir()) == []


def test_its_key_changes_with_everything_it_is_made_of() -> None:
    known, prompts = known_conversations(), unlabelled_prompts()
    keys = [
        toy_base_key(known, prompts),
        toy_base_key(known[:-1], prompts),
        toy_base_key(known, prompts[:-1]),
        toy_base_key(known, prompts, seed=1),
        toy_base_key(known, prompts, steps=7),
    ]
    assert len(set(keys)) == len(keys)
    assert keys[0] == toy_base_key(list(known), list(prompts))


def test_groups_are_of_similar_words_and_named_without_any_label() -> None:
    topics = ("parcel from courier late again", "cannot log into website", "invoice copy tax office", "screen cracked on arrival")
    users = [f"{topic} {number}" for topic in topics for number in range(20)]
    named = name_groups(users, 4, seed=0)
    assert [user for _, user, _ in named] == users
    answers = [answer for _, _, answer in named]
    groups = [set(answers[start : start + 20]) for start in range(0, 80, 20)]
    assert [len(group) for group in groups] == [1, 1, 1, 1]
    assert len(set.union(*groups)) == 4
    assert all(set(json.loads(answer)) == {"group"} for answer in answers)


def test_rows_are_mixed_evenly_and_each_kind_is_gone_through_before_it_repeats() -> None:
    one = [Row([number], 0) for number in range(10)]
    two = [Row([100 + number], 0) for number in range(7)]
    mixed = mix(one, two, 100, random.Random(0))
    assert len(mixed) == 100
    seen = [sum(row is chosen for chosen in mixed) for row in one]
    assert max(seen) - min(seen) <= 1
    assert sum(row.ids[0] >= 100 for row in mixed) == 70
    assert len(mix(one, [], 25, random.Random(0))) == 25


def test_the_same_seed_groups_and_mixes_the_same_and_another_one_does_not() -> None:
    users = [f"{topic} {number}" for topic in ("late parcel", "lost password", "wrong invoice") for number in range(20)]
    assert name_groups(users, 5, seed=1) == name_groups(users, 5, seed=1)
    rows = [Row([number], 0) for number in range(40)]
    assert mix(rows[:20], rows[20:], 60, random.Random(1)) == mix(rows[:20], rows[20:], 60, random.Random(1))
    assert mix(rows[:20], rows[20:], 60, random.Random(1)) != mix(rows[:20], rows[20:], 60, random.Random(2))
