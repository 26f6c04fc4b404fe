"""Finds and reads potstill.toml, merges the environment, and hands each package its own section.

This module knows no section: each package declares a frozen dataclass beside its code and asks
`settings.section("relay", RelaySettings)`. Unknown keys are refused with the nearest known one. The environment wins
over the file: `POTSTILL_RELAY__PORT=9000`. Keys of upstreams come from the environment alone.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import os
import re
import tomllib
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from capture.errors import SettingsError

T = TypeVar("T")
FILE_NAME = "potstill.toml"
_ENVIRONMENT_PREFIX = "POTSTILL_"
_SAVED = ".json"


@dataclass(frozen=True, slots=True)
class StoreSettings:
    """Where everything lives: section [store]."""

    data_folder: str = ".potstill"
    """Folder of the SQLite file, spool, datasets, runs and adapters; relative to potstill.toml."""
    database_url: str = ""
    """PostgreSQL address such as postgresql://user@host/name; empty: SQLite in the data folder."""


@dataclass(frozen=True, slots=True)
class Settings:
    """All sections as they were read; `path` is None when no file was found."""

    path: Path | None
    folder: Path
    sections: Mapping[str, Any]

    def section(self, name: str, cls: type[T]) -> T:
        """Section `name` as `cls`; SettingsError names file, key and nearest known key."""
        table = self.sections.get(name, {})
        if not isinstance(table, Mapping):
            raise SettingsError(f"{self._where(name)} is not a table but {table!r}.", f"Write it as [{name}].")
        return _build(cls, table, self._where(name))

    def named_sections(self, name: str, cls: type[T]) -> dict[str, T]:
        """Section `[name.<key>]` for each key, as `cls`."""
        table = self.sections.get(name, {})
        if not isinstance(table, Mapping):
            raise SettingsError(f"{self._where(name)} is not a table of tables.", f"Write [{name}.<name>].")
        for key, value in table.items():
            if not isinstance(value, Mapping):
                raise SettingsError(
                    f"{self._where(f'{name}.{key}')} is not a table but {value!r}.", f"Write it as [{name}.{key}]."
                )
        return {key: _build(cls, value, self._where(f"{name}.{key}")) for key, value in table.items()}

    def save(self, path: Path) -> None:
        """Writes all of it, the environment's part too, into a .json file that `load_settings` reads, in one step."""
        kept = {"path": None if self.path is None else str(self.path), "folder": str(self.folder), "sections": self.sections}
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
            json.dump(kept, file, default=str)
        part.replace(path)

    def refuse_unknown(self, known: Iterable[str]) -> None:
        """SettingsError when the file has a top-level section outside `known`."""
        for error in self.unknown(known):
            raise error

    def unknown(self, known: Iterable[str]) -> list[SettingsError]:
        """An error for each top-level section outside `known`."""
        names = sorted(known)
        unknown = [name for name in self.sections if name not in names]
        return [SettingsError(f"{self._where(name)} is unknown.", _nearest(name, names)) for name in unknown]

    def problems(self, name: str, cls: type) -> list[SettingsError]:
        """All that is wrong with section `name` as `cls`, where `section` tells the first thing only.

        `name` may be that of a table within a section, such as upstreams.openai.
        """
        table: Any = self.sections
        for part in name.split(".", 1):
            table = table.get(part, {})
            if not isinstance(table, Mapping):
                return [SettingsError(f"{self._where(part)} is not a table but {table!r}.", f"Write it as [{name}].")]
        return _read(cls, table, self._where(name))[1]

    @property
    def store(self) -> StoreSettings:
        """Section [store]."""
        return self.section("store", StoreSettings)

    @property
    def data_folder(self) -> Path:
        """The data folder, absolute; made (mode 0700) when it is not there yet."""
        folder = (self.folder / Path(self.store.data_folder).expanduser()).resolve()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return folder

    @property
    def database_url(self) -> str:
        """SQLAlchemy address of the store."""
        url = self.store.database_url
        if not url:
            return f"sqlite:///{self.data_folder / 'potstill.db'}"
        for prefix in ("postgresql://", "postgres://"):
            if url.startswith(prefix):
                return "postgresql+psycopg://" + url.removeprefix(prefix)
        return url

    def _where(self, name: str) -> str:
        return f"{self.path.name if self.path else 'environment'}: section [{name}]"


def load_settings(path: Path | None = None, environ: Mapping[str, str] | None = None) -> Settings:
    """Reads `path`, else $POTSTILL_CONFIG, else ./potstill.toml, else defaults; then merges the environment.

    A `path` that ends with .json is what `Settings.save` wrote: the processes under `potstill up` read it, so that one that
    starts again starts with what was accepted, whatever has become of potstill.toml. SettingsError when `path` is given and
    missing, or the file is not TOML.
    """
    environ = os.environ if environ is None else environ
    if path is None and environ.get("POTSTILL_CONFIG"):
        path = Path(environ["POTSTILL_CONFIG"])
    if path is not None and not path.is_file():
        raise SettingsError(f"{path} does not exist.", "Give an existing file with --config.")
    if path is not None and path.suffix == _SAVED:
        return _load_saved(path)
    found = path if path is not None else Path(FILE_NAME)
    sections: dict[str, Any] = {}
    if found.is_file():
        try:
            sections = tomllib.loads(found.read_text("utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise SettingsError(f"{found} is not valid TOML: {error}.", "Mend the line it names.") from error
    is_there = found.is_file()
    _merge_environment(sections, environ, found.name if is_there else "environment")
    return Settings(found.resolve() if is_there else None, found.resolve().parent, sections)


def _load_saved(path: Path) -> Settings:
    try:
        kept = json.loads(path.read_text("utf-8"))
        return Settings(None if kept["path"] is None else Path(kept["path"]), Path(kept["folder"]), kept["sections"])
    except (ValueError, KeyError, TypeError) as error:
        raise SettingsError(f"{path} is not what `potstill up` saved there.", "Start `potstill up` again.") from error


def _merge_environment(sections: dict[str, Any], environ: Mapping[str, str], where: str) -> None:
    for name, value in environ.items():
        if name.startswith(_ENVIRONMENT_PREFIX) and "__" in name:
            keys = name.removeprefix(_ENVIRONMENT_PREFIX).lower().split("__")
            table = sections
            for depth, key in enumerate(keys[:-1], start=1):
                table = table.setdefault(key, {})
                if not isinstance(table, dict):
                    section = ".".join(keys[:depth])
                    raise SettingsError(
                        f"{name} is set, but {where}: section [{section}] is not a table but {table!r}.",
                        f"Write it as [{section}].",
                    )
            table[keys[-1]] = value


def _nearest(name: str, known: Iterable[str]) -> str:
    names = list(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return f"Did you mean {close[0]}?" if close else f"Known: {', '.join(names)}."


def _build(cls: type[T], table: Mapping[str, Any], where: str) -> T:
    built, problems = _read(cls, table, where)
    if built is None:
        raise problems[0]
    return built


def _read(cls: type[T], table: Mapping[str, Any], where: str) -> tuple[T | None, list[SettingsError]]:
    """What `table` says as `cls`, or None and everything that is wrong with it."""
    hints = typing.get_type_hints(cls)
    names = [field.name for field in dataclasses.fields(cls)]  # type: ignore[arg-type]
    values: dict[str, Any] = {}
    problems: list[SettingsError] = []
    for key, value in table.items():
        if key not in names:
            problems.append(SettingsError(f"{where}: key {key!r} is unknown.", _nearest(key, names)))
            continue
        try:
            values[key] = _convert(value, hints[key], f"{where}: key {key!r}")
        except SettingsError as error:
            problems.append(error)
    built: T | None = None
    while built is None:
        try:
            built = cls(**values)
        except (TypeError, ValueError) as error:
            faulty = [key for key in re.findall(r"\w+", str(error)) if key in values]
            if not faulty and problems:
                break  # it misses what is there and wrong
            next_step = "Mend the value." if isinstance(error, ValueError) else "Add the missing key."
            problem = SettingsError(f"{where}: {error}.", next_step)
            problem.__cause__ = error
            problems.append(problem)
            if not faulty:
                break
            for key in faulty:  # without them it shows what else is wrong
                values.pop(key, None)
    return (None, problems) if problems else (built, [])


def _convert(value: Any, hint: Any, where: str) -> Any:
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        hint = next(part for part in typing.get_args(hint) if part is not type(None))
    if typing.get_origin(hint) is tuple:
        if isinstance(value, str):
            value = [part.strip() for part in value.split(",") if part.strip()]
        if isinstance(value, list):
            return tuple(_convert(part, typing.get_args(hint)[0], where) for part in value)
    if typing.get_origin(hint) is Mapping and isinstance(value, Mapping):
        inner = typing.get_args(hint)[1]
        return {key: _convert(each, inner, f"{where}, {key!r}") for key, each in value.items()}
    if hint is bool and isinstance(value, str) and value.lower() in ("true", "false", "1", "0"):
        return value.lower() in ("true", "1")
    if hint in (int, float) and isinstance(value, str):
        try:
            return hint(value)
        except ValueError as error:
            raise SettingsError(f"{where} is {value!r}, not a number.", "Give a number.") from error
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(hint, type) and isinstance(value, hint) and not (hint is int and isinstance(value, bool)):
        return value
    name = getattr(hint, "__name__", str(hint))
    raise SettingsError(f"{where} is {value!r}, not of type {name}.", f"Give a value of type {name}.")
