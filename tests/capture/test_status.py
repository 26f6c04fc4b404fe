from __future__ import annotations

from pathlib import Path
from typing import Any

from capture.status import SpoolStatus, spool_status


def test_what_waits_in_the_spool_is_counted(spool_root: Path, relay: Any) -> None:
    empty = spool_status(spool_root)
    relay.exchange()
    assert (empty.segments, empty.spools, empty.bytes) == (1, 1, 0)
    assert spool_status(spool_root).bytes > 500


def test_no_folder_is_no_spool(tmp_path: Path) -> None:
    assert spool_status(tmp_path / "none") == SpoolStatus(0, 0, 0)
