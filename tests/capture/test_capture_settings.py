from __future__ import annotations

from pathlib import Path

import pytest

from capture.capture_settings import CaptureSettings
from capture.errors import SettingsError
from capture.settings import load_settings


def read(folder: Path, line: str) -> CaptureSettings:
    path = folder / "potstill.toml"
    path.write_text(f"[capture]\n{line}\n", "utf-8")
    return load_settings(path, {}).section("capture", CaptureSettings)


def test_strict_and_reject_are_understood(tmp_path: Path) -> None:
    assert read(tmp_path, 'durability = "strict"').is_strict
    assert read(tmp_path, 'on_full = "reject"').rejects_when_full
    assert not read(tmp_path, "").is_strict
    assert not read(tmp_path, "").rejects_when_full


@pytest.mark.parametrize(
    "line",
    ['durability = "fast"', 'on_full = "wait"', "spool_max_mib = 0", "sync_interval_ms = 0", "max_body_mib = -1", "disk = 3"],
)
def test_other_values_are_refused(line: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=line.split()[0]):
        read(tmp_path, line)
