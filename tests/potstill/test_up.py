"""`potstill up` as people start it: the ports that it took, its words, a reload, and its end."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.proxy.scripting import free_port

CONFIGURATION = """
[store]
data_folder = "data"
[relay]
port = 0
admin_port = 0
[upstreams.openai]
url = "http://127.0.0.1:{port}/v1"
"""


@contextmanager
def up(folder: Path, more: str = "") -> Iterator[subprocess.Popen[str]]:
    """`potstill up` in a folder with a configuration."""
    (folder / "potstill.toml").write_text(CONFIGURATION.format(port=free_port()) + more, "utf-8")
    process = subprocess.Popen(
        [sys.executable, "-m", "potstill", "up"], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)


def heard(process: subprocess.Popen[str], words: str) -> str:
    """The next line of its output that holds `words`."""
    assert process.stdout is not None
    for line in process.stdout:
        if words in line:
            return line
    raise AssertionError(f"it ended with {process.wait()} and never said {words!r}")


@pytest.fixture(autouse=True)
def no_configuration_but_the_test_s(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("POTSTILL_CONFIG", raising=False)


def test_it_shows_the_ports_that_it_took_reloads_on_sighup_and_ends_in_order(tmp_path: Path) -> None:
    with up(tmp_path) as process:
        line = heard(process, "potstill is up")
        relay, admin = re.findall(r"http://127\.0\.0\.1:[1-9]\d*", line)
        assert f"OPENAI_BASE_URL={relay}/v1" in heard(process, "OPENAI_BASE_URL")
        assert httpx.get(f"{admin}/health/ready", timeout=30).status_code == 200
        assert httpx.get(f"{relay}/v1/models", timeout=30).status_code == 401, "it is the relay that answers there"
        written = (tmp_path / "potstill.toml").read_text("utf-8")
        (tmp_path / "potstill.toml").write_text(written.replace("port = 0", "workerz = 2\nport = 0", 1), "utf-8")
        process.send_signal(signal.SIGHUP)
        assert "Did you mean workers?" in heard(process, "not taken over")
        (tmp_path / "potstill.toml").write_text(written.replace("port = 0", "idle_timeout_s = 9\nport = 0", 1), "utf-8")
        process.send_signal(signal.SIGHUP)
        assert "relay.idle_timeout_s" in heard(process, "is taken over")
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0


def test_it_warns_at_its_start_of_a_key_that_is_not_there(tmp_path: Path) -> None:
    with up(tmp_path, 'key = "file:openai.key"\n') as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        assert first.startswith("Warning: The file in key of [upstreams.openai]")
        assert str(tmp_path / "openai.key") in first
        heard(process, "potstill is up")


def test_with_json_logs_every_line_is_an_object(tmp_path: Path) -> None:
    with up(tmp_path, '[logs]\nformat = "json"\n') as process:
        assert process.stdout is not None
        first = json.loads(process.stdout.readline())
        assert first["message"].startswith("potstill is up")
        process.send_signal(signal.SIGHUP)
        assert json.loads(process.stdout.readline())["message"].endswith("nothing changed.")
        process.send_signal(signal.SIGTERM)
        rest, _ = process.communicate(timeout=60)
    assert [json.loads(line)["logger"] for line in rest.splitlines()] == ["potstill"] * len(rest.splitlines())
    for log in (tmp_path / "data" / "logs").glob("*.log"):
        for line in log.read_text("utf-8").splitlines():
            assert {"time", "level", "message"} <= json.loads(line).keys(), log.name


def test_doctor_and_losses_ask_the_relay_with_its_token(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("0123456789abcdef")
    (tmp_path / "token").chmod(0o600)
    port, admin_port = free_port(), free_port()
    (tmp_path / "with.toml").write_text(
        f'[store]\ndata_folder = "data"\n[relay]\nport = {port}\nadmin_port = {admin_port}\nadmin_token_file = "token"\n'
    )
    command = [sys.executable, "-m", "potstill", "--config", "with.toml"]
    process = subprocess.Popen([*command, "up"], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        heard(process, "potstill is up")
        told = subprocess.run([*command, "losses", "--json"], cwd=tmp_path, capture_output=True, text=True, timeout=60)
        assert json.loads(told.stdout)["dropped_by_relay"] == 0
        told = subprocess.run([*command, "doctor", "--json"], cwd=tmp_path, capture_output=True, text=True, timeout=60)
        findings = {finding["check"]: finding for finding in json.loads(told.stdout)}
        assert findings["sync"]["what"].startswith("1 relay workers")
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
