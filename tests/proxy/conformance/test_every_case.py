"""The cases are numbered C01 to C72, and a number that nobody tests is a promise that nobody keeps."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
HERE = Path(__file__).parent
CASES = {f"C{number:02}" for number in range(1, 73)}


def numbers(text: str) -> set[str]:
    """All that look like a case's number in `text`."""
    return set(re.findall(r"C\d\d", text))


@pytest.mark.conformance
def test_every_case_has_a_test(request: pytest.FixtureRequest) -> None:
    collected = [item for item in request.session.items if item.path.is_relative_to(HERE)]
    found = numbers("\n".join(item.nodeid for item in collected if item.get_closest_marker("conformance")))
    if not found >= CASES:  # only some of the tests were asked for
        command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-n", "0", "-m", "conformance", str(HERE)]
        told = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
        assert told.returncode == 0, told.stdout + told.stderr
        found = numbers(told.stdout)
    assert found == CASES
