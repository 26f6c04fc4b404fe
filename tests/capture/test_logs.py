"""The lines that our processes write, through a real process."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from capture.logs import JSON, TEXT, LogSettings

SCRIPT = """
import logging, sys
from capture.logs import LogSettings, set_up
set_up(LogSettings(format=sys.argv[1]), logging.INFO)
log = logging.getLogger("capture.writer")
log.debug("not shown")
log.info("ready")
log.warning("the key %s is wrong", "sk-proj-" + "a1" * 20)
try:
    raise ValueError("Bearer " + "b2" * 20)
except ValueError:
    log.exception("it broke\\nhere")
"""


def logged(format: str) -> str:
    done = subprocess.run([sys.executable, "-c", SCRIPT, format], capture_output=True, text=True, check=True, timeout=60)
    return done.stderr


def test_json_is_one_object_a_line_and_holds_no_credential() -> None:
    written = logged(JSON)
    lines = [json.loads(line) for line in written.splitlines()]
    assert [line["level"] for line in lines] == ["info", "warning", "error"]
    assert lines[0]["message"] == "ready"
    assert lines[0]["logger"] == "capture.writer"
    assert lines[1]["message"] == "the key [redacted:openai-key] is wrong"
    assert lines[2]["error"] == "ValueError"
    assert "Traceback" in lines[2]["trace"]
    assert all(line["time"].endswith("Z") and line["pid"] for line in lines)
    assert "b2b2" not in written


def test_text_holds_no_credential_either() -> None:
    written = logged(TEXT)
    assert "INFO capture.writer: ready" in written
    assert "[redacted:openai-key]" in written
    assert "b2b2" not in written
    assert "not shown" not in written


@pytest.mark.parametrize("wrong", [{"format": "xml"}, {"max_mib": 0}, {"keep": -1}])
def test_an_impossible_setting_is_refused_with_its_value(wrong: dict[str, object]) -> None:
    (name, value), *_ = wrong.items()
    with pytest.raises(ValueError, match=f"{name} is {value!r}"):
        LogSettings(**wrong)  # type: ignore[arg-type]
