from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from capture.errors import SettingsError
from capture.settings import Settings, load_settings


@dataclass(frozen=True)
class Example:
    count: int = 1
    ratio: float = 0.5
    is_on: bool = False
    names: tuple[str, ...] = ()


def settings_of(tmp_path: Path, content: str, environ: dict[str, str] | None = None) -> Settings:
    path = tmp_path / "potstill.toml"
    path.write_text(content, "utf-8")
    return load_settings(path, environ or {})


def test_a_section_becomes_its_dataclass(tmp_path: Path) -> None:
    got = settings_of(tmp_path, '[example]\ncount = 3\nratio = 2\nis_on = true\nnames = ["a", "b"]\n').section("example", Example)
    assert got == Example(3, 2.0, True, ("a", "b"))


def test_the_environment_wins_over_the_file(tmp_path: Path) -> None:
    environ = {
        "POTSTILL_EXAMPLE__COUNT": "7",
        "POTSTILL_EXAMPLE__IS_ON": "true",
        "POTSTILL_EXAMPLE__NAMES": "x, y",
        "OTHER__A": "1",
    }
    assert settings_of(tmp_path, "[example]\ncount = 3\n", environ).section("example", Example) == Example(
        7, 0.5, True, ("x", "y")
    )


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("[example]\ncont = 3\n", "Did you mean count?"),
        ("[example]\ncount = true\n", "not of type int"),
        ("[example]\nnames = 3\n", "not of type"),
        ("example = 3\n", "is not a table"),
    ],
)
def test_a_wrong_key_or_value_names_file_key_and_next_step(tmp_path: Path, content: str, words: str) -> None:
    with pytest.raises(SettingsError) as caught:
        settings_of(tmp_path, content).section("example", Example)
    assert words in str(caught.value)
    assert "potstill.toml" in str(caught.value)


@pytest.mark.parametrize("content", ["example = 3\n", "[example]\ncount = 3\n"])
def test_an_environment_key_below_a_value_is_refused(tmp_path: Path, content: str) -> None:
    name = "POTSTILL_EXAMPLE__COUNT" if content.startswith("example") else "POTSTILL_EXAMPLE__COUNT__X"
    with pytest.raises(SettingsError, match="is not a table but 3") as caught:
        settings_of(tmp_path, content, {name: "7"})
    assert "potstill.toml" in str(caught.value)
    assert name in str(caught.value)


def test_a_value_where_a_named_section_belongs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"\[example\.a\] is not a table but 'x'"):
        settings_of(tmp_path, "", {"POTSTILL_EXAMPLE__A": "x"}).named_sections("example", Example)


def test_unknown_sections_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="Did you mean store"):
        settings_of(tmp_path, "[stor]\n").refuse_unknown(["store", "relay"])


def test_a_missing_or_broken_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="does not exist"):
        load_settings(tmp_path / "none.toml", {})
    with pytest.raises(SettingsError, match="not valid TOML"):
        settings_of(tmp_path, "[[[")


def test_the_data_folder_is_beside_the_file_and_private(settings: Settings, tmp_path: Path) -> None:
    assert settings.data_folder == tmp_path / "data"
    assert settings.data_folder.stat().st_mode & 0o777 == 0o700
    assert settings.database_url == f"sqlite:///{tmp_path}/data/potstill.db"


def test_a_postgresql_address_names_the_driver(tmp_path: Path) -> None:
    got = settings_of(tmp_path, '[store]\ndatabase_url = "postgresql://me@host/name"\n')
    assert got.database_url == "postgresql+psycopg://me@host/name"


def test_what_was_saved_is_read_back_whatever_became_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "potstill.toml"
    path.write_text('[store]\ndata_folder = "data"\n[relay]\nhosts = ["a", "b"]\n')
    settings = load_settings(path, environ={"POTSTILL_RELAY__PORT": "9000"})
    saved = tmp_path / "run" / "settings.json"
    settings.save(saved)
    path.write_text("no longer TOML")
    again = load_settings(saved, environ={})
    assert again == settings
    assert again.data_folder == tmp_path / "data"
    assert saved.stat().st_mode & 0o777 == 0o600


def test_a_saved_file_that_is_none_is_refused_by_name(tmp_path: Path) -> None:
    saved = tmp_path / "settings.json"
    saved.write_text("{}")
    with pytest.raises(SettingsError, match=r"settings\.json is not what `potstill up` saved"):
        load_settings(saved, environ={})
