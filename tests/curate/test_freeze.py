"""A version's folder is whole at every moment that it is there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from capture.errors import StoreError
from curate.datasets import DatasetVersion, build
from curate.freeze import is_whole, write_folder
from curate.settings import CurateSettings
from tests.curate.sending import Traffic, mails


@pytest.fixture
def version(traffic: Traffic, small: CurateSettings, tmp_path: Path) -> DatasetVersion:
    traffic.send(mails(30))
    return build(traffic.database, tmp_path, "mail", small)


def contents(version: DatasetVersion) -> dict[str, str | bytes]:
    return {name: (version.folder / name).read_bytes() for name in version.manifest["files"]}


def broken(*_: Any) -> None:
    raise OSError("the disk is gone")


def half_removed(folder: Path) -> None:
    (folder / "train.jsonl").unlink()
    raise OSError("the disk is gone")


@pytest.mark.parametrize("step", ["write", "remove"])
def test_a_folder_that_is_written_again_is_whole_when_the_process_stops_on_the_way(
    step: str, version: DatasetVersion, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = contents(version)
    with monkeypatch.context() as failing, pytest.raises((OSError, StoreError), match="the disk is gone"):
        failing.setattr(*{"write": ("os.fsync", broken), "remove": ("shutil.rmtree", half_removed)}[step])
        write_folder(version.folder, version.manifest, files)
    assert is_whole(version.folder, version.manifest)
    write_folder(version.folder, version.manifest, files)
    assert is_whole(version.folder, version.manifest)
    assert sorted(path.name for path in version.folder.parent.iterdir()) == [".lock", "v1"]
