"""Compares Potstill's relay with other proxies: python -m benchmarks.proxy [--json] [--write]

All contestants are measured in turns within one run, with the same load and the same upstream; --help names the options.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks import conditions, report
from benchmarks.processes import busy_seconds, cores, on_core, own_seconds
from benchmarks.proxy import crowds, extremes
from benchmarks.proxy.contestants import NAMES, POTSTILL, Peers
from benchmarks.proxy.house import open_house
from benchmarks.proxy.outcome import FIRST_BYTE, LATENCY, MARKERS, Findings
from benchmarks.proxy.rounds import Comparison
from benchmarks.proxy.traffic import BIG, BURST, JSON, MANY, PACED, TLS
from benchmarks.proxy.wrk import wrk_path

LOADED = (JSON, MANY, BURST, PACED, BIG, TLS)
DELAYS = (LATENCY, FIRST_BYTE)
SINGLE = {
    "streams": crowds.streams,
    "workers": extremes.workers,
    "memory": extremes.memory,
    "body": extremes.body,
    "cancel": crowds.cancel,
    "stalled": extremes.stalled,
    "idle": crowds.idle,
}
PARTS = (*LOADED, *DELAYS, *SINGLE)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs what is asked for, progress on standard error; 1 when an answer failed or an exchange is missing from the store."""
    options = _options(arguments)
    load_before, started, busy, own = os.getloadavg()[0], time.monotonic(), busy_seconds(), own_seconds()

    def tell(line: str) -> None:
        sys.stderr.write(f"{time.monotonic() - started:4.0f} s  {line}\n")

    peers, findings = Peers(options.litellm, options.portkey), Findings()
    with (
        tempfile.TemporaryDirectory(prefix="bench") as name,
        open_house(Path(name), options.contestants, peers, tell) as house,
        on_core(cores()[0]),
    ):
        for absent, why in house.missing.items():
            tell(f"{absent} is not measured: {why}")
        comparison = Comparison(house, findings, options.seconds, tell)
        comparison.warm_up([part for part in options.parts if part in LOADED])
        _rounds(comparison, options, started)
        for part, measure in SINGLE.items():
            if part in options.parts:
                tell(part)
                findings.tables.append(measure(comparison, options.requests))
        if not findings.problems:
            findings.notes.append(f"All {house.ledger.stored:,} exchanges that Potstill answered were in the store, none twice.")
        missing, versions = house.missing, peers.versions(house.names)
    seconds = time.monotonic() - started
    foreign_cores = max(0.0, (busy_seconds() - busy) - (own_seconds() - own)) / seconds
    found = conditions.describe(load_before, foreign_cores, seconds)
    shown = ", ".join(f"{name} {version}" for name, version in versions.items())
    found = replace(found, versions=f"{found.versions}, {shown}") if shown else found
    text = findings.as_markdown(found, missing)
    print(text)
    if options.write:
        report.DOCUMENT.write_text(report.written_into(report.DOCUMENT.read_text("utf-8"), text, MARKERS), "utf-8")
    if options.json:
        print(json.dumps(findings.as_json(found, missing)))
    return 1 if findings.problems else 0


def _rounds(comparison: Comparison, options: argparse.Namespace, started: float) -> None:
    """As many rounds as are asked for, fewer when they would take too long together."""
    longest = 0.0
    for number in range(options.rounds):
        began = time.monotonic()
        if number and began + longest > started + options.within:
            words = f"{number} rounds instead of {options.rounds}, as they are to end within {options.within:.0f} s."
            comparison.findings.notes.append(words)
            comparison.tell(words)
            break
        for part in LOADED:
            if part in options.parts:
                comparison.tell(f"round {number + 1}: {part}")
                comparison.spend(number, part)
        for part in DELAYS:
            if part in options.parts:
                comparison.tell(f"round {number + 1}: {part}")
                comparison.delay(number, part)
        comparison.weigh()
        longest = max(longest, time.monotonic() - began)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.proxy", description="Potstill's relay beside other proxies.")
    parser.add_argument("--contestants", type=_listed(NAMES), default=list(NAMES), help=f"some of {','.join(NAMES)}")
    parser.add_argument("--parts", type=_listed(PARTS), default=list(PARTS), help=f"some of {','.join(PARTS)}")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of load and delay (default: 3)")
    parser.add_argument("--seconds", type=int, default=2, help="seconds of load in each turn; slow contestants get twice as many")
    within = "no further round begins that would end after so many seconds (default: 335)"
    parser.add_argument("--within", type=float, default=335.0, help=within)
    parser.add_argument("--requests", type=int, default=50_000, help="requests of the part memory (default: 50000)")
    litellm, portkey = os.environ.get("BENCH_LITELLM", ".venv-litellm"), os.environ.get("BENCH_PORTKEY", ".portkey")
    parser.add_argument("--litellm", default=litellm, help="environment with litellm[proxy] (default: $BENCH_LITELLM)")
    parser.add_argument("--portkey", default=portkey, help="folder with @portkey-ai/gateway (default: $BENCH_PORTKEY)")
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    parser.add_argument("--write", action="store_true", help=f"also write the run into {report.DOCUMENT.name}")
    options = parser.parse_args(arguments)
    if options.rounds < 1 or options.seconds < 1:
        parser.error("--rounds and --seconds must be at least 1")
    if POTSTILL not in options.contestants:
        parser.error(f"{POTSTILL} must be among the contestants")
    if not wrk_path():
        parser.error("wrk, which makes the load, is not on PATH: install it")
    return options


def _listed(known: Sequence[str]) -> Callable[[str], list[str]]:
    def read(words: str) -> list[str]:
        found = [word for word in words.split(",") if word]
        if unknown := [word for word in found if word not in known]:
            raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: there are {', '.join(known)}")
        return found

    return read


if __name__ == "__main__":
    sys.exit(main())
