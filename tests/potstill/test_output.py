"""Progress of a long work, told line by line where nobody watches a bar."""

from __future__ import annotations

import pytest

from potstill.output import Output


def test_every_stage_is_told_once_when_it_ends(capsys: pytest.CaptureFixture[str]) -> None:
    output = Output()
    with output.stages() as show:
        for done in range(3):
            show("read", done, 2)
        show("compare", 0, 2)
        show("compare", 2, 2)
        show("write", 1, 1)
    told = [line.strip() for line in capsys.readouterr().err.splitlines() if line.strip()]
    assert told == ["read: 2 of 2", "compare: 2 of 2", "write: 1 of 1"]
