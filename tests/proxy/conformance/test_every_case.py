"""The cases are numbered C01 to C72, and a number that nobody tests is a promise that nobody keeps."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.conformance
def test_every_case_has_a_test() -> None:
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-n", "0", "-m", "conformance", str(Path(__file__).parent)]
    told = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert told.returncode == 0, told.stdout + told.stderr
    assert set(re.findall(r"C\d\d", told.stdout)) == {f"C{number:02}" for number in range(1, 73)}
