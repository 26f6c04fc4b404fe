"""Child processes, the cores they run on, and the CPU time that they and their descendants have used, from /proc."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TICK_S = 1 / os.sysconf("SC_CLK_TCK")
"""The step in which the kernel shows CPU time; less cannot be told from nothing."""
_START_S = 60.0
_STOP_S = 30.0


def cpu_seconds(pid: int) -> float:
    """User and system time of `pid` and of all its descendants, the ended ones included; in steps of a clock tick."""
    parents: dict[int, int] = {}
    ticks: dict[int, int] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
            except (FileNotFoundError, ProcessLookupError):
                continue  # ended while we were looking
            parents[int(folder.name)] = int(fields[1])
            ticks[int(folder.name)] = sum(int(field) for field in fields[11:15])
    ours = {pid}
    while more := {child for child, parent in parents.items() if parent in ours} - ours:
        ours |= more
    return sum(ticks.get(each, 0) for each in ours) * TICK_S


def busy_seconds() -> float:
    """CPU time that the whole machine has spent on anything since it started."""
    user, nice, system, _idle, _wait, irq, softirq, *_ = map(int, Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:])
    return (user + nice + system + irq + softirq) * TICK_S


def own_seconds() -> float:
    """CPU time of this process and of its children that have ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def cores() -> tuple[int, int]:
    """The core for load, upstream and store writer, and the core for what is measured; the same one when there is one only."""
    allowed = sorted(os.sched_getaffinity(0))
    return allowed[0], allowed[-1]


@contextmanager
def on_core(core: int) -> Iterator[None]:
    """Keeps this process on `core` for a while."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextmanager
def running(
    command: Sequence[str],
    cores: Iterable[int],
    log: Path,
    is_idle: bool = False,
    added: Mapping[str, str] | None = None,
    inherited: Sequence[int] = (),
) -> Iterator[subprocess.Popen[bytes]]:
    """A child process on `cores`, in the repository's folder, without settings of ours from the environment but with those
    `added`, and with the file descriptors `inherited`; ended with SIGTERM.
    With `is_idle` it runs while nobody else wants its core."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("POTSTILL_")} | dict(added or {})
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT, pass_fds=inherited
        )
        try:
            os.sched_setaffinity(process.pid, cores)
            if is_idle:
                os.sched_setscheduler(process.pid, os.SCHED_IDLE, os.sched_param(0))
            yield process
        finally:
            process.terminate()
            try:
                process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def python(module: str, *arguments: str) -> list[str]:
    """The command that runs `module` with this interpreter."""
    return [sys.executable, "-m", module, *arguments]


def wait_for_port(process: subprocess.Popen[bytes], port: int, log: Path, within_s: float = _START_S) -> None:
    """Returns once something listens on `port`; RuntimeError with the last words of `process` when it ended or is too slow."""
    deadline = time.monotonic() + within_s
    while process.poll() is None and time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.02)
        else:
            return
    raise RuntimeError(f"{log.stem} does not listen on {port}: {log.read_text()[-2000:]}")


def free_port() -> int:
    """A port that nobody listens on just now."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def family(pid: int) -> set[int]:
    """`pid` and its descendants that run."""
    parents: dict[int, int] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # ended while we were looking
                parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
    found = {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found


def resident_mb(pid: int, *, is_peak: bool = False) -> float:
    """Memory in RAM of `pid` and its descendants, in millions of bytes; at most, since `forget_peak`, when `is_peak`."""
    field, kib = "VmHWM:" if is_peak else "VmRSS:", 0
    for each in family(pid):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            for line in Path(f"/proc/{each}/status").read_text().splitlines():
                if line.startswith(field):
                    kib += int(line.split()[1])
    return kib * 1024 / 1e6


def forget_peak(pid: int) -> None:
    """Lets the peak of memory of `pid` begin anew."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def resident_mib() -> float:
    """Memory of this process that is in RAM."""
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20
