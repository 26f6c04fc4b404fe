"""Every setting of every section with its value, its source and its one-sentence meaning.

The sentence is the string under the field in the package that owns the section; `potstill config` and its `--init` are made
from it. Passwords in addresses are never shown.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import itertools
import os
import re
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from capture.capture_settings import CaptureSettings
from capture.errors import PotstillError
from capture.filters import parse_filter
from capture.logs import LogSettings
from capture.otel_send import headers_of
from capture.otel_settings import OtelSettings
from capture.pricing import PriceSettings
from capture.pseudonyms import read_policy
from capture.settings import Settings, StoreSettings, load_settings
from curate.settings import CurateSettings
from proxy.admin_token import read_token
from proxy.failures import Failure
from proxy.keys.settings import CacheSettings, KeysSettings, LimitSettings
from proxy.settings import RelaySettings, UpstreamSettings, read_upstreams, upstream_problems
from proxy.upstream_keys import look_for_key
from serve.settings import EngineSettings
from train.settings import TrainSettings


@dataclass(frozen=True, slots=True)
class ExplainedSetting:
    """One setting: `section.key`, its value, where the value came from, what it means."""

    name: str
    value: Any
    source: str
    meaning: str


def sections() -> dict[str, type]:
    """Section names and the dataclasses that own them, in the order of the way of the data."""
    return {
        "store": StoreSettings,
        "capture": CaptureSettings,
        "prices": PriceSettings,
        "relay": RelaySettings,
        "keys": KeysSettings,
        "cache": CacheSettings,
        "curate": CurateSettings,
        "train": TrainSettings,
        "engine": EngineSettings,
        "logs": LogSettings,
        "otel": OtelSettings,
    }


def named_sections() -> dict[str, type[Any]]:
    """Sections that hold tables with names of the user's choice, and the dataclasses that own those."""
    return {"upstreams": UpstreamSettings, "limits": LimitSettings}


def meanings(cls: type) -> dict[str, str]:
    """The sentence under each field of a settings dataclass."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(cls)))
    body = tree.body[0].body if isinstance(tree.body[0], ast.ClassDef) else []
    found: dict[str, str] = {}
    for field, below in itertools.pairwise(body):
        if (
            isinstance(field, ast.AnnAssign)
            and isinstance(field.target, ast.Name)
            and isinstance(below, ast.Expr)
            and isinstance(below.value, ast.Constant)
        ):
            found[field.target.id] = " ".join(str(below.value.value).split())
    return found


def check(settings: Settings) -> None:
    """SettingsError for the first key of any section that is unknown or has an impossible value."""
    for section, cls in sections().items():
        settings.section(section, cls)
    for section, cls in named_sections().items():
        settings.named_sections(section, cls)


def read_checked(path: Path | None) -> Settings:
    """The settings as they stand now, checked as `problems` does; SettingsError for the first thing that is wrong."""
    settings = load_settings(path)
    for error in problems(settings):
        raise error
    return settings


def problems(settings: Settings) -> list[PotstillError]:
    """Everything that is wrong with a configuration: sections, keys, values, and the files and names that it points to."""
    found: list[PotstillError] = [*settings.unknown((*sections(), *named_sections()))]
    for section, cls in sections().items():
        found += settings.problems(section, cls)
    for section, cls in named_sections().items():
        table = settings.sections.get(section, {})
        for name in table if isinstance(table, Mapping) else ():
            found += settings.problems(f"{section}.{name}", cls)
    told = {str(error) for error in found}
    return found + [error for error in _crossed(settings) if str(error) not in told]


def warnings(settings: Settings, environ: Mapping[str, str] = os.environ) -> list[PotstillError]:
    """What a configuration without problems needs and does not find just now, though it may come later: keys of upstreams."""
    found: list[PotstillError] = []
    for upstream in read_upstreams(settings).values():
        if isinstance(missing := look_for_key(upstream, environ), Failure):
            next_step = f"Set it where Potstill starts, or change key in [upstreams.{upstream.name}]."
            if upstream.key_file:
                next_step = f"Write the key to {upstream.key_file}, or change key in [upstreams.{upstream.name}]."
            found.append(PotstillError(missing.what.replace(" in the relay", ""), next_step))
    return found


def _crossed(settings: Settings) -> list[PotstillError]:
    """What no section can know of itself. Of one that is wrong by itself, its first fault is here once more."""
    checks: tuple[Callable[[], object], ...] = (
        lambda: read_token(settings.folder, settings.section("relay", RelaySettings).admin_token_file),
        lambda: read_policy(settings.section("capture", CaptureSettings), os.environ),
        lambda: parse_filter(settings.section("otel", OtelSettings).where),
        lambda: headers_of(os.environ),
    )
    found: list[PotstillError] = []
    try:
        found += upstream_problems(settings)
    except PotstillError as error:
        found.append(error)
    for one in checks:
        try:
            one()
        except PotstillError as error:
            found.append(error)
    return found


def explain(settings: Settings) -> list[ExplainedSetting]:
    """Every setting as it is in force."""
    explained = []
    for section, cls in sections().items():
        explained += _explain_one(section, settings.section(section, cls), settings.sections.get(section, {}))
    for section, cls in named_sections().items():
        for name, value in settings.named_sections(section, cls).items():
            explained += _explain_one(f"{section}.{name}", value, settings.sections[section][name])
    return explained


def _explain_one(section: str, value: Any, table: Mapping[str, Any]) -> list[ExplainedSetting]:
    sentences = meanings(type(value))
    return [
        ExplainedSetting(
            f"{section}.{field.name}",
            _without_password(getattr(value, field.name)),
            "set" if field.name in table else "default",
            sentences.get(field.name, ""),
        )
        for field in dataclasses.fields(value)
    ]


def _without_password(value: Any) -> Any:
    return re.sub(r"(://[^:/@\s]*:)[^@\s]+@", r"\1***@", value) if isinstance(value, str) else value


def commented_toml() -> str:
    """A potstill.toml that says what every setting means, with each at its default and commented out."""
    lines = ["# Potstill. Every setting stands here at its default, commented out.", ""]
    for section, cls in sections().items():
        lines.append(f"[{section}]")
        sentences = meanings(cls)
        for field in dataclasses.fields(cls):
            lines.append(f"# {sentences.get(field.name, '')}")
            lines.append(f"# {field.name} = {_toml(_default(field))}")
        lines.append("")
    for heading, name, named in (
        (
            "One table for each upstream; without any, openai and anthropic at their public addresses.",
            "upstreams.openai",
            UpstreamSettings,
        ),
        ("One table for each task that has limits.", "limits.TASK", LimitSettings),
    ):
        lines += [f"# {heading}", f"# [{name}]"]
        for field in dataclasses.fields(named):
            lines.append(f"# {field.name} = {_toml(_default(field))}    # {meanings(named).get(field.name, '')}")
        lines.append("")
    return "\n".join(lines)


def _default(field: dataclasses.Field[Any]) -> Any:
    return {} if field.default is dataclasses.MISSING else field.default


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (tuple, list)):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_toml(key)} = {_toml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return str(value)
