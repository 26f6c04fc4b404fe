"""What a changed configuration means for what runs under `potstill up`. Pure; values are compared and never shown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from capture.settings import Settings

_FIXED = (
    *("relay.host", "relay.port", "relay.admin_port", "logs.format"),
    *("engine.url", "engine.host", "engine.port"),  # relay workers keep their way to the engine, and it must stay there
)
_FIXED_SECTIONS = ("store.",)
"""What a process takes at its start and keeps."""

WRITER, ENGINE, TRANSLATION, TRACES = "store writer", "engine", "translation", "traces"
_READERS: Mapping[str, tuple[str, ...]] = {
    WRITER: ("capture.", "prices."),
    ENGINE: ("engine.",),
    TRANSLATION: ("upstreams.",),
    TRACES: ("otel.",),
}
"""The processes besides the relay workers, by their names, and the settings that they read."""


@dataclass(frozen=True, slots=True)
class Change:
    """`changed` are the names of settings that differ and are taken over, `fixed` those that wait for the next start."""

    changed: tuple[str, ...]
    fixed: tuple[str, ...]

    def concerns(self, process: str) -> bool:
        """True when this process must hear of the change."""
        return any(name.startswith(_READERS[process]) for name in self.changed)


def compare(old: Settings, new: Settings) -> Change:
    """How `new` differs from `old`."""
    before, after = dict(_flat(old.sections)), dict(_flat(new.sections))
    missing = object()
    names = [name for name in {**before, **after} if before.get(name, missing) != after.get(name, missing)]
    return Change(
        tuple(sorted(name for name in names if not _is_fixed(name))),
        tuple(sorted(name for name in names if _is_fixed(name))),
    )


def accepted(old: Settings, new: Settings) -> Settings:
    """`new` with what cannot change while the house runs as it was in `old`, for the processes that start from now on."""
    sections = {name: dict(table) if isinstance(table, Mapping) else table for name, table in new.sections.items()}
    for name in dict.fromkeys((*_fixed_names(old.sections), *_fixed_names(new.sections))):
        section, _, key = name.partition(".")
        had = old.sections.get(section, {})
        table = sections.setdefault(section, {})
        if key in had:
            table[key] = had[key]
        else:
            table.pop(key, None)
    return Settings(new.path, old.folder, sections)


def _is_fixed(name: str) -> bool:
    return name in _FIXED or name.startswith(_FIXED_SECTIONS)


def _fixed_names(sections: Mapping[str, Any]) -> list[str]:
    return [name for name, _ in _flat(sections) if _is_fixed(name)]


def _flat(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
