"""Recipe: the declared way to train. A TOML file holds it whole; each setting knows where its value came from.

Unknown settings are refused with the nearest known one. The hash covers every setting, so equal hashes mean that the
same was asked for.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import math
import tomllib
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from capture.errors import NotFoundError, SettingsError
from capture.ids import content_hash

METHODS = ("sft-lora",)
SCHEDULES = ("cosine", "linear", "constant_with_warmup")
PRECISIONS = ("auto", "bf16", "fp32")


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that decides what is learnt, apart from the dataset version."""

    name: str
    """What people call it."""
    method: str = "sft-lora"
    """sft-lora: supervised fine-tuning of a LoRA adapter on the targets."""
    base_model: str = ""
    """Name or local folder of the base model; a run may name another."""
    minimum_examples: int = 50
    """Fewer training examples than this are refused."""
    max_length: int = 1024
    """Tokens of prompt and target together; longer examples are left out and counted."""
    too_long_share: float = 0.05
    """The largest share of the training examples that may be left out for their length."""
    lora_r: int = 16
    """Rank of the adapter; the engine serves 1 to 512."""
    lora_alpha: int = 32
    """Scale of the adapter: its effect is multiplied by lora_alpha / lora_r."""
    lora_dropout: float = 0.0
    """Share of the adapter's inputs dropped while training."""
    target_modules: tuple[str, ...] = ("all-linear",)
    """Layers that get an adapter: all-linear, or names such as q_proj."""
    learning_rate: float = 2e-4
    """Peak learning rate."""
    schedule: str = "cosine"
    """Course of the learning rate after the warm-up: cosine, linear or constant_with_warmup."""
    warmup_share: float = 0.05
    """Share of the steps in which the learning rate rises from 0."""
    weight_decay: float = 0.0
    """Decoupled weight decay of AdamW."""
    max_grad_norm: float = 1.0
    """Gradients are clipped to this norm."""
    batch_size: int = 16
    """Examples on the device at once."""
    gradient_accumulation: int = 1
    """Batches per step."""
    epochs: float = 3.0
    """Passes over the training split, when max_steps is 0."""
    max_steps: int = 0
    """Steps of the whole run; 0: as many as `epochs` needs."""
    precision: str = "auto"
    """bf16, fp32, or auto: bf16 where the hardware gains from it."""
    gradient_checkpointing: bool = False
    """Saves memory and costs about a third more time."""
    seed: int = 0
    """Seeds order, initialisation and dropout."""
    eval_every: int = 0
    """Steps between two evaluations on the val split; 0: an eighth of the run, at least 20."""
    eval_examples: int = 64
    """Examples of the val split that each of them asks."""
    eval_batch_size: int = 64
    """Prompts generated at once."""
    patience: int = 3
    """The run stops after so many evaluations without a better exact match; 0: never."""
    max_new_tokens: int = 128
    """The longest answer, in tokens, in evaluations."""
    teacher_examples: int = 500
    """The most examples of the test split for which the teacher is asked again; each costs money."""
    sources: tuple[tuple[str, str], ...] = field(default=(), compare=False)
    """For each setting, where its value came from: recipe, override or default."""

    def __post_init__(self) -> None:
        _check(self)

    @property
    def hash(self) -> str:
        """The tagged hash of every setting; where a value came from does not count."""
        return content_hash(json.dumps(values(self), sort_keys=True).encode())


@dataclass(frozen=True, slots=True)
class RecipeSetting:
    """One line of a recipe as people see it; `source` is recipe, override or default."""

    name: str
    value: object
    source: str


def load_recipe(name_or_path: str | Path, overrides: Mapping[str, object] | None = None) -> Recipe:
    """The shipped recipe of that name, or the TOML file at that path, with `overrides` on top.

    Overrides may be text, as they come from a command line. NotFoundError names the shipped recipes, SettingsError the
    nearest known setting.
    """
    path = Path(name_or_path)
    if path.suffix == ".toml":
        if not path.is_file():
            raise NotFoundError(f"There is no recipe at {path}.", f"Name a TOML file, or one of: {', '.join(shipped())}.")
        content, where, default_name = path.read_bytes(), str(path), path.stem
    else:
        if str(name_or_path) not in shipped():
            raise NotFoundError(f"There is no recipe {str(name_or_path)!r}.", f"Shipped are: {', '.join(shipped())}.")
        file = resources.files("train.recipes") / f"{name_or_path}.toml"
        content, where, default_name = file.read_bytes(), f"recipe {name_or_path}", str(name_or_path)
    try:
        table = tomllib.loads(content.decode("utf-8"))
    except ValueError as error:
        raise SettingsError(f"{where} is not valid TOML: {error}.", "Mend the line it names.") from error
    return build_recipe({"name": default_name, **table}, overrides or {}, where)


def shipped() -> list[str]:
    """Names of the recipes that come with Potstill."""
    files = resources.files("train.recipes").iterdir()
    return sorted(file.name.removesuffix(".toml") for file in files if file.name.endswith(".toml"))


def build_recipe(table: Mapping[str, object], overrides: Mapping[str, object], where: str) -> Recipe:
    """A Recipe from a parsed table and overrides; `where` names the table in errors."""
    hints = typing.get_type_hints(Recipe)
    chosen: dict[str, Any] = {}
    sources = dict.fromkeys(_names(), "default")
    for layer, source, place in ((table, "recipe", where), (overrides, "override", "the overrides")):
        for name, value in layer.items():
            if name not in sources:
                raise SettingsError(f"{place}: setting {name!r} is unknown.", _nearest(name))
            chosen[name] = _convert(value, hints[name], f"{place}: setting {name!r}")
            sources[name] = source
    try:
        return Recipe(**chosen, sources=tuple(sources.items()))
    except ValueError as error:
        raise SettingsError(f"{where}: {error}.", "Mend the value.") from error


def values(recipe: Recipe) -> dict[str, Any]:
    """Every setting by name, ready for JSON."""
    return {name: list(value) if isinstance(value, tuple) else value for name, value in _items(recipe)}


def settings_of(recipe: Recipe) -> list[RecipeSetting]:
    """Every setting with where it came from, in the order of the recipe."""
    sources = dict(recipe.sources)
    return [RecipeSetting(name, value, sources.get(name, "default")) for name, value in _items(recipe)]


def eval_every(recipe: Recipe, total_steps: int) -> int:
    """Steps between two evaluations in a run of `total_steps`."""
    return recipe.eval_every or max(20, -(-total_steps // 8))


def _items(recipe: Recipe) -> list[tuple[str, Any]]:
    table = dataclasses.asdict(recipe)
    return [(name, table[name]) for name in _names()]


def _names() -> list[str]:
    return [field.name for field in dataclasses.fields(Recipe) if field.name != "sources"]


def _nearest(name: str) -> str:
    close = difflib.get_close_matches(name, _names(), n=1, cutoff=0.5)
    return f"Did you mean {close[0]}?" if close else f"Known: {', '.join(_names())}."


def _convert(value: object, hint: Any, where: str) -> object:
    if typing.get_origin(hint) is tuple:
        parts = value.split(",") if isinstance(value, str) else value
        if isinstance(parts, (list, tuple)) and all(isinstance(part, str) for part in parts):
            return tuple(part.strip() for part in parts)
    elif hint is bool:
        if isinstance(value, bool):
            return value
        if isinstance(value, str) and value.lower() in ("true", "false"):
            return value.lower() == "true"
    elif hint in (int, float) and not isinstance(value, bool):
        if isinstance(value, (int, float) if hint is float else int):
            return hint(value)
        if isinstance(value, str):
            try:
                return hint(value)
            except ValueError:
                pass
    elif hint is str and isinstance(value, str):
        return value
    name = "list of texts" if typing.get_origin(hint) is tuple else hint.__name__
    raise SettingsError(f"{where} is {value!r}, not of type {name}.", f"Give a value of type {name}.")


def _check(recipe: Recipe) -> None:
    """ValueError for a value that no run could use."""
    for name, known in (("method", METHODS), ("schedule", SCHEDULES), ("precision", PRECISIONS)):
        value = dict(_items(recipe))[name]
        if value not in known:
            raise ValueError(f"{name} is {value!r}, not one of {', '.join(known)}")
    least = {
        "minimum_examples": 1, "max_length": 16, "batch_size": 1, "gradient_accumulation": 1, "max_steps": 0, "eval_every": 0,
        "eval_examples": 1, "eval_batch_size": 1, "patience": 0, "max_new_tokens": 1, "teacher_examples": 0, "lora_alpha": 1,
    }  # fmt: skip
    for name, bound in least.items():
        value = dict(_items(recipe))[name]
        if value < bound:
            raise ValueError(f"{name} is {value}, below {bound}")
    for name, value in _items(recipe):
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"{name} is {value}, not a number to compute with")
    if recipe.weight_decay < 0:
        raise ValueError(f"weight_decay is {recipe.weight_decay}, below 0")
    if not 1 <= recipe.lora_r <= 512:
        raise ValueError(f"lora_r is {recipe.lora_r}, not between 1 and 512")
    for name in ("too_long_share", "warmup_share", "lora_dropout"):
        value = dict(_items(recipe))[name]
        if not 0 <= value < 1:
            raise ValueError(f"{name} is {value}, not between 0 and 1")
    for name in ("learning_rate", "max_grad_norm"):
        value = dict(_items(recipe))[name]
        if not value > 0:
            raise ValueError(f"{name} is {value}, not above 0")
    if recipe.max_steps == 0 and not recipe.epochs > 0:
        raise ValueError(f"epochs is {recipe.epochs} and max_steps is 0: nothing would be trained")
    if not recipe.target_modules or not all(recipe.target_modules):
        raise ValueError("target_modules is empty")
    if "lm_head" in recipe.target_modules:
        raise ValueError("target_modules holds lm_head, which neither trainer nor engine supports")
