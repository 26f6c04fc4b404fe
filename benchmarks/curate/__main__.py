"""Quality and cost of curation: python -m benchmarks.curate [--sizes 10k,100k,1m] [--only near,leak,...] [--json] [--write]

Prints last one JSON object: near.{size}.{precision,recall,hard_negatives_merged,largest_cluster,cpu_s,rss_mb}, eval_leak,
facility_cpu_s, engines_identical and pii, those that were asked for. Progress goes to standard error. Everything is measured in a
process of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks import conditions, report
from benchmarks.curate import apart, engines, figures
from benchmarks.curate.others import NAMES
from benchmarks.curate.pii import LABELLED
from benchmarks.curate.rows import PROMPTS
from benchmarks.figures import Tell
from benchmarks.processes import busy_seconds, own_seconds

SIZES = {"10k": 10_000, "100k": 100_000, "1m": 1_000_000}
PARTS = ("near", "leak", "facility", "engines", "pii")
_PROMPT_ROWS = 10_000
_MOST_FOR_OTHERS = 100_000
_ENGINE_ROWS, _ENGINE_EXCHANGES = 5_000, 400


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures what is asked for, all without a name, and prints it."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.curate",
        description="Quality and cost of curation, beside rensa, datasketch and Presidio.",
        epilog="example: python -m benchmarks.curate --json --sizes 10k,100k",
    )
    parser.add_argument("--sizes", default=",".join(SIZES), help=f"rows for near duplicates, of {','.join(SIZES)}, or a number")
    parser.add_argument("--only", default=",".join(PARTS), help=f"some of {','.join(PARTS)}")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of tables")
    parser.add_argument("--write", action="store_true", help=f"also write the run into {report.DOCUMENT.name}")
    options = parser.parse_args(arguments)
    parts, sizes = options.only.split(","), options.sizes.split(",")
    if unknown := set(parts) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    if unknown := {size for size in sizes if size not in SIZES and not (size.isdecimal() and int(size) >= 100)}:
        parser.error(f"no such size: {', '.join(sorted(unknown))}; there are {', '.join(SIZES)}, and numbers from 100 on")
    load_before, started, busy, own = os.getloadavg()[0], time.monotonic(), busy_seconds(), own_seconds()
    with tempfile.TemporaryDirectory(prefix="bench") as folder:
        found = _measured(parts, sizes, Path(folder), _tell)
    seconds = time.monotonic() - started
    foreign_cores = max(0.0, (busy_seconds() - busy) - (own_seconds() - own)) / seconds
    found["conditions"] = asdict(conditions.describe(load_before, foreign_cores, seconds))
    text = figures.markdown(found)
    if options.write:
        document = report.DOCUMENT.read_text("utf-8")
        report.DOCUMENT.write_text(report.written_into(document, text, figures.MARKERS), "utf-8")
    print(json.dumps(found) if options.json else text)
    return 0


def _measured(parts: Sequence[str], sizes: Sequence[str], folder: Path, tell: Tell) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if "near" in parts:
        found["near"] = {size: _near(size, folder, tell) for size in sizes}
    if "leak" in parts:
        rows = _rows(_PROMPT_ROWS, folder, tell)
        found["leak"] = apart.run("leak", str(rows))
        found["eval_leak"] = found["leak"]["leak"]
        tell(f"leak: {found['eval_leak']:.4%} of eval rows, {found['leak']['random_rows']:.1%} where rows are drawn by chance")
    if "facility" in parts:
        found["facility"] = apart.run("facility")
        found["facility_cpu_s"] = found["facility"]["cpu_s"]
        tell(f"facility location: {found['facility_cpu_s']:.1f} CPU s")
    if "engines" in parts:
        found["engines"] = engines.compared(folder, _ENGINE_ROWS, _ENGINE_EXCHANGES, tell)
        found["engines_identical"] = found["engines"]["identical"]
    if "pii" in parts and LABELLED.is_file():
        found["pii_run"] = apart.run("pii")
        found["pii"] = found["pii_run"].pop("kinds")
        tell(f"personal data: {len(found['pii'])} kinds in {found['pii_run']['texts']} texts")
    return found


def _near(size: str, folder: Path, tell: Tell) -> dict[str, Any]:
    """Ours, and under `others` what other libraries make of the same texts where the size lets them."""
    count = SIZES.get(size) or int(size)
    rows = _rows(count, folder, tell)
    texts = ("--texts", str(folder / "varying.arrow")) if rows == PROMPTS else ()
    found = apart.run("near", str(rows), *texts)
    tell(_in_words(size, "ours", found))
    found["others"] = {}
    for name in NAMES if count <= _MOST_FOR_OTHERS else ():
        found["others"][name] = apart.run("near", str(rows), "--by", name, *texts)
        tell(_in_words(size, name, found["others"][name]))
    found["made_of"] = "shared prompts" if rows == PROMPTS else "generated rows"
    if rows != PROMPTS:
        rows.unlink()
    return found


def _rows(count: int, folder: Path, tell: Tell) -> Path:
    """The shared prompts where they are at hand and have that size, else a file of the generator."""
    if count == _PROMPT_ROWS and PROMPTS.is_file():
        return PROMPTS
    tell(f"making {count:,} rows")
    path = folder / f"rows-{count}.arrow"
    apart.do("generator", "--rows", str(count), "--out", str(path))
    return path


def _in_words(size: str, name: str, found: dict[str, Any]) -> str:
    return (
        f"near, {size}, {name}: precision {found['precision']:.4f}, recall {found['recall']:.4f}, "
        f"{found['hard_negatives_merged']} hard negatives merged, {found['cpu_s']:.1f} CPU s, {found['rss_mb']:.0f} MB"
    )


def _tell(line: str) -> None:
    sys.stderr.write(f"{line}\n")


if __name__ == "__main__":
    sys.exit(main())
