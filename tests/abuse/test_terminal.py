"""Captured text on a terminal, in exports and in answers of ours: shown, and never obeyed."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path
from typing import Any

import pytest

from capture import export, feed
from capture.database import Database, open_database
from capture.filters import parse_filter
from capture.settings import Settings, load_settings
from proxy.worker import Worker
from tests.abuse.wire import KEY, request, send
from tests.capture.planting import answer, chat, drain
from tests.capture.planting import send as plant
from tests.proxy.scripting import Upstream

pytestmark = pytest.mark.abuse

PATIENCE_S = 120
MARK = "quokka"
"""Stands in every attempt, so that what came of it can be found among what a screen writes by itself."""
ESCAPES = {
    "the clipboard": f"\x1b]52;c;{MARK}\x07",
    "the clipboard, 8 bit": f"\x9d52;c;{MARK}\x9c",
    "the title": f"\x1b]0;{MARK}\x07",
    "a link": f"\x1b]8;;http://{MARK}.example\x1b\\click\x1b]8;;\x1b\\",
    "a cleared screen": f"\x1b[2J\x1b[1;1H{MARK}",
    "a cleared screen, 8 bit": f"\x9b2J{MARK}",
    "a device string": f"\x1bP+q{MARK}\x1b\\",
    "an application command": f"\x1b_G{MARK}\x1b\\",
    "a privacy message": f"\x1b^{MARK}\x1b\\",
    "a reset": f"\x1bc{MARK}",
    "a question for the terminal": f"\x1b[6n\x1b[c\x05{MARK}",
    "a bell and a backspace": f"\x07\x08\x7f{MARK}",
    "a carriage return": f"harmless\r{MARK}",
    "a null": f"\x00{MARK}",
}
OBEYED = re.compile(
    rb"\x1b\]52;c;quokka|\x9d52|\xc2\x9d|\x1b\]0;quokka|\x1b\]8;;http://quokka|\x1b\[2J\x1b\[1;1Hquokka|\xc2\x9b|\x1bP\+q|\x1b_G"
    rb"|\x1b\^|\x1bcquokka|\x1b\[6n\x1b\[c|\x07\x08|harmless\rquokka|\x00quokka"
)
"""What the terminal would get of an attempt that is passed on. 8-bit controls reach it as UTF-8."""


@pytest.fixture
def hostile(tmp_path: Path) -> Settings:
    """A store with an exchange for each attempt, in its texts and its names."""
    path = tmp_path / "potstill.toml"
    path.write_text('[store]\ndata_folder = "data"\n', "utf-8")
    settings = load_settings(path, environ={})
    database = open_database(settings.database_url)
    try:
        for attempt in (*ESCAPES.values(), *MARKUP, *BIDI.values()):
            fields: dict[str, Any] = {
                "task": f"t {attempt}",
                "user_name": attempt,
                "session_name": attempt,
                "environment": attempt,
            }
            fields |= {"model_asked": attempt, "tags": {"team": attempt}}
            plant(settings.data_folder / "spool", chat(f"q {attempt}"), answer(f"{MARK} {attempt}"), error=attempt, **fields)
        drain(database, settings.data_folder / "spool")
    finally:
        database.close()
    return settings


MARKUP = [
    *("[/b]", "[TODO]", "[@click=app.quit]x[/]", "[[bold]x[/bold]]", "[link=http://evil.example]x[/link]", "[/]", "["),
    *("\\[b]", "$x"),
]
BIDI = {
    "right to left": "\u202egpj.exe",
    "isolate": "\u2066x\u2069",
    "zero width": "pay\u200bpal",
    "mark": "a\u200fb",
    "byte order": "\ufeffx",
}


def on_terminal(settings: Settings, *arguments: str, keys: bytes = b"") -> bytes:
    """Every byte that `potstill` writes to a terminal of 100 x 30; after `keys` it is asked to end."""
    pid, terminal = pty.fork()
    if pid == 0:  # pragma: no cover - the child becomes the command
        os.chdir(settings.folder)
        os.environ["TERM"] = "xterm-256color"
        os.execv(sys.executable, [sys.executable, "-m", "potstill", "--config", str(settings.path), *arguments])
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
    seen, deadline, waiting, length = b"", time.monotonic() + PATIENCE_S, list(keys), 0
    try:
        while time.monotonic() < deadline:
            if select.select([terminal], [], [], 0.5)[0]:
                try:
                    data = os.read(terminal, 65_536)
                except OSError:  # the other side has closed
                    break
                if not data:
                    break
                seen += data
            if keys and MARK.encode() in seen and len(seen) > length:  # it is drawn, and has answered the last key
                if not waiting:
                    break
                length = len(seen)
                os.write(terminal, bytes([waiting.pop(0)]))
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(terminal)
    return seen


@pytest.mark.parametrize(
    "arguments",
    [
        ("exchanges", "list", "--limit", "100"),
        ("tasks",),
        ("exchanges", "stats", "--by", "user"),
        ("exchanges", "stats", "--by", "task"),
    ],
    ids=" ".join,
)
def test_a26_a28_lists_on_a_terminal_obey_no_captured_text(arguments: tuple[str, ...], hostile: Settings) -> None:
    seen = on_terminal(hostile, *arguments)
    assert MARK.encode() in seen
    assert OBEYED.search(seen) is None
    check_marked(seen)


def test_a26_a28_exchanges_shown_on_a_terminal_are_not_obeyed(hostile: Settings) -> None:
    database = open_database(hostile.database_url)
    ids = [exchange.id for exchange in feed.page(database, parse_filter(""), limit=100)]
    database.close()
    for id in ids[:: max(1, len(ids) // 5)]:
        seen = on_terminal(hostile, "exchanges", "show", id)
        assert id.encode() in seen
        assert OBEYED.search(seen) is None
        check_marked(seen)


def check_marked(seen: bytes) -> None:
    """None of the marks that turn or hide text came through as they are."""
    text = seen.decode("utf-8", "replace")
    for mark in "\u202e\u2066\u2069\u200b\u200f\ufeff":
        assert mark not in text


def test_a26_the_screens_write_no_captured_escape_to_the_terminal(hostile: Settings) -> None:
    seen = on_terminal(hostile, "tui", keys=b"\rjjGy\x1b!\x1b?")
    assert MARK.encode() in seen
    own = re.sub(rb"\x1b\]52;c;[A-Za-z0-9+/=]*\x07", b"", seen)  # a copy that was asked for goes out encoded
    assert OBEYED.search(own) is None
    check_marked(seen)


@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
async def test_a27_markup_in_captured_text_is_shown_as_it_stands(captured: Any, seat: Any, size: tuple[int, int]) -> None:
    captured.send(*({"question": f"q {text}", "answer": f"a {text}", "task": f"t {text}"} for text in MARKUP))
    async with seat(size=size) as someone:
        for text in reversed(MARKUP):
            await someone.press("enter")
            assert f"q {text}" in someone.text and f"a {text}" in someone.text
            await someone.pilot.click(offset=(10, 5))
            await someone.settle()
            await someone.press("escape", "j")
        assert someone.app.is_running
        await someone.press("slash", *"[/b]", "escape")
        assert someone.app.is_running


@pytest.mark.parametrize("name", ["tri\u0430ge", "tri\u200bage", "\u202eegairt", "ｔｒｉａｇｅ"])
async def test_a28_a_name_that_only_looks_like_a_task_is_refused(name: str, relay: Worker, upstream: Upstream) -> None:
    (reply,) = await send(relay.port, request("POST /v1/chat/completions", f"{KEY}x-potstill-task: {name}\r\n", b"{}"))
    assert reply.status == 400
    assert upstream.received == []


FORMULAS = [
    "=cmd|' /C calc'!A0",
    "@SUM(1+1)*cmd|' /C calc'!A0",
    "+1+1",
    "-1+1",
    "\t=1+1",
    "\r=1+1",
    '"=1+1',
    '=HYPERLINK("http://x")',
]


def test_a29_exports_are_json_alone_in_which_a_formula_is_text(database: Database, tmp_path: Path) -> None:
    for formula in FORMULAS:
        plant(tmp_path / "spool", chat(formula), answer(formula), task=formula, user_name=formula)
    drain(database, tmp_path / "spool")
    assert set(export.FORMATS) == {"jsonl", "otlp"}, "a format that a spreadsheet opens needs its cells made harmless"
    for format in export.FORMATS:
        path = tmp_path / f"all.{format}"
        export.to_file(database, export.Wanted(parse_filter(""), format), path, lambda *_: None)
        lines = path.read_bytes().splitlines()
        assert lines
        assert all(isinstance(json.loads(line), dict) for line in lines)
        assert path.stat().st_mode & 0o777 == 0o600
    told = [json.loads(line)["output_text"] for line in (tmp_path / "all.jsonl").read_text("utf-8").splitlines()]
    assert told == FORMULAS


SCRIPT = "<script>alert(1)</script>"


@pytest.mark.parametrize(
    ("line", "headers"),
    [
        (f"GET /{SCRIPT}", KEY),
        (f"GET /upstream/{SCRIPT}/v1/models", KEY),
        ("POST /v1/chat/completions", f"{KEY}x-potstill-task: {SCRIPT}\r\n"),
        ("POST /v1/chat/completions", f"{KEY}x-potstill-{SCRIPT}: a\r\n"),
        (f"POST /task/{SCRIPT.replace('/', '%2f')}/v1/messages", KEY),
        (f"POST /feedback?{SCRIPT}", "Content-Type: text/html\r\n"),
    ],
)
async def test_a30_what_we_say_is_never_a_page(line: str, headers: str, relay: Worker, upstream: Upstream) -> None:
    (reply,) = await send(relay.port, request(line.replace(" <", " /<"), f"{headers}Accept: text/html\r\n", b"<html>"))
    assert 400 <= reply.status < 500
    assert reply.header("content-type") == "application/json"
    assert json.loads(reply.body)["error"]
    assert upstream.received == []


def test_a30_nothing_that_is_exported_is_a_page(hostile: Settings) -> None:
    told = subprocess.run(
        [sys.executable, "-m", "potstill", "--config", str(hostile.path), "exchanges", "export", "--raw", "--out", "all.jsonl"],
        capture_output=True,
        text=True,
        cwd=hostile.folder,
        timeout=PATIENCE_S,
    )
    assert told.returncode == 0, told.stderr
    written = (hostile.folder / "all.jsonl").read_bytes()
    assert b"\x1b" not in written and b"\x00" not in written, "JSON escapes what a terminal would obey"
    assert {path.suffix for path in hostile.folder.rglob("*") if path.is_file()}.isdisjoint(
        {".html", ".htm", ".svg", ".csv", ".xlsx"}
    )
