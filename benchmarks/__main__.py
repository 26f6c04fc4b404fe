"""Runs the benchmarks: python -m benchmarks [spool|writer|curate ...] [--rounds N] [--scale X] [--json] [--write]"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass

from benchmarks import conditions, report, spool, writer
from benchmarks.curate import build
from benchmarks.figures import Result, Tell
from benchmarks.processes import busy_seconds, own_seconds


@dataclass(frozen=True, slots=True)
class Benchmark:
    """One benchmark: how many rounds it has unless told otherwise, and how to run it with a share of its usual work."""

    rounds: int
    run: Callable[[int, float, Tell], Result]


BENCHMARKS: Mapping[str, Benchmark] = {
    "spool": Benchmark(7, lambda rounds, scale, tell: spool.measure(rounds, spool.Counts().scaled(scale), tell)),
    "writer": Benchmark(5, lambda rounds, scale, tell: writer.measure(rounds, writer.Counts().scaled(scale), tell)),
    "curate": Benchmark(3, lambda rounds, scale, tell: build.measure(rounds, build.Counts().scaled(scale), tell)),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs what is asked for, all without a name, and prints it; progress goes to standard error."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="What Potstill costs, measured side by side.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(BENCHMARKS)}; all of them when none is named")
    parser.add_argument("--rounds", type=int, default=0, help="rounds of each benchmark")
    parser.add_argument("--scale", type=float, default=1.0, help="share of the usual work in each round; figures suffer below 1")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of tables")
    parser.add_argument("--write", action="store_true", help=f"also write the run into {report.DOCUMENT.name}")
    options = parser.parse_args(arguments)
    if unknown := set(options.names) - set(BENCHMARKS):
        parser.error(f"no such benchmark: {', '.join(sorted(unknown))}; there are {', '.join(BENCHMARKS)}")
    names = [name for name in BENCHMARKS if name in options.names or not options.names]
    if options.write and len(names) < len(BENCHMARKS):
        parser.error("--write records a run of all benchmarks; name none")
    load_before, started, busy, own = os.getloadavg()[0], time.monotonic(), busy_seconds(), own_seconds()
    results = [_run(name, options.rounds, options.scale) for name in names]
    seconds = time.monotonic() - started
    foreign_cores = max(0.0, (busy_seconds() - busy) - (own_seconds() - own)) / seconds
    found = conditions.describe(load_before, foreign_cores, seconds)
    text = report.markdown(found, results)
    if options.json:
        print(json.dumps({"conditions": asdict(found), "results": [result.as_json() for result in results]}, indent=2))
    else:
        print(text)
    if options.write:
        report.DOCUMENT.write_text(report.written_into(report.DOCUMENT.read_text("utf-8"), text), "utf-8")
    return 0


def _run(name: str, rounds: int, scale: float) -> Result:
    def tell(line: str) -> None:
        sys.stderr.write(f"{name}: {line}\n")

    benchmark = BENCHMARKS[name]
    return benchmark.run(rounds or benchmark.rounds, scale, tell)


if __name__ == "__main__":
    sys.exit(main())
