"""What changed between two versions of a dataset: rows that came, went, changed sides or targets, and why."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from curate.datasets import DatasetVersion, load_split
from curate.examples import Example
from curate.freeze import DROPPED, read_file, to_json
from curate.splits import SPLITS

_LISTED = 20
NOT_SELECTED = "not_selected"
"""Why an example went that the newer version did not even look at: another filter, or its exchange is no longer stored."""


@dataclass(frozen=True, slots=True)
class Change:
    """One example that is not the same in both versions; a side is '' in the version that does not have it.

    `reason` says why the newer version left it out. Of targets the first 200 characters.
    """

    exchange_id: str
    before: str
    after: str
    reason: str = ""
    target_before: str = ""
    target_after: str = ""


@dataclass(frozen=True, slots=True)
class VersionDiff:
    """From version `older` to `newer` of `task`. `same` examples are equal in both, on the same side.

    `added` counts new examples by split, `removed` those that went by reason, `moved` those that changed sides ("train ->
    test"), `retargeted` those whose target changed; the first 20 of each kind are in `first`. `bill` is newer minus older by
    outcome, `settings` the values before and after.
    """

    task: str
    older: int
    newer: int
    same: int
    added: Mapping[str, int]
    removed: Mapping[str, int]
    moved: Mapping[str, int]
    retargeted: int
    first: Mapping[str, tuple[Change, ...]]
    bill: Mapping[str, int]
    settings: Mapping[str, tuple[Any, Any]]
    is_template_same: bool


def compare_versions(older: DatasetVersion, newer: DatasetVersion) -> VersionDiff:
    """Both versions' files are read and checked: StoreError when one was changed after it was frozen."""
    before, after = _examples(older), _examples(newer)
    reasons = _reasons(newer)
    changes: dict[str, list[Change]] = {"added": [], "removed": [], "moved": [], "retargeted": []}
    for key in sorted(before.keys() | after.keys()):
        kind, change = _change(key, before.get(key), after.get(key), reasons)
        if kind:
            changes[kind].append(change)
    gone = len(changes["removed"]) + len(changes["moved"]) + len(changes["retargeted"])
    return VersionDiff(
        newer.task,
        older.number,
        newer.number,
        len(before) - gone,
        dict(Counter(change.after for change in changes["added"])),
        dict(Counter(change.reason for change in changes["removed"]).most_common()),
        dict(Counter(f"{change.before} -> {change.after}" for change in changes["moved"])),
        len(changes["retargeted"]),
        {kind: tuple(found[:_LISTED]) for kind, found in changes.items()},
        _bill(older.manifest["bill"], newer.manifest["bill"]),
        _settings(older.manifest["settings"], newer.manifest["settings"]),
        older.manifest["template"]["hash"] == newer.manifest["template"]["hash"],
    )


def _change(key: str, old: Example | None, new: Example | None, reasons: Mapping[str, str]) -> tuple[str, Change]:
    if old is None or new is None:
        if new is not None:
            return "added", Change(key, "", new.split, target_after=_short(new))
        assert old is not None
        return "removed", Change(key, old.split, "", reasons.get(key, NOT_SELECTED), target_before=_short(old))
    change = Change(key, old.split, new.split, "", _short(old), _short(new))
    if old.split != new.split:
        return "moved", change
    return ("" if old.answer == new.answer else "retargeted"), change


def _examples(version: DatasetVersion) -> dict[str, Example]:
    return {example.exchange_id: example for split in SPLITS for example in load_split(version, split)}


def _reasons(version: DatasetVersion) -> dict[str, str]:
    lines = read_file(version.folder, version.manifest, DROPPED).split("\n")
    return {row["exchange_id"]: row["reason"] for row in map(json.loads, filter(None, lines))}


def _bill(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, int]:
    old, new = ({"selected": bill["selected"], "kept": bill["kept"], **bill["dropped"]} for bill in (before, after))
    names = dict.fromkeys((*new, *old))
    return {name: new.get(name, 0) - old.get(name, 0) for name in names if new.get(name, 0) != old.get(name, 0)}


def _settings(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    names = sorted(before.keys() | after.keys())
    return {name: (before.get(name), after.get(name)) for name in names if to_json(before.get(name)) != to_json(after.get(name))}


def _short(example: Example) -> str:
    return example.answer.said.strip()[:200]
