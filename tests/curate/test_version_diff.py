"""The difference of two versions names every row that is not the same in both, and why."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from capture.errors import StoreError
from curate.datasets import build
from curate.reviewing import review
from curate.settings import CurateSettings
from curate.version_diff import NOT_SELECTED, Change, compare_versions
from tests.curate.sending import Traffic, mails

DEFAULTS = CurateSettings()


def test_a_version_is_the_same_as_itself(traffic: Traffic, tmp_path: Path) -> None:
    traffic.send(mails(40))
    version = build(traffic.database, tmp_path, "mail", DEFAULTS)
    found = compare_versions(version, version)
    assert (found.same, found.added, found.removed, found.moved, found.retargeted) == (40, {}, {}, {}, 0)
    assert (found.bill, found.settings, found.is_template_same) == ({}, {}, True)


def test_every_change_is_counted_with_its_reason(traffic: Traffic, tmp_path: Path) -> None:
    database = traffic.database
    ids = traffic.send(mails(60))
    first = build(database, tmp_path, "mail", DEFAULTS)
    review.record(database, "mail", ids[0], "reject")
    review.record(database, "mail", ids[1], "edit", '{"queue": "legal"}')
    traffic.send(mails(9, first=60))
    second = build(database, tmp_path, "mail", replace(DEFAULTS, near_threshold=0.7))
    found = compare_versions(first, second)
    assert (found.same, sum(found.added.values()), found.removed) == (58, 9, {"rejected_in_review": 1})
    assert (found.moved, found.retargeted) == ({}, 1)
    (changed,) = found.first["retargeted"]
    assert changed == Change(ids[1], changed.before, changed.before, "", changed.target_before, '{"queue": "legal"}')
    assert found.bill == {"selected": 9, "kept": 8, "rejected_in_review": 1}
    assert found.settings == {"near_threshold": (0.6, 0.7)}
    back = compare_versions(second, first)
    assert (sum(back.removed.values()), sum(back.added.values())) == (9, 1)
    assert set(back.removed) == {NOT_SELECTED}


def test_a_version_that_was_changed_by_hand_is_not_compared(traffic: Traffic, tmp_path: Path) -> None:
    traffic.send(mails(40))
    version = build(traffic.database, tmp_path, "mail", DEFAULTS)
    path = version.folder / "train.jsonl"
    path.write_text(path.read_text("utf-8").replace("parcel", "billing"), "utf-8")
    with pytest.raises(StoreError, match="changed after it was frozen"):
        compare_versions(version, version)
