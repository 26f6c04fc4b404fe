from __future__ import annotations

import dataclasses
import tomllib
from importlib import resources
from pathlib import Path

import pytest

from capture.errors import NotFoundError, SettingsError
from train.recipe import Recipe, build_recipe, eval_every, load_recipe, settings_of, shipped, values

EVERY_SETTING = {field.name for field in dataclasses.fields(Recipe)} - {"name", "sources"}


@pytest.mark.parametrize("name", shipped())
def test_a_shipped_recipe_is_complete_and_says_why_each_value_is_what_it_is(name: str) -> None:
    text = (resources.files("train.recipes") / f"{name}.toml").read_text("utf-8")
    assert set(tomllib.loads(text)) == EVERY_SETTING
    assert load_recipe(name).name == name
    assert text.count("#") >= 8


def test_the_recipe_for_real_models_names_one_and_the_toy_recipe_does_not() -> None:
    assert load_recipe("sft-lora").base_model == "Qwen/Qwen3-0.6B"
    assert load_recipe("sft-lora-toy").base_model == ""


def test_each_setting_says_where_it_came_from(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("learning_rate = 1e-4\nlora_r = 8\n", "utf-8")
    recipe = load_recipe(path, {"lora_r": "4"})
    sources = {setting.name: (setting.value, setting.source) for setting in settings_of(recipe)}
    assert sources["learning_rate"] == (1e-4, "recipe")
    assert sources["lora_r"] == (4, "override")
    assert sources["batch_size"] == (16, "default")
    assert recipe.name == "mine"
    assert set(sources) == EVERY_SETTING | {"name"}


def test_an_unknown_setting_is_refused_with_the_nearest(tmp_path: Path) -> None:
    path = tmp_path / "typo.toml"
    path.write_text("learning_rat = 1e-4\n", "utf-8")
    with pytest.raises(SettingsError, match=r"typo\.toml.*'learning_rat' is unknown.*Did you mean learning_rate\?"):
        load_recipe(path)
    with pytest.raises(SettingsError, match=r"the overrides.*'lora_rank'.*Did you mean lora_"):
        load_recipe("sft-lora", {"lora_rank": 4})
    with pytest.raises(SettingsError, match="'sources' is unknown"):
        load_recipe("sft-lora", {"sources": "x"})


def test_overrides_from_a_command_line_are_text_and_become_values() -> None:
    overrides = {"epochs": "1.5", "max_steps": "7", "gradient_checkpointing": "false", "target_modules": "q_proj, v_proj"}
    recipe = load_recipe("sft-lora", overrides)
    assert (recipe.epochs, recipe.max_steps, recipe.gradient_checkpointing) == (1.5, 7, False)
    assert recipe.target_modules == ("q_proj", "v_proj")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("lora_r", "0"), ("lora_r", "513"), ("lora_r", "x"), ("lora_r", True), ("learning_rate", "0"), ("learning_rate", "nan"),
        ("learning_rate", "inf"), ("epochs", "inf"), ("weight_decay", "nan"), ("weight_decay", "-0.1"),
        ("method", "dpo"), ("schedule", "steps"), ("precision", "fp8"), ("batch_size", 0), ("too_long_share", 1.0),
        ("target_modules", "lm_head"), ("target_modules", ""), ("gradient_checkpointing", "maybe"), ("epochs", "0"),
        ("max_length", 3.5), ("minimum_examples", 0),
    ],
)  # fmt: skip
def test_a_value_that_no_run_could_use_is_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(SettingsError, match=name):
        load_recipe("sft-lora", {name: value})


def test_a_missing_recipe_is_named_together_with_those_that_are_there(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"'sft-lorra'.*sft-lora, sft-lora-toy"):
        load_recipe("sft-lorra")
    with pytest.raises(NotFoundError, match=r"nowhere\.toml"):
        load_recipe(tmp_path / "nowhere.toml")
    broken = tmp_path / "broken.toml"
    broken.write_text("lora_r = \n", "utf-8")
    with pytest.raises(SettingsError, match=r"broken\.toml is not valid TOML"):
        load_recipe(broken)
    broken.write_bytes(b'base_model = "\xff"')
    with pytest.raises(SettingsError, match=r"broken\.toml is not valid TOML"):
        load_recipe(broken)


def test_the_hash_covers_every_value_and_not_where_it_came_from() -> None:
    plain, overridden = load_recipe("sft-lora"), load_recipe("sft-lora", {"lora_r": 16})
    assert plain.hash.startswith("b2:")
    assert plain.hash == overridden.hash
    changed = {
        setting.name: {True: "false", False: "true"}.get(setting.value) if isinstance(setting.value, bool) else None
        for setting in settings_of(plain)
    }
    for name in ("lora_r", "learning_rate", "seed", "eval_every", "max_length"):
        assert load_recipe("sft-lora", {name: "17"}).hash != plain.hash, name
    assert load_recipe("sft-lora", {"gradient_checkpointing": changed["gradient_checkpointing"]}).hash != plain.hash


def test_a_recipe_survives_the_store() -> None:
    recipe = load_recipe("sft-lora-toy", {"target_modules": "q_proj,k_proj"})
    again = build_recipe(values(recipe), {}, "the store")
    assert again == recipe
    assert again.hash == recipe.hash


def test_evaluations_come_eight_times_a_run_but_not_more_often_than_every_20_steps() -> None:
    recipe = load_recipe("sft-lora")
    assert [eval_every(recipe, steps) for steps in (10, 160, 800, 801)] == [20, 20, 100, 101]
    assert eval_every(load_recipe("sft-lora", {"eval_every": 7}), 800) == 7
