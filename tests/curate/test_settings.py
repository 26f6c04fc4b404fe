from __future__ import annotations

from pathlib import Path

import pytest

from capture.errors import SettingsError
from capture.settings import load_settings
from curate.settings import CurateSettings


@pytest.mark.parametrize(
    "line",
    [
        "val_share = 0",
        "val_share = 0.6\ntest_share = 0.6",
        "near_threshold = 0.3",
        'personal_data = "maybe"',
        "minimum_examples = 1",
        'eval_after = "next week"',
    ],
)
def test_settings_that_make_no_sense_are_refused_with_the_section(line: str, tmp_path: Path) -> None:
    path = tmp_path / "potstill.toml"
    path.write_text(f"[curate]\n{line}\n", "utf-8")
    with pytest.raises(SettingsError, match="curate"):
        load_settings(path, environ={}).section("curate", CurateSettings)


def test_the_environment_sets_a_share(tmp_path: Path) -> None:
    path = tmp_path / "potstill.toml"
    path.write_text("", "utf-8")
    settings = load_settings(path, environ={"POTSTILL_CURATE__VAL_SHARE": "0.25"})
    assert settings.section("curate", CurateSettings).val_share == 0.25
