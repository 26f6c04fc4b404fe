from __future__ import annotations

from pathlib import Path

import pytest

from capture.errors import SettingsError
from capture.settings import load_settings
from curate.settings import LANGUAGES, CurateSettings


@pytest.mark.parametrize(
    "line",
    [
        "val_share = 0",
        "val_share = 0.6\ntest_share = 0.6",
        "near_threshold = 0.3",
        'personal_data = "maybe"',
        "minimum_examples = 1",
        'eval_after = "next week"',
        "max_input_tokens = -5",
        "max_input_characters = -1",
        "max_target_characters = -1",
        "max_examples = -1",
        "session_join_share = 7",
        "session_join_share = -0.1",
        "val_share = nan",
        "test_share = nan",
        "minimum_score = nan",
        "minimum_score = -inf",
        "mix_in_share = nan",
        "ngram_share = nan",
        'languages = "en,xx"',
        'filter = "taks:mail"',
        'engine = "dask"',
    ],
)
def test_settings_that_make_no_sense_are_refused_with_the_section(line: str, tmp_path: Path) -> None:
    path = tmp_path / "potstill.toml"
    path.write_text(f"[curate]\n{line}\n", "utf-8")
    name, value = (part.strip().strip('"') for part in line.splitlines()[0].split("="))
    with pytest.raises(SettingsError, match=rf"section \[curate\]: .*{name}.*{value.removeprefix('en,')}"):
        load_settings(path, environ={}).section("curate", CurateSettings)


def test_the_environment_sets_a_share(tmp_path: Path) -> None:
    path = tmp_path / "potstill.toml"
    path.write_text("", "utf-8")
    settings = load_settings(path, environ={"POTSTILL_CURATE__VAL_SHARE": "0.25"})
    assert settings.section("curate", CurateSettings).val_share == 0.25


def test_a_wrong_filter_hides_nothing_else_that_is_wrong(tmp_path: Path) -> None:
    path = tmp_path / "potstill.toml"
    path.write_text('[curate]\nfilter = "taks:mail"\nlanguages = "xx"\n', "utf-8")
    found = [error.what for error in load_settings(path, environ={}).problems("curate", CurateSettings)]
    assert len(found) == 2 and "Did you mean task?" in found[0] and "'xx'" in found[1]


def test_the_languages_that_can_be_named_are_those_that_the_detector_knows() -> None:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    assert set(LanguageIdentifier.from_model_file(MODEL_FILE).labels) == LANGUAGES
