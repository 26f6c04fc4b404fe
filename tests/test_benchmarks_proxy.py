"""The comparison of proxies runs, checks that every exchange was stored, and prints the object that it announces."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from statistics import median

import pytest

from benchmarks.conditions import describe
from benchmarks.proxy.contestants import LITELLM, NGINX, PORTKEY, POTSTILL, WRITER
from benchmarks.proxy.outcome import LATENCY, MARKERS, Findings, Table
from benchmarks.proxy.traffic import BURST, JSON, body_template, is_whole_answer, request
from benchmarks.report import DOCUMENT, written_into

ROOT = Path(__file__).resolve().parent.parent
needs_wrk = pytest.mark.skipif(not shutil.which("wrk"), reason="wrk, which makes the load, is not on PATH")


def compare(tmp_path: Path, *options: str) -> subprocess.CompletedProcess[str]:
    nowhere = ("--litellm", str(tmp_path / "nowhere"), "--portkey", str(tmp_path / "nowhere"))
    command = [sys.executable, "-m", "benchmarks.proxy", "--rounds", "1", "--seconds", "1", *nowhere, *options]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)


@needs_wrk
@pytest.mark.timeout(300)
def test_a_short_comparison_prints_one_object_last_and_names_who_is_not_installed(tmp_path: Path) -> None:
    done = compare(tmp_path, "--contestants", "potstill,litellm,portkey", "--parts", "json,latency,cancel", "--json")
    assert done.returncode == 0, done.stderr
    printed = json.loads(done.stdout.splitlines()[-1])
    assert set(printed["cpu_us"]) == {"json"}
    assert set(printed["cpu_us"]["json"]) == {POTSTILL, WRITER}
    assert printed["cpu_us"]["json"][POTSTILL] > 0
    assert isinstance(printed["added_p50_ms"], float)
    assert printed["added_ttfb_p50_ms"] is None
    assert printed["rss_mb"] > 0
    assert set(printed["not_installed"]) == {LITELLM, PORTKEY}
    assert printed["problems"] == []
    (left,) = printed["parts"]["cancel"]
    assert left["reached the upstream"] == left["streams"]


@needs_wrk
@pytest.mark.parametrize(
    ("option", "value", "word"),
    [("--parts", "speed", "speed"), ("--contestants", "nginx", "potstill"), ("--seconds", "0", "--seconds")],
)
def test_what_cannot_be_measured_is_refused_before_anything_starts(tmp_path: Path, option: str, value: str, word: str) -> None:
    done = compare(tmp_path, option, value)
    assert done.returncode == 2
    assert word in done.stderr


def test_ratios_are_those_of_the_medians_and_only_of_what_was_measured() -> None:
    findings = Findings()
    findings.cpu_us[JSON][POTSTILL] += [50.0, 40.0, 90.0]
    findings.cpu_us[JSON][WRITER] += [10.0, 20.0, 30.0]
    findings.cpu_us[JSON][NGINX] += [20.0, 10.0, 30.0]
    findings.added_ms[LATENCY][POTSTILL] += [0.5, 0.4, 0.9]
    found = findings.as_json(describe(0.0, 0.0, 1.0), {LITELLM: "it is not there"})
    assert found["ratios"] == {JSON: {f"{POTSTILL}/{NGINX}": 2.5}}
    assert found["cpu_us_both"] == {JSON: median([60.0, 60.0, 120.0])}
    assert found["added_p50_ms"] == 0.5
    assert found["not_installed"] == {LITELLM: "it is not there"}


def test_the_page_shows_every_table_and_everything_that_went_wrong() -> None:
    findings = Findings(problems=["3 exchanges are missing"])
    findings.tables.append(Table("body", "A large request", [{"": POTSTILL, "bytes": 50_000_000, "seconds": 0.25}]))
    page = findings.as_markdown(describe(0.0, 0.0, 1.0), {PORTKEY: "it is not there"})
    assert "| Potstill, full capture | 50,000,000 | 0.25 |" in page
    assert "Wrong: 3 exchanges are missing." in page
    assert "Portkey was not measured: it is not there." in page


def test_a_run_is_written_into_its_own_place_of_the_document() -> None:
    document = DOCUMENT.read_text("utf-8")
    written = written_into(document, "| 1 |", MARKERS)
    assert written.partition(MARKERS[0])[0] == document.partition(MARKERS[0])[0]
    assert written.partition(MARKERS[1])[2] == document.partition(MARKERS[1])[2]


def test_no_two_requests_are_alike_but_all_are_as_long() -> None:
    one, other = request(80, JSON, 1, {}), request(80, JSON, 301, {})
    assert one != other
    assert len(one) == len(other)
    assert 800 < len(body_template(JSON)) < 1_000


def test_a_stream_without_its_end_is_no_whole_answer() -> None:
    events = b"data: {}\n\n" * 100
    assert is_whole_answer(BURST, events + b"data: [DONE]\n\n")
    assert not is_whole_answer(BURST, events)
    assert not is_whole_answer(BURST, events[:300] + b"data: [DONE]\n\n")
