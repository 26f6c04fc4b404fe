"""CPU time per request of Potstill's relay beside relays that capture nothing, and the latency that each adds."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import uvloop
from sqlalchemy import text

from benchmarks import load
from benchmarks.contestants import NGINX, PLAIN, POTSTILL, Contestant, House, nginx_path, open_house
from benchmarks.figures import Figure, Result, Tell, ratio
from benchmarks.payloads import BURST, JSON, PACED
from benchmarks.processes import TICK_S, cores, cpu_seconds, on_core

CONNECTIONS = 16
DIRECT = "direct"
_TITLES = {
    JSON: "JSON",
    BURST: "stream of 100 events in one burst",
    PACED: "stream of 50 events, 5 ms apart",
}
_LATENCY = "added latency, one JSON request at a time"
_LATENCY_GAP_S = 0.015
_SETTLE_S = 0.25
_WRITER_SETTLE_S = 1.4  # the store writer empties SQLite's log after a second of rest
_STORE_S = 180.0


@dataclass(frozen=True, slots=True)
class Counts:
    """Requests in one round, for each relay."""

    json: int = 3_000
    burst: int = 900
    paced: int = 128
    latency: int = 40

    def of(self, scenario: str) -> int:
        """The requests of one scenario."""
        return {JSON: self.json, BURST: self.burst, PACED: self.paced}[scenario]

    def scaled(self, scale: float) -> Counts:
        """As many requests times `scale`, and at least a few."""
        return Counts(*(max(4, round(each * scale)) for each in (self.json, self.burst, self.paced, self.latency)))


def measure(rounds: int, counts: Counts, tell: Tell) -> Result:
    """`rounds` rounds, in each of which every relay gets the same requests, in turns.

    RuntimeError when an answer is not the upstream's or an exchange is missing from the store.
    """
    with tempfile.TemporaryDirectory(prefix="bench") as name, open_house(Path(name)) as house, on_core(cores()[0]):
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            bench = _Bench(house, runner, tell)
            bench.warm_up(counts)
            for number in range(rounds):
                bench.round(number, counts)
        stored = bench.expected
    notes = [f"All {stored:,} exchanges that went through Potstill are in the store, none twice; every answer came whole."]
    if not nginx_path():
        notes.append("nginx is not on PATH, so it was not measured.")
    sizes = {
        "connections": CONNECTIONS,
        "json": counts.json,
        "burst": counts.burst,
        "paced": counts.paced,
        "latency": counts.latency,
    }
    return Result("relay", sizes, _figures(bench.cpu, bench.writer, bench.added), tuple(notes))


class _Bench:
    """A running comparison: what was measured so far, microseconds and milliseconds by scenario and relay."""

    def __init__(self, house: House, runner: asyncio.Runner, tell: Tell) -> None:
        self.cpu: dict[tuple[str, str], list[float]] = defaultdict(list)
        self.writer: dict[str, list[float]] = defaultdict(list)
        self.added: dict[str, list[float]] = defaultdict(list)
        self.expected = 0
        """Exchanges that the store must hold."""
        self._house, self._runner, self._tell = house, runner, tell

    def warm_up(self, counts: Counts) -> None:
        """Every path of every relay once, unmeasured."""
        for contestant in self._house.contestants:
            for scenario in (JSON, BURST, PACED):
                self._load(contestant, scenario, max(CONNECTIONS, counts.of(scenario) // 10))
        self._wait_for_store()

    def round(self, number: int, counts: Counts) -> None:
        """Every scenario for every relay, in an order that moves on from round to round."""
        contestants = list(self._house.contestants)
        first = number % len(contestants)
        for scenario in (JSON, BURST, PACED):
            for contestant in contestants[first:] + contestants[:first]:
                spent = self._measure(contestant, scenario, counts.of(scenario))
                self._tell(f"round {number + 1}: {_TITLES[scenario]}, {contestant.name}: {spent:.0f} us CPU")
        ports = {DIRECT: self._house.upstream_port} | {each.name: each.port for each in contestants}
        found = self._runner.run(load.latencies(ports, JSON, counts.latency, _LATENCY_GAP_S))
        self.expected += counts.latency
        self._wait_for_store()
        for name, values in found.items():
            self.added[name].append(median(values) - (0.0 if name == DIRECT else median(found[DIRECT])))

    def _measure(self, contestant: Contestant, scenario: str, count: int) -> float:
        before, writer_before = cpu_seconds(contestant.pid), cpu_seconds(self._house.writer_pid)
        self._load(contestant, scenario, count)
        time.sleep(_SETTLE_S)
        spent = max(TICK_S, cpu_seconds(contestant.pid) - before) / count * 1e6
        self.cpu[scenario, contestant.name].append(spent)
        if contestant.name == POTSTILL:
            self._wait_for_store()
            time.sleep(_WRITER_SETTLE_S)
            self.writer[scenario].append((cpu_seconds(self._house.writer_pid) - writer_before) / count * 1e6)
        return spent

    def _load(self, contestant: Contestant, scenario: str, count: int) -> None:
        self._runner.run(load.saturate(contestant.port, scenario, count, CONNECTIONS))
        self.expected += count if contestant.name == POTSTILL else 0

    def _wait_for_store(self) -> None:
        deadline = time.monotonic() + _STORE_S
        stored = -1
        while stored != self.expected and time.monotonic() < deadline:
            time.sleep(0.1)
            with self._house.database.read() as connection:
                stored = connection.execute(text("SELECT count(*) FROM exchanges WHERE state = 'complete'")).scalar_one()
        if stored != self.expected:
            raise RuntimeError(f"The store holds {stored} exchanges, not {self.expected}.")


def _figures(
    cpu: Mapping[tuple[str, str], Sequence[float]], writer: Mapping[str, Sequence[float]], added: Mapping[str, Sequence[float]]
) -> tuple[Figure, ...]:
    names = [name for name in (POTSTILL, PLAIN, NGINX) if name in added]
    figures: list[Figure] = []
    for scenario, title in _TITLES.items():
        unit = "us CPU / request"
        figures += [Figure(title, name, unit, tuple(cpu[scenario, name])) for name in names]
        figures.append(Figure(title, "store writer, beside Potstill's relay", unit, tuple(writer[scenario])))
        others = [name for name in names if name != POTSTILL]
        figures += [ratio(title, f"Potstill / {name}", cpu[scenario, POTSTILL], cpu[scenario, name]) for name in others]
    figures.append(Figure(_LATENCY, "without a relay, the latency itself, p50", "ms", tuple(added[DIRECT])))
    figures += [Figure(_LATENCY, f"{name}, added p50", "ms", tuple(added[name])) for name in names]
    return tuple(figures)
