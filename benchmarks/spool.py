"""What it costs the relay to append 8 KB to its spool, with the thread that syncs to disk at work."""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import quantiles

from benchmarks.figures import Figure, Result, Tell
from capture import ids
from capture.records import Begin
from capture.spool import SpoolWriter

APPEND_BYTES = 8_192


@dataclass(frozen=True, slots=True)
class Counts:
    """Appends in one round."""

    appends: int = 5_000

    def scaled(self, scale: float) -> Counts:
        """As many appends times `scale`, and at least 100."""
        return Counts(max(100, round(self.appends * scale)))


def measure(rounds: int, counts: Counts, tell: Tell) -> Result:
    """`rounds` rounds of appends to a fresh spool each, on the disk of the temporary folder."""
    caller, process, p50, p99 = [], [], [], []
    for number in range(rounds):
        with tempfile.TemporaryDirectory(prefix="bench") as folder:
            took_ns, caller_ns, process_ns = _append(Path(folder), counts.appends)
        cuts = quantiles(took_ns, n=100)
        caller.append(caller_ns / counts.appends / 1e3)
        process.append(process_ns / counts.appends / 1e3)
        p50.append(cuts[49] / 1e3)
        p99.append(cuts[98] / 1e3)
        tell(f"round {number + 1}: {caller[-1]:.1f} us CPU, p50 {p50[-1]:.1f} us")
    group = "append of 8 KB"
    figures = (
        Figure(group, "the relay's thread", "us CPU / append", tuple(caller)),
        Figure(group, "with the thread that syncs", "us CPU / append", tuple(process)),
        Figure(group, "time until it returns, p50", "us", tuple(p50)),
        Figure(group, "time until it returns, p99", "us", tuple(p99)),
    )
    return Result("spool", {"appends": counts.appends, "bytes": APPEND_BYTES}, figures)


def _append(folder: Path, count: int) -> tuple[list[int], int, int]:
    """Nanoseconds that each append took, then CPU time of this thread and of the process until all is on disk."""
    data = bytes(range(256)) * (APPEND_BYTES // 256)
    spool = SpoolWriter(folder)
    raw_id = ids.new_raw_id()
    spool.begin(raw_id, Begin("POST", "/v1/chat/completions", "", "openai"))
    took: list[int] = []
    process, thread = time.process_time_ns(), time.thread_time_ns()
    for _ in range(count):
        before = time.perf_counter_ns()
        spool.part(raw_id, data)
        took.append(time.perf_counter_ns() - before)
    thread = time.thread_time_ns() - thread
    spool.close()
    process = time.process_time_ns() - process
    if spool.dropped:
        raise RuntimeError(f"The spool {folder} lost {spool.dropped} exchanges.")
    return took, thread, process
