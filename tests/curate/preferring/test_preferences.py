from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings

from capture.errors import StoreError
from capture.messages import Message
from curate.examples import Example
from curate.preferring.preferences import (
    EDIT,
    Preference,
    erased_preferences,
    from_line,
    preference_id,
    read_preferences,
    to_line,
)
from tests.curate.formats.making import examples, frozen, mixed, preference


@settings(max_examples=50)
@given(examples())
def test_a_preference_comes_back_from_its_line_as_it_was(given: Example) -> None:
    rejected = Message("assistant", "no")
    pair = Preference("pr_1", "ex_1", "mail", given.messages, given.tools, given.answer, rejected, EDIT, "by Ada")
    line = to_line(pair)
    assert "\n" not in line and from_line(line, "mail") == pair


@pytest.mark.parametrize("line", ["", "{}", '{"id": 1, "exchange_id": "ex_1", "prompt": [], "chosen": [], "rejected": []}', "[]"])
def test_a_line_that_is_no_preference_is_told(line: str) -> None:
    with pytest.raises(StoreError, match="is not a preference"):
        from_line(line, "mail")


def test_ids_tell_exchange_source_and_number() -> None:
    assert preference_id("ex_01", EDIT, 2) == "pr_01_edit_2"


def test_a_version_gives_its_preferences_and_those_of_an_exchange(tmp_path: Path) -> None:
    pairs = [preference(1), preference(2)]
    version = frozen(tmp_path / "v1", mixed(), pairs)
    assert read_preferences(version.folder, version.manifest, "mail") == pairs
    assert erased_preferences(version.folder, "mail", ["ex_2", "ex_9"]) == pairs[1:]
    (version.folder / "preferences.jsonl").write_text("", "utf-8")
    with pytest.raises(StoreError, match="was changed after it was frozen"):
        read_preferences(version.folder, version.manifest, "mail")


def test_a_version_without_preferences_has_none(tmp_path: Path) -> None:
    version = frozen(tmp_path / "v1", mixed())
    assert read_preferences(version.folder, version.manifest, "mail") == []
    assert erased_preferences(version.folder, "mail", ["ex_1"]) == []
