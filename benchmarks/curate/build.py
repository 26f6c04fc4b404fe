"""CPU time to build a dataset from captured support tickets. Every build has a fresh store and a process of its own.

    python -m benchmarks.curate.build STORE_FOLDER

builds once and prints its CPU seconds, kept examples and peak memory in MiB; the benchmark itself calls that.
"""

from __future__ import annotations

import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.exchanges import Made, spool_exchanges
from benchmarks.figures import Figure, Result, Tell
from benchmarks.processes import ROOT, python
from capture.database import open_database
from capture.pricing import PriceSettings, load_price_table
from capture.writer import StoreWriter
from curate.datasets import build
from curate.settings import CurateSettings
from proxy.tickets import make_tickets

TASK = "triage"
_SEED = 7


@dataclass(frozen=True, slots=True)
class Counts:
    """Exchanges of the two datasets."""

    small: int = 2_000
    large: int = 10_000

    def scaled(self, scale: float) -> Counts:
        """As many exchanges times `scale`, and enough for a dataset."""
        return Counts(max(150, round(self.small * scale)), max(300, round(self.large * scale)))


def measure(rounds: int, counts: Counts, tell: Tell) -> Result:
    """`rounds` builds of each size, the sizes taking turns."""
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory(prefix="bench") as name:
        stores = {
            count: capture(Path(name) / f"store-{index}", count) for index, count in enumerate((counts.small, counts.large))
        }
        found: dict[int, list[tuple[float, int, float]]] = {count: [] for count in stores}
        for number in range(rounds):
            for count, store in stores.items():
                found[count].append(_build_apart(store, Path(name) / "work"))
                tell(f"round {number + 1}: {count} exchanges: {found[count][-1][0]:.2f} CPU s")
    for count, values in found.items():
        seconds, kept, memory = zip(*values, strict=True)
        figures.append(Figure(group := f"{count:,} exchanges", f"build, {kept[0]:,} examples kept", "CPU s", seconds))
        figures.append(Figure(group, "peak memory of the process", "MiB", memory))
    (small, few), (large, many) = found.items()
    further = tuple((b[0] - a[0]) / (large - small) * 1e6 for a, b in zip(few, many, strict=True))
    figures.append(Figure("both", "each further exchange", "us CPU", further))
    return Result("curate", {"small": counts.small, "large": counts.large}, tuple(figures))


def _tickets(count: int) -> Iterator[Made]:
    for number, ticket in enumerate(make_tickets(_SEED, count, TASK)):
        messages = [{"role": "system", "content": ticket.system_prompt}, {"role": "user", "content": ticket.user_prompt}]
        message = {"role": "assistant", "content": ticket.gold, "refusal": None}
        answer = {
            "id": f"chatcmpl-{number:012d}",
            "object": "chat.completion",
            "created": 1_760_000_000 + number,
            "model": "gpt-4o-mini-2024-07-18",
            "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 120, "completion_tokens": 8, "total_tokens": 128},
        }
        request = {"model": "gpt-4o-mini", "messages": messages, "temperature": 0}
        parts = (json.dumps(answer).encode(),)
        yield Made(TASK, ticket.user, json.dumps(request).encode(), parts, session=ticket.session)


def capture(folder: Path, count: int) -> Path:
    """A store with `count` exchanges, filled through spool and store writer."""
    spool_exchanges(folder / "spool", _tickets(count))
    database = open_database(f"sqlite:///{folder / 'potstill.db'}", is_checkpointer=True)
    writer = StoreWriter(database, folder / "spool", load_price_table(PriceSettings()))
    stored = writer.drain()
    writer.close()
    database.close()
    if stored != count:
        raise RuntimeError(f"The store writer stored {stored} exchanges of {count}.")
    return folder


def _build_apart(store: Path, work: Path) -> tuple[float, int, float]:
    """CPU seconds, kept examples and peak MiB of a build in a new process on a copy of `store`."""
    shutil.copytree(store, work)
    try:
        command = python("benchmarks.curate.build", str(work))
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    finally:
        shutil.rmtree(work)
    if done.returncode:
        raise RuntimeError(f"The build failed: {done.stderr[-2000:]}")
    seconds, kept, memory = done.stdout.split()
    return float(seconds), int(kept), float(memory)


def _build(folder: Path) -> None:
    database = open_database(f"sqlite:///{folder / 'potstill.db'}")
    before = time.process_time()
    version = build(database, folder, TASK, CurateSettings())
    spent = time.process_time() - before
    database.close()
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(spent, version.train + version.val + version.test, peak_mib)


if __name__ == "__main__":
    _build(Path(sys.argv[1]))
