"""What a relay must bear: two workers, very many requests, a very large one, and a store that stands still."""

from __future__ import annotations

import http.client
import json
import os
import signal
import time
from contextlib import ExitStack
from hashlib import sha256
from pathlib import Path
from statistics import median

from benchmarks.payloads import PATH, prose
from benchmarks.processes import (
    cpu_seconds,
    forget_peak,
    free_port,
    python,
    resident_mb,
    running,
    wait_for_port,
)
from benchmarks.proxy.contestants import NGINX, POTSTILL, potstill_config
from benchmarks.proxy.house import Ledger, wait_until_quiet
from benchmarks.proxy.outcome import Table
from benchmarks.proxy.rounds import Comparison
from benchmarks.proxy.traffic import BODY, BURST, JSON, headers, model_of
from benchmarks.proxy.wrk import saturate
from capture.database import open_database
from capture.settings import load_settings
from proxy.listen import claim_port

_BODY_BYTES, _BODIES, _PATIENCE_S = 50_000_000, 3, 120.0
_SPOOL_MIB, _STATUS_S = 64, 1.5
_CONNECTIONS = 64
_CHUNK_S, _SHORT_CHUNK_S, _MOST_IN_SHORT_CHUNKS = 4, 2, 200_000


def workers(comparison: Comparison, _requests: int) -> Table:
    """One worker and two on one port, free to use both cores, beside load and upstream; twice each, in turns."""
    house = comparison.house
    found: dict[int, list[tuple[float, float, float, int]]] = {1: [], 2: []}
    both = {house.load_core, house.contestant_core}
    for count in (1, 2, 2, 1):
        with ExitStack() as stack:
            port = stack.enter_context(claim_port("127.0.0.1", 0, "port")).getsockname()[1]
            command = python("proxy.worker", "--config", str(house.config), "--port", str(port))
            pids = []
            for number in range(count):
                log = house.folder / f"worker-{number}.log"
                process = stack.enter_context(running(command, both, log))
                pids.append(process.pid)
                wait_for_port(process, port, log)
            _wait_for_listeners(port, count)
            saturate(house.folder, port, JSON, 1, _CONNECTIONS, next(comparison.numbers), {})
            before = [cpu_seconds(pid) for pid in pids]
            with comparison.watched():
                load = saturate(house.folder, port, JSON, comparison.seconds, _CONNECTIONS, next(comparison.numbers), {})
                for pid in pids:
                    wait_until_quiet(pid)
            spent = [cpu_seconds(pid) - earlier for pid, earlier in zip(pids, before, strict=True)]
        comparison.hold_against_store(load.requests, load.requests)
        turn = (load.requests / load.seconds, sum(spent) / load.requests * 1e6, min(spent) / sum(spent), load.failed)
        found[count].append(turn)
        comparison.tell(f"{count} workers: {load.requests / load.seconds:,.0f} a second")
    alone = median(each[0] for each in found[1])
    rows = [
        {
            "workers": count,
            "requests / s": median(each[0] for each in turns),
            "of one": median(each[0] for each in turns) / alone,
            "us CPU / request": median(each[1] for each in turns),
            "share of the less busy": median(each[2] for each in turns),
            "failed": sum(each[3] for each in turns),
        }
        for count, turns in found.items()
    ]
    title = f"Relay workers on one port, {len(both)} cores that load and upstream use too"
    return Table("workers", title, rows)


def memory(comparison: Comparison, requests: int) -> Table:
    """Memory of the worker and of the store writer while `requests` go through."""
    house, pid = comparison.house, comparison.house.pids[POTSTILL]
    points = [(0, resident_mb(pid), resident_mb(house.writer_pid))]
    port, chunk_s = house.port(POTSTILL, JSON), _CHUNK_S if requests > _MOST_IN_SHORT_CHUNKS else _SHORT_CHUNK_S
    done = 0
    while done < requests:
        load = saturate(house.folder, port, JSON, chunk_s, 32, next(comparison.numbers), {})
        if not load.requests or load.failed:
            comparison.findings.problems.append(f"{load.failed} requests failed while memory was measured ({load.how})")
            break
        done += load.requests
        comparison.hold_against_store(load.requests, 32)
        points.append((done, resident_mb(pid), resident_mb(house.writer_pid)))
        comparison.tell(f"memory: {done:,} requests, {points[-1][1]:.0f} MB")
    shown = sorted({0, *(_nearest(points, requests * tenth / 10) for tenth in (1, 5, 10))})
    rows = [{"requests": points[each][0], "worker, MB": points[each][1], "store writer, MB": points[each][2]} for each in shown]
    return Table("memory", "Memory while requests go through", rows)


def body(comparison: Comparison, _requests: int) -> Table:
    """A request body of 50 MB, three times; intact when the upstream found the hash that was sent."""
    content = prose(1, 1_000) * (_BODY_BYTES // 1_000)
    sent = json.dumps({"model": model_of(BODY), "messages": [{"role": "user", "content": content[:_BODY_BYTES]}]}).encode()
    house, rows, digest = comparison.house, [], sha256(sent).hexdigest()
    for name in (each for each in house.names if each in (POTSTILL, NGINX)):
        pid, seconds, intact = house.pids[name], [], 0
        forget_peak(pid)
        rest_mb, before = resident_mb(pid), cpu_seconds(pid)
        for number in range(_BODIES):
            connection = http.client.HTTPConnection("127.0.0.1", house.port(name, BODY), timeout=_PATIENCE_S)
            began = time.monotonic()
            connection.request("POST", PATH, sent, headers(BODY, number))
            intact += digest.encode() in connection.getresponse().read()
            seconds.append(time.monotonic() - began)
            connection.close()
        wait_until_quiet(pid)
        rows.append(
            {
                "": name,
                "bytes": len(sent),
                "sent": _BODIES,
                "intact": intact,
                "seconds, median": median(seconds),
                "ms CPU each": (cpu_seconds(pid) - before) / _BODIES * 1e3,
                "memory before, MB": rest_mb,
                "at most, MB": resident_mb(pid, is_peak=True),
                "after, MB": resident_mb(pid),
            }
        )
        if name == POTSTILL:
            comparison.hold_against_store(_BODIES, 0)
            if intact < _BODIES:
                comparison.findings.problems.append(f"only {intact} of {_BODIES} bodies of 50 MB arrived as they were sent")
        comparison.tell(f"body, {name}: {intact} of {_BODIES} intact, {median(seconds):.2f} s")
    return Table("body", "A request of 50 MB", rows)


def stalled(comparison: Comparison, _requests: int) -> Table:
    """A store writer that is stopped while streams are relayed, with a spool of 64 MiB; then it goes on.

    Everything must be answered, memory and spool keep within bounds, and what the store lacks in the end be what was
    counted as lost.
    """
    house = comparison.house
    folder = house.folder / "stalled"
    folder.mkdir()
    config = folder / "potstill.toml"
    config.write_text(potstill_config(house.ports, house.folder / "localhost.pem", _SPOOL_MIB))
    with ExitStack() as stack:
        database = open_database(load_settings(config, environ={}).database_url)
        stack.callback(database.close)
        told, tells = os.pipe()
        stack.callback(os.close, told)
        port, log = free_port(), folder / "worker.log"
        command = python("proxy.worker", "--config", str(config), "--port", str(port), "--status-fd", str(tells))
        worker = stack.enter_context(running(command, {house.contestant_core}, log, inherited=(tells,)))
        os.close(tells)
        wait_for_port(worker, port, log)
        command = python("capture.writer", "--config", str(config))
        writer = stack.enter_context(running(command, {house.load_core}, folder / "writer.log", is_idle=True))
        stack.callback(writer.send_signal, signal.SIGCONT)  # stopped, it could not be ended
        ledger = Ledger(database, writer.pid)
        warm = saturate(house.folder, port, JSON, 1, 8, next(comparison.numbers), {})
        problem = ledger.check(warm.requests, 8)
        stored = -ledger.stored
        writer.send_signal(signal.SIGSTOP)
        before_mb = resident_mb(worker.pid)
        forget_peak(worker.pid)
        dropped_before = _dropped(told)
        load = saturate(house.folder, port, BURST, comparison.seconds * 3, 32, next(comparison.numbers), {})
        wait_until_quiet(worker.pid, _STATUS_S)
        peak_mb, on_disk = resident_mb(worker.pid, is_peak=True), _bytes_under(folder / "data" / "spool")
        dropped = _dropped(told) - dropped_before
        writer.send_signal(signal.SIGCONT)
        # what was lost is not there whole; a client that wrk left at the end may have been counted as lost too
        problem = problem or ledger.check(max(0, load.requests - dropped), 32 + dropped)
        stored += ledger.stored
    how = f"{load.failed} failed while the store stood still ({load.how}); the worker's log ends with {log.read_text()[-300:]!r}"
    for words in (problem, how if load.failed else ""):
        if words:
            comparison.findings.problems.append(words)
    comparison.tell(f"stalled: {load.requests} answered, {load.failed} failed, {dropped} lost, at most {peak_mb:.0f} MB")
    row = {
        "streams answered": load.requests,
        "failed": load.failed,
        "memory before, MB": before_mb,
        "at most, MB": peak_mb,
        "spool may take, MB": _SPOOL_MIB * 2**20 / 1e6,
        "took, MB": on_disk / 1e6,
        "counted as lost": dropped,
        "stored in the end": stored,
        "adds up": not problem,
    }
    return Table("stalled", f"A store that stands still while {comparison.seconds * 3} s of streams of 31 KB are relayed", [row])


def _dropped(told: int) -> int:
    """Exchanges that the worker could not keep, as it told last."""
    os.set_blocking(told, False)
    lines: list[bytes] = []
    for is_fresh in (False, True):  # what has waited in the pipe may be old: it is emptied first
        found = b""
        if is_fresh:
            time.sleep(_STATUS_S)
        try:
            while piece := os.read(told, 65_536):
                found += piece
        except BlockingIOError:
            pass
        lines = found.split(b"\n")
    whole = [line for line in lines if line.startswith(b"{") and line.endswith(b"}")]
    if not whole:
        raise RuntimeError("the worker does not tell its status")
    return int(json.loads(whole[-1])["dropped"])


def _bytes_under(folder: Path) -> int:
    """Space that files under `folder` take on the disk."""
    return sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file())


def _nearest(points: list[tuple[int, float, float]], requests: float) -> int:
    """The first point with at least so many requests, else the last."""
    return next((each for each, point in enumerate(points) if point[0] >= requests), len(points) - 1)


def _wait_for_listeners(port: int, count: int) -> None:
    """Returns once `count` sockets listen on `port`, since each worker has its own."""
    wanted, deadline = f"0100007F:{port:04X}", time.monotonic() + 60
    while time.monotonic() < deadline:
        lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        if sum(words[1] == wanted and words[3] == "0A" for words in lines) >= count:
            return
        time.sleep(0.05)
    raise RuntimeError(f"fewer than {count} workers listen on {port}")
